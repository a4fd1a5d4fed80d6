//! What rounds tell while they go on and when they are over.
//! Invariant: every figure says how many draws made it.

use super::audit::AuditReport;
use super::coverage::CoverageReport;
use super::deep::DeepScanReport;
use super::evidence::EvidenceReport;
use super::fresh::FreshReport;
use super::verdict::Verdict;
use crate::posterior::Posterior;
use crate::rng::CounterField;
use crate::train::HistoryRow;
use crate::weights::{kish_ess, systematic};
use serde::Serialize;

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct RoundRow {
    /// Number of the round, from 1; the prior stage is round 0.
    pub round: usize,
    /// Power of the likelihood that the flow was trained for.
    pub beta: f64,
    /// Evaluations made when the round ended, everything counted.
    pub n_evaluations: usize,
    /// Effective size of all points at `beta`, before the round's own.
    pub pooled_ess: f64,
    /// Components of the base.
    pub n_components: usize,
    /// Points visited in training.
    pub visits: usize,
    /// Draws of the round's flow.
    pub n_fresh: usize,
    /// Effective size of these draws at `beta`.
    pub fresh_ess: f64,
    /// log Z of all points after the round: an adaptive estimate.
    pub log_z: f64,
    /// Standard error of `log_z` if the points were independent of the flows that drew them, which they are not quite.
    pub log_z_sd: f64,
    /// Effective size of all points for the posterior, after the round.
    pub posterior_ess: f64,
    /// Seconds of the round so far: training, and evaluation.
    pub seconds: (f64, f64),
}

/// Why rounds ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The effective size of fresh draws reached its target.
    TargetEss,
    /// No evaluations were left.
    MaxEvaluations,
    /// No time was left.
    MaxTime,
    /// Flow after flow had enough effective draws, but weights of too heavy a tail to say how many at least.
    HeavyTail,
    /// The caller asked.
    Interrupted,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RoundsEvent<'a> {
    /// The likelihood is evaluated: done of total in this stage.
    Evaluating {
        /// The round; 0 is the prior stage.
        round: usize,
        /// Evaluations done in this stage.
        done: usize,
        /// Evaluations of this stage.
        total: usize,
        /// Evaluations of all stages so far, this one's included.
        n_evaluations: usize,
    },
    /// The prior stage is over.
    Scanned {
        /// Effective size of its draws for the posterior.
        posterior_ess: f64,
        /// log Z by them, in nats.
        log_z: f64,
    },
    /// A flow is trained.
    Training {
        /// The round.
        round: usize,
        /// Power of the likelihood.
        beta: f64,
        /// Points visited.
        visits: usize,
        /// Points to visit.
        max_visits: usize,
        /// Latest validation loss, in nats; none before there is one.
        validation_loss: Option<f64>,
    },
    /// A flow was trained, before it is kept.
    Trained {
        /// The round.
        round: usize,
        /// Losses on the way.
        history: &'a [HistoryRow],
    },
    /// A round is over.
    Round(&'a RoundRow),
}

/// What rounds did.
#[derive(Debug, Clone, Serialize)]
pub struct RoundsReport {
    /// Why they ended.
    pub stop: StopCause,
    /// All rounds.
    pub rounds: Vec<RoundRow>,
    /// Likelihood evaluations, everything counted.
    pub n_evaluations: usize,
    /// Of these, draws from the prior in the first stage.
    pub n_scan: usize,
    /// Of these, the ones of which only sums and the best are kept; `None` if the scan was short.
    pub deep_scan: Option<DeepScanReport>,
    /// Evaluations per second of those made by this process.
    pub evaluations_per_second: Option<f64>,
    /// Figures of fresh draws of the final flow; `None` if there was no chance to make any.
    pub fresh: Option<FreshReport>,
    /// log Z by estimators that share no draws.
    pub evidence: EvidenceReport,
    /// The flow against all evaluated points.
    pub coverage: Option<CoverageReport>,
    /// What 32-bit arithmetic costs.
    pub audit: Option<AuditReport>,
    /// Whether the contract is met.
    pub verdict: Verdict,
    /// Seconds.
    pub seconds: f64,
}

/// A posterior with the draws that prove it.
#[derive(Debug, Clone)]
pub struct RoundsResult {
    /// The final flow.
    pub posterior: Posterior,
    /// Fresh draws of the final flow, `[n, D]`.
    pub theta: Vec<f64>,
    /// Their log q, `[n]`.
    pub log_prob: Vec<f64>,
    /// Their log L, `[n]`.
    pub log_likelihood: Vec<f64>,
    /// Their log prior, `[n]`.
    pub log_prior: Vec<f64>,
    /// Their derived quantities, `[n, M]`.
    pub derived: Vec<f64>,
    /// Some of all evaluated points, those that the flows were trained on.
    pub points: EvaluatedPoints,
    /// What the rounds did.
    pub report: RoundsReport,
}

/// Evaluated points, thinned by their weights towards the posterior.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvaluatedPoints {
    /// `[n, D]`.
    pub theta: Vec<f64>,
    /// Weights that are left, `[n]`, of sum one.
    pub weights: Vec<f64>,
    /// log L, `[n]`.
    pub log_likelihood: Vec<f64>,
    /// Log prior, `[n]`.
    pub log_prior: Vec<f64>,
}

impl RoundsResult {
    /// Log weights of the fresh draws towards the posterior, `[n]`, not normalised: their mean is the evidence.
    pub fn log_weights(&self) -> Vec<f64> {
        log_weights(&self.log_likelihood, &self.log_prior, &self.log_prob, 1.0)
    }
}

/// beta log L + log prior - log q; -inf where L is zero.
pub(super) fn log_weights(
    log_likelihood: &[f64],
    log_prior: &[f64],
    log_prob: &[f64],
    beta: f64,
) -> Vec<f64> {
    let each = log_likelihood.iter().zip(log_prior).zip(log_prob);
    each.map(|((&l, &p), &q)| if l == f64::NEG_INFINITY { l } else { beta * l + p - q }).collect()
}

/// Rows of an equally weighted sample from rows with log weights `[n]`, by systematic resampling: at most `n_wanted`, and no
/// more than the weights are worth. Rows of large weight come more than once.
pub fn equal_weight(log_weights: &[f64], n_wanted: usize, seed: u64) -> Vec<usize> {
    let n = n_wanted.min(kish_ess(log_weights).floor() as usize);
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = log_weights.iter().map(|lw| (lw - max).exp()).collect();
    systematic(&weights, n, CounterField::new(seed, "equal weight", 1).uniform(0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_count_what_the_weights_are_worth() {
        let lw = [0.0, f64::NEG_INFINITY, 2f64.ln(), 0.0];
        for seed in 0..50 {
            let rows = equal_weight(&lw, 100, seed);
            // ESS 16 / 6.
            assert!(rows.len() == 2 && !rows.contains(&1), "{rows:?}");
        }
        let lw: Vec<f64> = (0..1000).map(|i| f64::from(i % 10).ln()).collect();
        let rows = equal_weight(&lw, 450, 3);
        assert_eq!(rows.len(), 450);
        // A fifth of the weight; up to one more or less for each run of ten rows that a step covers.
        assert!(rows.iter().filter(|&&i| i % 10 == 9).count().abs_diff(90) <= 10);
    }
}
