//! Base distributions. The Gaussian mixture is read from its slice of the flat parameter vector; its gradient goes
//! through per-component sums ([`MixtureStatistics`]), which is also the form in which a device returns it.

use crate::{Covariance, MixtureSpec, Real, real::log_sum_exp};

/// Log density of N(0, I) at `z`.
pub fn standard_normal_log_prob<T: Real>(z: &[T]) -> T {
    let mut sum = T::from_f64(-0.5 * z.len() as f64 * (2.0 * std::f64::consts::PI).ln());
    for &v in z {
        sum -= T::from_f64(0.5) * v * v;
    }
    sum
}

/// A mixture of Gaussians with its derived quantities.
#[derive(Debug, Clone)]
pub struct MixtureBase<T> {
    /// Number of parameters D.
    pub dim: usize,
    /// Weights a_k, `[K]`, floored, summing to one.
    pub weights: Vec<T>,
    /// Softmax of the logits before the floor, `[K]`.
    softmax: Vec<T>,
    /// Means, `[K, D]`.
    pub means: Vec<T>,
    /// Lower Cholesky factors L_k of the covariances, `[K, D, D]` row-major (diagonal matrices if diagonal).
    pub cholesky: Vec<T>,
    /// Inverses of the factors, `[K, D, D]`.
    pub inverse_cholesky: Vec<T>,
    /// log a_k - sum_j log L_jj - D/2 log(2 pi), `[K]`.
    pub log_norm: Vec<T>,
    spec: MixtureSpec,
}

/// Per-component sums over samples with weights w: `n[k] = sum w rho_k`, `first[k] = sum w rho_k y`,
/// `second[k] = sum w rho_k y y^T` with y = L_k^-1 (z - mu_k).
#[derive(Debug, Clone)]
pub struct MixtureStatistics<T> {
    /// `[K]`
    pub n: Vec<T>,
    /// `[K, D]`
    pub first: Vec<T>,
    /// `[K, n_scales]`: the diagonal (diagonal covariance) or the row-major lower triangle (full).
    pub second: Vec<T>,
}

impl<T: Real> MixtureStatistics<T> {
    /// Sums of no sample.
    pub fn zeros(spec: &MixtureSpec, dim: usize) -> Self {
        let k = spec.n_components;
        Self {
            n: vec![T::zero(); k],
            first: vec![T::zero(); k * dim],
            second: vec![T::zero(); k * spec.n_scales(dim)],
        }
    }
}

impl<T: Real> MixtureBase<T> {
    /// Reads the mixture from the base part of a flat parameter vector (`&params[layout.base..]`).
    pub fn new(spec: &MixtureSpec, dim: usize, params: &[T]) -> Self {
        let k = spec.n_components;
        let n_scales = spec.n_scales(dim);
        let (logits, rest) = params.split_at(k);
        let (means, scales) = rest.split_at(k * dim);
        let log_total = log_sum_exp(logits);
        let softmax: Vec<T> = logits.iter().map(|&l| (l - log_total).exp()).collect();
        let free = T::from_f64(1.0 - k as f64 * spec.weight_floor);
        let weights: Vec<T> = softmax.iter().map(|&p| T::from_f64(spec.weight_floor) + free * p).collect();
        let mut cholesky = vec![T::zero(); k * dim * dim];
        let mut inverse_cholesky = vec![T::zero(); k * dim * dim];
        let mut log_norm = Vec::with_capacity(k);
        for c in 0..k {
            let scales = &scales[c * n_scales..][..n_scales];
            let l = &mut cholesky[c * dim * dim..][..dim * dim];
            let mut sum = weights[c].ln() - T::from_f64(0.5 * dim as f64 * (2.0 * std::f64::consts::PI).ln());
            for i in 0..dim {
                match spec.covariance {
                    Covariance::Diagonal => {
                        l[i * dim + i] = scales[i].exp();
                        sum -= scales[i];
                    }
                    Covariance::Full => {
                        let row = &scales[i * (i + 1) / 2..][..i + 1];
                        l[i * dim..i * dim + i].copy_from_slice(&row[..i]);
                        l[i * dim + i] = row[i].exp();
                        sum -= row[i];
                    }
                }
            }
            log_norm.push(sum);
            invert_lower(l, &mut inverse_cholesky[c * dim * dim..][..dim * dim], dim);
        }
        Self {
            dim,
            weights,
            softmax,
            means: means.to_vec(),
            cholesky,
            inverse_cholesky,
            log_norm,
            spec: spec.clone(),
        }
    }

    /// y_k = L_k^-1 (z - mu_k) for every component, `[K, D]`.
    fn whitened(&self, z: &[T]) -> Vec<T> {
        let d = self.dim;
        let mut y = vec![T::zero(); self.weights.len() * d];
        for (k, y) in y.chunks_exact_mut(d).enumerate() {
            for i in 0..d {
                for j in 0..=i {
                    y[i] += self.inverse_cholesky[(k * d + i) * d + j] * (z[j] - self.means[k * d + j]);
                }
            }
        }
        y
    }

    fn component_log_probs(&self, y: &[T]) -> Vec<T> {
        let half = T::from_f64(0.5);
        y.chunks_exact(self.dim)
            .zip(&self.log_norm)
            .map(|(y, &norm)| {
                let mut sum = norm;
                for &v in y {
                    sum -= half * v * v;
                }
                sum
            })
            .collect()
    }

