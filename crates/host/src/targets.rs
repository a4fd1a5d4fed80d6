//! Targets whose posterior is known exactly: prior, likelihood, evidence, modes and independent exact draws.
//! Every density is normalised over its prior's support, so a draw and a density never disagree about a bound.
//! Integrals are closed forms or quadratures that the tests repeat by another rule.

mod density;
mod lines;
mod name;
mod quadrature;
#[cfg(test)]
mod tests;

use crate::HostError;
use crate::rng::{normal_pair, normal_quantile, open_uniform, stream};
use crate::weights::log_add;
use density::{GaussianMixture, PartSpec, draw_radius, radius_integral};
use lines::{
    deep_well_mass, draw_two_moons, log_normal, log_two_moons, log_well, rosenbrock_line, well_barrier,
    well_line, well_normal_mass,
};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_PI_4, FRAC_PI_8, TAU};
use std::sync::OnceLock;

/// Rows drawn from one random stream; row i is the same however many rows are drawn.
const ROWS_PER_STREAM: usize = 4096;
/// Most pairs of [`Target::ManyWell`]: its 2^n modes are counted one by one.
pub const MAX_WELL_PAIRS: u32 = 16;
/// Share of the target's mass below [`Target::bridge_level`].
pub const BRIDGE_SHARE: f64 = 1e-4;
/// sd of the prior of every coordinate of [`Target::Rosenbrock10`].
pub(crate) const ROSENBROCK_PRIOR_SD: f64 = 3.0;
/// Integral of the two-moons density over its box (midpoint rule, 1000 x 1000).
const TWO_MOONS_INTEGRAL: f64 = 2.234_940_148_767;
const RINGS: [f64; 2] = [1.0, 2.0];
const RING_SD: f64 = 0.125;

/// An exactly known target. Its text form is [`Target::name`].
///
/// ```
/// use lwflow_host::targets::Target;
/// let target: Target = "circle8".parse()?;
/// assert_eq!((target.dim(), target.n_modes()), (2, 8));
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// One correlated Gaussian in two dimensions, uniform prior.
    Gauss1,
    /// Two separated Gaussians in two dimensions, uniform prior.
    Gauss2,
    /// Three separated Gaussians in two dimensions, uniform prior.
    Gauss3,
    /// Three separated Gaussians in three dimensions, uniform prior.
    Gauss3d,
    /// Two moons: a ring cut by two bars, uniform prior (Stimper et al. 2022).
    TwoMoonsS,
    /// Eight Gaussians on a circle, uniform prior (Stimper et al. 2022).
    Circle8,
    /// Two concentric rings, uniform prior (Stimper et al. 2022).
    Rings2,
    /// Five Rosenbrock pairs under a normal prior.
    Rosenbrock10,
    /// Independent pairs of a double well and a normal, uniform prior: 2^n modes (Midgley et al. 2023). Holds the
    /// number of pairs, 1 to [`MAX_WELL_PAIRS`]; the name `many_well` alone means two pairs.
    ManyWell(u32),
}

impl Target {
    /// One of each kind.
    pub const ALL: [Self; 9] = [
        Self::Gauss1,
        Self::Gauss2,
        Self::Gauss3,
        Self::Gauss3d,
        Self::TwoMoonsS,
        Self::Circle8,
        Self::Rings2,
        Self::Rosenbrock10,
        Self::ManyWell(2),
    ];

    /// Its name: `gauss1`, ..., `many_well_2` for two pairs.
    pub fn name(&self) -> String {
        match self {
            Self::Gauss1 => "gauss1".into(),
            Self::Gauss2 => "gauss2".into(),
            Self::Gauss3 => "gauss3".into(),
            Self::Gauss3d => "gauss3d".into(),
            Self::TwoMoonsS => "two_moons_s".into(),
            Self::Circle8 => "circle8".into(),
            Self::Rings2 => "rings2".into(),
            Self::Rosenbrock10 => "rosenbrock10".into(),
            Self::ManyWell(n) => format!("many_well_{n}"),
        }
    }

    /// Number of parameters.
    pub fn dim(&self) -> usize {
        match self {
            Self::Gauss3d => 3,
            Self::Rosenbrock10 => 10,
            Self::ManyWell(n) => 2 * *n as usize,
            _ => 2,
        }
    }

    /// Names of the parameters: x1, x2, ...
    pub fn parameter_names(&self) -> Vec<String> {
        (1..=self.dim()).map(|j| format!("x{j}")).collect()
    }

