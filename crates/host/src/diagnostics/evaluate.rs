//! All figures of a model against an exactly known target, in one call.
//! The model is two closures, so anything that samples and has a density can be judged; its draws are fresh ones that
//! trained nothing, and the exact draws share no random bits with them.

use super::distance::sliced_to_reference;
use super::{
    Figure, Share, bridge_mass, forward_kl, importance, mode_mass_error, mode_masses, reverse_kl,
    share_standard_errors,
};
use crate::HostError;
use crate::error::check_length;
use crate::targets::Target;
use crate::weights::WeightReport;
use serde::{Deserialize, Serialize};

/// Turns the seed of an evaluation into that of its exact draws, so that a model which itself draws exactly from the
/// target under the same seed is not compared with its own points.
const EXACT_SEED: u64 = 0x6578_6163_7420_6472;

/// How many draws each figure takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSettings {
    /// Draws for either KL, the ESS and log Z.
    pub n_kl: usize,
    /// Model draws for the bridge mass and the masses of the modes.
    pub n_bridge: usize,
    /// Draws of either side for sliced Wasserstein-2.
    pub n_sw: usize,
    /// Directions of sliced Wasserstein-2.
    pub n_directions: usize,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self { n_kl: 200_000, n_bridge: 1_000_000, n_sw: 50_000, n_directions: 256 }
    }
}

/// The evidence from the model's draws beside the true one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LogZComparison {
    /// True log Z.
    pub truth: f64,
    /// Estimate - truth; `None` where the effective size of the draws is too small for an estimate.
    pub error: Option<f64>,
    /// `error` over the estimate's standard deviation; `None` where there is none or that is zero.
    pub z_score: Option<f64>,
}

/// Sliced Wasserstein-2 with the figure two exact samples of the same size reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SlicedWasserstein {
    /// Model against exact draws.
    pub value: f64,
    /// Exact against exact draws.
    pub floor: f64,
    /// Draws of either side.
    pub n: usize,
    /// Directions.
    pub n_directions: usize,
}

/// Shares of the modes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModeMasses {
    /// Share of each mode among the model's draws.
    pub masses: Vec<f64>,
    /// True shares.
    pub reference: Vec<f64>,
    /// Standard error of each share if the model were exact.
    pub se: Vec<f64>,
    /// Largest absolute difference.
    pub error: f64,
    /// Number of model draws.
    pub n: usize,
}

/// What [`evaluate`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The target.
    pub target: Target,
    /// Number of parameters.
    pub dim: usize,
    /// Seed of the call.
    pub seed: u64,
    /// E_p[log p - log q] on exact draws; `None` for a target without them.
    pub forward_kl: Option<Figure>,
    /// E_q[log q - log p] on model draws.
    pub reverse_kl: Figure,
    /// Importance sampling from the model.
    pub importance: WeightReport,
    /// Its evidence against the truth.
    pub log_z: LogZComparison,
    /// Share of model draws below `bridge_level`; the target's own is 1e-4.
    pub bridge: Share,
    /// Normalised log density that holds all but 1e-4 of the target's mass.
    pub bridge_level: f64,
    /// Distance of the samples; `None` for a target without exact draws.
    pub sliced_wasserstein2: Option<SlicedWasserstein>,
    /// Shares of the modes.
    pub modes: ModeMasses,
}

/// Draws n rows under a seed: theta, `[n, D]`, and its log density, `[n]`.
pub type SampleFn<'a, E> = dyn FnMut(usize, u64) -> Result<(Vec<f64>, Vec<f64>), E> + 'a;

/// Log density, `[m]`, of theta, `[m, D]`.
pub type LogProbFn<'a, E> = dyn FnMut(&[f64]) -> Result<Vec<f64>, E> + 'a;

/// Judges a model against `target`. `sample(n, seed)` gives theta, `[n, D]`, with its log density, `[n]`; `log_prob`
/// gives the log density, `[m]`, of theta, `[m, D]`. The model draws are made in one call, and their first rows serve
/// every figure that needs fewer.
///
/// # Errors
/// Those of the closures; [`HostError`] for a number of draws of zero, wrong lengths, values that are not legal, or a
/// model none of whose draws has target density.
pub fn evaluate<E: From<HostError>>(
    target: &Target,
    sample: &mut SampleFn<'_, E>,
    log_prob: &mut LogProbFn<'_, E>,
    settings: &EvaluationSettings,
    seed: u64,
) -> Result<Evaluation, E> {
    let EvaluationSettings { n_kl, n_bridge, n_sw, n_directions } = *settings;
    for (setting, n) in [("n_kl", n_kl), ("n_bridge", n_bridge), ("n_sw", n_sw)] {
        if n == 0 {
            Err(HostError::BadSetting { setting, got: "0".into(), expected: "at least 1 draw" })?;
        }
    }
    let dim = target.dim();
    let n_draws = n_kl.max(n_bridge).max(n_sw);
    let (theta, log_q) = sample(n_draws, seed)?;
    check_length("theta of the model's draws", theta.len(), n_draws * dim, "n rows of dim numbers")?;
    check_length("log_q of the model's draws", log_q.len(), n_draws, "one per draw")?;
    let log_p = target.log_prob_rows(&theta[..n_kl.max(n_bridge) * dim])?;

    let (log_q, log_p_kl) = (&log_q[..n_kl], &log_p[..n_kl]);
    let reverse_kl = reverse_kl(log_q, log_p_kl)?;
    let truth = target.log_z();
    let log_target: Vec<f64> = log_p_kl.iter().map(|v| v + truth).collect();
    let importance = importance(log_q, &log_target)?;
    let error = importance.log_z_available.then_some(importance.log_z - truth);
    let sd = Some(importance.log_z_sd).filter(|&sd| sd > 0.0);
    let log_z = LogZComparison { truth, error, z_score: error.zip(sd).map(|(error, sd)| error / sd) };

    let bridge_level = target.bridge_level();
    let bridge = bridge_mass(&log_p[..n_bridge], bridge_level)?;
    let reference = target.mode_masses();
    let masses =
        mode_masses(&theta[..n_bridge * dim], dim, &|row: &[f64]| target.mode_of(row), target.n_modes())?;
    let error = mode_mass_error(&masses, &reference)?;
    let se = share_standard_errors(&reference, n_bridge);
    let modes = ModeMasses { masses, reference, se, error, n: n_bridge };

    let mut forward = None;
    let mut sliced_wasserstein2 = None;
    if let Some(exact) = target.sample(n_kl + 2 * n_sw, seed ^ EXACT_SEED) {
        let (for_kl, rest) = exact.split_at(n_kl * dim);
        let log_q_exact = log_prob(for_kl)?;
        forward = Some(forward_kl(&target.log_prob_rows(for_kl)?, &log_q_exact)?);
        let (first, second) = rest.split_at(n_sw * dim);
        let distances = sliced_to_reference(first, &[&theta[..n_sw * dim], second], dim, n_directions, seed)?;
        sliced_wasserstein2 =
            Some(SlicedWasserstein { value: distances[0], floor: distances[1], n: n_sw, n_directions });
    }
    Ok(Evaluation {
        target: *target,
        dim,
        seed,
        forward_kl: forward,
        reverse_kl,
        importance,
        log_z,
        bridge,
        bridge_level,
        sliced_wasserstein2,
        modes,
    })
}
