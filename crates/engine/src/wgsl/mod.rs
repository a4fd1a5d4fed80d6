//! A log likelihood or a simulator written in WGSL: the user's file, checked and ready to run on a device or on the cores.
//! Invariant: what passes [`WgslProgram::new`] or [`SimulatorProgram::new`] compiles for every device and has a bytecode for
//! the cores; what does not is told by the user's own file, line and column.

pub(crate) mod bytecode;
mod check;
mod error;
mod lower;
mod simulator;
mod splice;
mod widen;

use std::sync::Arc;

pub use error::WgslError;
pub use simulator::SimulatorProgram;

use crate::EngineError;
use crate::scan::{N_CUBICS, SOBOL_BLOCK};
use bytecode::Bytecode;
use check::{Compiled, Purpose};

/// Invocations of a workgroup.
pub(crate) const WORKGROUP: u32 = 64;

/// Numbers that a file reads with `data(row, column)`: what a likelihood observed, or constants of a simulator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WgslData {
    /// Values, `[n_rows, n_columns]`; the device and the f32 evaluator round them to f32.
    pub values: Vec<f64>,
    /// Columns of a row.
    pub n_columns: usize,
}

impl WgslData {
    /// Rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.n_columns.max(1)
    }
}

/// A user's WGSL file and what it is for. For a [`WgslProgram`] it defines `fn log_likelihood(theta: array<f32, D>) -> f32` and,
/// where there are derived quantities, `fn derived(theta: array<f32, D>) -> array<f32, M>`; for a [`SimulatorProgram`]
/// `fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X>`. It may define all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WgslSource {
    /// The file's name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Number of parameters D.
    pub dim: usize,
    /// Number of derived quantities M.
    pub n_derived: usize,
    /// Number of simulated values X; 0 where no simulator is known, and then the file cannot name `X`.
    pub n_observed: usize,
    /// Observed data, if there is any.
    pub data: Option<WgslData>,
}

/// A log likelihood in WGSL that passed every check.
///
/// ```
/// use lwflow_engine::{DeviceChoice, Engine, EngineSettings, WgslProgram, WgslSource};
/// let text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return normal_log_pdf(theta[0], 1.0, 2.0); }";
/// let source = WgslSource { file: "normal.wgsl".into(), text: text.into(), dim: 1, ..Default::default() };
/// let program = WgslProgram::new(&source)?;
/// let cores = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
/// let (log_likelihood, _) = cores.likelihood(&program)?.evaluate(&[1.0, 3.0])?;
/// assert!((log_likelihood[0] - log_likelihood[1] - 0.5).abs() < 1e-6);
/// # Ok::<(), lwflow_engine::EngineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct WgslProgram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: WgslSource,
    narrow: Bytecode,
    /// The program in 64 bits, or why there is none.
    wide: Result<Bytecode, String>,
    reads_data: bool,
}

impl WgslProgram {
    /// Parses and checks a file. No device is needed.
    ///
    /// # Errors
    /// [`EngineError::Wgsl`] for text that is no valid WGSL, a missing or different signature, a name that is taken, and
    /// constructs that the cores cannot evaluate; [`EngineError::Length`] for data that is no whole number of rows.
    pub fn new(source: &WgslSource) -> Result<Self, EngineError> {
        let Compiled { code: narrow, reads_data } = check::compile(source, Purpose::Likelihood)?;
        let wide = check::wide(source)?;
        Ok(Self { inner: Arc::new(Inner { source: source.clone(), narrow, wide, reads_data }) })
    }

    /// The file and what it is for.
    #[must_use]
    pub fn source(&self) -> &WgslSource {
        &self.inner.source
    }

    /// Why the program cannot be evaluated in 64 bits; `None` if it can.
    #[must_use]
    pub fn no_audit(&self) -> Option<&str> {
        self.inner.wide.as_ref().err().map(String::as_str)
    }

    /// The program in 32 bits.
    pub(crate) fn narrow(&self) -> &Bytecode {
        &self.inner.narrow
    }

    /// The program in 64 bits.
    pub(crate) fn wide(&self) -> Result<&Bytecode, &str> {
        self.inner.wide.as_ref().map_err(String::as_str)
    }

    /// Whether the program calls `data`.
    pub(crate) fn reads_data(&self) -> bool {
        self.inner.reads_data
    }

    /// The constants of the kernel.
    pub(crate) fn constants(&self) -> lwflow_shaders::Constants {
        splice::constants(&self.inner.source, Purpose::Likelihood, self.inner.reads_data)
    }

    /// The constants of the kernel that draws theta itself.
    pub(crate) fn scan_constants(&self) -> lwflow_shaders::Constants {
        let constants = self.constants().with("scan", true).with("block", SOBOL_BLOCK as u32);
        constants.with("n_cubics", N_CUBICS as u32)
    }
}
