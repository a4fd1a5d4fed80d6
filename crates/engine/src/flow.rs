//! A flow on a device, whatever kind of device that is.
//! Invariant: nothing above this file knows what runs the flow; results depend on the parameters and arguments alone. A
//! context network runs on the cores in front of it, so that every device serves flows that have one.

mod on_adapter;

use std::borrow::Cow;

use lwflow_model::{FlowSpec, ParamLayout};

use crate::context::ContextNetwork;
use crate::cpu::{Cpu, CpuFlow};
use crate::engine::Opened;
use crate::gpu::{GpuFlow, KernelTime, ProfiledCall, Wait};
use crate::{Engine, EngineError, KernelChoice, OptimiserPlace, rows};

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

/// A flow on a device.
#[derive(Debug)]
pub struct FlowExecutor {
    runner: Runner,
    /// What makes the runner's context, where the flow has a network for it.
    network: Option<Box<ContextNetwork>>,
}

/// What runs the flow. Closed: every call says what each kind does.
#[derive(Debug)]
enum Runner {
    Gpu(Box<GpuFlow>),
    Cpu(Box<CpuFlow>),
}

impl Runner {
    async fn run_gradient(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        lv: Option<&[f32]>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        match self {
            Self::Gpu(flow) => flow.run_gradient(theta, context, weights, lv, wait).await,
            Self::Cpu(flow) => flow.gradient(theta, context, weights, lv),
        }
    }
}

impl FlowExecutor {
    pub(crate) fn new(engine: &Engine, spec: &FlowSpec) -> Result<Self, EngineError> {
        spec.validate()?;
        let behind = spec.of_features();
        let runner = match &engine.opened {
            Opened::Gpu(gpu) => {
                let choice = engine.choose(gpu, &behind)?;
                Runner::Gpu(Box::new(GpuFlow::new(gpu.clone(), &engine.settings, &behind, choice)?))
            }
            Opened::Cpu(cpu, _) => Runner::Cpu(Box::new(CpuFlow::new(cpu.clone(), &behind)?)),
        };
        let network = spec.context_network.as_ref().map(|network| {
            let cores = match &engine.opened {
                Opened::Gpu(_) => Cpu::new(engine.settings.n_threads),
                Opened::Cpu(cpu, _) => cpu.clone(),
            };
            Box::new(ContextNetwork::new(cores, spec, network))
        });
        Ok(Self { runner, network })
    }

