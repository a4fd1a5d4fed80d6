//! The building blocks of the exactly known targets: small Gaussian mixtures and densities on a line.
//! Draws are exact: every rejection step uses a bound that holds everywhere, never an estimated one.
//! Nothing here knows a prior; `targets` puts box and density together.

use crate::rng::{normal_cdf, normal_pair, open_uniform};
use crate::weights::log_sum_exp;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::TAU;

/// Largest number of components of a mixture here.
const MAX_PARTS: usize = 8;

/// One Gaussian component; of the arrays the first `dim` entries count.
struct Part {
    weight: f64,
    mean: [f64; 3],
    sd: [f64; 3],
    /// Lower Cholesky factor of the covariance.
    lower: [[f64; 3]; 3],
    /// log weight - log det(lower) - dim/2 log 2 pi
    log_norm: f64,
}

/// A normalised Gaussian mixture in at most three dimensions.
pub(super) struct GaussianMixture {
    dim: usize,
    parts: Vec<Part>,
}

/// Weight, mean, standard deviations, correlations (1,2), (1,3), (2,3).
pub(super) type PartSpec = (f64, [f64; 3], [f64; 3], [f64; 3]);

impl GaussianMixture {
    pub(super) fn new(dim: usize, specs: &[PartSpec]) -> Self {
        let parts = specs.iter().map(|&(weight, mean, sd, [c12, c13, c23])| {
            let l22 = (1.0 - c12 * c12).sqrt();
            let l32 = (c23 - c12 * c13) / l22;
            let unit = [[1.0, 0.0, 0.0], [c12, l22, 0.0], [c13, l32, (1.0 - c13 * c13 - l32 * l32).sqrt()]];
            let mut lower = unit;
            for (row, s) in lower.iter_mut().zip(sd) {
                row.iter_mut().for_each(|v| *v *= s);
            }
            let log_det: f64 = (0..dim).map(|j| lower[j][j].ln()).sum();
            let log_norm = f64::ln(weight) - log_det - 0.5 * dim as f64 * TAU.ln();
            Part { weight, mean, sd, lower, log_norm }
        });
        Self { dim, parts: parts.collect() }
    }

    pub(super) fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// log a_k N(theta; mu_k, Sigma_k) of every component; -inf beyond the last.
    fn log_parts(&self, theta: &[f64]) -> [f64; MAX_PARTS] {
        let mut out = [f64::NEG_INFINITY; MAX_PARTS];
        for (value, part) in out.iter_mut().zip(&self.parts) {
            let mut z = [0.0; 3];
            let mut square = 0.0;
            for i in 0..self.dim {
                let inner: f64 = (0..i).map(|j| part.lower[i][j] * z[j]).sum();
                z[i] = (theta[i] - part.mean[i] - inner) / part.lower[i][i];
                square += z[i] * z[i];
            }
            *value = part.log_norm - 0.5 * square;
        }
        out
    }

    pub(super) fn log_density(&self, theta: &[f64]) -> f64 {
        log_sum_exp(&self.log_parts(theta)[..self.parts.len()])
    }

    /// The component of largest responsibility.
    pub(super) fn mode_of(&self, theta: &[f64]) -> usize {
        let logs = self.log_parts(theta);
        (0..self.parts.len()).fold(0, |best, k| if logs[k] > logs[best] { k } else { best })
    }

    /// Mass outside the cube (-half, half)^dim: the sum over faces, which counts edges twice (below 1e-9 here).
    pub(super) fn mass_outside(&self, half: f64) -> f64 {
        let tail = |part: &Part, j: usize| {
            normal_cdf((-half - part.mean[j]) / part.sd[j]) + normal_cdf((part.mean[j] - half) / part.sd[j])
        };
        self.parts.iter().map(|p| p.weight * (0..self.dim).map(|j| tail(p, j)).sum::<f64>()).sum()
    }

    pub(super) fn draw(&self, rng: &mut ChaCha8Rng, theta: &mut [f64]) {
        let mut u = open_uniform(rng);
        let last = self.parts.len() - 1;
        let mut k = 0;
        while k < last && u >= self.parts[k].weight {
            u -= self.parts[k].weight;
            k += 1;
        }
        let part = &self.parts[k];
        let (z0, z1) = normal_pair(rng);
        let z2 = if self.dim > 2 { normal_pair(rng).0 } else { 0.0 };
        for (i, value) in theta.iter_mut().enumerate() {
            let row = part.lower[i];
            *value = part.mean[i] + row[0] * z0 + row[1] * z1 + row[2] * z2;
        }
    }
}

