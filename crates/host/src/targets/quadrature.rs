//! Figures of a target that have no closed form: its bridge level and the masses of modes whose components overlap.
//! Targets of independent pairs are integrated over one pair and convolved, so the cost hardly grows with dimension.
//! Found once per target and process, then kept.

use super::{BRIDGE_SHARE, Target};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What quadrature knows about a target.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) bridge_level: f64,
    /// `[n_modes]`; of one pair where the target is a product of pairs.
    pub(super) mode_masses: Vec<f64>,
}

/// The figures of `target`, computed on the first call.
pub(super) fn known(target: &Target) -> Known {
    static CACHE: Mutex<BTreeMap<Target, Known>> = Mutex::new(BTreeMap::new());
    if let Some(known) = CACHE.lock().unwrap_or_else(PoisonError::into_inner).get(target) {
        return known.clone();
    }
    let known = integrate(target);
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).insert(*target, known.clone());
    known
}

/// Midpoints of a regular grid over a box, with the volume of a cell.
pub(super) struct Grid {
    lo: Vec<f64>,
    step: Vec<f64>,
    n_side: usize,
}

impl Grid {
    pub(super) fn new(bounds: &[(f64, f64)], n_side: usize) -> Self {
        let step = bounds.iter().map(|(lo, hi)| (hi - lo) / n_side as f64).collect();
        Self { lo: bounds.iter().map(|b| b.0).collect(), step, n_side }
    }

    pub(super) fn volume(&self) -> f64 {
        self.step.iter().product()
    }

    /// `f` at every midpoint, in a fixed order.
    pub(super) fn map<R: Send>(&self, f: impl Fn(&[f64]) -> R + Sync) -> Vec<R> {
        let dim = self.lo.len();
        (0..self.n_side.pow(dim as u32))
            .into_par_iter()
            .with_min_len(4096)
            .map_init(
                || vec![0.0; dim],
                |theta, cell| {
                    let mut rest = cell;
                    for (value, (lo, step)) in theta.iter_mut().zip(self.lo.iter().zip(&self.step)) {
                        *value = lo + ((rest % self.n_side) as f64 + 0.5) * step;
                        rest /= self.n_side;
                    }
                    f(theta)
                },
            )
            .collect()
    }
}

/// A log density of one row.
type LogDensity = Box<dyn Fn(&[f64]) -> f64 + Sync>;

/// The log density of one independent block of the target (a pair, or all of it), its bounds and the number of blocks.
pub(super) fn block(target: &Target) -> (LogDensity, Vec<(f64, f64)>, usize) {
    match *target {
        Target::ManyWell(n) => {
            let pair = Target::ManyWell(1);
            (Box::new(move |theta| pair.log_prob(theta)), vec![(-4.0, 4.0), (-5.0, 5.0)], n as usize)
        }
        Target::Rosenbrock10 => {
            let target = Target::Rosenbrock10;
            let log_pair = move |theta: &[f64]| {
                let repeated: Vec<f64> = theta.iter().copied().cycle().take(10).collect();
                target.log_prob(&repeated) / 5.0
            };
            (Box::new(log_pair), vec![(-3.5, 4.2), (-2.5, 17.5)], 5)
        }
        _ => {
            let (target, half) = (*target, target.half_width().unwrap_or(8.0));
            (Box::new(move |theta| target.log_prob(theta)), vec![(-half, half); target.dim()], 1)
        }
    }
}

fn integrate(target: &Target) -> Known {
    let (log_prob, bounds, n_blocks) = block(target);
    let grid = Grid::new(&bounds, if bounds.len() > 2 { 100 } else { 800 });
    let is_whole = n_blocks == 1;
    let cells = grid.map(|theta| (log_prob(theta), if is_whole { target.mode_of(theta) } else { 0 }));
    let mut mode_masses = vec![0.0; if is_whole { target.n_modes() } else { 1 }];
    let top = cells.iter().map(|c| c.0).fold(f64::NEG_INFINITY, f64::max);
    // Distribution of the depth top - log p under p. A cell is shared between the two bins around its depth, so that
    // the mean is kept; depths beyond the last bin hold less than 1e-12 and are counted there.
    let width = if is_whole { 0.005 } else { 0.04 };
    let n_bins = ((36.0 + 4.0 * n_blocks as f64) / width) as usize;
    let mut mass = vec![0.0; n_bins];
    for (log_p, mode) in cells {
        let p = log_p.exp() * grid.volume();
        mode_masses[mode] += p;
        let place = ((top - log_p) / width).min((n_bins - 2) as f64);
        let (bin, share) = (place as usize, place.fract());
        mass[bin] += p * (1.0 - share);
        mass[bin + 1] += p * share;
    }
    let total: f64 = mode_masses.iter().sum();
    mode_masses.iter_mut().for_each(|m| *m /= total);
    let mut sum = mass.clone();
    for _ in 1..n_blocks {
        sum = convolve(&sum, &mass);
    }
    Known { bridge_level: n_blocks as f64 * top - width * upper_quantile(&sum), mode_masses }
}

/// Distribution of the sum of two independent depths, of the same length.
fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
    (0..a.len())
        .into_par_iter()
        .with_min_len(64)
        .map(|i| a[..=i].iter().zip(b[..=i].iter().rev()).map(|(x, y)| x * y).sum())
        .collect()
}

/// The place, in bins, above which a share [`BRIDGE_SHARE`] of `mass` lies.
fn upper_quantile(mass: &[f64]) -> f64 {
    let wanted = BRIDGE_SHARE * mass.iter().sum::<f64>();
    let mut above = 0.0;
    for (bin, m) in mass.iter().enumerate().rev() {
        if above + m >= wanted {
            // A bin stands for the interval of half a width to either side.
            return bin as f64 + 0.5 - (wanted - above) / m;
        }
        above += m;
    }
    0.0
}
