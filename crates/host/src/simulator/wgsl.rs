//! A simulator written in WGSL, on whatever device the engine has: parameters go over as f32, less an offset.
//! Invariant: no parameter goes over whose f32 spacing is coarse for its prior.

use lwflow_engine::{Engine, SimulatorExecutor, SimulatorProgram};

use super::{Simulator, keep_legal};
use crate::HostError;
use crate::likelihood::WgslParameter;

/// A simulator in WGSL.
///
/// ```
/// use lwflow_engine::{DeviceChoice, Engine, EngineSettings, SimulatorProgram, WgslSource};
/// use lwflow_host::likelihood::WgslParameter;
/// use lwflow_host::simulator::{Simulator, WgslSimulator};
/// let text = "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
///     return array<f32, X>(theta[0], uniform01(stream));
/// }";
/// let file = "count.wgsl".to_owned();
/// let source = WgslSource { file, text: text.into(), dim: 1, n_observed: 2, ..Default::default() };
/// let program = SimulatorProgram::new(&source)?;
/// let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
/// let mass = WgslParameter { name: "mass".into(), offset: 1e9, range: (1e9 - 1.0, 1e9 + 1.0) };
/// let mut simulator = WgslSimulator::new(&engine, &program, &[mass], 7)?;
/// let mut x = Vec::new();
/// simulator.simulate(0, &[1e9, 1e9 + 0.5], &mut x)?;
/// assert_eq!((x[0], x[2]), (0.0, 0.5));
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
#[derive(Debug)]
pub struct WgslSimulator {
    executor: SimulatorExecutor,
    offset: Vec<f64>,
    seed: u64,
    narrow: Vec<f32>,
}

impl WgslSimulator {
    /// The program on the engine's device, with one entry per parameter in their order.
    ///
    /// # Errors
    /// [`HostError::Length`] for another number of parameters than the program's; [`HostError::Invalid`] naming a parameter whose
    /// f32 spacing is coarser than 1e-4 of its prior's width; any error of the device.
    pub fn new(
        engine: &Engine,
        program: &SimulatorProgram,
        parameters: &[WgslParameter],
        seed: u64,
    ) -> Result<Self, HostError> {
        let dim = program.source().dim;
        crate::error::check_length("parameters", parameters.len(), dim, "as many as theta has")?;
        parameters.iter().try_for_each(WgslParameter::check)?;
        let offset = parameters.iter().map(|p| p.offset).collect();
        Ok(Self { executor: engine.simulator(program)?, offset, seed, narrow: Vec::new() })
    }
}

impl Simulator for WgslSimulator {
    fn dim(&self) -> usize {
        self.offset.len()
    }

    fn n_observed(&self) -> usize {
        self.executor.program().source().n_observed
    }

    fn simulate(&mut self, first: u64, theta: &[f64], x: &mut Vec<f64>) -> Result<(), HostError> {
        self.narrow.clear();
        let shifted = theta.iter().zip(self.offset.iter().cycle()).map(|(value, offset)| value - offset);
        self.narrow.extend(shifted.map(|value| value as f32));
        let values = self.executor.simulate(self.seed, first, &self.narrow)?;
        let start = x.len();
        x.extend(values.into_iter().map(f64::from));
        keep_legal(first, theta, self.n_observed(), x, start)
    }
}