    /// LaTeX labels of the parameters, without dollar signs: x_1, ..., x_{10}.
    pub fn parameter_labels(&self) -> Vec<String> {
        (1..=self.dim()).map(|j| if j < 10 { format!("x_{j}") } else { format!("x_{{{j}}}") }).collect()
    }

    /// Half the width of the prior's box; `None` for a normal prior.
    fn half_width(&self) -> Option<f64> {
        match self {
            Self::Gauss1 | Self::Gauss2 | Self::Gauss3 | Self::Gauss3d => Some(8.0),
            Self::TwoMoonsS | Self::Circle8 | Self::Rings2 => Some(4.0),
            Self::ManyWell(_) => Some(5.0),
            Self::Rosenbrock10 => None,
        }
    }

    /// Lower and upper bound of each parameter, `None` where there is none.
    pub fn supports(&self) -> Vec<(Option<f64>, Option<f64>)> {
        vec![(self.half_width().map(|h| -h), self.half_width()); self.dim()]
    }

    /// The prior's quantile transform of `u`, `[D]` in (0, 1).
    pub fn prior_sample(&self, u: &[f64]) -> Vec<f64> {
        match self.half_width() {
            Some(half) => u.iter().map(|u| half * (2.0 * u - 1.0)).collect(),
            None => u.iter().map(|u| ROSENBROCK_PRIOR_SD * normal_quantile(*u)).collect(),
        }
    }

    /// Normalised log prior density of `theta`, `[D]`; -inf on or outside a bound, NaN for a NaN or a wrong length.
    pub fn log_prior(&self, theta: &[f64]) -> f64 {
        if theta.len() != self.dim() || theta.iter().any(|x| x.is_nan()) {
            return f64::NAN;
        }
        match self.half_width() {
            Some(half) if theta.iter().all(|x| x.abs() < half) => -(theta.len() as f64) * (2.0 * half).ln(),
            Some(_) => f64::NEG_INFINITY,
            None => theta.iter().map(|x| log_normal(*x, ROSENBROCK_PRIOR_SD.powi(2))).sum(),
        }
    }

    /// Log likelihood of `theta`, `[D]`, anywhere in R^D; NaN for a wrong length.
    pub fn log_likelihood(&self, theta: &[f64]) -> f64 {
        if theta.len() != self.dim() {
            return f64::NAN;
        }
        match self {
            Self::TwoMoonsS => log_two_moons(theta[0], theta[1]),
            Self::Rings2 => {
                let r = theta[0].hypot(theta[1]);
                let [a, b] = RINGS.map(|radius| -0.5 * ((r - radius) / RING_SD).powi(2));
                log_add(a, b)
            }
            Self::Rosenbrock10 => theta
                .chunks_exact(2)
                .map(|p| -(10.0 * (p[0] * p[0] - p[1]).powi(2) + (p[0] - 1.0).powi(2)))
                .sum(),
            Self::ManyWell(_) => theta.chunks_exact(2).map(|p| log_well(p[0]) - 0.5 * p[1] * p[1]).sum(),
            Self::Gauss1 | Self::Gauss2 | Self::Gauss3 | Self::Gauss3d | Self::Circle8 => {
                self.mixture().map_or(f64::NAN, |m| m.log_density(theta))
            }
        }
    }

    /// Normalised log posterior density of `theta`, `[D]`: log L + log prior - log Z.
    pub fn log_prob(&self, theta: &[f64]) -> f64 {
        let log_prior = self.log_prior(theta);
        if log_prior == f64::NEG_INFINITY {
            return log_prior;
        }
        self.log_likelihood(theta) + log_prior - self.log_z()
    }

    /// [`Target::log_prob`] of every row of `theta`, `[n, D]`, in parallel.
    ///
    /// # Errors
    /// A length that is not a multiple of the dimension.
    pub fn log_prob_rows(&self, theta: &[f64]) -> Result<Vec<f64>, HostError> {
        crate::error::n_rows("target log_prob", theta.len(), self.dim())?;
        Ok(theta.par_chunks_exact(self.dim()).with_min_len(1024).map(|row| self.log_prob(row)).collect())
    }

