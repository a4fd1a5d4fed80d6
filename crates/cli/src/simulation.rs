//! Turns a task with a prior and a simulator into what draws pairs (theta, x).
//! Everything that can be wrong with a task is found here, before any simulation.

use crate::exit::CommandError;
use crate::progress::Bar;
use crate::task::{Place, SimulatorSource, Task, TaskError, prior_of};
use crate::wgsl_file::{of, parameters, source};
use lwflow_engine::{Engine, SimulatorProgram};
use lwflow_host::HostError;
use lwflow_host::prior::{Prior, transform_rows};
use lwflow_host::rng::{SOBOL_BLOCK, sobol_rows};
use lwflow_host::simulator::{CommandSimulator, Simulator, WgslSimulator, has_failed};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Most simulations between two looks at Ctrl-C, and numbers of x that are held at a time.
const MAX_PIECE: usize = 1 << 16;
const MAX_NUMBERS: usize = 1 << 24;
/// A piece that takes longer does not grow.
const LONG_PIECE: Duration = Duration::from_millis(250);

/// A prior, a simulator and their names.
#[derive(Debug)]
pub struct Simulation {
    /// Names of the parameters, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels, `[D]`.
    pub labels: Vec<String>,
    /// Names of the simulated values, `[X]`.
    pub observed: Vec<String>,
    /// The prior.
    pub prior: Box<dyn Prior>,
    /// The simulator; all its random numbers follow from the seed.
    pub simulator: Box<dyn Simulator>,
}

/// Makes simulations `0..n` of theta `[.., D]` that `theta` has for a range of them, piece by piece, and hands each piece
/// with its x, `[.., X]`, to `take` until that breaks. Returns how many were handed over, and the error that ended it.
///
/// # Errors
/// Those of `take`.
pub fn run_simulations(
    simulator: &mut dyn Simulator,
    n: usize,
    mut theta: impl FnMut(Range<usize>) -> Vec<f64>,
    mut take: impl FnMut(Range<usize>, Vec<f64>, &[f64]) -> Result<ControlFlow<()>, CommandError>,
) -> Result<(usize, Result<(), HostError>), CommandError> {
    let width = simulator.n_observed();
    let largest = (MAX_NUMBERS / width).clamp(1, MAX_PIECE);
    let mut piece = simulator.n_parallel().clamp(1, largest);
    let (mut done, mut x) = (0, Vec::new());
    while done < n {
        let mut given = theta(done..(done + piece).min(n));
        let clock = Instant::now();
        x.clear();
        let ended = simulator.simulate(done as u64, &given, &mut x);
        if clock.elapsed() < LONG_PIECE {
            piece = (2 * piece).min(largest);
        }
        let rows = done..done + x.len() / width;
        given.truncate(rows.len() * simulator.dim());
        done = rows.end;
        let go_on = take(rows, given, &x)?.is_continue();
        if ended.is_err() || !go_on {
            return Ok((done, ended));
        }
    }
    Ok((done, Ok(())))
}

/// Simulations that have not failed.
#[derive(Debug, Default)]
pub struct Simulated {
    /// Simulations made, those that failed among them.
    pub done: usize,
    /// Numbers of those that have not failed, `[m]`.
    pub rows: Vec<usize>,
    /// Their parameters, `[m, D]`.
    pub theta: Vec<f64>,
    /// Their data, `[m, X]`.
    pub x: Vec<f64>,
}