    /// Log density at `z` (length D).
    pub fn log_prob(&self, z: &[T]) -> T {
        log_sum_exp(&self.component_log_probs(&self.whitened(z)))
    }

    /// Responsibilities rho_k(z), `[K]`.
    pub fn responsibilities(&self, z: &[T]) -> Vec<T> {
        let terms = self.component_log_probs(&self.whitened(z));
        let total = log_sum_exp(&terms);
        terms.iter().map(|&t| (t - total).exp()).collect()
    }

    /// Gradient of `-w log p(z)` with respect to z into `g`; adds the sample to `statistics`.
    pub(crate) fn backward(&self, z: &[T], w: T, g: &mut [T], statistics: &mut MixtureStatistics<T>) {
        let d = self.dim;
        let y = self.whitened(z);
        let terms = self.component_log_probs(&y);
        let total = log_sum_exp(&terms);
        let n_scales = self.spec.n_scales(d);
        g.fill(T::zero());
        for (k, y) in y.chunks_exact(d).enumerate() {
            let w_rho = w * (terms[k] - total).exp();
            statistics.n[k] += w_rho;
            for i in 0..d {
                statistics.first[k * d + i] += w_rho * y[i];
                match self.spec.covariance {
                    Covariance::Diagonal => statistics.second[k * n_scales + i] += w_rho * y[i] * y[i],
                    Covariance::Full => {
                        for j in 0..=i {
                            statistics.second[k * n_scales + i * (i + 1) / 2 + j] += w_rho * y[i] * y[j];
                        }
                    }
                }
                // d log N / dz = -L^-T y
                for j in 0..=i {
                    g[j] += w_rho * self.inverse_cholesky[(k * d + i) * d + j] * y[i];
                }
            }
        }
    }

    /// Gradient of the loss with respect to the base's slice of the parameter vector, from the per-component sums.
    /// All zero if the mixture is frozen.
    ///
    /// With a_k = eps + (1 - K eps) p_k: d/dlogit_j = -(1 - K eps) p_j (n_j / a_j - sum_k p_k n_k / a_k);
    /// d/dmu = -L^-T first; d/dL = -tril(L^-T second) + n diag(1 / L), the diagonal times L_jj for its logarithm.
    pub fn gradient(&self, statistics: &MixtureStatistics<T>) -> Vec<T> {
        let (k, d) = (self.weights.len(), self.dim);
        let n_scales = self.spec.n_scales(d);
        let mut grad = vec![T::zero(); k * (1 + d + n_scales)];
        if !self.spec.trainable {
            return grad;
        }
        let free = T::from_f64(1.0 - k as f64 * self.spec.weight_floor);
        let ratio: Vec<T> = statistics.n.iter().zip(&self.weights).map(|(&n, &a)| n / a).collect();
        let mut mean = T::zero();
        for c in 0..k {
            mean += self.softmax[c] * ratio[c];
        }
        for c in 0..k {
            grad[c] = -free * self.softmax[c] * (ratio[c] - mean);
            let inverse = &self.inverse_cholesky[c * d * d..][..d * d];
            let first = &statistics.first[c * d..][..d];
            let second = &statistics.second[c * n_scales..][..n_scales];
            for j in 0..d {
                for i in j..d {
                    grad[k + c * d + j] -= inverse[i * d + j] * first[i];
                }
            }
            let g_scale = &mut grad[k + k * d + c * n_scales..][..n_scales];
            match self.spec.covariance {
                Covariance::Diagonal => {
                    for j in 0..d {
                        g_scale[j] = statistics.n[c] - second[j];
                    }
                }
                Covariance::Full => {
                    let at =
                        |i: usize, j: usize| if i >= j { i * (i + 1) / 2 + j } else { j * (j + 1) / 2 + i };
                    for i in 0..d {
                        for j in 0..=i {
                            let mut sum = T::zero();
                            for m in i..d {
                                sum -= inverse[m * d + i] * second[at(m, j)];
                            }
                            if i == j {
                                sum = sum * self.cholesky[(c * d + i) * d + i] + statistics.n[c];
                            }
                            g_scale[at(i, j)] = sum;
                        }
                    }
                }
            }
        }
        grad
    }

    /// Base sample from a uniform `u` in [0, 1) that picks the component and D standard normals.
    pub fn sample(&self, u: f64, normals: &[T]) -> Vec<T> {
        let d = self.dim;
        let mut k = 0;
        let mut cumulative = self.weights[0].to_f64();
        while u >= cumulative && k + 1 < self.weights.len() {
            k += 1;
            cumulative += self.weights[k].to_f64();
        }
        (0..d)
            .map(|i| {
                let mut v = self.means[k * d + i];
                for j in 0..=i {
                    v += self.cholesky[(k * d + i) * d + j] * normals[j];
                }
                v
            })
            .collect()
    }
}

/// Inverse of a lower triangular matrix `[d, d]` by forward substitution.
fn invert_lower<T: Real>(l: &[T], out: &mut [T], d: usize) {
    for j in 0..d {
        out[j * d + j] = T::one() / l[j * d + j];
        for i in j + 1..d {
            let mut sum = T::zero();
            for m in j..i {
                sum -= l[i * d + m] * out[m * d + j];
            }
            out[i * d + j] = sum / l[i * d + i];
        }
    }
}
