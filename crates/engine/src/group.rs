//! Flows of one structure on a device that are trained together: seeds, bootstrap weights, numbers of components. On an
//! adapter they share every dispatch, and on the cores each has a core of its own, because what a small flow waits for is
//! launches and other cores, not arithmetic. Invariant: a flow's results are those that it has alone.

use std::borrow::Cow;
use std::sync::Arc;

use lwflow_model::{BaseSpec, FlowSpec, ParamLayout};

use crate::context::ContextNetwork;
use crate::cpu::{Cpu, CpuFlow};
use crate::engine::Opened;
use crate::gpu::{GpuFlow, Wait};
use crate::{
    Engine, EngineError, Gradient, KernelChoice, OptimiserPlace, OptimiserSettings, OptimiserState,
    StepsReport, TrainSteps, WeightedBatch, rows,
};

/// Flows of one structure on a device: they agree in everything but their parameters and the number of components of
/// their bases. [`FlowExecutor`](crate::FlowExecutor) is the face of a single one.
#[derive(Debug)]
pub struct FlowGroup {
    pub(crate) runner: Runner,
    /// What makes each flow's context, where flows have a network for it; else empty.
    networks: Vec<ContextNetwork>,
}

/// What runs the flows. Closed: every call says what each kind does.
#[derive(Debug)]
pub(crate) enum Runner {
    Gpu(Box<GpuFlow>),
    Cpu(Arc<Cpu>, Vec<CpuFlow>),
}

/// Checks that flows can share dispatches.
fn check_alike(specs: &[FlowSpec]) -> Result<(), EngineError> {
    let apart_from_components = |spec: &FlowSpec| {
        let mut spec = spec.clone();
        if let BaseSpec::Mixture(mixture) = &mut spec.base {
            mixture.n_components = 1;
        }
        spec
    };
    let Some((first, others)) = specs.split_first() else {
        return Err(EngineError::Length { what: "flows of a group", got: 0, expected: "at least 1".into() });
    };
    let shared = apart_from_components(first);
    match others.iter().position(|spec| apart_from_components(spec) != shared) {
        None => Ok(()),
        Some(at) => Err(EngineError::Choice {
            field: "flows of a group",
            got: format!("one (number {}) of another structure", at + 2),
            expected: "flows that differ in nothing but the number of components".into(),
        }),
    }
}

impl Runner {
    pub(crate) async fn run_log_prob(
        &mut self,
        flow: usize,
        theta: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Gpu(flows) => flows.run_log_prob(flow, theta, context, wait).await,
            Self::Cpu(_, flows) => flows[flow].log_prob(theta, context),
        }
    }

    pub(crate) async fn run_map(
        &mut self,
        flow: usize,
        call: &'static str,
        x: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        match self {
            Self::Gpu(flows) => flows.run_map(flow, call, x, context, wait).await,
            Self::Cpu(_, flows) if call == "inverse" => flows[flow].inverse(x, context),
            Self::Cpu(_, flows) => flows[flow].forward(x, context),
        }
    }

    async fn run_gradient(
        &mut self,
        flow: usize,
        batch: &WeightedBatch<'_>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        match self {
            Self::Gpu(flows) => flows.run_gradient(flow, batch, wait).await,
            Self::Cpu(_, flows) => flows[flow].gradient(batch),
        }
    }

    async fn run_gradients(
        &mut self,
        batches: &[WeightedBatch<'_>],
        wait: Wait,
    ) -> Result<Vec<Gradient>, EngineError> {
        match self {
            Self::Gpu(flows) => flows.run_gradients(batches, wait).await,
            Self::Cpu(cpu, flows) => {
                let flows = flows.iter_mut().zip(batches).collect();
                cpu.each(flows, |(flow, batch): (&mut CpuFlow, _)| flow.gradient(batch)).into_iter().collect()
            }
        }
    }
}

