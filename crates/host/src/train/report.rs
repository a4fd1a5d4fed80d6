//! What a training run tells while it goes on and when it is over.
//! Losses are in nats; NaN stands for a loss that no step gave, and is null in JSON.

use serde::Serialize;

/// One row of the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HistoryRow {
    /// Step, from 1.
    pub step: usize,
    /// Points visited so far.
    pub visits: usize,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Mean training loss (nats) since the previous row: the batch estimate of -sum w log q. NaN if every step since then
    /// was skipped.
    pub training_loss: f64,
    /// Validation loss (nats).
    pub validation_loss: f64,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All visits were made.
    MaxVisits,
    /// No improvement for `patience` validations.
    Patience,
    /// The caller asked.
    Interrupted,
}

/// How the parameters that were kept do on the points that they were judged by.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// Weights of the points, `[n]`.
    pub weights: Vec<f64>,
    /// Their log densities, `[n]`.
    pub log_prob: Vec<f32>,
}

impl Judged {
    /// Whether these log densities are better than `other`'s, of the same points, by more than `n_se` standard errors of the
    /// difference.
    #[must_use]
    pub fn clearly_better(&self, other: &Self, n_se: f64) -> bool {
        clearly_better(&self.weights, &self.log_prob, &other.log_prob, n_se)
    }
}

/// [`Judged::clearly_better`] of the first log densities over the second.
pub(super) fn clearly_better(weights: &[f64], first: &[f32], second: &[f32], n_se: f64) -> bool {
    let gains = first.iter().zip(second).map(|(&a, &b)| f64::from(a) - f64::from(b));
    let weighted = || weights.iter().zip(gains.clone());
    let mean: f64 = weighted().map(|(w, gain)| w * gain).sum();
    if !mean.is_finite() {
        return true;
    }
    let variance: f64 = weighted().map(|(w, gain)| (w * (gain - mean)).powi(2)).sum();
    mean > n_se * variance.sqrt()
}

/// What a training run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// Rows at every validation.
    pub history: Vec<HistoryRow>,
    /// Why it ended.
    pub stop: StopReason,
    /// Steps made.
    pub steps: usize,
    /// Points visited.
    pub visits: usize,
    /// Steps refused because the loss or the gradient was not finite.
    pub skipped_steps: usize,
    /// Points behind every validation loss.
    pub n_validation: usize,
    /// Whether those points were held out; otherwise none could be spared, and they are the training points.
    pub held_out: bool,
    /// Validation loss of the parameters that were kept.
    pub best_validation_loss: f64,
    /// Step whose parameters were kept (0: the start).
    pub best_step: usize,
    /// Whether the control variate was used.
    pub control_variate: bool,
    /// The flow's mass as its proposal's points see it, sum q / (n r): one, but for noise, unless the flow hides mass
    /// between the points. `None` if the density of the proposal is not known.
    pub flow_mass: Option<f64>,
    /// Points behind `flow_mass`: all that lie inside the bounds.
    pub n_flow_mass: usize,
    /// Validation losses of the starts that competed, the first from EM; empty without a competition.
    pub starts: Vec<f64>,
    /// The points behind the validation losses.
    #[serde(skip)]
    pub judged: Judged,
}

/// What a progress callback gets.
#[derive(Debug, Clone, Copy)]
pub struct TrainProgress {
    /// Points visited so far.
    pub visits: usize,
    /// Points to visit.
    pub max_visits: usize,
    /// Latest validation loss; not finite before there is one.
    pub validation_loss: f64,
}

impl TrainProgress {
    /// The latest validation loss, if there is one.
    pub fn loss(&self) -> Option<f64> {
        Some(self.validation_loss).filter(|loss| loss.is_finite())
    }
}
