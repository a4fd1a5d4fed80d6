//! A WGSL log likelihood on a device, whatever kind of device that is.
//! Invariant: nothing above this file knows what runs it; a value that is handed out as checked is finite or -inf.

use crate::cpu::{CpuLikelihood, CpuScan};
use crate::engine::Opened;
use crate::gpu::{GpuLikelihood, GpuScan};
use crate::scan::{QuantileTable, SOBOL_MAX_DIM, Scanned};
use crate::{Engine, EngineError, EngineSettings, KernelTime, WgslProgram, rows};

/// log L `[n]` and derived quantities `[n, M]`.
type Values = (Vec<f32>, Vec<f32>);

/// A log likelihood on a device.
#[derive(Debug)]
pub struct LikelihoodExecutor {
    program: WgslProgram,
    settings: EngineSettings,
    runner: Runner,
    /// Observations J that [`LikelihoodExecutor::observe`] set.
    n_observations: usize,
}

/// A scan of a prior on a device: what it draws and evaluates stays there.
#[derive(Debug)]
pub struct ScanExecutor(Scan);

#[derive(Debug)]
enum Scan {
    Gpu(Box<GpuScan>),
    Cpu(Box<CpuScan>),
}

#[derive(Debug)]
enum Runner {
    Gpu(Box<GpuLikelihood>),
    Cpu(Box<CpuLikelihood>),
}

impl LikelihoodExecutor {
    pub(crate) fn new(engine: &Engine, program: &WgslProgram) -> Result<Self, EngineError> {
        let runner = match &engine.opened {
            Opened::Gpu(gpu) => {
                Runner::Gpu(Box::new(GpuLikelihood::new(gpu.clone(), &engine.settings, program)?))
            }
            Opened::Cpu(cpu, _) => {
                let timeout = engine.settings.timeout();
                Runner::Cpu(Box::new(CpuLikelihood::new(cpu.clone(), program, timeout)))
            }
        };
        Ok(Self { program: program.clone(), settings: engine.settings.clone(), runner, n_observations: 0 })
    }

    /// The program it runs.
    #[must_use]
    pub fn program(&self) -> &WgslProgram {
        &self.program
    }

    /// The scan of a prior with these quantiles, `[D]`, over the Sobol sequence `key`.
    ///
    /// # Errors
    /// [`EngineError::Length`] for another number of quantiles than D, or more than [`SOBOL_MAX_DIM`]; any error of the device.
    pub fn scan(&self, key: u32, quantiles: &[QuantileTable]) -> Result<ScanExecutor, EngineError> {
        let dim = self.program.source().dim;
        if quantiles.len() != dim || dim > SOBOL_MAX_DIM {
            let expected = format!("one for each of {dim} parameters, at most {SOBOL_MAX_DIM}");
            return Err(EngineError::Length { what: "quantiles of a scan", got: quantiles.len(), expected });
        }
        Ok(ScanExecutor(match &self.runner {
            Runner::Gpu(gpu) => {
                Scan::Gpu(Box::new(gpu.scan(&self.settings, &self.program, key, quantiles)?))
            }
            Runner::Cpu(cpu) => Scan::Cpu(Box::new(cpu.scan(key, quantiles))),
        }))
    }

    /// log L `[n]` and derived quantities `[n, M]` of theta `[n, D]`.
    ///
    /// # Errors
    /// [`EngineError::BadLogLikelihood`] for the first log L that is NaN or +inf; [`EngineError::Length`] or
    /// [`EngineError::NonFinite`] for a theta that does not fit; any error of the device.
    pub fn evaluate(&mut self, theta: &[f32]) -> Result<Values, EngineError> {
        let values = self.evaluate_unchecked(theta)?;
        self.checked(theta, values)
    }

