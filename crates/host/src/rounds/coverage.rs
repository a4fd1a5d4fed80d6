//! Holds the flow against everything that was ever evaluated: mass that it lacks, mode by mode, and bridges.
//! Invariant: nothing here says that all modes were found; what could have been missed is said by [`prior_mass_limit`].

use super::modes::{N_LISTED, WeightedModes};
use crate::HostError;
use crate::posterior::Posterior;
use crate::weights::normalised_weights;
use rayon::prelude::*;
use serde::Serialize;

/// The flow lacks a point if the posterior's density there is this many times its own.
const LACKING: f64 = 10.0;
/// Share of the mass that may lie below the level that bridges are counted under.
const BRIDGE_SHARE: f64 = 1e-4;

/// A mode of the posterior.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModeRow {
    /// Its mass by all evaluated points.
    pub mass_all: f64,
    /// Its mass by weighted fresh draws.
    pub mass_weighted: f64,
    /// Its mass by fresh draws, unweighted: what the flow believes.
    pub mass_flow: f64,
    /// Its mass by the scan of the prior; `None` where the scan has an effective size below 100.
    pub mass_scan: Option<f64>,
    /// Draws of the scan in it that carry weight and were kept: how often the scan hit it, at least.
    pub n_scan: usize,
    /// Mean of its points, `[D]`; of an angle the one on the circle, cut open where the flow is.
    pub mean: Vec<f64>,
}

/// The flow against all evaluated points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoverageReport {
    /// Mass of the posterior, by all evaluated points, where its density is over ten times the flow's.
    pub lacking_mass: f64,
    /// Points behind `lacking_mass`.
    pub n_lacking: usize,
    /// Share of fresh draws whose posterior density is below the level that holds all but 1e-4 of the mass.
    pub bridge_mass: f64,
    /// Modes found; the largest 64 are listed.
    pub n_modes: usize,
    /// The modes.
    pub modes: Vec<ModeRow>,
    /// Draws from the prior behind the limit.
    pub n_prior: usize,
    /// A region that all draws from the prior miss has a prior mass below this, with 95 % confidence: 3 / n.
    pub prior_mass_limit: f64,
}

/// What coverage is judged from.
pub(super) struct Seen<'a> {
    /// All evaluated points, `[n, D]`, the scan first.
    pub(super) theta: &'a [f64],
    /// log L + log prior of each, `[n]`.
    pub(super) log_target: &'a [f64],
    /// Log weights towards the posterior, `[n]`.
    pub(super) log_weights: &'a [f64],
    /// Log weights of the first of them, those of the scan, by the scan alone.
    pub(super) scan_log_weights: &'a [f64],
    /// Draws from the prior that could have hit a mode.
    pub(super) n_prior: usize,
    /// Fresh draws of the flow, `[m, D]`.
    pub(super) fresh_theta: &'a [f64],
    /// Their log L + log prior.
    pub(super) fresh_log_target: &'a [f64],
    /// Their log weights.
    pub(super) fresh_log_weights: &'a [f64],
    /// log Z.
    pub(super) log_z: f64,
}

/// The prior mass below which a region can be missed by `n` draws from the prior with 5 % probability: the rule of three.
pub fn prior_mass_limit(n: usize) -> f64 {
    (3.0 / n.max(1) as f64).min(1.0)
}

/// Compares; `log_q` is the flow's log density at all evaluated points, `[n]`.
///
/// # Errors
/// [`HostError`] if no point carries weight.
pub(super) fn compare(
    flow: &Posterior,
    log_q: &[f64],
    seen: &Seen<'_>,
    seed: u64,
) -> Result<CoverageReport, HostError> {
    let weights = normalised_weights(seen.log_weights, seen.theta)?;
    let lacks = |i: usize| seen.log_target[i] - seen.log_z - log_q[i] > LACKING.ln();
    let lacking: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0.0 && lacks(i)).collect();
    let fresh_weights = normalised_weights(seen.fresh_log_weights, seen.fresh_theta)?;

    let modes = WeightedModes::find(flow, seen.theta, &weights, seen.log_target, seed);
    if modes.len() == 0 {
        return Err(HostError::invalid(
            "points inside the flow's support",
            0,
            "at least one of those with weight",
        ));
    }
    let row = |(mass, mean): (&f64, &Vec<f64>)| ModeRow {
        mass_all: *mass,
        mass_weighted: 0.0,
        mass_flow: 0.0,
        mass_scan: None,
        n_scan: 0,
        mean: mean.clone(),
    };
    let mut table: Vec<ModeRow> = modes.masses.iter().zip(&modes.means).map(row).collect();
    let assigned = modes.of_draws(seen.fresh_theta);
    let total: f64 = fresh_weights[..assigned.len()].iter().sum();
    for (mode, weight) in assigned.iter().zip(&fresh_weights) {
        table[*mode].mass_flow += 1.0 / assigned.len() as f64;
        table[*mode].mass_weighted += if total > 0.0 { weight / total } else { 0.0 };
    }
    scan_masses(&mut table, &modes, seen, flow.dim());
    table.truncate(N_LISTED);

    Ok(CoverageReport {
        lacking_mass: lacking.iter().map(|&i| weights[i]).sum(),
        n_lacking: lacking.len(),
        bridge_mass: bridge_mass(&fresh_weights, seen.fresh_log_target),
        n_modes: modes.len(),
        modes: table,
        n_prior: seen.n_prior,
        prior_mass_limit: prior_mass_limit(seen.n_prior),
    })
}

/// Masses of the modes by the scan alone, which knows nothing of the flow.
fn scan_masses(table: &mut [ModeRow], modes: &WeightedModes<'_>, seen: &Seen<'_>, d: usize) {
    let scan = seen.scan_log_weights;
    let max = scan.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut masses = vec![0.0; table.len()];
    let hits: Vec<usize> = (0..scan.len()).filter(|&i| scan[i] > max - 30.0).collect();
    let mode_of = |i: &usize| modes.of(&seen.theta[i * d..][..d]);
    let found: Vec<Option<usize>> = hits.par_iter().map(mode_of).collect();
    for (i, mode) in hits.into_iter().zip(found) {
        if let Some(mode) = mode {
            table[mode].n_scan += 1;
            masses[mode] += (scan[i] - max).exp();
        }
    }
    let total: f64 = masses.iter().sum();
    if crate::weights::kish_ess(scan) >= crate::weights::MIN_EVIDENCE_ESS {
        for (row, mass) in table.iter_mut().zip(masses) {
            row.mass_scan = Some(mass / total);
        }
    }
}

/// Share of draws below the level that holds all but [`BRIDGE_SHARE`] of the weight.
fn bridge_mass(weights: &[f64], log_target: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| log_target[a].total_cmp(&log_target[b]));
    let mut sum = 0.0;
    let below = order.iter().take_while(|&&i| {
        sum += weights[i];
        sum < BRIDGE_SHARE
    });
    below.count() as f64 / weights.len().max(1) as f64
}
