//! Where simulated data come from: batches of theta in, batches of x out. A closure, a child process, a WGSL function.
//! Invariant: what a simulation gives depends on the seed, its number and its theta, and on nothing beside it; a row of x that
//! is handed out is finite, or all NaN where the simulation failed.

mod command;
mod run;
mod wgsl;

use crate::HostError;
use crate::rng::stream;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::fmt::Debug;

pub use command::CommandSimulator;
pub use run::{Simulated, run_simulations, simulate_rows};
pub use wgsl::WgslSimulator;

/// A simulator of data, which is asked in batches: a draw of x from p(x given theta) for every theta.
pub trait Simulator: Debug + Send {
    /// Number of parameters D.
    fn dim(&self) -> usize;

    /// Number of simulated values X.
    fn n_observed(&self) -> usize;

    /// Fewest simulations that keep all of it busy: its workers.
    fn n_parallel(&self) -> usize {
        1
    }

    /// Appends a row of x for every row of `theta`, `[n, D]`, to `x`: `[n, X]`. Row i is simulation `first + i` of the seed that
    /// the simulator was made with, and its random numbers depend on these two alone, however simulations are put into
    /// batches. A row of NaN alone is a simulation that failed ([`has_failed`]); callers drop and count it.
    ///
    /// # Errors
    /// [`HostError`] naming the theta in question. Rows before it have been appended, a prefix of the batch.
    fn simulate(&mut self, first: u64, theta: &[f64], x: &mut Vec<f64>) -> Result<(), HostError>;
}

/// Whether a row of x, `[X]`, says that its simulation failed: NaN alone.
#[must_use]
pub fn has_failed(row: &[f64]) -> bool {
    row.iter().all(|value| value.is_nan())
}

/// The column of a row that may not be handed out: not finite, in a simulation that has not failed.
fn illegal(row: &[f64]) -> Option<usize> {
    row.iter().position(|value| !value.is_finite()).filter(|_| !has_failed(row))
}

/// Refuses the first illegal row of `x[start..]`, `[n, n_observed]`, of `theta`, `[n, dim]`, and drops it and what follows.
fn keep_legal(
    first: u64,
    theta: &[f64],
    n_observed: usize,
    x: &mut Vec<f64>,
    start: usize,
) -> Result<(), HostError> {
    let rows = x[start..].chunks_exact(n_observed);
    let n = rows.len();
    let found = rows.enumerate().find_map(|(row, values)| Some((row, illegal(values)?)));
    let Some((row, column)) = found else { return Ok(()) };
    let dim = theta.len() / n.max(1);
    let value = x[start + row * n_observed + column];
    x.truncate(start + row * n_observed);
    let (number, theta) = (first.wrapping_add(row as u64), theta[row * dim..][..dim].to_vec());
    Err(HostError::BadObservation { number, column, value, theta })
}

/// A simulator from a closure over one theta, evaluated on all cores.
pub struct ClosureSimulator<F> {
    dim: usize,
    n_observed: usize,
    seed: u64,
    simulate: F,
}

impl<F: Fn(&[f64], &mut ChaCha8Rng, &mut [f64]) + Send + Sync> ClosureSimulator<F> {
    /// The simulator `simulate` of `n_observed` values from `dim` parameters: it gets theta `[D]` and a generator of random
    /// numbers that belongs to this simulation of `seed` alone, and fills x `[X]`, all of it with NaN if it fails.
    ///
    /// ```
    /// use lwflow_host::rng::normal_pair;
    /// use lwflow_host::simulator::{ClosureSimulator, Simulator};
    /// let mut twice = ClosureSimulator::new(1, 2, 7, |theta, rng, x| {
    ///     let (a, b) = normal_pair(rng);
    ///     x.copy_from_slice(&[theta[0] + a, theta[0] + b]);
    /// });
    /// let (mut both, mut second) = (Vec::new(), Vec::new());
    /// twice.simulate(0, &[1.0, 3.0], &mut both)?; // [2, X]
    /// twice.simulate(1, &[3.0], &mut second)?;
    /// assert_eq!(both[2..], second);
    /// # Ok::<(), lwflow_host::HostError>(())
    /// ```
    pub fn new(dim: usize, n_observed: usize, seed: u64, simulate: F) -> Self {
        Self { dim, n_observed, seed, simulate }
    }
}

