//! How to train: batches, learning rate, validation, noise cancellation. Defaults are those of the published figures.
//! Invariant: a setting changes how fast and how well a fit goes, never what it is a fit of.

use super::TrainingData;
use crate::HostError;
use crate::schedule::{Schedule, ScheduleSettings};
use serde::{Deserialize, Serialize};

/// Whether the gradient uses E_r\[q / r\] = 1 to cancel its noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlVariate {
    /// Where the density of the proposal is known: off while the flow is still far from the target (there q / r is a
    /// noise of its own), blended in over a tenth of the visits from `control_start` on, on for the rest.
    Auto,
    /// From the first step; an error if the density of the proposal is not known.
    On,
    /// Plain weighted log likelihood.
    Off,
}

/// Course of the learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateCourse {
    /// The same throughout.
    Constant,
    /// Up over the first fiftieth, then half a cosine down to a hundredth.
    Cosine,
    /// Halved at the sixth validation in a row without improvement.
    Plateau,
}

impl RateCourse {
    pub(super) fn schedule(self, lr: f64, n_steps: usize) -> Result<Schedule, HostError> {
        let n_steps = n_steps as u64;
        Schedule::new(match self {
            Self::Constant => ScheduleSettings::Constant { lr },
            Self::Cosine => {
                ScheduleSettings::Cosine { lr, n_warmup: n_steps / 50, n_steps, final_fraction: 0.01 }
            }
            Self::Plateau => {
                ScheduleSettings::Plateau { lr, factor: 0.5, patience: 5, threshold: 0.0, min_lr: 1e-3 * lr }
            }
        })
    }
}

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Points per step.
    pub batch_size: usize,
    /// Most points visited (batch size times steps) by the fit that is kept. Without the control variate a flow learns
    /// its points by heart, so no more than [`VISITS_PER_EFFECTIVE_POINT`] times their effective number are visited.
    pub max_visits: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Learning rate of the base distribution relative to that of the layers.
    pub base_learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: RateCourse,
    /// Largest norm of a gradient.
    pub clip_norm: f64,
    /// Share of the weight held out for validation.
    pub validation_share: f64,
    /// Validations without improvement after which training stops (0: never). The best parameters are kept in any case,
    /// and a cosine schedule does most of its good at its end, so the default is never.
    pub patience: usize,
    /// Share of a batch drawn uniformly from all points instead of by weight, while the control variate is on.
    pub uniform_share: f64,
    /// Noise cancellation.
    pub control_variate: ControlVariate,
    /// Share of the visits after which [`ControlVariate::Auto`] begins.
    pub control_start: f64,
    /// Share of all steps over which parameters are averaged (exponentially) before they are judged and kept; 0: they are
    /// taken as they are. An average forgives the noise of small batches, and is made on the host.
    pub averaging: f64,
    /// Decay of the layers' parameters, relative to the learning rate; of one step this by the root of the number of steps
    /// (AdamW, its decay normalised as in appendix B.1 of Loshchilov & Hutter 2019): few points need more of it than many. On
    /// the host.
    pub weight_decay: f64,
}

impl TrainSettings {
    /// Points that a training on `data` visits at most; see [`TrainSettings::max_visits`].
    pub fn visits(&self, data: &TrainingData) -> usize {
        if self.control_variate != ControlVariate::Off && data.log_proposal.is_some() {
            return self.max_visits;
        }
        self.max_visits.min((VISITS_PER_EFFECTIVE_POINT * data.effective_points()).ceil() as usize)
    }
}

/// See [`TrainSettings::max_visits`].
pub const VISITS_PER_EFFECTIVE_POINT: f64 = 100.0;

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            batch_size: 512,
            max_visits: 1_000_000,
            learning_rate: 5e-3,
            base_learning_rate: 1.0,
            schedule: RateCourse::Cosine,
            clip_norm: 5.0,
            validation_share: 0.1,
            patience: 0,
            uniform_share: 0.2,
            control_variate: ControlVariate::Auto,
            control_start: 0.7,
            averaging: 0.0,
            weight_decay: 0.0,
        }
    }
}
