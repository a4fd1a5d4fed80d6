//! When rounds stop, how they draw, and the contract that their result must keep.

use serde::{Deserialize, Serialize};

/// How to run rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoundsSettings {
    /// Effective sample size that fresh draws of the final flow must reach, by its 95 % lower bound.
    pub target_ess: f64,
    /// Most likelihood evaluations, everything counted.
    pub max_evaluations: usize,
    /// Most seconds; rounds that are ended by it do not replay.
    pub max_time: Option<f64>,
    /// Largest Pareto shape of the weights' tail with which the effective size counts as bounded.
    pub max_k_hat: f64,
    /// Largest standard error of log Z, if that is part of the contract.
    pub max_log_z_sd: Option<f64>,
    /// Draws from the prior, scrambled Sobol points: the first round, and the scan that missed modes are looked for with.
    /// `None`: a twentieth of `max_evaluations`, at most 100,000.
    pub n_scan: Option<usize>,
    /// Evaluations per round; `None`: by dimension and budget.
    pub n_round: Option<usize>,
    /// Share of every round that is drawn from the prior.
    pub prior_share: f64,
}

impl Default for RoundsSettings {
    fn default() -> Self {
        Self {
            target_ess: 4000.0,
            max_evaluations: 1_000_000,
            max_time: None,
            max_k_hat: 0.7,
            max_log_z_sd: None,
            n_scan: None,
            n_round: None,
            prior_share: 0.02,
        }
    }
}

impl RoundsSettings {
    /// Draws of the prior stage.
    pub fn scan(&self) -> usize {
        self.n_scan.unwrap_or((self.max_evaluations / 20).min(100_000)).max(1)
    }
}
