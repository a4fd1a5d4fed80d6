//! A WGSL log likelihood on a device, whatever kind of device that is.
//! Invariant: nothing above this file knows what runs it; a value that is handed out as checked is finite or -inf.

use crate::cpu::CpuLikelihood;
use crate::engine::Opened;
use crate::gpu::GpuLikelihood;
use crate::{Engine, EngineError, WgslProgram, rows};

/// A log likelihood on a device.
#[derive(Debug)]
pub struct LikelihoodExecutor {
    program: WgslProgram,
    runner: Runner,
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
        Ok(Self { program: program.clone(), runner })
    }

    /// The program it runs.
    #[must_use]
    pub fn program(&self) -> &WgslProgram {
        &self.program
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