    /// True log evidence. The Gaussian likelihoods lose the mass their tails hold outside the box (3.2e-5 at most).
    pub fn log_z(&self) -> f64 {
        let log_volume = self.half_width().map_or(0.0, |h| self.dim() as f64 * (2.0 * h).ln());
        let log_integral = match self {
            Self::TwoMoonsS => TWO_MOONS_INTEGRAL.ln(),
            Self::Rings2 => {
                RINGS.map(|r| TAU * radius_integral(r, RING_SD, 0.0, 4.0)).iter().sum::<f64>().ln()
            }
            Self::Rosenbrock10 => 5.0 * rosenbrock_line().log_integral,
            Self::ManyWell(n) => f64::from(*n) * (well_line().log_integral + well_normal_mass().ln()),
            Self::Gauss1 | Self::Gauss2 | Self::Gauss3 | Self::Gauss3d | Self::Circle8 => {
                self.mixture_parts().map_or(f64::NAN, |(_, log_inside)| *log_inside)
            }
        };
        log_integral - log_volume
    }

    /// Number of modes; 2^n for n pairs of wells.
    pub fn n_modes(&self) -> usize {
        match self {
            Self::TwoMoonsS | Self::Rings2 => 2,
            Self::Rosenbrock10 => 1,
            Self::ManyWell(n) => 1 << (*n).min(MAX_WELL_PAIRS),
            _ => self.mixture().map_or(1, GaussianMixture::n_parts),
        }
    }

    /// The mode `theta`, `[D]`, belongs to: largest responsibility; moon 1 has x > 0; the nearer ring; bit j of a
    /// many-well mode is set where pair j lies in its deeper well.
    ///
    /// # Panics
    /// If a planar target's `theta` has fewer than D numbers.
    pub fn mode_of(&self, theta: &[f64]) -> usize {
        match self {
            Self::TwoMoonsS => usize::from(theta[0] > 0.0),
            Self::Rings2 => usize::from(theta[0].hypot(theta[1]) > 1.5),
            Self::Rosenbrock10 => 0,
            Self::ManyWell(_) => theta
                .chunks_exact(2)
                .take(MAX_WELL_PAIRS as usize)
                .enumerate()
                .map(|(j, p)| usize::from(p[0] > well_barrier()) << j)
                .sum(),
            _ => self.mixture().map_or(0, |m| m.mode_of(theta)),
        }
    }

    /// True mass of each mode in the sense of [`Target::mode_of`], `[n_modes]`, to 1e-5 or better.
    pub fn mode_masses(&self) -> Vec<f64> {
        match self {
            Self::TwoMoonsS => vec![0.5; 2],
            Self::Circle8 => vec![0.125; 8],
            Self::Rosenbrock10 => vec![1.0],
            Self::Rings2 => {
                let part = |lo, hi| RINGS.map(|r| radius_integral(r, RING_SD, lo, hi)).iter().sum::<f64>();
                let (inner, outer) = (part(0.0, 1.5), part(1.5, 4.0));
                vec![inner / (inner + outer), outer / (inner + outer)]
            }
            Self::ManyWell(n) => {
                let deep = deep_well_mass();
                let share = |mode: usize, j: u32| if mode >> j & 1 == 1 { deep } else { 1.0 - deep };
                (0..self.n_modes()).map(|mode| (0..*n).map(|j| share(mode, j)).product()).collect()
            }
            Self::Gauss1 | Self::Gauss2 | Self::Gauss3 | Self::Gauss3d => quadrature::known(self).mode_masses,
        }
    }

    /// Components a mixture base for this target is shown with.
    pub fn n_components_demo(&self) -> usize {
        match self {
            Self::Rings2 => 4,
            _ => self.n_modes().min(16),
        }
    }

    /// The normalised log density below which a share [`BRIDGE_SHARE`] of the target's mass lies, by quadrature; found
    /// on the first call and kept.
    pub fn bridge_level(&self) -> f64 {
        quadrature::known(self).bridge_level
    }

    /// `n` independent exact draws, `[n, D]`; `None` for a target without an exact sampler (none at present).
    /// Row i is a function of the seed and i alone.
    pub fn sample(&self, n: usize, seed: u64) -> Option<Vec<f64>> {
        let dim = self.dim();
        let mut theta = vec![0.0; n * dim];
        theta.par_chunks_mut(ROWS_PER_STREAM * dim).enumerate().for_each(|(block, rows)| {
            let mut rng = stream(seed, "target/exact", block as u64);
            rows.chunks_exact_mut(dim).for_each(|row| self.draw(&mut rng, row));
        });
        Some(theta)
    }

