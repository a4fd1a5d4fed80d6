//! The figures that judge a sample or a density against a known truth: divergences, importance weights, distances,
//! shares of modes and bridges. Every figure carries the number of draws that made it; an infinite term makes its
//! figure infinite (null in JSON) and is counted, never dropped. Sums run in a fixed order.

pub mod calibration;
mod distance;
mod error_bars;
mod evaluate;
#[cfg(test)]
mod tests;

pub use distance::{ks_distance, ks_two_sample, sliced_wasserstein2};
pub use error_bars::{ErrorBars, ParameterErrors, WithError, error_bars};
pub use evaluate::{
    Evaluation, EvaluationSettings, LogProbFn, LogZComparison, ModeMasses, SampleFn, SlicedWasserstein,
    evaluate,
};

use crate::HostError;
use crate::error::{check_length, n_rows};
use crate::weights::{WeightReport, check_log_values, log_weights, weight_report};
use rayon::prelude::*;
use serde::Serialize;

/// Rows counted by one task; it changes no result.
const ROWS_PER_TASK: usize = 16_384;

/// A mean over draws with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The mean; infinite (null in JSON) if any term is.
    pub value: f64,
    /// Standard error of `value`; NaN (null in JSON) where the value is infinite or fewer than two terms are finite.
    pub se: f64,
    /// Number of draws, infinite terms included.
    pub n: usize,
    /// Draws whose term is infinite.
    pub n_infinite: usize,
    /// Mean of the finite terms alone, to be read with `n_infinite`; NaN (null) if there is none.
    pub finite_mean: f64,
}

/// A share of draws with its binomial standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Draws counted over `n`.
    pub value: f64,
    /// sqrt(v (1 - v) / n); where none or all were counted, that of one draw, since zero would claim certainty.
    pub se: f64,
    /// Number of draws.
    pub n: usize,
}

/// KL(p || q) = E_p[log p - log q] in nats. Both arrays, `[n]`, belong to the same independent draws of p.
///
/// ```
/// let figure = lwflow_host::diagnostics::forward_kl(&[-1.0, -2.0], &[-1.5, f64::NEG_INFINITY])?;
/// assert!(figure.value.is_infinite() && figure.n_infinite == 1 && figure.finite_mean == 0.5);
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
///
/// # Errors
/// NaN or +inf anywhere, -inf in `log_p` (p drew that row, so its density is positive), unequal or zero lengths.
pub fn forward_kl(log_p: &[f64], log_q: &[f64]) -> Result<Figure, HostError> {
    kl("log_p", log_p, "log_q", log_q)
}

/// KL(q || p) = E_q[log q - log p] in nats, log p normalised. Both arrays, `[n]`, belong to the same independent draws
/// of q.
///
/// # Errors
/// As [`forward_kl`], with p and q exchanged.
pub fn reverse_kl(log_q: &[f64], log_p: &[f64]) -> Result<Figure, HostError> {
    kl("log_q", log_q, "log_p", log_p)
}

fn kl(
    own_name: &'static str,
    own: &[f64],
    other_name: &'static str,
    other: &[f64],
) -> Result<Figure, HostError> {
    check_length(other_name, other.len(), own.len(), "one per draw")?;
    if own.is_empty() {
        return Err(HostError::Length { what: own_name, got: 0, expected: "at least 1 draw".into() });
    }
    check_log_values(own_name, own, &[], false)?;
    check_log_values(other_name, other, &[], true)?;
    let finite = || own.iter().zip(other).map(|(a, b)| a - b).filter(|d| d.is_finite());
    let n_finite = finite().count();
    let n_infinite = own.len() - n_finite;
    let mean = finite().sum::<f64>() / n_finite as f64;
    let square: f64 = finite().map(|d| (d - mean).powi(2)).sum();
    let m = n_finite as f64;
    let se = if n_infinite > 0 || n_finite < 2 { f64::NAN } else { (square / (m * (m - 1.0))).sqrt() };
    let value = if n_infinite > 0 { f64::INFINITY } else { mean };
    Ok(Figure { value, se, n: own.len(), n_infinite, finite_mean: mean })
}

/// ESS, evidence and tail shape of model draws as an importance sample: weights exp(log_target - log_q), where
/// `log_target`, `[n]`, is log L + log prior, not normalised, and `log_q`, `[n]`, the model's density.
///
/// # Errors
/// NaN or +inf, -inf in `log_q`, unequal lengths, or no draw with target density above zero.
pub fn importance(log_q: &[f64], log_target: &[f64]) -> Result<WeightReport, HostError> {
    let log_weights = log_weights(log_target, &vec![0.0; log_target.len()], log_q, &[])?;
    weight_report(&log_weights, None, &[])
}

/// Share of each mode among `samples`, `[n, dim]`; `mode_of` gives the mode of a row, below `n_modes`.
///
/// # Errors
/// A length that is not a multiple of `dim`, no sample at all, or a mode outside `0..n_modes`.
pub fn mode_masses(
    samples: &[f64],
    dim: usize,
    mode_of: &(dyn Fn(&[f64]) -> usize + Sync),
    n_modes: usize,
) -> Result<Vec<f64>, HostError> {
    let n = n_rows("mode_masses samples", samples.len(), dim)?;
    if n == 0 {
        return Err(HostError::Length {
            what: "mode_masses samples",
            got: 0,
            expected: "at least 1 row".into(),
        });
    }
    let modes: Vec<usize> = samples.par_chunks_exact(dim).with_min_len(ROWS_PER_TASK).map(mode_of).collect();
    let mut counts = vec![0usize; n_modes];
    for (row, mode) in modes.into_iter().enumerate() {
        match counts.get_mut(mode) {
            Some(count) => *count += 1,
            None => {
                return Err(HostError::BadValue {
                    what: "mode_of",
                    row,
                    column: 0,
                    value: mode as f64,
                    expected: "a mode below n_modes",
                });
            }
        }
    }
    Ok(counts.into_iter().map(|count| count as f64 / n as f64).collect())
}

/// Largest absolute difference of two sets of shares of the same modes.
///
/// # Errors
/// Unequal lengths.
pub fn mode_mass_error(masses: &[f64], reference: &[f64]) -> Result<f64, HostError> {
    check_length("mode masses", masses.len(), reference.len(), "one per mode of the reference")?;
    Ok(masses.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}

/// Standard error of each share of `n` independent draws whose true shares are `shares`.
pub fn share_standard_errors(shares: &[f64], n: usize) -> Vec<f64> {
    shares.iter().map(|s| (s * (1.0 - s) / n as f64).max(0.0).sqrt()).collect()
}

/// Share of model samples whose normalised target log density `log_p`, `[n]`, is below `level`, where the level holds
/// all but 1e-4 of the target's mass: what a flow leaves between modes. -inf counts as below.
///
/// # Errors
/// NaN or +inf, or no sample.
pub fn bridge_mass(log_p: &[f64], level: f64) -> Result<Share, HostError> {
    check_log_values("log_p of samples", log_p, &[], true)?;
    if log_p.is_empty() {
        return Err(HostError::Length {
            what: "log_p of samples",
            got: 0,
            expected: "at least 1 draw".into(),
        });
    }
    let n = log_p.len();
    let value = log_p.iter().filter(|v| **v < level).count() as f64 / n as f64;
    let one = 1.0 / n as f64;
    let for_se = value.clamp(one.min(0.5), 1.0 - one.min(0.5));
    Ok(Share { value, se: (for_se * (1.0 - for_se) / n as f64).sqrt(), n })
}
