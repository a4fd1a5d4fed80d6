//! Evaluates a user's WGSL likelihood or simulator on the cores: blocks of theta, one operation after another on all of them.
//! Invariant: a theta's values do not depend on its block, its neighbours or the number of threads.

mod integer;
mod machine;
mod mask;
mod ops;
mod real;
mod scan;
mod simulator;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::{Cpu, Level};
use crate::EngineError;
use crate::wgsl::bytecode::Bytecode;
use crate::wgsl::{WgslData, WgslError, WgslProgram, WgslSource};
use machine::{Machine, Watch};
use real::Real;
pub(crate) use scan::CpuScan;
pub(crate) use simulator::CpuSimulator;

/// Theta of a block.
pub(super) const LANES: usize = 128;
/// Blocks of a task.
const BLOCKS: usize = 4;

/// log L `[n]` and derived quantities `[n, M]`.
type Values<F> = (Vec<F>, Vec<F>);

/// A likelihood on the cores, in 32 bits.
#[derive(Debug)]
pub(crate) struct CpuLikelihood {
    cpu: Arc<Cpu>,
    program: WgslProgram,
    timeout: Duration,
    machines: Vec<Machine<f32>>,
}

impl CpuLikelihood {
    pub fn new(cpu: Arc<Cpu>, program: &WgslProgram, timeout: Duration) -> Self {
        let machines = machines(program.source().data.as_ref(), program.narrow(), cpu.n_threads());
        Self { cpu, program: program.clone(), timeout, machines }
    }

    /// log L `[n]` and derived quantities `[n, M]` of theta `[n, D]`.
    pub fn evaluate(&mut self, theta: &[f32]) -> Result<Values<f32>, EngineError> {
        let level = self.cpu.level();
        run(
            &self.program,
            self.program.narrow(),
            &self.cpu.pool,
            level,
            &mut self.machines,
            self.timeout,
            theta,
        )
    }
}

impl WgslProgram {
    /// log L `[n]` and derived quantities `[n, M]` of theta `[n, D]` in 64 bits: literals, data and arithmetic, on all
    /// cores. `None` if the program has no meaning in 64 bits; [`WgslProgram::no_audit`] says why.
    ///
    /// # Errors
    /// [`EngineError::Length`] for a theta of another length, [`EngineError::Timeout`] for a loop that does not end
    /// within `timeout`.
    pub fn audit(&self, theta: &[f64], timeout: Duration) -> Result<Option<Values<f64>>, EngineError> {
        let Ok(code) = self.wide() else { return Ok(None) };
        let n_blocks = theta.len().div_ceil(self.source().dim * LANES * BLOCKS);
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(n_blocks.max(1));
        let pool = Pool::new(n_threads);
        let mut machines = machines(self.source().data.as_ref(), code, n_threads);
        run(self, code, &pool, Level::detect(), &mut machines, timeout, theta).map(Some)
    }
}

fn machines<F: Real>(data: Option<&WgslData>, code: &Bytecode, n: usize) -> Vec<Machine<F>> {
    let values: Arc<[F]> = match data {
        Some(data) => data.values.iter().map(|v| F::of_f64(*v)).collect(),
        None => Arc::new([]),
    };
    let n_columns = data.map_or(1, |d| d.n_columns);
    (0..n).map(|_| Machine::new(code, values.clone(), n_columns)).collect()
}

/// Runs `evaluate` on every task until one meets a loop that does not end in time; its place is the error's.
fn run_tasks<F: Real, T: Send>(
    source: &WgslSource,
    pool: &Pool,
    machines: &mut [Machine<F>],
    timeout: Duration,
    tasks: Vec<T>,
    evaluate: impl Fn(&mut Machine<F>, T, &Watch, &AtomicBool) -> Result<(), usize> + Sync,
) -> Result<(), EngineError> {
    let watch = Watch::new(Instant::now().checked_add(timeout));
    let stopped = AtomicBool::new(false);
    let place = Mutex::new(None);
    pool.run(tasks, machines, |machine, task| {
        if let Err(at) = evaluate(machine, task, &watch, &stopped) {
            stopped.store(true, Ordering::Relaxed);
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        }
    });
    match place.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(at) => Err(timed_out(source, at, timeout)),
    }
}

fn run<F: Real>(
    program: &WgslProgram,
    code: &Bytecode,
    pool: &Pool,
    level: Level,
    machines: &mut [Machine<F>],
    timeout: Duration,
    theta: &[F],
) -> Result<Values<F>, EngineError> {
    let (dim, n_derived) = (program.source().dim, program.source().n_derived);
    let n = crate::rows::count("theta", theta, dim)?;
    let mut log_likelihood = vec![F::of_f64(0.0); n];
    let mut derived = vec![F::of_f64(0.0); n * n_derived];
    let mut tasks = Vec::new();
    let mut rest = derived.as_mut_slice();
    let piece = LANES * BLOCKS;
    for (theta, out) in theta.chunks(piece * dim).zip(log_likelihood.chunks_mut(piece)) {
        let (derived, others) = std::mem::take(&mut rest).split_at_mut(out.len() * n_derived);
        rest = others;
        tasks.push((theta, out, derived));
    }
    let source = program.source();
    run_tasks(source, pool, machines, timeout, tasks, |machine, (theta, out, derived), watch, stopped| {
        let blocks = theta.chunks(LANES * dim).zip(out.chunks_mut(LANES));
        for (b, (theta, out)) in blocks.enumerate() {
            if stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let from = b * LANES * n_derived;
            let derived = &mut derived[from..from + out.len() * n_derived];
            machine.evaluate(code, level, watch, theta, out, derived)?;
        }
        Ok(())
    })?;
    Ok((log_likelihood, derived))
}

/// The error of a loop at byte `at` that did not end.
fn timed_out(source: &WgslSource, at: usize, timeout: Duration) -> EngineError {
    let WgslError { file, line, column, .. } = WgslError::at(&source.file, &source.text, at, "");
    let during = format!("evaluating the loop at {file}:{line}:{column}");
    EngineError::Timeout { seconds: timeout.as_secs_f64(), during }
}
