//! Calls that keep something on an adapter: training points and the optimiser. Invariant: the cores, which are the host, refuse
//! them, and so does a flow with a context network, which is trained there.

use super::FlowExecutor;
use crate::gpu::{GpuFlow, Wait};
use crate::{EngineError, OptimiserSettings, OptimiserState, StepsReport, TrainSteps};

impl FlowExecutor {
    /// The flow on an adapter, for calls that keep something there.
    pub(crate) fn on_adapter(&mut self) -> Result<&mut GpuFlow, EngineError> {
        self.group.on_adapter()
    }

    /// Keeps the training points on the adapter: theta `[N, D]`, context `[N, C]`. This call and those of the optimiser
    /// that follow are for an adapter; on the cores, and with a context network, which runs there, they are refused with
    /// [`EngineError::Choice`], because the host's optimiser is there already.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for arrays that do not fit, [`EngineError::Limit`] for more
    /// points than one buffer of the device holds.
    pub fn set_data(&mut self, theta: &[f32], context: &[f32]) -> Result<(), EngineError> {
        self.group.set_data(theta, context)
    }

    /// Begins or resumes training from the parameters as they are: how the optimiser steps, and its state.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for arrays that do not fit, [`EngineError::NoParams`]
    /// before the first parameters; any error of the device.
    pub fn set_optimiser(
        &mut self,
        settings: &OptimiserSettings,
        state: &OptimiserState,
    ) -> Result<(), EngineError> {
        let (settings, state) = (std::slice::from_ref(settings), std::slice::from_ref(state));
        self.group.set_optimiser(settings, state)
    }

    /// [`FlowExecutor::set_optimiser`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::set_optimiser`].
    pub async fn set_optimiser_async(
        &mut self,
        settings: &OptimiserSettings,
        state: &OptimiserState,
    ) -> Result<(), EngineError> {
        let (settings, state) = (std::slice::from_ref(settings), std::slice::from_ref(state));
        self.on_adapter()?.run_set_optimiser(settings, state, Wait::Await).await
    }

    /// Makes training steps on the points of [`FlowExecutor::set_data`] without reading anything back but the report.
    /// A step whose loss, gradient or result is not finite is refused whole and reported.
    ///
    /// # Errors
    /// [`EngineError::NotSet`] before data and optimiser are set, [`EngineError::Limit`] for a batch larger than
    /// [`FlowExecutor::piece_samples`]; [`EngineError::Length`], [`EngineError::NonFinite`] or [`EngineError::Index`]
    /// for arrays that do not fit; any error of the device.
    pub fn train_steps(&mut self, steps: &TrainSteps<'_>) -> Result<StepsReport, EngineError> {
        self.group.train_steps(steps)
    }

    /// [`FlowExecutor::train_steps`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::train_steps`].
    pub async fn train_steps_async(&mut self, steps: &TrainSteps<'_>) -> Result<StepsReport, EngineError> {
        self.on_adapter()?.run_train_steps(steps, Wait::Await).await
    }

    /// The parameters as they are now, a flat vector in the order of [`ParamLayout`](lwflow_model::ParamLayout).
    ///
    /// # Errors
    /// [`EngineError::NoParams`] before the first parameters; any error of the device.
    pub fn params(&mut self) -> Result<Vec<f32>, EngineError> {
        self.group.params(0)
    }

    /// [`FlowExecutor::params`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::params`].
    pub async fn params_async(&mut self) -> Result<Vec<f32>, EngineError> {
        Ok(self.on_adapter()?.run_params(0, Wait::Await).await?.to_vec())
    }

    /// The optimiser's state as it is now, to be stored and given back to [`FlowExecutor::set_optimiser`].
    ///
    /// # Errors
    /// [`EngineError::NotSet`] before an optimiser is set; any error of the device.
    pub fn optimiser_state(&mut self) -> Result<OptimiserState, EngineError> {
        self.group.optimiser_state(0)
    }

    /// [`FlowExecutor::optimiser_state`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::optimiser_state`].
    pub async fn optimiser_state_async(&mut self) -> Result<OptimiserState, EngineError> {
        self.on_adapter()?.run_optimiser_state(0, Wait::Await).await
    }
}
