//! Gaussian mixtures on the host: density, responsibilities, sampling, and the weighted fit that starts a mixture base.
//! Components are held as log weights, means and lower Cholesky factors, diagonal covariances included, so every
//! component has a positive density everywhere. Sample i depends on the seed and i alone.

mod em;
mod kmeans;
mod points;
mod select;

pub(crate) use em::refit_mixture;
pub use em::{MAX_COMPONENTS, MixtureFit, MixtureFitSettings, fit_mixture};
pub use select::{MixtureSelection, SelectionRow, select_mixture};

use crate::error::{HostError, check_length, n_rows};
use crate::rng::CounterField;
use crate::weights::log_sum_exp;
use lwflow_model::Covariance;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Rows handled by one task; sums over tasks run in task order.
pub(crate) const ROWS_PER_TASK: usize = 1024;

/// A mixture sum_k a_k N(mu_k, L_k L_k^T) with a = softmax(logits).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaussianMixture {
    /// Dimension D.
    pub dim: usize,
    /// Number of components K.
    pub n_components: usize,
    /// Whether off-diagonal entries of `cholesky` may differ from zero.
    pub covariance: Covariance,
    /// `[K]`: log weights up to a common constant.
    pub logits: Vec<f64>,
    /// `[K, D]`.
    pub means: Vec<f64>,
    /// `[K, D(D+1)/2]`: lower triangles of L_k, row-major, with the diagonal itself (not its log).
    pub cholesky: Vec<f64>,
}

/// Entries of a lower triangle.
pub(crate) fn triangle(dim: usize) -> usize {
    dim * (dim + 1) / 2
}

/// A mixture with everything precomputed that does not depend on the point.
pub(crate) struct Prepared<'a> {
    mixture: &'a GaussianMixture,
    /// `[K]`: log a_k - sum_j log L_jj - D/2 log 2 pi.
    log_norm: Vec<f64>,
    /// `[K, D]`: 1 / L_jj.
    inverse_diagonal: Vec<f64>,
}

impl Prepared<'_> {
    /// log a_k + log N_k(x) for every k into `out`, `[K]`; `y`, `[D]`, is scratch. Returns their logsumexp.
    pub(crate) fn log_joint(&self, x: &[f64], y: &mut [f64], out: &mut [f64]) -> f64 {
        let dim = self.mixture.dim;
        let mut max = f64::NEG_INFINITY;
        for (k, log_joint) in out.iter_mut().enumerate() {
            let mean = &self.mixture.means[k * dim..(k + 1) * dim];
            let inverse = &self.inverse_diagonal[k * dim..(k + 1) * dim];
            let factor = &self.mixture.cholesky[k * triangle(dim)..(k + 1) * triangle(dim)];
            let (mut square, mut row) = (0.0, 0);
            for j in 0..dim {
                let mut value = x[j] - mean[j];
                if self.mixture.covariance == Covariance::Full {
                    value -= factor[row..row + j].iter().zip(&y[..j]).map(|(l, y)| l * y).sum::<f64>();
                    row += j + 1;
                }
                y[j] = value * inverse[j];
                square += y[j] * y[j];
            }
            *log_joint = self.log_norm[k] - 0.5 * square;
            max = max.max(*log_joint);
        }
        if max == f64::NEG_INFINITY {
            return max;
        }
        max + out.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
    }
}

impl GaussianMixture {
    /// Component weights a_k, `[K]`, of sum 1.
    pub fn weights(&self) -> Vec<f64> {
        let norm = log_sum_exp(&self.logits);
        self.logits.iter().map(|l| (l - norm).exp()).collect()
    }

    /// Covariance of component `k`, `[D, D]` row-major.
    pub fn covariance_of(&self, k: usize) -> Vec<f64> {
        let (dim, tri) = (self.dim, triangle(self.dim));
        let factor = &self.cholesky[k * tri..(k + 1) * tri];
        let row = |i: usize| &factor[triangle(i)..triangle(i) + i + 1];
        let entry = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f64>();
        (0..dim * dim).map(|e| entry(e / dim, e % dim)).collect()
    }

