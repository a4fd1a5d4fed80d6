//! One flow on one kernel path with its inputs, and the calls that are measured on it.
//! Invariant: a call does the same work every time it is made.

use anyhow::{Context, Result};
use lwflow_engine::{
    DeviceChoice, DeviceKind, Engine, EngineSettings, FlowExecutor, KernelTime, OptimiserSettings,
    OptimiserState, ProfiledCall, TrainSteps,
};
use lwflow_host::adam::{Adam, AdamSettings};
use lwflow_model::Flow;

use crate::Shape;
use crate::shape::multiply_adds;

/// What is measured as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Data to base.
    Inverse,
    /// Base to data.
    Forward,
    /// Log density.
    LogProb,
    /// Loss and all gradients.
    Gradient,
    /// Upload of new parameters.
    SetParams,
    /// The optimiser's step on the host.
    Adam,
    /// Gradient, Adam and upload of the parameters: one step of training.
    TrainStep,
    /// A step of training with points and optimiser on the device.
    TrainSteps,
}

impl Call {
    /// All calls.
    pub const ALL: [Self; 8] = [
        Self::Inverse,
        Self::Forward,
        Self::LogProb,
        Self::Gradient,
        Self::SetParams,
        Self::Adam,
        Self::TrainStep,
        Self::TrainSteps,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inverse => "inverse",
            Self::Forward => "forward",
            Self::LogProb => "log_prob",
            Self::Gradient => "gradient",
            Self::SetParams => "set_params",
            Self::Adam => "adam",
            Self::TrainStep => "train_step",
            Self::TrainSteps => "train_steps",
        }
    }

    /// Model FLOP per multiply-add, for calls that run the linear maps.
    #[must_use]
    pub fn flop(self) -> Option<f64> {
        match self {
            Self::Inverse | Self::Forward | Self::LogProb => Some(2.0),
            Self::Gradient | Self::TrainStep | Self::TrainSteps => Some(6.0),
            Self::SetParams | Self::Adam => None,
        }
    }
}

/// Inputs of all calls.
#[derive(Debug, Clone)]
pub struct Workload {
    x: Vec<f32>,
    context: Vec<f32>,
    weights: Vec<f32>,
    index: Vec<u32>,
}

impl Workload {
    /// Points that fill [-1, 1] per coordinate, equal weights.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let wave = |n: usize, step: f64| (0..n).map(|i| (step * i as f64).sin() as f32).collect();
        Self {
            x: wave(shape.batch * shape.dim, 0.37),
            context: wave(shape.batch * shape.context_dim, 0.53),
            weights: vec![1.0 / shape.batch as f32; shape.batch],
            index: (0..shape.batch as u32).collect(),
        }
    }
}

/// A flow on one kernel path.
#[derive(Debug)]
pub struct PathBench {
    /// `fused` or `tiled`.
    pub name: &'static str,
    executor: FlowExecutor,
    /// The same flow with points and optimiser on the device, once they are there; the cores are the host.
    trainer: Option<FlowExecutor>,
    has_points: bool,
    adam: Adam,
    params: Vec<f32>,
    grad: Vec<f32>,
}