    /// Time of the kernel on theta `[n, D]`, as [`FlowExecutor::profile`](crate::FlowExecutor::profile) measures it; nothing on
    /// the cores.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for a theta that does not fit; any error of the device.
    pub fn profile(&mut self, theta: &[f32]) -> Result<Vec<KernelTime>, EngineError> {
        let dim = self.program.source().dim;
        rows::check("theta", theta, rows::count("theta", theta, dim)?, dim)?;
        match &self.runner {
            Runner::Gpu(gpu) => gpu.profile(theta),
            Runner::Cpu(_) => Ok(Vec::new()),
        }
    }

    fn checked(&self, theta: &[f32], values: Values) -> Result<Values, EngineError> {
        let (log_likelihood, derived) = values;
        match log_likelihood.iter().position(|v| v.is_nan() || *v == f32::INFINITY) {
            None => Ok((log_likelihood, derived)),
            Some(row) => {
                let dim = self.program.source().dim;
                let value = log_likelihood[row];
                Err(EngineError::BadLogLikelihood {
                    row,
                    theta: theta[row * dim..(row + 1) * dim].to_vec(),
                    value,
                })
            }
        }
    }

    /// [`LikelihoodExecutor::evaluate`] with log L as the program gave it, NaN and +inf included, for a caller that keeps
    /// what is good. Values at the end of f32 are what a device makes of -inf, and become it.
    ///
    /// # Errors
    /// As [`LikelihoodExecutor::evaluate`], but for the first.
    pub fn evaluate_unchecked(&mut self, theta: &[f32]) -> Result<Values, EngineError> {
        self.run(theta, None)
    }

    /// Sets the observations of [`LikelihoodExecutor::evaluate_observed`], `[J, X]` row by row: an observation is as many values
    /// as the data of the program's source, and `data(row, column)` reads them in its place. They are rounded to f32.
    ///
    /// # Errors
    /// [`EngineError::Length`] for a program that does not call `data`, no observations, or no whole number of them;
    /// [`EngineError::NonFinite`] for a value that is not finite in f32; any error of the device. Those set before are gone.
    pub fn observe(&mut self, observations: &[f64]) -> Result<(), EngineError> {
        const WHAT: &str = "observations of a WGSL likelihood";
        self.n_observations = 0;
        let got = observations.len();
        let Some(n_values) = self.program.n_observed() else {
            let expected = "none: the program does not call `data`".into();
            return Err(EngineError::Length { what: WHAT, got, expected });
        };
        let n = got / n_values;
        if n == 0 || n * n_values != got {
            let n_columns = self.program.source().data.as_ref().map_or(1, |d| d.n_columns);
            let n_rows = n_values / n_columns;
            let expected = format!(
                "a positive multiple of {n_values} (the program reads {n_rows} x {n_columns} values of each)"
            );
            return Err(EngineError::Length { what: WHAT, got, expected });
        }
        let values: Vec<f32> = observations.iter().map(|v| *v as f32).collect();
        rows::check(WHAT, &values, n, n_values)?;
        match &mut self.runner {
            Runner::Gpu(gpu) => gpu.observe(&values)?,
            Runner::Cpu(cpu) => cpu.observe(values),
        }
        self.n_observations = n;
        Ok(())
    }

