//! A WGSL log likelihood on a device, whatever kind of device that is.
//! Invariant: nothing above this file knows what runs it; a value that is handed out as checked is finite or -inf.

use crate::cpu::{CpuLikelihood, CpuScan};
use crate::engine::Opened;
use crate::gpu::{GpuLikelihood, GpuScan};
use crate::scan::{QuantileTable, SOBOL_MAX_DIM, Scanned};
use crate::{Engine, EngineError, EngineSettings, WgslProgram, rows};

/// A log likelihood on a device.
#[derive(Debug)]
pub struct LikelihoodExecutor {
    program: WgslProgram,
    settings: EngineSettings,
    runner: Runner,
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
        Ok(Self { program: program.clone(), settings: engine.settings.clone(), runner })
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
    pub fn evaluate(&mut self, theta: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let (log_likelihood, derived) = self.evaluate_unchecked(theta)?;
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
    pub fn evaluate_unchecked(&mut self, theta: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let dim = self.program.source().dim;
        let n = rows::count("theta", theta, dim)?;
        rows::check("theta", theta, n, dim)?;
        let (mut log_likelihood, derived) = match &mut self.runner {
            Runner::Gpu(gpu) => gpu.evaluate(theta)?,
            Runner::Cpu(cpu) => cpu.evaluate(theta)?,
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