/// Cells of the envelope of a [`LineDensity`].
const CELLS: usize = 1000;

/// An un-normalised density exp(log_f) on an interval beyond which it vanishes to rounding.
pub(super) struct LineDensity {
    log_f: fn(f64) -> f64,
    lo: f64,
    width: f64,
    /// log integral of exp(log_f).
    pub(super) log_integral: f64,
    /// Least log upper bound of each cell.
    bound: Vec<f64>,
    /// Cumulative share of the bounds, ending at 1.
    cumulative: Vec<f64>,
}

impl LineDensity {
    /// `slope` is the derivative of `log_f`; its zeros must be further apart than a cell.
    pub(super) fn new(log_f: fn(f64) -> f64, slope: fn(f64) -> f64, lo: f64, hi: f64) -> Self {
        let width = (hi - lo) / CELLS as f64;
        let bound: Vec<f64> = (0..CELLS)
            .map(|i| {
                let (a, b) = (lo + i as f64 * width, lo + (i + 1) as f64 * width);
                let ends = log_f(a).max(log_f(b));
                // Inside a cell the density exceeds its ends only where it has a maximum.
                if slope(a) > 0.0 && slope(b) < 0.0 { ends.max(log_f(root(slope, a, b))) } else { ends }
            })
            .collect();
        // The trapezoid rule converges geometrically here: density and derivatives vanish at both ends.
        let values: Vec<f64> = (0..=4 * CELLS).map(|i| log_f(lo + i as f64 * width / 4.0)).collect();
        let norm = log_sum_exp(&bound);
        let cumulative = bound.iter().scan(0.0, |sum, b| {
            *sum += (b - norm).exp();
            Some(*sum)
        });
        let cumulative = cumulative.collect();
        Self { log_f, lo, width, log_integral: log_sum_exp(&values) + (width / 4.0).ln(), bound, cumulative }
    }

    /// An exact draw: a cell by its bound, a place in it, accepted with density / bound.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        loop {
            let u = open_uniform(rng);
            let cell = self.cumulative.partition_point(|c| *c < u).min(CELLS - 1);
            let x = self.lo + (cell as f64 + open_uniform(rng)) * self.width;
            if open_uniform(rng).ln() < (self.log_f)(x) - self.bound[cell] {
                return x;
            }
        }
    }
}

/// The zero of `f` in (a, b) by bisection, where f(a) and f(b) differ in sign.
pub(super) fn root(f: fn(f64) -> f64, mut a: f64, mut b: f64) -> f64 {
    let rising = f(b) > 0.0;
    for _ in 0..60 {
        let middle = 0.5 * (a + b);
        if (f(middle) > 0.0) == rising { b = middle } else { a = middle }
    }
    0.5 * (a + b)
}

/// A draw from r exp(-((r - radius)/sd)^2/2), r > 0. Its logarithm curves at least as strongly as that of a normal of
/// the same sd around its own maximum, so that normal, scaled, bounds it everywhere.
pub(super) fn draw_radius(rng: &mut ChaCha8Rng, radius: f64, sd: f64) -> f64 {
    let log_f = |r: f64| r.ln() - 0.5 * ((r - radius) / sd).powi(2);
    let top = 0.5 * (radius + (radius * radius + 4.0 * sd * sd).sqrt());
    loop {
        let z = normal_pair(rng).0;
        let r = top + sd * z;
        if r > 0.0 && open_uniform(rng).ln() < log_f(r) - log_f(top) + 0.5 * z * z {
            return r;
        }
    }
}

/// Integral of r exp(-((r - radius)/sd)^2/2) over (lo, hi), in closed form.
pub(super) fn radius_integral(radius: f64, sd: f64, lo: f64, hi: f64) -> f64 {
    let z = |r: f64| (r - radius) / sd;
    let bell = |r: f64| (-0.5 * z(r) * z(r)).exp();
    radius * sd * TAU.sqrt() * (normal_cdf(z(hi)) - normal_cdf(z(lo))) + sd * sd * (bell(lo) - bell(hi))
}
