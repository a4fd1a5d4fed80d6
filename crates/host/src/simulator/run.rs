//! Simulations piece by piece, so that a caller sees each piece and can stop, and those of them that have not failed.
//! Invariant: simulation i is number i of the simulator's seed, whatever the pieces are.

use super::{Simulator, has_failed};
use crate::HostError;
use crate::fit::FitInput;
use crate::prior::{Prior, prior_rows};
use crate::rng::SOBOL_BLOCK;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Most simulations between two looks at the caller's wish to stop, and numbers of x that are held at a time.
const MAX_PIECE: usize = 1 << 16;
const MAX_NUMBERS: usize = 1 << 24;
/// A piece that takes longer does not grow.
const LONG_PIECE: Duration = Duration::from_millis(250);

/// Makes the simulations of the numbers `rows`, of theta `[.., D]` that `theta` has for a range of them, piece by piece, and
/// hands each piece with its x, `[.., X]`, to `take` until that breaks. Returns how many were handed over, and the error that
/// ended it.
///
/// # Errors
/// Those of `take`.
pub fn run_simulations<E>(
    simulator: &mut dyn Simulator,
    rows: Range<usize>,
    mut theta: impl FnMut(Range<usize>) -> Vec<f64>,
    mut take: impl FnMut(Range<usize>, Vec<f64>, &[f64]) -> Result<ControlFlow<()>, E>,
) -> Result<(usize, Result<(), HostError>), E> {
    let width = simulator.n_observed();
    let largest = (MAX_NUMBERS / width.max(1)).clamp(1, MAX_PIECE);
    let mut piece = simulator.n_parallel().clamp(1, largest);
    let (mut next, mut x) = (rows.start, Vec::new());
    while next < rows.end {
        let mut given = theta(next..(next + piece).min(rows.end));
        let clock = Instant::now();
        x.clear();
        let ended = simulator.simulate(next as u64, &given, &mut x);
        if clock.elapsed() < LONG_PIECE {
            piece = (2 * piece).min(largest);
        }
        let done = next..next + x.len() / width.max(1);
        given.truncate(done.len() * simulator.dim());
        next = done.end;
        let go_on = take(done, given, &x)?.is_continue();
        if ended.is_err() || !go_on {
            return Ok((next - rows.start, ended));
        }
    }
    Ok((next - rows.start, Ok(())))
}

/// Simulations that have not failed.
#[derive(Debug, Clone, Default)]
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

impl Simulated {
    /// Simulations 0 to n of parameters from the prior, scrambled Sobol points of `seed`: joint draws of theta and x. `progress` gets
    /// how many are done; where it breaks, those that are done are what there is.
    ///
    /// ```
    /// use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
    /// use lwflow_host::fit::{FitSettings, fit};
    /// use lwflow_host::prior::{IndependentPrior, Marginal};
    /// use lwflow_host::rng::normal_pair;
    /// use lwflow_host::simulator::{ClosureSimulator, Simulated};
    /// use std::ops::ControlFlow::Continue;
    ///
    /// let prior = IndependentPrior::new(vec![Marginal::Normal { mean: 0.0, sd: 1.0 }])?;
    /// let mut simulator = ClosureSimulator::new(1, 1, 7, |theta, rng, x| x[0] = theta[0] + 0.5 * normal_pair(rng).0);
    /// let pairs = Simulated::from_prior(&mut simulator, &prior, 2000, 7, |_| Continue(()))?;
    /// let input = pairs.into_input(&["mu".into()], &[r"\mu".into()], &prior);
    ///
    /// let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
    /// let mut settings = FitSettings::conditional();
    /// settings.training.max_visits = 20_000;
    /// let (posterior, _) = fit(&engine, &input, &settings, 7, |_| Continue(()))?;
    /// let mut executor = engine.flow(posterior.spec())?;
    /// let draws = posterior.sample(&mut executor, 1000, &[1.0], 7)?; // of p(mu | x = 1), theta [1000, 1]
    /// let mean = draws.theta.iter().sum::<f64>() / 1000.0;
    /// assert!((mean - 0.8).abs() < 0.2, "{mean}");
    /// # Ok::<(), lwflow_host::HostError>(())
    /// ```
    ///
    /// # Errors
    /// Those of the simulator.
    pub fn from_prior(
        simulator: &mut dyn Simulator,
        prior: &dyn Prior,
        n: usize,
        seed: u64,
        progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Self, HostError> {
        simulate_rows(simulator, 0..n, |rows| prior_rows(prior, seed, rows), progress)
    }

    /// The input of a fit with x as context, weight one each. Whole blocks of the Sobol points are held out together.
    #[must_use]
    pub fn into_input(self, names: &[String], labels: &[String], prior: &dyn Prior) -> FitInput {
        FitInput {
            names: names.to_vec(),
            labels: labels.to_vec(),
            supports: prior.supports(),
            log_weights: vec![0.0; self.rows.len()],
            blocks: Some(self.rows.iter().map(|row| (row / SOBOL_BLOCK) as u32).collect()),
            theta: self.theta,
            context: self.x,
            ..FitInput::default()
        }
    }
}

/// Makes the simulations of the numbers `rows`, as [`run_simulations`] does, and keeps in memory those that have not failed.
/// `progress` gets how many are done; where it breaks, those that are done are what there is.
///
/// # Errors
/// Those of the simulator.
pub fn simulate_rows(
    simulator: &mut dyn Simulator,
    rows: Range<usize>,
    theta: impl FnMut(Range<usize>) -> Vec<f64>,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Simulated, HostError> {
    let (dim, width, start) = (simulator.dim(), simulator.n_observed(), rows.start);
    let mut kept = Simulated::default();
    let (done, ended) = run_simulations(simulator, rows, theta, |rows, theta, x| {
        let end = rows.end;
        for ((row, theta), x) in rows.zip(theta.chunks_exact(dim)).zip(x.chunks_exact(width)) {
            if !has_failed(x) {
                kept.rows.push(row);
                kept.theta.extend_from_slice(theta);
                kept.x.extend_from_slice(x);
            }
        }
        Ok::<_, HostError>(progress(end - start))
    })?;
    ended?;
    kept.done = done;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::super::ClosureSimulator;
    use super::*;
    use crate::rng::open_uniform;

    #[test]
    fn simulations_keep_their_numbers_failures_are_left_out_and_a_wish_to_stop_is_heard() {
        let mut simulator = ClosureSimulator::new(1, 1, 3, |theta, rng, x| {
            x[0] = if theta[0] > 100.0 { f64::NAN } else { theta[0] + open_uniform(rng) };
        });
        let theta = |rows: Range<usize>| rows.map(|row| if row == 12 { 200.0 } else { row as f64 }).collect();
        let go_on = |_| ControlFlow::Continue(());
        let all = simulate_rows(&mut simulator, 0..40, theta, go_on).unwrap();
        assert_eq!((all.done, all.rows.len(), all.x.len()), (40, 39, 39));
        let part = simulate_rows(&mut simulator, 10..40, theta, go_on).unwrap();
        assert_eq!((part.done, &part.x[..], part.rows[2]), (30, &all.x[10..], 13));
        let stop = |done| if done < 5 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        let some = simulate_rows(&mut simulator, 10..40, theta, stop).unwrap();
        assert!((5..30).contains(&some.done), "{}", some.done);
        assert_eq!(some.x[..], part.x[..some.rows.len()]);
    }
}
