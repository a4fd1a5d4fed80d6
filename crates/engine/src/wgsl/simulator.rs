//! A simulator written in WGSL: the user's file, checked and ready to run on a device or on the cores.
//! Invariant: what passes [`SimulatorProgram::new`] compiles for every device and has a bytecode for the cores; what does not
//! is told by the user's own file, line and column.

use std::sync::Arc;

use super::bytecode::Bytecode;
use super::check::{self, Compiled, Purpose};
use super::{WgslSource, splice};
use crate::EngineError;

/// A simulator in WGSL that passed every check.
///
/// ```
/// use lwflow_engine::{DeviceChoice, Engine, EngineSettings, SimulatorProgram, WgslSource};
/// let text = "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
///     return array<f32, X>(theta[0] + normal(stream), theta[0] + normal(stream));
/// }";
/// let file = "twice.wgsl".to_owned();
/// let source = WgslSource { file, text: text.into(), dim: 1, n_observed: 2, ..Default::default() };
/// let program = SimulatorProgram::new(&source)?;
/// let cores = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
/// let mut simulator = cores.simulator(&program)?;
/// let both = simulator.simulate(7, 0, &[1.0, 3.0])?; // [2, X]
/// assert_eq!(both[2..], simulator.simulate(7, 1, &[3.0])?); // simulation 1 of seed 7, whatever is beside it
/// # Ok::<(), lwflow_engine::EngineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SimulatorProgram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: WgslSource,
    code: Bytecode,
    reads_data: bool,
}

impl SimulatorProgram {
    /// Parses and checks a file. No device is needed.
    ///
    /// # Errors
    /// [`EngineError::Wgsl`] for text that is no valid WGSL, a missing or different signature, a name that is taken, and
    /// constructs that the cores cannot evaluate; [`EngineError::Length`] for no simulated values or data that are no whole
    /// number of rows.
    pub fn new(source: &WgslSource) -> Result<Self, EngineError> {
        if source.n_observed == 0 {
            let expected = "at least one".into();
            return Err(EngineError::Length {
                what: "simulated values of a WGSL simulator",
                got: 0,
                expected,
            });
        }
        let Compiled { code, reads_data } = check::compile(source, Purpose::Simulator)?;
        Ok(Self { inner: Arc::new(Inner { source: source.clone(), code, reads_data }) })
    }

    /// The file and what it is for.
    #[must_use]
    pub fn source(&self) -> &WgslSource {
        &self.inner.source
    }

    pub(crate) fn code(&self) -> &Bytecode {
        &self.inner.code
    }

    /// Whether the program calls `data`.
    pub(crate) fn reads_data(&self) -> bool {
        self.inner.reads_data
    }

    /// The constants of the kernel.
    pub(crate) fn constants(&self) -> lwflow_shaders::Constants {
        splice::constants(&self.inner.source, Purpose::Simulator, self.inner.reads_data)
    }
}
