//! A WGSL simulator on a device, whatever kind of device that is.
//! Invariant: simulation i of a seed has its own random numbers, so that neither batches nor pieces change what it gives.

use crate::cpu::CpuSimulator;
use crate::engine::Opened;
use crate::gpu::GpuSimulator;
use crate::{Engine, EngineError, KernelTime, SimulatorProgram, rows};

/// A simulator on a device.
#[derive(Debug)]
pub struct SimulatorExecutor {
    program: SimulatorProgram,
    runner: Runner,
}

#[derive(Debug)]
enum Runner {
    Gpu(Box<GpuSimulator>),
    Cpu(Box<CpuSimulator>),
}

impl SimulatorExecutor {
    pub(crate) fn new(engine: &Engine, program: &SimulatorProgram) -> Result<Self, EngineError> {
        let runner = match &engine.opened {
            Opened::Gpu(gpu) => {
                Runner::Gpu(Box::new(GpuSimulator::new(gpu.clone(), &engine.settings, program)?))
            }
            Opened::Cpu(cpu, _) => {
                Runner::Cpu(Box::new(CpuSimulator::new(cpu.clone(), program, engine.settings.timeout())))
            }
        };
        Ok(Self { program: program.clone(), runner })
    }

    /// The program it runs.
    #[must_use]
    pub fn program(&self) -> &SimulatorProgram {
        &self.program
    }

    /// Time of the kernel on theta `[n, D]`, as [`FlowExecutor::profile`](crate::FlowExecutor::profile) measures it; nothing on
    /// the cores.
    ///
    /// # Errors
    /// As [`SimulatorExecutor::simulate`].
    pub fn profile(&mut self, seed: u64, theta: &[f32]) -> Result<Vec<KernelTime>, EngineError> {
        let dim = self.program.source().dim;
        rows::check("theta", theta, rows::count("theta", theta, dim)?, dim)?;
        match &self.runner {
            Runner::Gpu(gpu) => gpu.profile(seed, theta),
            Runner::Cpu(_) => Ok(Vec::new()),
        }
    }

    /// x `[n, X]` of theta `[n, D]`: simulations `first..first + n` of `seed`. Values are handed out as the program gave them;
    /// where it asked for random numbers with arguments that have no meaning, the first value of the row is infinite.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for a theta that does not fit; any error of the device.
    pub fn simulate(&mut self, seed: u64, first: u64, theta: &[f32]) -> Result<Vec<f32>, EngineError> {
        let dim = self.program.source().dim;
        let n = rows::count("theta", theta, dim)?;
        rows::check("theta", theta, n, dim)?;
        match &mut self.runner {
            Runner::Gpu(gpu) => gpu.simulate(seed, first, theta),
            Runner::Cpu(cpu) => cpu.simulate(seed, first, theta),
        }
    }
}