impl FlowGroup {
    pub(crate) fn new(engine: &Engine, specs: &[FlowSpec]) -> Result<Self, EngineError> {
        for spec in specs {
            spec.validate()?;
        }
        check_alike(specs)?;
        let behind: Vec<FlowSpec> = specs.iter().map(FlowSpec::of_features).collect();
        let runner = match &engine.opened {
            Opened::Gpu(gpu) => {
                let choice = engine.choose(gpu, &behind[0])?;
                Runner::Gpu(Box::new(GpuFlow::new(gpu.clone(), &engine.settings, &behind, choice)?))
            }
            Opened::Cpu(cpu, _) => {
                let flows = behind.iter().map(|spec| CpuFlow::new(cpu.clone(), spec));
                Runner::Cpu(cpu.clone(), flows.collect::<Result<_, _>>()?)
            }
        };
        let mut networks = Vec::new();
        for spec in specs {
            let Some(network) = &spec.context_network else { continue };
            let cores = match &engine.opened {
                Opened::Gpu(_) => Cpu::new(engine.settings.n_threads),
                Opened::Cpu(cpu, _) => cpu.clone(),
            };
            networks.push(ContextNetwork::new(cores, spec, network));
        }
        Ok(Self { runner, networks })
    }

    /// Number of the flows.
    #[must_use]
    pub fn n_flows(&self) -> usize {
        match &self.runner {
            Runner::Gpu(flows) => flows.n_flows(),
            Runner::Cpu(_, flows) => flows.len(),
        }
    }

    /// A flow's specification.
    ///
    /// # Panics
    /// If there is no such flow; so do the other calls that name one.
    #[must_use]
    pub fn spec(&self, flow: usize) -> &FlowSpec {
        match (self.networks.get(flow), &self.runner) {
            (Some(network), _) => &network.spec,
            (None, Runner::Gpu(flows)) => flows.spec(flow),
            (None, Runner::Cpu(_, flows)) => flows[flow].spec(),
        }
    }

    /// The layout of a flow's flat parameter vector.
    #[must_use]
    pub fn layout(&self, flow: usize) -> &ParamLayout {
        match (self.networks.get(flow), &self.runner) {
            (Some(network), _) => &network.layout,
            (None, Runner::Gpu(flows)) => flows.layout(flow),
            (None, Runner::Cpu(_, flows)) => flows[flow].layout(),
        }
    }

    /// Samples that are on the device at once, those of all flows counted; larger batches run in pieces of this size. The
    /// cores have no such limit.
    #[must_use]
    pub fn piece_samples(&self) -> usize {
        match &self.runner {
            Runner::Gpu(flows) => flows.piece_samples(),
            Runner::Cpu(..) => usize::MAX,
        }
    }

    /// Flows whose batches of `n` samples [`FlowGroup::train_steps`] can take in one step.
    #[must_use]
    pub fn flows_at_once(&self, n: usize) -> usize {
        match &self.runner {
            Runner::Gpu(flows) => flows.flows_at_once(n),
            Runner::Cpu(_, flows) => flows.len(),
        }
    }

    /// The kernels that it runs with; see [`FlowExecutor::kernel_choice`](crate::FlowExecutor::kernel_choice).
    #[must_use]
    pub fn kernel_choice(&self) -> Option<KernelChoice> {
        match &self.runner {
            // A context network is the host's, and so is its optimiser.
            Runner::Gpu(flows) if !self.networks.is_empty() => {
                Some(KernelChoice { optimiser: OptimiserPlace::Host, ..flows.choice() })
            }
            Runner::Gpu(flows) => Some(flows.choice()),
            Runner::Cpu(..) => None,
        }
    }

    /// Sets the parameters of a flow, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] if the vector does not fit; the old one stays.
    pub fn set_params(&mut self, flow: usize, params: &[f32]) -> Result<(), EngineError> {
        let behind = match self.networks.get(flow) {
            Some(network) => Cow::Owned(network.behind(params)?),
            None => Cow::Borrowed(params),
        };
        match &mut self.runner {
            Runner::Gpu(flows) => flows.set_params(flow, &behind),
            Runner::Cpu(_, flows) => flows[flow].set_params(&behind),
        }?;
        if let Some(network) = self.networks.get_mut(flow) {
            network.set_params(params);
        }
        Ok(())
    }