impl<F> Debug for ClosureSimulator<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ClosureSimulator");
        shown.field("dim", &self.dim).field("n_observed", &self.n_observed).field("seed", &self.seed);
        shown.finish_non_exhaustive()
    }
}

impl<F: Fn(&[f64], &mut ChaCha8Rng, &mut [f64]) + Send + Sync> Simulator for ClosureSimulator<F> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn n_observed(&self) -> usize {
        self.n_observed
    }

    fn simulate(&mut self, first: u64, theta: &[f64], x: &mut Vec<f64>) -> Result<(), HostError> {
        let n = crate::error::n_rows("theta", theta.len(), self.dim)?;
        let (seed, width) = (self.seed, self.n_observed);
        check_width(width)?;
        let start = x.len();
        x.resize(start + n * width, f64::NAN);
        let rows = x[start..].par_chunks_exact_mut(width).zip(theta.par_chunks_exact(self.dim));
        rows.enumerate().with_min_len(16).for_each(|(i, (row, theta))| {
            let mut rng = stream(seed, "simulation", first.wrapping_add(i as u64));
            (self.simulate)(theta, &mut rng, row);
        });
        keep_legal(first, theta, width, x, start)
    }
}

/// Refuses a simulator without values.
fn check_width(n_observed: usize) -> Result<(), HostError> {
    if n_observed > 0 {
        return Ok(());
    }
    Err(HostError::invalid("the number of simulated values", n_observed, "at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::open_uniform;

    #[test]
    fn simulations_keep_their_numbers_in_any_batch() {
        let draw = |seed, first, theta: &[f64]| {
            let mut simulator = ClosureSimulator::new(1, 2, seed, |theta, rng, x| {
                x.fill_with(|| theta[0] + open_uniform(rng));
            });
            let mut x = vec![-1.0];
            simulator.simulate(first, theta, &mut x).unwrap();
            assert_eq!(x.remove(0), -1.0);
            x
        };
        let theta: Vec<f64> = (0..100).map(f64::from).collect();
        let all = draw(3, 10, &theta);
        let parts = [draw(3, 10, &theta[..37]), draw(3, 47, &theta[37..])].concat();
        assert_eq!(all, parts);
        assert_ne!(all, draw(4, 10, &theta));
        assert!(
            all.chunks_exact(2)
                .zip(&theta)
                .all(|(x, t)| x[0] != x[1] && x.iter().all(|v| (v - t).abs() < 1.0))
        );
    }

    #[test]
    fn a_failed_simulation_is_no_error_and_half_of_one_is() {
        let mut simulator = ClosureSimulator::new(1, 2, 0, |theta, _, x| {
            x[0] = theta[0].sqrt();
            x[1] = if theta[0] > 100.0 { f64::INFINITY } else { (theta[0] - 1.0).sqrt() };
        });
        let mut x = Vec::new();
        simulator.simulate(5, &[4.0, -1.0, 9.0], &mut x).unwrap();
        assert_eq!(x.chunks_exact(2).map(has_failed).collect::<Vec<_>>(), [false, true, false]);
        for (theta, value, column) in [(0.5, "NaN", 1), (101.0, "inf", 1)] {
            let error = simulator.simulate(5, &[4.0, theta, 1.0], &mut x).unwrap_err().to_string();
            let text = format!("simulation 6: x[{column}] is {value} (theta = [{theta:?}])");
            assert!(error.starts_with(&text), "{error}");
        }
        assert_eq!(x.len(), 6 + 2 + 2);
        let error = ClosureSimulator::new(2, 2, 0, |_, _, _| ()).simulate(0, &[1.0; 3], &mut x).unwrap_err();
        assert_eq!(error.to_string(), "theta: length 3, expected a multiple of dim = 2");
        let error = ClosureSimulator::new(1, 0, 0, |_, _, _| ()).simulate(0, &[1.0; 3], &mut x).unwrap_err();
        assert_eq!(error.to_string(), "the number of simulated values is 0, expected at least 1");
    }
}