    /// Checks lengths, finite values and positive diagonals; for a mixture that comes from outside.
    ///
    /// # Errors
    /// [`HostError::Length`], [`HostError::BadValue`] or [`HostError::BadSetting`] naming the array.
    pub fn validate(&self) -> Result<(), HostError> {
        let (dim, k, tri) = (self.dim, self.n_components, triangle(self.dim));
        if dim == 0 || k == 0 {
            let got = format!("dim {dim}, n_components {k}");
            return Err(HostError::BadSetting { setting: "mixture", got, expected: "both at least 1" });
        }
        check_length("mixture logits", self.logits.len(), k, "one per component")?;
        check_length("mixture means", self.means.len(), k * dim, "n_components x dim")?;
        check_length("mixture cholesky", self.cholesky.len(), k * tri, "n_components x dim (dim + 1) / 2")?;
        check_finite("mixture logits", &self.logits, 1)?;
        check_finite("mixture means", &self.means, dim)?;
        check_finite("mixture cholesky", &self.cholesky, tri)?;
        for c in 0..k {
            for j in 0..dim {
                let column = triangle(j) + j;
                let value = self.cholesky[c * tri + column];
                if value <= 0.0 {
                    let expected = "a positive diagonal entry";
                    return Err(HostError::BadValue {
                        what: "mixture cholesky",
                        row: c,
                        column,
                        value,
                        expected,
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn prepared(&self) -> Prepared<'_> {
        let tri = triangle(self.dim);
        let norm = log_sum_exp(&self.logits);
        let diagonal = |k: usize| (0..self.dim).map(move |j| self.cholesky[k * tri + triangle(j) + j]);
        let log_norm = (0..self.n_components)
            .map(|k| {
                self.logits[k]
                    - norm
                    - diagonal(k).map(f64::ln).sum::<f64>()
                    - 0.5 * self.dim as f64 * TAU.ln()
            })
            .collect();
        let inverse_diagonal = (0..self.n_components).flat_map(|k| diagonal(k).map(|l| 1.0 / l)).collect();
        Prepared { mixture: self, log_norm, inverse_diagonal }
    }

    /// Log density of `points`, `[n, D]`, as `[n]`. A coordinate of +-inf gives -inf.
    ///
    /// # Errors
    /// [`HostError::Length`] if `points` is not a multiple of D, [`HostError::BadValue`] for NaN.
    pub fn log_density(&self, points: &[f64]) -> Result<Vec<f64>, HostError> {
        let mut out = vec![0.0; self.checked_rows(points)?];
        let prepared = self.prepared();
        out.par_chunks_mut(ROWS_PER_TASK).zip(points.par_chunks(ROWS_PER_TASK * self.dim)).for_each(
            |(out, rows)| {
                let (mut y, mut joint) = (vec![0.0; self.dim], vec![0.0; self.n_components]);
                for (value, x) in out.iter_mut().zip(rows.chunks(self.dim)) {
                    let finite = x.iter().all(|v| v.is_finite());
                    *value =
                        if finite { prepared.log_joint(x, &mut y, &mut joint) } else { f64::NEG_INFINITY };
                }
            },
        );
        Ok(out)
    }

    /// Responsibilities rho_k = a_k N_k / sum of `points`, `[n, D]`, as `[n, K]`; each row sums to 1.
    ///
    /// # Errors
    /// As [`Self::log_density`], and [`HostError::BadValue`] for +-inf.
    pub fn responsibilities(&self, points: &[f64]) -> Result<Vec<f64>, HostError> {
        let n = self.checked_rows(points)?;
        check_finite("points", points, self.dim)?;
        let mut out = vec![0.0; n * self.n_components];
        let prepared = self.prepared();
        let rows_out = out.par_chunks_mut(ROWS_PER_TASK * self.n_components);
        rows_out.zip(points.par_chunks(ROWS_PER_TASK * self.dim)).for_each(|(out, rows)| {
            let mut y = vec![0.0; self.dim];
            for (rho, x) in out.chunks_mut(self.n_components).zip(rows.chunks(self.dim)) {
                let norm = prepared.log_joint(x, &mut y, rho);
                rho.iter_mut().for_each(|r| *r = (*r - norm).exp());
            }
        });
        Ok(out)
    }

    /// Samples `first..first + n` under `seed`, `[n, D]`, and the component of each, `[n]`.
    pub fn sample(&self, seed: u64, first: u64, n: usize) -> (Vec<f64>, Vec<u32>) {
        let (dim, tri) = (self.dim, triangle(self.dim));
        let mut points = vec![0.0; n * dim];
        CounterField::new(seed, "mixture/normal", dim).fill_standard_normal(first, &mut points);
        let mut uniforms = vec![0.0; n];
        CounterField::new(seed, "mixture/component", 1).fill_uniform(first, &mut uniforms);
        let cumulative: Vec<f64> = self
            .weights()
            .iter()
            .scan(0.0, |sum, a| {
                *sum += a;
                Some(*sum)
            })
            .collect();
        // The last component takes what rounding leaves over.
        let pick = |u: f64| cumulative.partition_point(|c| *c <= u).min(self.n_components - 1);
        let components: Vec<u32> = uniforms.iter().map(|u| pick(*u) as u32).collect();
        points.par_chunks_mut(dim).with_min_len(ROWS_PER_TASK).zip(&components).for_each(|(x, k)| {
            let k = *k as usize;
            let factor = &self.cholesky[k * tri..(k + 1) * tri];
            // Downwards, so that the normals still needed are not yet overwritten.
            for j in (0..dim).rev() {
                let row = &factor[triangle(j)..triangle(j) + j + 1];
                x[j] = self.means[k * dim + j] + row.iter().zip(&x[..=j]).map(|(l, z)| l * z).sum::<f64>();
            }
        });
        (points, components)
    }

    fn checked_rows(&self, points: &[f64]) -> Result<usize, HostError> {
        let n = n_rows("points", points.len(), self.dim)?;
        match points.iter().position(|v| v.is_nan()) {
            None => Ok(n),
            Some(i) => Err(HostError::BadValue {
                what: "points",
                row: i / self.dim,
                column: i % self.dim,
                value: f64::NAN,
                expected: "a number",
            }),
        }
    }
}

/// Checks a flat `[n, dim]` array for NaN and infinities.
///
/// # Errors
/// [`HostError::BadValue`] naming row and column.
pub(crate) fn check_finite(what: &'static str, values: &[f64], dim: usize) -> Result<(), HostError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(HostError::BadValue {
            what,
            row: i / dim.max(1),
            column: i % dim.max(1),
            value: values[i],
            expected: "a finite number",
        }),
    }
}

#[cfg(test)]
mod tests;
