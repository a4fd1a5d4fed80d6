//! What rounds tell while they go on and when they are over.
//! Invariant: every figure says how many draws made it.

use super::audit::AuditReport;
use super::coverage::CoverageReport;
use super::evidence::EvidenceReport;
use super::fresh::FreshReport;
use super::verdict::Verdict;
use crate::posterior::Posterior;
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
    /// The caller asked.
    Interrupted,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum RoundsEvent<'a> {
    /// The likelihood is evaluated: done of total in this stage, and all so far.
    Evaluating {
        /// The round; 0 is the prior stage.
        round: usize,
        /// Evaluations done in this stage.
        done: usize,
        /// Evaluations of this stage.
        total: usize,
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
    /// What the rounds did.
    pub report: RoundsReport,
}