/// Makes simulations `0..n` and keeps in memory those that have not failed; fewer are done where the user asks to stop.
///
/// # Errors
/// [`CommandError`] naming the task file and the simulation that went wrong.
pub fn simulate_rows(
    task: &Task,
    simulator: &mut dyn Simulator,
    n: usize,
    theta: impl FnMut(Range<usize>) -> Vec<f64>,
    bar: &Bar,
) -> Result<Simulated, CommandError> {
    let (dim, width) = (simulator.dim(), simulator.n_observed());
    let mut kept = Simulated::default();
    let (done, ended) = run_simulations(simulator, n, theta, |rows, theta, x| {
        let end = rows.end;
        for ((row, theta), x) in rows.zip(theta.chunks_exact(dim)).zip(x.chunks_exact(width)) {
            if !has_failed(x) {
                kept.rows.push(row);
                kept.theta.extend_from_slice(theta);
                kept.x.extend_from_slice(x);
            }
        }
        Ok(bar.update(end, n))
    })?;
    ended.map_err(|error| of(&task.file, error))?;
    kept.done = done;
    Ok(kept)
}

/// Rows of the prior's scrambled Sobol points through its quantiles, `[n, D]`.
pub fn prior_rows(prior: &dyn Prior, seed: u64, rows: Range<usize>) -> Vec<f64> {
    let dim = prior.dim();
    let mut points = vec![0.0; rows.len() * dim];
    let (mut row, mut rest) = (rows.start, &mut points[..]);
    while row < rows.end {
        let n = (SOBOL_BLOCK - row % SOBOL_BLOCK).min(rows.end - row);
        let (these, others) = rest.split_at_mut(n * dim);
        // Both fit, because there are at most 2^44 rows.
        sobol_rows(seed, (row / SOBOL_BLOCK) as u32, (row % SOBOL_BLOCK) as u32, dim, these);
        (row, rest) = (row + n, others);
    }
    transform_rows(prior, &points)
}

/// What `task` asks for. `open` is called for a simulator that runs on a device.
///
/// # Errors
/// [`CommandError`] naming file and key of what is wrong, or what `open` says.
pub fn simulation(
    task: &Task,
    seed: u64,
    open: impl FnOnce() -> Result<Engine, CommandError>,
) -> Result<Simulation, CommandError> {
    let Some(section) = &task.simulator else {
        let expected = "a section [simulator] with a function in WGSL or a command (docs/simulators.md)";
        let place = Place { file: task.file.clone(), line: 1 };
        return Err(TaskError::Missing { place, key: "simulator".into(), expected }.into());
    };
    let (dim, n_observed) = (task.parameters.len(), section.observed.len());
    let simulator: Box<dyn Simulator> = match &section.source {
        SimulatorSource::Wgsl { path, data } => {
            let program = SimulatorProgram::new(&source(task, "simulator", path, data.as_deref())?)?;
            let parameters = parameters(task)?;
            let simulator = WgslSimulator::new(&open()?, &program, &parameters, seed);
            Box::new(simulator.map_err(|e| of(&task.file, e))?)
        }
        SimulatorSource::Command { command, folder, settings } => {
            let simulator = CommandSimulator::start(command, dim, n_observed, folder, settings.clone(), seed);
            Box::new(simulator.map_err(|e| of(&task.file, e))?)
        }
    };
    let label = |p: &crate::task::ParameterSection| p.label.clone().unwrap_or_else(|| p.name.clone());
    Ok(Simulation {
        names: task.parameters.iter().map(|p| p.name.clone()).collect(),
        labels: task.parameters.iter().map(label).collect(),
        observed: section.observed.clone(),
        prior: Box::new(prior_of(task)?),
        simulator,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_host::prior::{IndependentPrior, Marginal};
    use lwflow_host::rng::sobol_blocks;

    #[test]
    fn rows_of_the_prior_are_those_of_all_its_points() {
        let marginal = Marginal::Uniform { lower: 0.0, upper: 1.0 };
        let prior = IndependentPrior::new(vec![marginal; 3]).unwrap();
        let all = sobol_blocks(5, 20_000, 3).points;
        for rows in [0..1, 8000..8200, 100..17_000, 8192..16_384] {
            assert_eq!(prior_rows(&prior, 5, rows.clone()), all[3 * rows.start..3 * rows.end]);
        }
    }
}
