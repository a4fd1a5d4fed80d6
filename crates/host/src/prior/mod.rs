//! What is believed of the parameters before the data: draws by an inverse transform of the unit cube, and the normalised
//! log density. Invariant: `prior_transform` of a point of the open cube has a finite log density and lies in the support.

mod flow;
mod independent;
mod known;
mod marginal;
mod quantile;
mod special;
#[cfg(test)]
mod tests;

pub use flow::FlowPrior;
pub use independent::{IndependentPrior, JointPrior};
pub use marginal::Marginal;

use crate::outer::Support;
use crate::rng::{SOBOL_BLOCK, sobol_rows};
use rayon::prelude::*;
use std::fmt::Debug;
use std::ops::Range;

/// The quantile transform of rows: `u`, `[n, D]`, to theta, `[n, D]`, on all cores.
pub fn transform_rows(prior: &dyn Prior, u: &[f64]) -> Vec<f64> {
    let d = prior.dim();
    let mut theta = vec![0.0; u.len()];
    let rows = theta.par_chunks_exact_mut(d).zip(u.par_chunks_exact(d)).with_min_len(256);
    rows.for_each(|(theta, u)| prior.prior_transform(u, theta));
    theta
}

/// Draws of the numbers `rows` from the prior, `[n, D]`: its scrambled Sobol points ([`crate::rng::sobol_blocks`]) through its
/// quantiles. There are 2^44 of them.
pub fn prior_rows(prior: &dyn Prior, seed: u64, rows: Range<usize>) -> Vec<f64> {
    let dim = prior.dim();
    let mut points = vec![0.0; rows.len() * dim];
    let (mut row, mut rest) = (rows.start, &mut points[..]);
    while row < rows.end {
        let n = (SOBOL_BLOCK - row % SOBOL_BLOCK).min(rows.end - row);
        let (these, others) = rest.split_at_mut(n * dim);
        sobol_rows(seed, (row / SOBOL_BLOCK) as u32, (row % SOBOL_BLOCK) as u32, dim, these);
        (row, rest) = (row + n, others);
    }
    transform_rows(prior, &points)
}

/// A prior over theta, `[D]`.
pub trait Prior: Debug + Send + Sync {
    /// Number of parameters D.
    fn dim(&self) -> usize;

    /// Support of each parameter, `[D]`: open intervals.
    fn supports(&self) -> Vec<Support>;

    /// The quantile transform: `u`, `[D]` in (0, 1), uniform, becomes `theta`, `[D]`, a draw from the prior.
    fn prior_transform(&self, u: &[f64], theta: &mut [f64]);

    /// The marginals, `[D]`, if the parameters are independent and [`Prior::prior_transform`] is their quantiles.
    fn marginals(&self) -> Option<&[Marginal]> {
        None
    }

    /// Normalised log density of `theta`, `[D]`, in nats; -inf on or outside a bound, NaN for a NaN.
    fn log_prior(&self, theta: &[f64]) -> f64;
}