    /// What the runner gets for context `[n, C]` of x `[n, D]`.
    fn seen<'a>(
        &mut self,
        what: &'static str,
        x: &[f32],
        context: &'a [f32],
    ) -> Result<Cow<'a, [f32]>, EngineError> {
        match &mut self.network {
            Some(network) => {
                network.check(what, x, context)?;
                Ok(Cow::Owned(network.features(context)))
            }
            None => Ok(Cow::Borrowed(context)),
        }
    }

    /// The flow's specification.
    #[must_use]
    pub fn spec(&self) -> &FlowSpec {
        match (&self.network, &self.runner) {
            (Some(network), _) => &network.spec,
            (None, Runner::Gpu(flow)) => flow.spec(),
            (None, Runner::Cpu(flow)) => flow.spec(),
        }
    }

    /// The layout of the flat parameter vector.
    #[must_use]
    pub fn layout(&self) -> &ParamLayout {
        match (&self.network, &self.runner) {
            (Some(network), _) => &network.layout,
            (None, Runner::Gpu(flow)) => flow.layout(),
            (None, Runner::Cpu(flow)) => flow.layout(),
        }
    }

    /// Samples that are on the device at once; larger batches run in pieces of this size. The cores have no such limit.
    #[must_use]
    pub fn piece_samples(&self) -> usize {
        match &self.runner {
            Runner::Gpu(flow) => flow.piece_samples(),
            Runner::Cpu(_) => usize::MAX,
        }
    }

    /// Sets the parameters, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] if the vector does not fit; the old one stays.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        let behind = match &self.network {
            Some(network) => Cow::Owned(network.behind(params)?),
            None => Cow::Borrowed(params),
        };
        match &mut self.runner {
            Runner::Gpu(flow) => flow.set_params(&behind),
            Runner::Cpu(flow) => flow.set_params(&behind),
        }?;
        if let Some(network) = &mut self.network {
            network.set_params(params);
        }
        Ok(())
    }

    /// log q(theta | context), `[n]`, of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for arrays that do not fit; any error of the device.
    pub fn log_prob(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        let context = self.seen("theta", theta, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => pollster::block_on(flow.run_log_prob(theta, &context, Wait::Block)),
            Runner::Cpu(flow) => flow.log_prob(theta, &context),
        }
    }

    /// [`FlowExecutor::log_prob`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn log_prob_async(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        let context = self.seen("theta", theta, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => flow.run_log_prob(theta, &context, Wait::Await).await,
            Runner::Cpu(flow) => flow.log_prob(theta, &context),
        }
    }

    /// Data to base: z `[n, D]` and the forward map's log_det `[n]` of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn inverse(&mut self, theta: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let context = self.seen("theta", theta, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => pollster::block_on(flow.run_map("inverse", theta, &context, Wait::Block)),
            Runner::Cpu(flow) => flow.inverse(theta, &context),
        }
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
        let context = self.seen("theta", theta, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => flow.run_map("inverse", theta, &context, Wait::Await).await,
            Runner::Cpu(flow) => flow.inverse(theta, &context),
        }
    }

    /// Base to data: theta `[n, D]` and log_det `[n]` of z `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn forward(&mut self, z: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let context = self.seen("z", z, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => pollster::block_on(flow.run_map("forward", z, &context, Wait::Block)),
            Runner::Cpu(flow) => flow.forward(z, &context),
        }
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
        let context = self.seen("z", z, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => flow.run_map("forward", z, &context, Wait::Await).await,
            Runner::Cpu(flow) => flow.forward(z, &context),
        }
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
        pollster::block_on(self.run_gradient(theta, context, weights, log_inv_proposal, Wait::Block))
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
        self.run_gradient(theta, context, weights, log_inv_proposal, Wait::Await).await
    }

    async fn run_gradient(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        lv: Option<&[f32]>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        let Some(network) = &mut self.network else {
            return self.runner.run_gradient(theta, context, weights, lv, wait).await;
        };
        let n = network.check("theta", theta, context)?;
        rows::check("weights", weights, n, 1)?;
        if let Some(lv) = lv {
            rows::check_log("log_inv_proposal", lv, n)?;
        }
        let (d, c) = (network.spec.dim, network.spec.context_dim);
        let mut out = Gradient { grad: vec![0.0; network.layout.len], ..Gradient::default() };
        let mut next = 0;
        loop {
            // So many rows at a time as can be kept between the two passes of the network.
            let at = next..n.min(next + network.kept_rows());
            let context = &context[at.start * c..at.end * c];
            let features = network.keep(context);
            let (theta, lv) = (&theta[at.start * d..at.end * d], lv.map(|lv| &lv[at.clone()]));
            let run = self.runner.run_gradient(theta, &features, &weights[at.clone()], lv, wait);
            network.add_gradient(context, run.await?, &mut out);
            next = at.end;
            if next == n {
                return Ok(out);
            }
        }
    }

    /// What the conditioners see of context `[n, C]`: the features of the context network, `[n, F]`, or the context itself.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn features(&mut self, context: &[f32]) -> Result<Vec<f32>, EngineError> {
        let c = self.spec().context_dim;
        rows::check("context", context, context.len() / c.max(1), c)?;
        match &mut self.network {
            Some(network) => {
                network.spec.check_context(context)?;
                Ok(network.features(context))
            }
            None => Ok(context.to_vec()),
        }
    }

    /// The kernels it runs with, and where a training run should have its optimiser; `None` on the cores, which have no
    /// kernels and are the host.
    #[must_use]
    pub fn kernel_choice(&self) -> Option<KernelChoice> {
        match &self.runner {
            // A context network is the host's, and so is its optimiser.
            Runner::Gpu(flow) if self.network.is_some() => {
                Some(KernelChoice { optimiser: OptimiserPlace::Host, ..flow.choice() })
            }
            Runner::Gpu(flow) => Some(flow.choice()),
            Runner::Cpu(_) => None,
        }
    }

    /// Compiles every kernel of log_prob, gradient and forward that the driver has not compiled yet. `progress` gets the
    /// number of each kernel from 1, how many there are and its name, before it is compiled.
    ///
    /// # Errors
    /// [`EngineError::NoParams`] before the first parameters; any error of the device.
    pub fn prepare(&mut self, progress: impl FnMut(usize, usize, &str)) -> Result<(), EngineError> {
        match &mut self.runner {
            Runner::Gpu(flow) => pollster::block_on(flow.run_prepare(progress, Wait::Block)),
            Runner::Cpu(_) => Ok(()),
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
        let context = self.seen("x", x, context)?;
        match &mut self.runner {
            Runner::Gpu(flow) => flow.profile(call, x, &context),
            Runner::Cpu(_) => Ok(Vec::new()),
        }
    }
}
