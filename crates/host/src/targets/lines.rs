//! Densities that the targets are made of: the two moons, the double well and the Rosenbrock pair, with their integrals.
//! Invariant: what is integrated once is kept, so that a density costs no more than its formula.

use super::ROSENBROCK_PRIOR_SD;
use super::density::{LineDensity, root};
use crate::rng::{normal_cdf, normal_pair, open_uniform};
use crate::weights::log_add;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{LN_10, PI, TAU};
use std::sync::OnceLock;

pub(super) fn log_normal(x: f64, variance: f64) -> f64 {
    -0.5 * (x * x / variance + (TAU * variance).ln())
}

pub(super) fn log_two_moons(x: f64, y: f64) -> f64 {
    let ring = -0.5 * ((x.hypot(y) - 2.0) / 0.2).powi(2);
    ring + log_add(-0.5 * ((x - 2.0) / 0.3).powi(2), -0.5 * ((x + 2.0) / 0.3).powi(2))
}

/// Side by a coin, x from its bar, y uniform over the box and accepted with the ring's factor, which is at most 1.
pub(super) fn draw_two_moons(rng: &mut ChaCha8Rng, theta: &mut [f64]) {
    let side = if open_uniform(rng) < 0.5 { -1.0 } else { 1.0 };
    loop {
        let (x, y) = (2.0 + 0.3 * normal_pair(rng).0, 4.0 * (2.0 * open_uniform(rng) - 1.0));
        if x.abs() < 4.0 && open_uniform(rng).ln() < -0.5 * ((x.hypot(y) - 2.0) / 0.2).powi(2) {
            (theta[0], theta[1]) = (side * x, y);
            return;
        }
    }
}

pub(super) fn log_well(x: f64) -> f64 {
    let square = x * x;
    square * (6.0 - square) + 0.5 * x
}

pub(super) fn well_slope(x: f64) -> f64 {
    x * (12.0 - 4.0 * x * x) + 0.5
}

pub(super) fn well_line() -> &'static LineDensity {
    static LINE: OnceLock<LineDensity> = OnceLock::new();
    LINE.get_or_init(|| LineDensity::new(log_well, well_slope, -5.0, 5.0))
}

/// The minimum of the double well's density, between the two wells.
pub(super) fn well_barrier() -> f64 {
    static BARRIER: OnceLock<f64> = OnceLock::new();
    *BARRIER.get_or_init(|| root(well_slope, -0.5, 0.5))
}

/// Mass of one pair in its deeper well, by Simpson's rule from the barrier to the box.
pub(super) fn deep_well_mass() -> f64 {
    let (lo, n) = (well_barrier(), 4000);
    let h = (5.0 - lo) / n as f64;
    let weight = |i: usize| if i == 0 || i == n { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    let log_integral = well_line().log_integral;
    (0..=n).map(|i| weight(i) * (log_well(lo + i as f64 * h) - log_integral).exp()).sum::<f64>() * h / 3.0
}

/// Integral of exp(-y^2/2) over the box.
pub(super) fn well_normal_mass() -> f64 {
    TAU.sqrt() * (1.0 - 2.0 * normal_cdf(-5.0))
}

/// One Rosenbrock pair with y integrated out: log of the integral over y of likelihood times prior.
pub(super) fn log_rosenbrock_line(x: f64) -> f64 {
    let prior = ROSENBROCK_PRIOR_SD.powi(2);
    0.5 * (PI.ln() - LN_10) - (x - 1.0).powi(2) + log_normal(x, prior) + log_normal(x * x, prior + 0.05)
}

pub(super) fn rosenbrock_line() -> &'static LineDensity {
    static LINE: OnceLock<LineDensity> = OnceLock::new();
    // Beyond 8 the density is below e^-250 of its maximum.
    let slope = |x: f64| -2.0 * (x - 1.0) - x / 9.0 - 2.0 * x.powi(3) / 9.05;
    LINE.get_or_init(|| LineDensity::new(log_rosenbrock_line, slope, -8.0, 8.0))
}
