//! A flow on a device, whatever kind of device that is.
//! Invariant: nothing above this file knows what runs the flow; results depend on the parameters and arguments alone. A
//! context network runs on the cores in front of it, so that every device serves flows that have one.

mod on_adapter;

use lwflow_model::{FlowSpec, ParamLayout};

use crate::gpu::{KernelTime, ProfiledCall, Wait};
use crate::group::{FlowGroup, Runner};
use crate::{Engine, EngineError, KernelChoice};

/// Weighted loss and its gradients.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gradient {
    /// `-sum_i w_i log q_i` over samples of non-zero weight. Summed on the host in f64 and in the order of the samples:
    /// log q is read back in any case.
    pub loss: f64,
    /// Gradient with respect to the flat parameter vector of [`ParamLayout`].
    pub grad: Vec<f32>,
    /// Gradient with respect to the context, `[n, C]`.
    pub grad_context: Vec<f32>,
    /// log q_i, `[n]`.
    pub log_prob: Vec<f32>,
}

/// Weighted samples of a loss; the default is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeightedBatch<'a> {
    /// Parameters, `[n, D]`.
    pub theta: &'a [f32],
    /// Context, `[n, C]`.
    pub context: &'a [f32],
    /// Weights, `[n]`.
    pub weights: &'a [f32],
    /// Logarithm of the inverse proposal density, `[n]`: with it the gradients use effective weights.
    pub log_inv_proposal: Option<&'a [f32]>,
}

impl WeightedBatch<'_> {
    /// `n` of its rows from `first` on.
    pub(crate) fn rows(&self, first: usize, n: usize, d: usize, c: usize) -> Self {
        Self {
            theta: &self.theta[first * d..][..n * d],
            context: &self.context[first * c..][..n * c],
            weights: &self.weights[first..][..n],
            log_inv_proposal: self.log_inv_proposal.map(|lv| &lv[first..][..n]),
        }
    }

    /// `-sum_i w_i log q_i` over samples of non-zero weight.
    pub(crate) fn loss(&self, log_prob: &[f32]) -> f64 {
        let samples = self.weights.iter().zip(log_prob).filter(|(w, _)| **w != 0.0);
        -samples.map(|(&w, &log_q)| f64::from(w) * f64::from(log_q)).sum::<f64>()
    }
}

/// A flow on a device: a group of one.
#[derive(Debug)]
pub struct FlowExecutor {
    group: FlowGroup,
}

impl FlowExecutor {
    pub(crate) fn new(engine: &Engine, spec: &FlowSpec) -> Result<Self, EngineError> {
        Ok(Self { group: FlowGroup::new(engine, std::slice::from_ref(spec))? })
    }

    /// The group of this flow alone, for calls that take one.
    pub fn as_group(&mut self) -> &mut FlowGroup {
        &mut self.group
    }

    /// The flow's specification.
    #[must_use]
    pub fn spec(&self) -> &FlowSpec {
        self.group.spec(0)
    }

    /// The layout of the flat parameter vector.
    #[must_use]
    pub fn layout(&self) -> &ParamLayout {
        self.group.layout(0)
    }

    /// Samples that are on the device at once; larger batches run in pieces of this size. The cores have no such limit.
    #[must_use]
    pub fn piece_samples(&self) -> usize {
        self.group.piece_samples()
    }

    /// Sets the parameters, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] if the vector does not fit; the old one stays.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        self.group.set_params(0, params)
    }

    /// log q(theta | context), `[n]`, of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for arrays that do not fit; any error of the device.
    pub fn log_prob(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        self.group.log_prob(0, theta, context)
    }

    /// [`FlowExecutor::log_prob`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn log_prob_async(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        self.group.run_log_prob(0, theta, context, Wait::Await).await
    }

    /// Data to base: z `[n, D]` and the forward map's log_det `[n]` of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn inverse(&mut self, theta: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        pollster::block_on(self.run_map("inverse", theta, context, Wait::Block))
    }

    /// [`FlowExecutor::inverse`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn inverse_async(
        &mut self,
        theta: &[f32],
        context: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        self.run_map("inverse", theta, context, Wait::Await).await
    }

    /// Base to data: theta `[n, D]` and log_det `[n]` of z `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn forward(&mut self, z: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        pollster::block_on(self.run_map("forward", z, context, Wait::Block))
    }

    /// [`FlowExecutor::forward`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn forward_async(
        &mut self,
        z: &[f32],
        context: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        self.run_map("forward", z, context, Wait::Await).await
    }

    /// Weighted loss `-sum_i w_i log q(theta_i | c_i)` and its gradients; theta `[n, D]`, context `[n, C]`, weights
    /// `[n]`. With `log_inv_proposal` lv `[n]` the gradients use the effective weights `w_i - exp(log q_i + lv_i)`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`]. A loss or gradient that is not finite is a result, not an error.
    pub fn gradient(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
    ) -> Result<Gradient, EngineError> {
        let batch = WeightedBatch { theta, context, weights, log_inv_proposal };
        pollster::block_on(self.group.run_gradient(0, &batch, Wait::Block))
    }

    /// [`FlowExecutor::gradient`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::gradient`].
    pub async fn gradient_async(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
    ) -> Result<Gradient, EngineError> {
        let batch = WeightedBatch { theta, context, weights, log_inv_proposal };
        self.group.run_gradient(0, &batch, Wait::Await).await
    }

    async fn run_map(
        &mut self,
        call: &'static str,
        x: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let context = self.group.seen(0, if call == "inverse" { "theta" } else { "z" }, x, context)?;
        self.group.runner.run_map(0, call, x, &context, wait).await
    }

    /// What the conditioners see of context `[n, C]`: the features of the context network, `[n, F]`, or the context itself.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn features(&mut self, context: &[f32]) -> Result<Vec<f32>, EngineError> {
        self.group.features(0, context)
    }

    /// The kernels it runs with, and where a training run should have its optimiser; `None` on the cores, which have no
    /// kernels and are the host.
    #[must_use]
    pub fn kernel_choice(&self) -> Option<KernelChoice> {
        self.group.kernel_choice()
    }

    /// Compiles every kernel of log_prob, gradient and forward that the driver has not compiled yet. `progress` gets the
    /// number of each kernel from 1, how many there are and its name, before it is compiled.
    ///
    /// # Errors
    /// [`EngineError::NoParams`] before the first parameters; any error of the device.
    pub fn prepare(&mut self, progress: impl FnMut(usize, usize, &str)) -> Result<(), EngineError> {
        match &mut self.group.runner {
            Runner::Gpu(flow) => pollster::block_on(flow.run_prepare(progress, Wait::Block)),
            Runner::Cpu(..) => Ok(()),
        }
    }

    /// Time of every kernel in one call on x `[n, D]` (theta, or z for `forward`) given context `[n, C]`, in the order
    /// in which the kernels first run. The first piece runs once before it is timed, because drivers compile at first
    /// use. On a device with timestamps the times are the device's own; on one without, each dispatch is submitted and
    /// waited for alone, so that its time includes the wait. Transfers to and from the device are no part of either. The
    /// cores have no kernels, and no times.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`]; for calls that keep something on an adapter, or work between buffers there, theirs.
    pub fn profile(
        &mut self,
        call: ProfiledCall,
        x: &[f32],
        context: &[f32],
    ) -> Result<Vec<KernelTime>, EngineError> {
        let context = self.group.seen(0, "x", x, context)?;
        match &mut self.group.runner {
            Runner::Gpu(flow) => flow.profile(call, x, &context),
            Runner::Cpu(..) => Ok(Vec::new()),
        }
    }
}
