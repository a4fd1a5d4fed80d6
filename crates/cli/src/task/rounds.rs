//! The section [rounds]: when they stop, and the contract that their result must keep. Invariant: a task has rounds if and
//! only if its likelihood is evaluated; a built-in target is evaluated if the section is there.

use super::reader::{Bounds, POSITIVE, SHARE, Section};
use super::{Likelihood, TaskError};
use lwflow_host::rounds::RoundsSettings;

pub(super) const KEYS: &[&str] = &[
    "target_ess",
    "max_evaluations",
    "max_time",
    "max_k_hat",
    "max_log_z_sd",
    "n_scan",
    "n_round",
    "prior_share",
];
/// Beyond it the spread of the weights has no bound (Vehtari et al. 2024), so no effective size has.
const K_HAT: Bounds = Bounds {
    accept: |x| x > 0.0 && x <= 0.7,
    expected: "a number above 0, at most 0.7: beyond it no effective size is bounded",
};

pub(super) fn rounds(
    root: &Section<'_>,
    section: &Section<'_>,
    source: &Section<'_>,
    likelihood: Option<&Likelihood>,
) -> Result<Option<RoundsSettings>, TaskError> {
    let is_there = root.get("rounds").is_some();
    let Some(likelihood) = likelihood else {
        let reason = "rounds need a likelihood that can be evaluated";
        return if is_there { Err(root.conflict("rounds", "[simulator] alone", reason)) } else { Ok(None) };
    };
    if is_there && !likelihood.can_be_evaluated() {
        let other = format!("`likelihood.{}`", likelihood.key());
        return Err(root.conflict("rounds", other, "rounds need a likelihood that can be evaluated"));
    }
    if is_there && source.get("n_draws").is_some() {
        let reason = "rounds draw by `max_evaluations` and `n_scan`";
        return Err(source.conflict("n_draws", "[rounds]", reason));
    }
    if !is_there && matches!(likelihood, Likelihood::Target { .. }) || !likelihood.can_be_evaluated() {
        return Ok(None);
    }
    let default = RoundsSettings::default();
    let max_evaluations = section.count("max_evaluations", 1)?.unwrap_or(default.max_evaluations);
    let n_scan = section.count("n_scan", 1)?;
    if n_scan.is_some_and(|n| n > max_evaluations) {
        let expected =
            format!("at most `max_evaluations`, which is {max_evaluations} and counts the scan too");
        return Err(section.refuse("n_scan", expected));
    }
    Ok(Some(RoundsSettings {
        target_ess: section.number("target_ess", POSITIVE)?.unwrap_or(default.target_ess),
        max_evaluations,
        max_time: section.number("max_time", POSITIVE)?.or(default.max_time),
        max_k_hat: section.number("max_k_hat", K_HAT)?.unwrap_or(default.max_k_hat),
        max_log_z_sd: section.number("max_log_z_sd", POSITIVE)?.or(default.max_log_z_sd),
        n_scan: n_scan.or(default.n_scan),
        n_round: section.count("n_round", 1)?.or(default.n_round),
        prior_share: section.number("prior_share", SHARE)?.unwrap_or(default.prior_share),
    }))
}
