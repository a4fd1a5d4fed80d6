//! Whether a result keeps its contract, and what speaks against it. Invariant: "met" needs every test that could be made to
//! pass; it never says that all modes were found.

use super::audit::AuditReport;
use super::coverage::CoverageReport;
use super::evidence::EvidenceReport;
use super::fresh::FreshReport;
use super::settings::RoundsSettings;
use serde::Serialize;

/// Mass that the flow may lack.
const MAX_LACKING: f64 = 0.01;
/// A mode of this mass counts.
const MODE_COUNTS: f64 = 0.01;
/// A mode is lost where the flow holds less than this share of its mass.
const MODE_LOST: f64 = 0.2;
/// Standard errors by which two estimates of log Z may differ.
const MAX_Z: f64 = 4.0;
/// Largest effect of 32-bit arithmetic on log Z, and weighted mean error of a log weight, in nats.
const MAX_ROUNDING: f64 = 0.02;

/// Why there is no log Z of some draws.
pub const NO_ESTIMATE: &str = "an effective size below 100, or too few draws for an error";

/// The verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the contract is met.
    pub met: bool,
    /// Why not; empty if it is met.
    pub reasons: Vec<String>,
    /// What the verdict does not cover.
    pub limits: Vec<String>,
}

impl Verdict {
    /// Judges what is known of a result.
    pub(super) fn new(
        settings: &RoundsSettings,
        fresh: Option<&FreshReport>,
        evidence: &EvidenceReport,
        coverage: Option<&CoverageReport>,
        audit: Option<&AuditReport>,
    ) -> Self {
        let mut reasons = Vec::new();
        let mut limits = Vec::new();
        match fresh {
            None => reasons.push("no fresh draws of the final flow carry weight".to_owned()),
            Some(fresh) => contract(settings, fresh, &mut reasons),
        }
        let others = [("earlier rounds", evidence.earlier_rounds_z), ("the scan", evidence.scan_z)];
        for (name, z) in others {
            match z {
                Some(z) if z.abs() > MAX_Z => reasons.push(format!(
                    "log Z by {name} differs by {z:+.1} standard errors from that of the final flow"
                )),
                Some(_) => {}
                None => limits.push(format!("log Z by {name} is unavailable: {NO_ESTIMATE}")),
            }
        }
        match coverage {
            None => reasons.push("the flow could not be held against the evaluated points".to_owned()),
            Some(coverage) => covered(coverage, &mut reasons, &mut limits),
        }
        match audit {
            None => limits.push("no audit in 64 bits was made".to_owned()),
            Some(audit) => {
                if audit.log_likelihood_largest.is_none() {
                    limits.push("log L could not be audited in 64 bits".to_owned());
                }
                let worst = audit
                    .log_z_shift
                    .abs()
                    .max(audit.log_prob_weighted)
                    .max(audit.log_likelihood_weighted.unwrap_or(0.0));
                if worst.is_nan() || worst > MAX_ROUNDING {
                    reasons.push(format!(
                        "32-bit arithmetic shifts log weights by {worst:.3} nats, at most {MAX_ROUNDING} are allowed"
                    ));
                }
            }
        }
        Self { met: reasons.is_empty(), reasons, limits }
    }
}

/// The contract of the settings.
fn contract(settings: &RoundsSettings, fresh: &FreshReport, reasons: &mut Vec<String>) {
    let target = settings.target_ess;
    match (fresh.ess.lower, fresh.weights.k_hat.value) {
        (Some(lower), _) if lower < target => reasons.push(format!(
            "the effective size of {} fresh draws is {:.0}, with 95 % confidence at least {lower:.0}; the contract asks \
             for {target:.0}",
            fresh.weights.n, fresh.ess.ess
        )),
        (Some(_), _) => {}
        (None, Some(k)) => reasons.push(format!(
            "the effective size is not bounded: the weights' tail has Pareto k-hat {k:.2}, at most {} is allowed",
            settings.max_k_hat
        )),
        (None, None) => reasons.push(format!(
            "the effective size is not bounded: {} fresh draws are too few to judge the weights' tail",
            fresh.weights.n
        )),
    }
    if let Some(most) = settings.max_log_z_sd {
        let sd = fresh.weights.log_z_sd;
        if sd.is_nan() || sd > most || !fresh.weights.log_z_available {
            reasons.push(format!("log Z has a standard error of {sd:.4}; the contract asks for {most}"));
        }
    }
}

fn covered(coverage: &CoverageReport, reasons: &mut Vec<String>, limits: &mut Vec<String>) {
    if coverage.lacking_mass > MAX_LACKING {
        reasons.push(format!(
            "{:.1} % of the mass, by {} evaluated points, lies where the flow has less than a tenth of the density",
            100.0 * coverage.lacking_mass,
            coverage.n_lacking
        ));
    }
    for (k, mode) in coverage.modes.iter().enumerate() {
        let mass = mode.mass_all.max(mode.mass_scan.unwrap_or(0.0));
        if mass >= MODE_COUNTS && mode.mass_flow < MODE_LOST * mass {
            reasons.push(format!(
                "mode {} holds {:.1} % of the mass, but {:.2} % of the flow's",
                k + 1,
                100.0 * mass,
                100.0 * mode.mass_flow
            ));
        }
    }
    limits.push(format!(
        "a mode that fills less than {:.1e} of the prior's mass could have been missed by all {} draws from the prior (95 %)",
        coverage.prior_mass_limit, coverage.n_prior
    ));
}