/// The kernel paths of `shape` on a device: the device's own choice, and the tiled one where it differs.
///
/// # Errors
/// Any error of the device or the shape.
pub fn paths(device: &DeviceChoice, shape: &Shape) -> Result<Vec<PathBench>> {
    let small = Shape { batch: 1, ..*shape };
    let mut paths: Vec<PathBench> = Vec::new();
    for portable_kernels in [false, true] {
        let settings = EngineSettings { device: device.clone(), portable_kernels, ..Default::default() };
        let spec = shape.spec()?;
        let engine = Engine::new(&settings)?;
        let mut executor = engine.flow(&spec)?;
        let params = Flow::<f32>::init(spec, 1)?.params().to_vec();
        executor.set_params(&params)?;
        let work = Workload::new(&small);
        let kernels = executor.profile(ProfiledCall::Inverse, &work.x, &work.context)?;
        let fused = kernels.iter().any(|k| k.kernel.starts_with("fused_"));
        let name = match (engine.info().kind, fused) {
            (DeviceKind::Cpu, _) => "native",
            (_, true) => "fused",
            (_, false) => "tiled",
        };
        if paths.iter().all(|p| p.name != name) {
            let adam = Adam::new(params.len(), AdamSettings::default())?;
            let grad = params.iter().enumerate().map(|(i, _)| (i as f32).sin()).collect();
            let mut trainer = if name == "native" { None } else { Some(engine.flow(executor.spec())?) };
            if let Some(trainer) = &mut trainer {
                trainer.set_params(&params)?;
            }
            paths.push(PathBench { name, executor, trainer, has_points: false, adam, params, grad });
        }
    }
    Ok(paths)
}

impl PathBench {
    /// Multiply-adds of the linear maps for one sample.
    #[must_use]
    pub fn multiply_adds(&self) -> usize {
        multiply_adds(self.executor.layout())
    }

    /// Whether this path has the call.
    #[must_use]
    pub fn can(&self, call: Call) -> bool {
        call != Call::TrainSteps || self.trainer.is_some()
    }

    /// The executor that trains on its device, with the points of `work` there.
    fn trainer(&mut self, work: &Workload) -> Result<&mut FlowExecutor> {
        let trainer = self.trainer.as_mut().context("the cores train with the host's optimiser")?;
        if !self.has_points {
            let n = trainer.layout().len;
            let settings = OptimiserSettings {
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-8,
                clip_norm: Some(5.0),
                rate_scale: vec![1.0; n],
            };
            trainer.set_data(&work.x, &work.context)?;
            trainer.set_optimiser(&settings, &OptimiserState::new(n))?;
            self.has_points = true;
        }
        Ok(trainer)
    }

    /// Makes a call once.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn call(&mut self, call: Call, work: &Workload) -> Result<()> {
        // The rate is so small that the parameters stay what they are for all purposes.
        const RATE: f64 = 1e-9;
        match call {
            Call::Inverse => drop(self.executor.inverse(&work.x, &work.context)?),
            Call::Forward => drop(self.executor.forward(&work.x, &work.context)?),
            Call::LogProb => drop(self.executor.log_prob(&work.x, &work.context)?),
            Call::Gradient => {
                drop(self.executor.gradient(&work.x, &work.context, &work.weights, None)?);
            }
            Call::SetParams => self.executor.set_params(&self.params)?,
            Call::Adam => {
                self.adam.step(&mut self.params, &self.grad, RATE, None)?;
            }
            Call::TrainStep => {
                let gradient = self.executor.gradient(&work.x, &work.context, &work.weights, None)?;
                self.adam.step(&mut self.params, &gradient.grad, RATE, None)?;
                self.executor.set_params(&self.params)?;
            }
            Call::TrainSteps => {
                let steps = TrainSteps {
                    batch_size: work.weights.len(),
                    index: &work.index,
                    weights: &work.weights,
                    log_inv_proposal: None,
                    learning_rate: &[RATE],
                };
                drop(self.trainer(work)?.train_steps(&steps)?);
            }
        }
        Ok(())
    }

    /// Time of each kernel in a call; none for a call that the path or the flow does not have.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn profile(&mut self, call: ProfiledCall, work: &Workload) -> Result<Vec<KernelTime>> {
        let executor = match call {
            ProfiledCall::TrainSteps if self.trainer.is_none() => return Ok(Vec::new()),
            ProfiledCall::TrainSteps => self.trainer(work)?,
            // Flows without context only.
            ProfiledCall::LogProbOnDevice | ProfiledCall::SampleOnDevice if !work.context.is_empty() => {
                return Ok(Vec::new());
            }
            _ => &mut self.executor,
        };
        Ok(executor.profile(call, &work.x, &work.context)?)
    }
}
