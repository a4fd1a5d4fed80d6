//! A scan of a prior on the cores: a task draws, evaluates and sums one block. Invariant: a block's result does not depend on
//! its neighbours or the number of threads, and no more than a block of draws per thread exists at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::machine::{Machine, Watch};
use super::{Cpu, CpuLikelihood, LANES, machines, timed_out};
use crate::scan::{QuantileTable, SOBOL_BLOCK, Scanned, SobolBlock};
use crate::{EngineError, WgslProgram};

/// What one thread works with.
#[derive(Debug)]
struct Worker {
    machine: Machine<f32>,
    bits: Vec<u32>,
    theta: Vec<f32>,
    log_likelihood: Vec<f32>,
}

/// A scan on the cores.
#[derive(Debug)]
pub(crate) struct CpuScan {
    cpu: Arc<Cpu>,
    program: WgslProgram,
    timeout: Duration,
    key: u32,
    quantiles: Vec<QuantileTable>,
    workers: Vec<Worker>,
}

impl CpuLikelihood {
    /// The same likelihood of draws from a prior.
    pub fn scan(&self, key: u32, quantiles: &[QuantileTable]) -> CpuScan {
        let Self { cpu, program, timeout, .. } = self;
        let dim = quantiles.len();
        let worker = |machine| Worker {
            machine,
            bits: vec![0; dim],
            theta: vec![0.0; LANES * dim],
            log_likelihood: vec![0.0; SOBOL_BLOCK],
        };
        let workers = machines(program.source().data.as_ref(), program.narrow(), cpu.n_threads())
            .into_iter()
            .map(worker)
            .collect();
        let (cpu, program) = (cpu.clone(), program.clone());
        CpuScan { cpu, program, timeout: *timeout, key, quantiles: quantiles.to_vec(), workers }
    }
}

impl CpuScan {
    /// Blocks `first..first + n`.
    pub fn blocks(&mut self, first: u32, n: u32, threshold: f32) -> Result<Scanned, EngineError> {
        let (code, level, dim) = (self.program.narrow(), self.cpu.level(), self.quantiles.len());
        let (key, quantiles) = (self.key, &self.quantiles);
        let watch = Watch::new(Instant::now().checked_add(self.timeout));
        let stopped = AtomicBool::new(false);
        let place = Mutex::new(None);
        let mut parts = vec![Scanned::default(); n as usize];
        let tasks = (first..first + n).zip(&mut parts).collect();
        self.cpu.pool.run(tasks, &mut self.workers, |worker, (block, part): (u32, &mut Scanned)| {
            let Worker { machine, bits, theta, log_likelihood } = worker;
            let points = SobolBlock::new(key, block, dim);
            for (out, start) in log_likelihood.chunks_mut(LANES).zip((0..).step_by(LANES)) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                for (row, theta) in (start..).zip(theta.chunks_exact_mut(dim)) {
                    points.point(row, bits);
                    for ((value, bits), quantile) in theta.iter_mut().zip(&*bits).zip(quantiles) {
                        *value = quantile.at(*bits);
                    }
                }
                if let Err(at) = machine.evaluate(code, level, &watch, theta, out, &mut []) {
                    stopped.store(true, Ordering::Relaxed);
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
                }
            }
            let wide = log_likelihood.iter().map(|l| match *l <= f32::MIN {
                true => f64::NEG_INFINITY,
                false => f64::from(*l),
            });
            part.push(block, wide, f64::from(threshold));
        });
        if let Some(at) = place.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(timed_out(self.program.source(), at, self.timeout));
        }
        let mut scanned = Scanned::default();
        parts.into_iter().for_each(|part| scanned.append(part));
        Ok(scanned)
    }
}
