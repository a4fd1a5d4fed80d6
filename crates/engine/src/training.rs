//! What a training run on a device is told and tells: the optimiser, a group of steps and their outcome.
//! Invariant: the caller owns, stores and restores the optimiser's state; a resumed run gives the same bits.

use serde::{Deserialize, Serialize};

use crate::{EngineError, rows};

/// Where the optimiser of a training run is. Both give the same steps up to rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimiserPlace {
    /// On a GPU, where reading a gradient back takes longer than using it; on the host for a software adapter, whose
    /// memory is the host's and whose every load costs as much as several multiplications.
    #[default]
    Auto,
    /// On the device: [`FlowExecutor::train_steps`](crate::FlowExecutor::train_steps).
    Device,
    /// On the host: [`FlowExecutor::gradient`](crate::FlowExecutor::gradient) and an optimiser of the caller's.
    Host,
}

/// How Adam steps (Kingma and Ba 2015), and what each parameter may do.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimiserSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; a longer gradient is scaled down to it. `None` clips nothing.
    pub clip_norm: Option<f64>,
    /// What the learning rate of each parameter is multiplied by, `[n_params]` (0 freezes it).
    pub rate_scale: Vec<f32>,
}

/// Moments and step count: all that a resumed run needs beside the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimiserState {
    /// First moment, `[n_params]`.
    pub m: Vec<f32>,
    /// Second moment, `[n_params]`.
    pub v: Vec<f32>,
    /// Steps taken; refused steps do not count.
    pub step: u64,
}

/// A group of S steps of B points for each of F flows, one unless it is a group of several
/// ([`FlowGroup`](crate::FlowGroup)).
#[derive(Debug, Clone, Copy)]
pub struct TrainSteps<'a> {
    /// Points per step and flow, B.
    pub batch_size: usize,
    /// Which points, `[S, F, B]`, rows of the data that were set.
    pub index: &'a [u32],
    /// Their weights, `[S, F, B]`.
    pub weights: &'a [f32],
    /// Logarithm of the inverse proposal density, `[S, F, B]`, if the gradients use the effective weights of
    /// [`FlowExecutor::gradient`](crate::FlowExecutor::gradient).
    pub log_inv_proposal: Option<&'a [f32]>,
    /// Learning rate of each step and flow, `[S, F]`.
    pub learning_rate: &'a [f64],
}

/// What became of a group of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepsReport {
    /// `-sum_i w_i log q_i` of each batch, `[S, F]`, before the step.
    pub loss: Vec<f32>,
    /// Norm of the gradient before clipping, `[S, F]`.
    pub grad_norm: Vec<f32>,
    /// Whether the step was taken, `[S, F]`: not if the loss, the gradient or what it would lead to is not finite. Then
    /// nothing changed.
    pub taken: Vec<bool>,
}

impl OptimiserState {
    /// The state before the first step of `n_params` parameters.
    #[must_use]
    pub fn new(n_params: usize) -> Self {
        Self { m: vec![0.0; n_params], v: vec![0.0; n_params], step: 0 }
    }
}

impl TrainSteps<'_> {
    /// Checks the arrays against each other, `n_points` and `n_flows`, and returns the number of steps.
    pub(crate) fn check(&self, n_points: usize, n_flows: usize) -> Result<usize, EngineError> {
        let per_step = self.batch_size * n_flows;
        let n_steps = rows::count("index", self.index, per_step)?;
        rows::check("weights", self.weights, n_steps, per_step)?;
        if let Some(lv) = self.log_inv_proposal {
            rows::check_log("log_inv_proposal", lv, n_steps * per_step)?;
        }
        if self.learning_rate.len() != n_steps * n_flows {
            return Err(EngineError::Length {
                what: "learning_rate",
                got: self.learning_rate.len(),
                expected: format!("{} (one per step and flow)", n_steps * n_flows),
            });
        }
        if let Some(row) = self.index.iter().position(|&p| p as usize >= n_points) {
            return Err(EngineError::Index {
                what: "index",
                row,
                got: self.index[row].into(),
                len: n_points,
            });
        }
        match self.learning_rate.iter().position(|lr| !(*lr >= 0.0 && lr.is_finite())) {
            None => Ok(n_steps),
            Some(row) => Err(EngineError::NonFinite {
                what: "learning_rate",
                row,
                column: 0,
                value: self.learning_rate[row] as f32,
            }),
        }
    }
}

impl OptimiserSettings {
    /// Checks that there are settings and a state for each flow, and that the settings agree in what all parameters share.
    pub(crate) fn check_group(
        settings: &[Self],
        states: &[OptimiserState],
        n_flows: usize,
    ) -> Result<(), EngineError> {
        for (what, got) in [("optimiser settings", settings.len()), ("optimiser states", states.len())] {
            if got != n_flows {
                return Err(EngineError::Length { what, got, expected: format!("{n_flows} (one per flow)") });
            }
        }
        let shared = |s: &Self| (s.beta1, s.beta2, s.eps, s.clip_norm);
        match settings.iter().find(|s| shared(s) != shared(&settings[0])) {
            None => Ok(()),
            Some(other) => Err(EngineError::Choice {
                field: "optimiser",
                got: format!("{:?}", shared(other)),
                expected: format!(
                    "{:?} (decays, eps and clip_norm), as the first flow has",
                    shared(&settings[0])
                ),
            }),
        }
    }

    /// Checks settings and state against the number of parameters.
    pub(crate) fn check(&self, state: &OptimiserState, n_params: usize) -> Result<(), EngineError> {
        rows::check("rate_scale", &self.rate_scale, n_params, 1)?;
        rows::check("first moment", &state.m, n_params, 1)?;
        rows::check("second moment", &state.v, n_params, 1)
    }
}
