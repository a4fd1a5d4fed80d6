//! A user's WGSL simulator on the cores: blocks of simulations, one operation after another on all of them.
//! Invariant: a simulation's values depend on the seed, its number and theta, and on nothing beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::machine::Machine;
use super::{BLOCKS, Cpu, LANES, machines, run_tasks};
use crate::{EngineError, SimulatorProgram};

/// A simulator on the cores, in 32 bits.
#[derive(Debug)]
pub(crate) struct CpuSimulator {
    cpu: Arc<Cpu>,
    program: SimulatorProgram,
    timeout: Duration,
    machines: Vec<Machine<f32>>,
}

impl CpuSimulator {
    pub fn new(cpu: Arc<Cpu>, program: &SimulatorProgram, timeout: Duration) -> Self {
        let machines = machines(program.source().data.as_ref(), program.code(), cpu.n_threads());
        Self { cpu, program: program.clone(), timeout, machines }
    }

    /// x `[n, X]` of theta `[n, D]`, simulations `first..first + n` of `seed`.
    pub fn simulate(&mut self, seed: u64, first: u64, theta: &[f32]) -> Result<Vec<f32>, EngineError> {
        let (source, code, level) = (self.program.source(), self.program.code(), self.cpu.level());
        let (dim, n_observed) = (source.dim, source.n_observed);
        let mut x = vec![0.0; theta.len() / dim * n_observed];
        let piece = LANES * BLOCKS;
        let pieces = theta.chunks(piece * dim).zip(x.chunks_mut(piece * n_observed));
        let numbered = pieces.enumerate().map(|(i, rows)| (rows, first.wrapping_add((i * piece) as u64)));
        let tasks = numbered.collect();
        let (machines, timeout) = (&mut self.machines, self.timeout);
        run_tasks(source, &self.cpu.pool, machines, timeout, tasks, |machine, task, watch, stopped| {
            let ((theta, x), first): ((&[f32], &mut [f32]), u64) = task;
            let blocks = theta.chunks(LANES * dim).zip(x.chunks_mut(LANES * n_observed));
            for (b, (theta, x)) in blocks.enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let numbers = (b * LANES..).take(theta.len() / dim);
                let streams: Vec<_> = numbers.map(|i| key(seed, first.wrapping_add(i as u64))).collect();
                machine.simulate(code, level, watch, &streams, theta, x)?;
            }
            Ok(())
        })?;
        Ok(x)
    }
}

/// The key of the stream of a simulation: the hash pcg4d of shaders/wgsl/include/random_bits.wgsl (Jarzynski and Olano 2020),
/// the same integers as in evaluate_simulator.wgsl.
fn key(seed: u64, simulation: u64) -> [u32; 4] {
    let bits = [simulation, simulation >> 32, seed, seed >> 32];
    let [mut x, mut y, mut z, mut w] =
        bits.map(|b| (b as u32).wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for round in 0..2 {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if round == 0 {
            [x, y, z, w] = [x, y, z, w].map(|v| v ^ (v >> 16));
        }
    }
    [x, y, z, w]
}