    /// What the runner gets for context `[n, C]` of x `[n, D]`.
    pub(crate) fn seen<'a>(
        &mut self,
        flow: usize,
        what: &'static str,
        x: &[f32],
        context: &'a [f32],
    ) -> Result<Cow<'a, [f32]>, EngineError> {
        match self.networks.get_mut(flow) {
            Some(network) => {
                network.check(what, x, context)?;
                Ok(Cow::Owned(network.features(context)))
            }
            None => Ok(Cow::Borrowed(context)),
        }
    }

    /// What the conditioners of a flow see of context `[n, C]`.
    pub(crate) fn features(&mut self, flow: usize, context: &[f32]) -> Result<Vec<f32>, EngineError> {
        let c = self.spec(flow).context_dim;
        rows::check("context", context, context.len() / c.max(1), c)?;
        match self.networks.get_mut(flow) {
            Some(network) => {
                network.spec.check_context(context)?;
                Ok(network.features(context))
            }
            None => Ok(context.to_vec()),
        }
    }

    /// log q(theta | context) of one of the flows, `[n]`, of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`](crate::FlowExecutor::log_prob).
    pub fn log_prob(&mut self, flow: usize, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        pollster::block_on(self.run_log_prob(flow, theta, context, Wait::Block))
    }

    pub(crate) async fn run_log_prob(
        &mut self,
        flow: usize,
        theta: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<Vec<f32>, EngineError> {
        let context = self.seen(flow, "theta", theta, context)?;
        self.runner.run_log_prob(flow, theta, &context, wait).await
    }

    /// Weighted loss and gradients of every flow, each on a batch of its own; see
    /// [`FlowExecutor::gradient`](crate::FlowExecutor::gradient). Batches of one size share dispatches.
    ///
    /// # Errors
    /// As there; [`EngineError::Length`] unless there is a batch for each flow.
    pub fn gradients(&mut self, batches: &[WeightedBatch<'_>]) -> Result<Vec<Gradient>, EngineError> {
        self.check_one_each("batches", batches.len())?;
        if self.networks.is_empty() {
            return pollster::block_on(self.runner.run_gradients(batches, Wait::Block));
        }
        let each = batches.iter().enumerate();
        each.map(|(f, batch)| pollster::block_on(self.run_gradient(f, batch, Wait::Block))).collect()
    }

    fn check_one_each(&self, what: &'static str, got: usize) -> Result<(), EngineError> {
        match self.n_flows() {
            n if n == got => Ok(()),
            n => Err(EngineError::Length { what, got, expected: format!("{n} (one per flow)") }),
        }
    }

    /// A training step of every flow with optimisers of the caller's: `step` gets the number of a flow, its state and its
    /// gradient, and gives the parameters that follow, or none if they stay. On the cores flows step beside each other.
    /// Returns the losses before the step.
    ///
    /// # Errors
    /// As [`FlowGroup::gradients`], and what `step` gives.
    pub fn step<S: Send, E: From<EngineError> + Send>(
        &mut self,
        batches: &[WeightedBatch<'_>],
        states: &mut [S],
        step: impl for<'a> Fn(usize, &'a mut S, &Gradient) -> Result<Option<&'a [f32]>, E> + Sync,
    ) -> Result<Vec<f64>, E> {
        self.check_one_each("batches", batches.len())?;
        self.check_one_each("states", states.len())?;
        if let (Runner::Cpu(cpu, flows), true) = (&mut self.runner, self.networks.is_empty()) {
            let all = flows.iter_mut().zip(batches.iter().zip(states)).enumerate().collect();
            let one = |(f, (flow, (batch, state))): (usize, (&mut CpuFlow, (&WeightedBatch<'_>, &mut S)))| {
                let gradient = flow.gradient(batch)?;
                if let Some(params) = step(f, state, &gradient)? {
                    flow.set_params(params)?;
                }
                Ok(gradient.loss)
            };
            return cpu.each(all, one).into_iter().collect();
        }
        let gradients = self.gradients(batches)?;
        for (f, (gradient, state)) in gradients.iter().zip(states).enumerate() {
            if let Some(params) = step(f, state, gradient)? {
                self.set_params(f, params)?;
            }
        }
        Ok(gradients.iter().map(|gradient| gradient.loss).collect())
    }

    pub(crate) async fn run_gradient(
        &mut self,
        flow: usize,
        batch: &WeightedBatch<'_>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        let Some(network) = self.networks.get_mut(flow) else {
            return self.runner.run_gradient(flow, batch, wait).await;
        };
        let n = network.check("theta", batch.theta, batch.context)?;
        rows::check("weights", batch.weights, n, 1)?;
        if let Some(lv) = batch.log_inv_proposal {
            rows::check_log("log_inv_proposal", lv, n)?;
        }
        let (d, c) = (network.spec.dim, network.spec.context_dim);
        let mut out = Gradient { grad: vec![0.0; network.layout.len], ..Gradient::default() };
        let mut next = 0;
        loop {
            // So many rows at a time as can be kept between the two passes of the network.
            let part = batch.rows(next, network.kept_rows().min(n - next), d, c);
            let features = network.keep(part.context);
            let behind = WeightedBatch { context: &features, ..part };
            let run = self.runner.run_gradient(flow, &behind, wait);
            network.add_gradient(part.context, run.await?, &mut out);
            next += part.weights.len();
            if next == n {
                return Ok(out);
            }
        }
    }

    /// The flows on an adapter, for calls that keep something there.
    pub(crate) fn on_adapter(&mut self) -> Result<&mut GpuFlow, EngineError> {
        let refuse = |why: &str| {
            let (got, expected) = ("device".into(), format!("host, because {why}"));
            Err(EngineError::Choice { field: "optimiser", got, expected })
        };
        match &mut self.runner {
            Runner::Cpu(..) => refuse("the cores are the host"),
            Runner::Gpu(_) if !self.networks.is_empty() => refuse("a context network is trained there"),
            Runner::Gpu(flows) => Ok(flows),
        }
    }

    /// Keeps the training points of all flows on the adapter; see
    /// [`FlowExecutor::set_data`](crate::FlowExecutor::set_data).
    ///
    /// # Errors
    /// As there.
    pub fn set_data(&mut self, theta: &[f32], context: &[f32]) -> Result<(), EngineError> {
        self.on_adapter()?.set_data(theta, context)
    }

    /// Begins or resumes training from the parameters as they are: how the optimiser of each flow steps, and its state. All
    /// settings but the rates of single parameters are those of the first flow.
    ///
    /// # Errors
    /// As [`FlowExecutor::set_optimiser`](crate::FlowExecutor::set_optimiser); [`EngineError::Choice`] for settings that
    /// differ in more.
    pub fn set_optimiser(
        &mut self,
        settings: &[OptimiserSettings],
        states: &[OptimiserState],
    ) -> Result<(), EngineError> {
        pollster::block_on(self.on_adapter()?.run_set_optimiser(settings, states, Wait::Block))
    }

    /// Makes training steps of all flows at once; see [`FlowExecutor::train_steps`](crate::FlowExecutor::train_steps).
    ///
    /// # Errors
    /// As there; [`EngineError::Limit`] if not all batches of a step fit ([`FlowGroup::flows_at_once`]).
    pub fn train_steps(&mut self, steps: &TrainSteps<'_>) -> Result<StepsReport, EngineError> {
        pollster::block_on(self.on_adapter()?.run_train_steps(steps, Wait::Block))
    }

    /// The parameters of a flow as they are now, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// As [`FlowExecutor::params`](crate::FlowExecutor::params).
    pub fn params(&mut self, flow: usize) -> Result<Vec<f32>, EngineError> {
        Ok(pollster::block_on(self.on_adapter()?.run_params(flow, Wait::Block))?.to_vec())
    }

    /// The state of a flow's optimiser as it is now, to be stored and given back to [`FlowGroup::set_optimiser`].
    ///
    /// # Errors
    /// As [`FlowExecutor::optimiser_state`](crate::FlowExecutor::optimiser_state).
    pub fn optimiser_state(&mut self, flow: usize) -> Result<OptimiserState, EngineError> {
        pollster::block_on(self.on_adapter()?.run_optimiser_state(flow, Wait::Block))
    }
}
