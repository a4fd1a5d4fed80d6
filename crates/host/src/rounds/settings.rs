//! When rounds stop, how they draw, and the contract that their result must keep.

use crate::HostError;
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
    /// Draws from the prior, scrambled Sobol points: the first round, and the scan that missed modes are looked for with. Of a
    /// scan of more than 106,495 draws the first are kept one by one, and of the rest sums and the best.
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
    /// Checks every setting.
    ///
    /// # Errors
    /// [`HostError::BadSetting`] naming the first that is out of its range.
    pub fn check(&self) -> Result<(), HostError> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let number = "a finite number above 0";
        let numbers = [
            ("target_ess", Some(self.target_ess), number, positive as fn(f64) -> bool),
            ("max_time", self.max_time, number, positive),
            ("max_log_z_sd", self.max_log_z_sd, number, positive),
            ("max_k_hat", Some(self.max_k_hat), "a number above 0, at most 0.7", |k| k > 0.0 && k <= 0.7),
            ("prior_share", Some(self.prior_share), "a share: at least 0, below 1", |s| {
                (0.0..1.0).contains(&s)
            }),
        ];
        for (setting, value, expected, accept) in numbers {
            if let Some(x) = value.filter(|x| !accept(*x)) {
                return Err(HostError::BadSetting { setting, got: x.to_string(), expected });
            }
        }
        let counts = [
            ("max_evaluations", Some(self.max_evaluations)),
            ("n_scan", self.n_scan),
            ("n_round", self.n_round),
        ];
        match counts.into_iter().find(|(_, n)| *n == Some(0)) {
            None => Ok(()),
            Some((setting, _)) => {
                Err(HostError::BadSetting { setting, got: "0".into(), expected: "at least 1" })
            }
        }
    }

    /// Draws of the prior stage.
    pub fn scan(&self) -> usize {
        self.n_scan.unwrap_or((self.max_evaluations / 20).min(100_000)).max(1)
    }
}
