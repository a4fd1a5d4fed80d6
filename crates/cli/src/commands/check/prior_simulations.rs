//! Runs a simulator at draws from the prior: whether it can be had at all, what range its values have, and how fast it is.
//! Invariant: it ends soon, unless one simulation per worker takes long.

use super::pieces::try_pieces;
use crate::simulation::Simulation;
use lwflow_host::HostError;
use lwflow_host::prior::transform_rows;
use lwflow_host::rng::sobol_blocks;
use lwflow_host::simulator::has_failed;
use serde::Serialize;
use std::time::Duration;

/// Most simulations, and numbers of x.
const MAX_DRAWS: usize = 65_536;
const MAX_NUMBERS: usize = 10_000_000;
/// What simulations at draws from the prior say.
#[derive(Debug, PartialEq, Serialize)]
pub struct PriorSimulations {
    /// Simulations made.
    pub n: usize,
    /// Those that failed.
    pub n_failed: usize,
    /// Every simulated value; empty if all failed.
    pub observed: Vec<ObservedRange>,
    /// Simulations per second of the last piece, which is the largest.
    pub simulations_per_second: f64,
}

/// What one simulated value looks like.
#[derive(Debug, PartialEq, Serialize)]
pub struct ObservedRange {
    /// Its name.
    pub name: String,
    /// Its least value.
    pub least: f64,
    /// Its median.
    pub median: f64,
    /// Its largest value.
    pub largest: f64,
}

/// Makes ever larger pieces of simulations, from one per worker on; none is begun after `limit`.
///
/// # Errors
/// Those of the simulator: a value that is not finite comes with its theta.
pub fn try_prior_simulations(
    simulation: &mut Simulation,
    seed: u64,
    limit: Duration,
) -> Result<PriorSimulations, HostError> {
    let (d, width) = (simulation.prior.dim(), simulation.observed.len());
    let most = (MAX_NUMBERS / width).clamp(1, MAX_DRAWS);
    let theta = transform_rows(&*simulation.prior, &sobol_blocks(seed, most, d).points);
    let mut x = Vec::new();
    let simulator = &mut simulation.simulator;
    let (done, rate) = try_pieces(simulator.n_parallel(), most, limit, |rows| {
        simulator.simulate(rows.start as u64, &theta[rows.start * d..rows.end * d], &mut x)
    })?;
    let good: Vec<&[f64]> = x.chunks_exact(width).filter(|row| !has_failed(row)).collect();
    let range = |(j, name): (usize, &String)| {
        let mut values: Vec<f64> = good.iter().map(|row| row[j]).collect();
        values.sort_by(f64::total_cmp);
        let (least, largest) = (*values.first()?, *values.last()?);
        Some(ObservedRange { name: name.clone(), least, median: values[values.len() / 2], largest })
    };
    Ok(PriorSimulations {
        n: done,
        n_failed: done - good.len(),
        observed: simulation.observed.iter().enumerate().filter_map(range).collect(),
        simulations_per_second: rate,
    })
}