    /// log L `[n]` and derived quantities `[n, M]` of theta `[n, D]`, where row i is that of observation `observation[i]`, `[n]` below
    /// the J of [`LikelihoodExecutor::observe`].
    ///
    /// ```
    /// use lwflow_engine::{DeviceChoice, Engine, EngineSettings, WgslData, WgslProgram, WgslSource};
    /// let text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return -0.5 * square(data(0u, 1u) - theta[0]); }";
    /// let data = Some(WgslData { values: vec![0.0, 0.0], n_columns: 2 });
    /// let source = WgslSource { file: "normal.wgsl".into(), text: text.into(), dim: 1, data, ..Default::default() };
    /// let program = WgslProgram::new(&source)?;
    /// let cores = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
    /// let mut likelihood = cores.likelihood(&program)?;
    /// likelihood.observe(&[9.0, 1.0, 9.0, 3.0])?; // two observations of two values
    /// let (log_likelihood, _) = likelihood.evaluate_observed(&[1.0, 1.0, 3.0], &[0, 1, 1])?;
    /// assert_eq!(log_likelihood, [0.0, -2.0, 0.0]);
    /// # Ok::<(), lwflow_engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// As [`LikelihoodExecutor::evaluate`]; [`EngineError::Length`] for another number of indices than of theta,
    /// [`EngineError::Index`] for one that is not below J.
    pub fn evaluate_observed(&mut self, theta: &[f32], observation: &[u32]) -> Result<Values, EngineError> {
        let values = self.evaluate_observed_unchecked(theta, observation)?;
        self.checked(theta, values)
    }

    /// [`LikelihoodExecutor::evaluate_observed`] as [`LikelihoodExecutor::evaluate_unchecked`] is to
    /// [`LikelihoodExecutor::evaluate`].
    ///
    /// # Errors
    /// As [`LikelihoodExecutor::evaluate_observed`], but for NaN and +inf.
    pub fn evaluate_observed_unchecked(
        &mut self,
        theta: &[f32],
        observation: &[u32],
    ) -> Result<Values, EngineError> {
        let n = rows::count("theta", theta, self.program.source().dim)?;
        if observation.len() != n {
            let (got, expected) = (observation.len(), format!("{n} (one per theta)"));
            return Err(EngineError::Length { what: "observation", got, expected });
        }
        let len = self.n_observations;
        if let Some(row) = observation.iter().position(|j| *j as usize >= len) {
            let got = u64::from(observation[row]);
            return Err(EngineError::Index { what: "observation", row, got, len });
        }
        self.run(theta, Some(observation))
    }

    fn run(&mut self, theta: &[f32], observation: Option<&[u32]>) -> Result<Values, EngineError> {
        let dim = self.program.source().dim;
        let n = rows::count("theta", theta, dim)?;
        rows::check("theta", theta, n, dim)?;
        let (mut log_likelihood, derived) = match &mut self.runner {
            Runner::Gpu(gpu) => gpu.evaluate(theta, observation)?,
            Runner::Cpu(cpu) => cpu.evaluate(theta, observation)?,
        };
        for value in &mut log_likelihood {
            if *value <= f32::MIN {
                *value = f32::NEG_INFINITY;
            }
        }
        Ok((log_likelihood, derived))
    }
}

impl ScanExecutor {
    /// Time of the kernels on blocks `first..first + n`, as [`FlowExecutor::profile`](crate::FlowExecutor::profile) measures it;
    /// nothing on the cores.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn profile(&mut self, first: u32, n: u32) -> Result<Vec<KernelTime>, EngineError> {
        match &self.0 {
            Scan::Gpu(gpu) => gpu.profile(first, n),
            Scan::Cpu(_) => Ok(Vec::new()),
        }
    }

    /// What is left of blocks `first..first + n`, with the draws whose log L is above `threshold`.
    ///
    /// # Errors
    /// Any error of the device. A log L that is NaN or +inf is no error here but told in the result.
    pub fn blocks(&mut self, first: u32, n: u32, threshold: f64) -> Result<Scanned, EngineError> {
        // The nearest f32 that lets no draw pass unseen.
        let narrow = (threshold as f32).max(f32::MIN);
        let narrow = if f64::from(narrow) > threshold { narrow.next_down().max(f32::MIN) } else { narrow };
        let mut scanned = match &mut self.0 {
            Scan::Gpu(gpu) => gpu.blocks(first, n, narrow)?,
            Scan::Cpu(cpu) => cpu.blocks(first, n, narrow)?,
        };
        scanned.kept.retain(|draw| draw.log_likelihood > threshold);
        Ok(scanned)
    }
}