    /// One exact draw from the posterior; a draw outside the prior's box is drawn again.
    fn draw(&self, rng: &mut ChaCha8Rng, theta: &mut [f64]) {
        loop {
            match self {
                Self::TwoMoonsS => draw_two_moons(rng, theta),
                Self::Rings2 => {
                    // A ring's mass is proportional to its radius, to a relative 1e-15.
                    let radius = if open_uniform(rng) < RINGS[0] / (RINGS[0] + RINGS[1]) {
                        RINGS[0]
                    } else {
                        RINGS[1]
                    };
                    let r = draw_radius(rng, radius, RING_SD);
                    let (sin, cos) = (TAU * open_uniform(rng)).sin_cos();
                    (theta[0], theta[1]) = (r * cos, r * sin);
                }
                Self::Rosenbrock10 => theta.chunks_exact_mut(2).for_each(|p| {
                    // Given x the likelihood in y is normal with mean x^2 and variance 1/20, and so is the prior.
                    let prior = ROSENBROCK_PRIOR_SD.powi(2);
                    let shrink = prior / (prior + 0.05);
                    p[0] = rosenbrock_line().draw(rng);
                    p[1] = shrink * p[0] * p[0] + (0.05 * shrink).sqrt() * normal_pair(rng).0;
                }),
                Self::ManyWell(_) => theta.chunks_exact_mut(2).for_each(|p| {
                    p[0] = well_line().draw(rng);
                    p[1] = normal_pair(rng).0;
                    while p[1].abs() >= 5.0 {
                        p[1] = normal_pair(rng).0;
                    }
                }),
                Self::Gauss1 | Self::Gauss2 | Self::Gauss3 | Self::Gauss3d | Self::Circle8 => {
                    if let Some(mixture) = self.mixture() {
                        mixture.draw(rng, theta);
                    }
                }
            }
            if self.half_width().is_none_or(|half| theta.iter().all(|x| x.abs() < half)) {
                return;
            }
        }
    }

    fn mixture(&self) -> Option<&'static GaussianMixture> {
        self.mixture_parts().map(|(mixture, _)| mixture)
    }

    /// The mixture of a Gaussian target and the log of its mass inside the prior's box.
    fn mixture_parts(&self) -> Option<&'static (GaussianMixture, f64)> {
        static TABLES: [OnceLock<(GaussianMixture, f64)>; 5] = [const { OnceLock::new() }; 5];
        let slot = match self {
            Self::Gauss1 => 0,
            Self::Gauss2 => 1,
            Self::Gauss3 => 2,
            Self::Gauss3d => 3,
            Self::Circle8 => 4,
            Self::TwoMoonsS | Self::Rings2 | Self::Rosenbrock10 | Self::ManyWell(_) => return None,
        };
        let half = self.half_width()?;
        Some(TABLES[slot].get_or_init(|| {
            let mixture = GaussianMixture::new(self.dim(), &self.part_specs());
            let log_inside = (-mixture.mass_outside(half)).ln_1p();
            (mixture, log_inside)
        }))
    }

    fn part_specs(&self) -> Vec<PartSpec> {
        let flat = |w, m: [f64; 2], s: [f64; 2], c| (w, [m[0], m[1], 0.0], [s[0], s[1], 1.0], [c, 0.0, 0.0]);
        match self {
            Self::Gauss1 => vec![flat(1.0, [1.5, -1.0], [1.0, 0.8], 0.7)],
            Self::Gauss2 => {
                vec![flat(0.6, [-3.5, -2.0], [1.0, 1.0], 0.0), flat(0.4, [3.5, 2.0], [0.8, 1.0], -0.5)]
            }
            Self::Gauss3 => vec![
                flat(0.5, [-4.0, -2.5], [1.0, 1.0], 0.0),
                flat(0.3, [4.0, -2.0], [1.0, 0.7], 0.7),
                flat(0.2, [0.0, 4.0], [0.8, 0.8], 0.0),
            ],
            Self::Gauss3d => vec![
                (0.5, [-4.0, -2.0, -2.0], [1.0; 3], [0.0; 3]),
                (0.3, [4.0, -2.0, 2.0], [1.0; 3], [0.5, 0.0, 0.0]),
                (0.2, [0.0, 4.0, 0.0], [1.0; 3], [0.0, -0.5, 0.0]),
            ],
            Self::Circle8 => {
                let sd = 2.0 / 3.0 * FRAC_PI_8.sin();
                let mean = |k: usize| (k as f64 * FRAC_PI_4).sin_cos();
                (0..8).map(|k| flat(0.125, [2.0 * mean(k).1, 2.0 * mean(k).0], [sd, sd], 0.0)).collect()
            }
            Self::TwoMoonsS | Self::Rings2 | Self::Rosenbrock10 | Self::ManyWell(_) => Vec::new(),
        }
    }
}
