//! A flow against the weighted points that it was trained on, where there is no likelihood to ask: modes and bridges.
//! Invariant: both sides are counted by the same modes, those of the points.

use super::modes::{N_LISTED, WeightedModes};
use crate::HostError;
use crate::error::{check_length, n_rows};
use crate::posterior::Posterior;
use serde::Serialize;

/// Share of the points' weight below the density under which draws of the flow count as bridges.
const BRIDGE_SHARE: f64 = 1e-3;

/// A mode of weighted points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointMode {
    /// Its mass by the points.
    pub mass_points: f64,
    /// Its mass by draws of the flow.
    pub mass_flow: f64,
    /// Mean of its points, `[D]`.
    pub mean: Vec<f64>,
}

/// The modes of weighted points, and how draws of the flow lie in and between them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointModes {
    /// Modes found; the largest 64 are listed.
    pub n_modes: usize,
    /// The modes.
    pub modes: Vec<PointMode>,
    /// Share of the draws at which the flow's density is below `bridge_share` of the points' weight.
    pub bridge_mass: f64,
    /// What `bridge_mass` is if flow and points agree.
    pub bridge_share: f64,
    /// Points behind the modes.
    pub n_points: usize,
    /// Draws behind `bridge_mass`; the masses rest on the first 20,000 at most.
    pub n_draws: usize,
}

/// Finds the modes of `theta`, `[n, D]`, with weights and log density of any norm, both `[n]`, and counts `draws` of the
/// flow in them, `[m, D]`. `log_q` are the flow's log densities at points and draws, `[n]` and `[m]`. `None` if no point
/// lies inside the flow's support.
///
/// # Errors
/// [`HostError`] for lengths that do not fit.
pub fn modes_of_points(
    flow: &Posterior,
    (theta, weights, log_density): (&[f64], &[f64], &[f64]),
    draws: &[f64],
    log_q: (&[f64], &[f64]),
    seed: u64,
) -> Result<Option<PointModes>, HostError> {
    let d = flow.dim();
    let (n, n_draws) = (n_rows("theta of points", theta.len(), d)?, n_rows("draws", draws.len(), d)?);
    for (what, got) in
        [("weights", weights.len()), ("log_density", log_density.len()), ("log_q", log_q.0.len())]
    {
        check_length(what, got, n, "one per point")?;
    }
    check_length("log_q of draws", log_q.1.len(), n_draws, "one per draw")?;
    let sum: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|w| w / sum).collect();
    let modes = WeightedModes::find(flow, theta, &shares, log_density, seed);
    if modes.len() == 0 || n_draws == 0 {
        return Ok(None);
    }
    let row = |(mass, mean): (&f64, &Vec<f64>)| PointMode {
        mass_points: *mass,
        mass_flow: 0.0,
        mean: mean.clone(),
    };
    let mut table: Vec<PointMode> = modes.masses.iter().zip(&modes.means).map(row).collect();
    let assigned = modes.of_draws(draws);
    for mode in &assigned {
        table[*mode].mass_flow += 1.0 / assigned.len() as f64;
    }
    table.truncate(N_LISTED);
    let level = level_above(&shares, log_q.0);
    let n_below = log_q.1.iter().filter(|q| **q < level).count();
    Ok(Some(PointModes {
        n_modes: modes.len(),
        modes: table,
        bridge_mass: n_below as f64 / n_draws as f64,
        bridge_share: BRIDGE_SHARE,
        n_points: modes.n_points,
        n_draws,
    }))
}

/// The value above which all but [`BRIDGE_SHARE`] of the weight lies, of weights of sum one.
fn level_above(weights: &[f64], values: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut sum = 0.0;
    let at = order.iter().find(|&&i| {
        sum += weights[i];
        sum > BRIDGE_SHARE
    });
    at.map_or(f64::NEG_INFINITY, |&i| values[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Target;
    use lwflow_model::BaseSpec;

    #[test]
    fn modes_bridges_and_masses_of_a_flow_that_knows_no_modes() {
        let target = Target::Gauss2;
        let theta = target.sample(4000, 3).unwrap();
        let flow = super::super::twins::tests::posterior(BaseSpec::Gaussian, 2);
        let log_density = target.log_prob_rows(&theta).unwrap();
        let draws: Vec<f64> = theta.iter().map(|x| 0.1 * x).collect();
        let log_q = flow.log_prob_f64(&theta).unwrap();
        let far = vec![log_q.iter().copied().fold(f64::INFINITY, f64::min) - 1.0; 1000];
        let near = vec![0.0; 3000];
        let log_q_draws = [far, near].concat();
        let weights = vec![1.0; 4000];
        let points = (&theta[..], &weights[..], &log_density[..]);
        let found = modes_of_points(&flow, points, &draws, (&log_q, &log_q_draws), 1).unwrap().unwrap();
        assert_eq!((found.n_modes, found.bridge_mass, found.n_draws), (2, 0.25, 4000));
        for (mode, mass) in found.modes.iter().zip(target.mode_masses()) {
            assert!((mode.mass_points - mass).abs() < 0.03, "{found:?}");
        }
        let sum: f64 = found.modes.iter().map(|m| m.mass_flow).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert!(modes_of_points(&flow, points, &draws, (&log_q, &[]), 1).is_err());
        assert_eq!(modes_of_points(&flow, points, &[], (&log_q, &[]), 1).unwrap(), None);
    }
}
