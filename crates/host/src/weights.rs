//! Importance weights in log space: normalisation, effective sample size, evidence and its error, tail diagnosis.
//! -inf is a legal log weight (weight zero); NaN and +inf are errors that name the row and its theta.
//! No weight is ever formed outside a difference with the largest log weight, so nothing overflows.

mod histogram;
mod psis;
mod repeats;

pub use histogram::WeightHistogram;
pub(crate) use psis::psis_tail;
pub use psis::{KHat, KHatStatus, Tail, psis_k_hat};
pub use repeats::{Repeats, repeats};

use crate::error::{HostError, check_length};
use serde::Serialize;

/// Below this effective sample size an evidence estimate counts as unavailable.
pub const MIN_EVIDENCE_ESS: f64 = 100.0;

/// log sum_i exp(x_i); -inf for an empty slice or one of -inf alone, NaN if any entry is NaN.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    if x.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max.is_infinite() {
        return max;
    }
    max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

/// The parameters of row `row` where `theta` is `[n, dim]`; empty where the caller gave none.
fn theta_row(theta: &[f64], n: usize, row: usize) -> Vec<f64> {
    let dim = theta.len().checked_div(n).unwrap_or(0);
    theta.get(row * dim..(row + 1) * dim).unwrap_or(&[]).to_vec()
}

/// Checks a log array `[n]` for NaN and +inf, and for -inf unless `zero_is_legal`.
/// `theta` is `[n, dim]` and serves the message alone; it may be empty.
///
/// # Errors
/// [`HostError::BadLogValue`] naming `what`, the row and its theta.
pub fn check_log_values(
    what: &'static str,
    values: &[f64],
    theta: &[f64],
    zero_is_legal: bool,
) -> Result<(), HostError> {
    let legal = |v: f64| v.is_finite() || (zero_is_legal && v == f64::NEG_INFINITY);
    match values.iter().position(|v| !legal(*v)) {
        None => Ok(()),
        Some(row) => Err(HostError::BadLogValue {
            what,
            row,
            value: values[row],
            theta: theta_row(theta, values.len(), row),
            expected: if zero_is_legal { "a finite number or -inf" } else { "a finite number" },
        }),
    }
}

/// Logarithms of weights, `[n]`; of a weight of zero -inf.
///
/// # Errors
/// [`HostError::BadValue`] naming the row of a weight that is negative or not finite.
pub fn logs(weights: &[f64]) -> Result<Vec<f64>, HostError> {
    match weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        None => Ok(weights.iter().map(|w| w.ln()).collect()),
        Some(row) => Err(HostError::BadValue {
            what: "weights",
            row,
            column: 0,
            value: weights[row],
            expected: "a finite number, not negative",
        }),
    }
}

/// log(e^a + e^b); -inf stands for zero.
pub fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// Systematic resampling: `n` draws with probabilities proportional to `weights`, of any positive sum, as rows in ascending
/// order, a row once for each time it was drawn. `offset` in (0, 1) shifts the grid of the draws.
pub fn systematic(weights: &[f64], n: usize, offset: f64) -> Vec<usize> {
    let step = weights.iter().sum::<f64>() / n.max(1) as f64;
    let (mut sum, mut next) = (0.0, offset * step);
    let mut rows = Vec::with_capacity(n);
    for (i, w) in weights.iter().enumerate() {
        sum += w;
        while next < sum && rows.len() < n {
            rows.push(i);
            next += step;
        }
    }
    rows
}

/// The rows of [`systematic`] resampling, each once, with its share of the `n` draws.
pub fn thinned(weights: &[f64], n: usize, offset: f64) -> Vec<(usize, f64)> {
    let rows = systematic(weights, n, offset);
    rows.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f64 / n as f64)).collect()
}

/// log w_i = log L_i + log pi(theta_i) - log r(theta_i), all `[n]`; `theta` is `[n, dim]` or empty.
///
/// # Errors
/// A NaN or +inf in any array, a -inf in `log_proposal` (the proposal drew that row, so its density is positive),
/// or unequal lengths.
pub fn log_weights(
    log_likelihood: &[f64],
    log_prior: &[f64],
    log_proposal: &[f64],
    theta: &[f64],
) -> Result<Vec<f64>, HostError> {
    let n = log_likelihood.len();
    check_length("log_prior", log_prior.len(), n, "as many as log_likelihood")?;
    check_length("log_proposal", log_proposal.len(), n, "as many as log_likelihood")?;
    check_log_values("log_likelihood", log_likelihood, theta, true)?;
    check_log_values("log_prior", log_prior, theta, true)?;
    check_log_values("log_proposal", log_proposal, theta, false)?;
    Ok((0..n).map(|i| log_likelihood[i] + log_prior[i] - log_proposal[i]).collect())
}

/// Self-normalised weights w_i = exp(lw_i - logsumexp lw), `[n]`, of sum 1.
///
/// ```
/// let w = lwflow_host::weights::normalised_weights(&[0.0, 3f64.ln(), f64::NEG_INFINITY], &[])?;
/// assert!((w[1] - 0.75).abs() < 1e-15 && w[2] == 0.0);
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
///
/// # Errors
/// NaN or +inf (naming row and theta), or all weights zero.
pub fn normalised_weights(log_weights: &[f64], theta: &[f64]) -> Result<Vec<f64>, HostError> {
    checked_log_sum(log_weights, theta)?;
    // Divided by their own sum rather than by exp(logsumexp), so that the sum is 1 to the last bits at any offset.
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut weights: Vec<f64> = log_weights.iter().map(|lw| (lw - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    Ok(weights)
}

fn checked_log_sum(log_weights: &[f64], theta: &[f64]) -> Result<f64, HostError> {
    check_log_values("log_weights", log_weights, theta, true)?;
    let norm = log_sum_exp(log_weights);
    if norm == f64::NEG_INFINITY {
        return Err(HostError::AllWeightsZero { what: "log_weights", n: log_weights.len() });
    }
    Ok(norm)
}

/// Kish's effective sample size (sum w)^2 / sum w^2 of log weights; 0 if all are -inf.
pub fn kish_ess(log_weights: &[f64]) -> f64 {
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return 0.0;
    }
    let (s1, s2) = log_weights.iter().fold((0.0, 0.0), |(s1, s2), lw| {
        let w = (lw - max).exp();
        (s1 + w, s2 + w * w)
    });
    s1 * s1 / s2
}

/// How the standard deviation of log Z was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogZError {
    /// sqrt((N / ESS - 1) / N): holds for independent draws.
    Independent,
    /// Spread of the estimates of independent blocks (scramblings, rounds).
    Blocks,
}

/// What a set of log weights is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightReport {
    /// Number of rows.
    pub n: usize,
    /// Rows with weight above zero.
    pub n_positive: usize,
    /// Kish's effective sample size.
    pub ess: f64,
    /// `ess / n`.
    pub ess_fraction: f64,
    /// Largest normalised weight.
    pub largest_share: f64,
    /// logsumexp lw - log n.
    pub log_z: f64,
    /// Standard deviation of `log_z`; NaN (null in JSON) where a single block leaves it unknown.
    pub log_z_sd: f64,
    /// How `log_z_sd` was found.
    pub log_z_error: LogZError,
    /// Whether `ess` reaches [`MIN_EVIDENCE_ESS`]; below it `log_z` should not be quoted.
    pub log_z_available: bool,
    /// Tail shape of the weights.
    pub k_hat: KHat,
}

/// All figures of a set of log weights `[n]`. `blocks`, `[n]`, names the independent block of each row where the rows
/// are not independent; `theta` is `[n, dim]` or empty and serves error messages.
///
/// # Errors
/// NaN or +inf (naming row and theta), all weights zero, or unequal lengths.
pub fn weight_report(
    log_weights: &[f64],
    blocks: Option<&[u32]>,
    theta: &[f64],
) -> Result<WeightReport, HostError> {
    let norm = checked_log_sum(log_weights, theta)?;
    let n = log_weights.len();
    let ess = kish_ess(log_weights);
    let (log_z_sd, log_z_error) = match blocks {
        None => (((n as f64 / ess - 1.0).max(0.0) / n as f64).sqrt(), LogZError::Independent),
        Some(blocks) => (block_log_z_sd(log_weights, blocks)?, LogZError::Blocks),
    };
    let largest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(WeightReport {
        n,
        n_positive: log_weights.iter().filter(|lw| **lw > f64::NEG_INFINITY).count(),
        ess,
        ess_fraction: ess / n as f64,
        largest_share: (largest - norm).exp(),
        log_z: norm - (n as f64).ln(),
        log_z_sd,
        log_z_error,
        log_z_available: ess >= MIN_EVIDENCE_ESS,
        k_hat: psis_k_hat(log_weights)?,
    })
}

/// sd(log Z) from the spread of block means m_b: var Z = B/(B-1) sum_b (n_b/N)^2 (m_b - Z)^2, then the delta method.
fn block_log_z_sd(log_weights: &[f64], blocks: &[u32]) -> Result<f64, HostError> {
    check_length("blocks", blocks.len(), log_weights.len(), "as many as log_weights")?;
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sums = std::collections::BTreeMap::<u32, (f64, f64)>::new();
    for (lw, block) in log_weights.iter().zip(blocks) {
        let entry = sums.entry(*block).or_default();
        entry.0 += 1.0;
        entry.1 += (lw - max).exp();
    }
    let n_blocks = sums.len() as f64;
    if n_blocks < 2.0 {
        return Ok(f64::NAN);
    }
    let n = log_weights.len() as f64;
    let z = sums.values().map(|(_, sum)| sum).sum::<f64>() / n;
    let spread: f64 = sums.values().map(|(count, sum)| ((sum - count * z) / n).powi(2)).sum();
    Ok((n_blocks / (n_blocks - 1.0) * spread).sqrt() / z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{CounterField, normal_quantile, sobol_blocks};

    #[test]
    fn log_sum_exp_survives_extremes() {
        assert!((log_sum_exp(&[-1000.0, -1000.0]) - (-1000.0 + 2f64.ln())).abs() < 1e-12);
        assert!((log_sum_exp(&[1e300, 0.0]) - 1e300).abs() < 1.0);
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
        assert!(log_sum_exp(&[f64::INFINITY, f64::NAN]).is_nan());
    }

    #[test]
    fn figures_of_a_hand_computed_set() {
        let lw = [1f64.ln() - 500.0, 2f64.ln() - 500.0, 5f64.ln() - 500.0, f64::NEG_INFINITY];
        let report = weight_report(&lw, None, &[]).unwrap();
        assert!((report.ess - 64.0 / 30.0).abs() < 1e-12);
        assert!((report.ess_fraction - 64.0 / 120.0).abs() < 1e-12);
        assert!((report.largest_share - 0.625).abs() < 1e-12);
        assert!((report.log_z - (2f64.ln() - 500.0)).abs() < 1e-12);
        assert!((report.log_z_sd - ((4.0 / (64.0 / 30.0) - 1.0) / 4.0f64).sqrt()).abs() < 1e-12);
        assert_eq!((report.n, report.n_positive, report.log_z_available), (4, 3, false));
        let w = normalised_weights(&lw, &[]).unwrap();
        assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-15 && w[3] == 0.0);
    }

    #[test]
    fn bad_values_name_array_row_and_theta() {
        let theta = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let err = normalised_weights(&[0.0, f64::NAN, 1.0], &theta).unwrap_err();
        assert!(err.to_string().contains("row 1 (theta = [2.0, 3.0])"), "{err}");
        let err = weight_report(&[0.0, 0.0, f64::INFINITY], None, &[]).unwrap_err();
        assert!(matches!(err, HostError::BadLogValue { row: 2, .. }));
        let err = log_weights(&[0.0; 3], &[0.0; 3], &[0.0, 0.0, f64::NEG_INFINITY], &theta).unwrap_err();
        assert!(
            err.to_string().starts_with("log_proposal") && err.to_string().contains("[4.0, 5.0]"),
            "{err}"
        );
        assert!(matches!(
            normalised_weights(&[f64::NEG_INFINITY; 5], &[]),
            Err(HostError::AllWeightsZero { n: 5, .. })
        ));
        assert!(matches!(normalised_weights(&[], &[]), Err(HostError::AllWeightsZero { n: 0, .. })));
        assert!(matches!(log_weights(&[0.0; 3], &[0.0; 2], &[0.0; 3], &[]), Err(HostError::Length { .. })));
    }

    #[test]
    fn a_zero_likelihood_outside_the_prior_is_weight_zero_not_nan() {
        let inf = f64::NEG_INFINITY;
        let lw = log_weights(&[inf, -1.0, inf], &[inf, inf, -2.0], &[0.5, 0.5, 0.5], &[]).unwrap();
        assert_eq!(lw, vec![inf; 3]);
    }

    /// exp(a z) with z normal has mean exp(a^2/2) and ESS fraction exp(-a^2).
    #[test]
    fn log_z_and_its_sd_hold_for_lognormal_weights() {
        let (a, n, runs) = (0.7f64, 4000, 60);
        let mut z_scores = Vec::new();
        for run in 0..runs {
            let mut lw = vec![0.0; n];
            CounterField::new(run, "lognormal", 1).fill_standard_normal(0, &mut lw);
            lw.iter_mut().for_each(|v| *v *= a);
            let report = weight_report(&lw, None, &[]).unwrap();
            assert!((report.ess_fraction / (-a * a).exp() - 1.0).abs() < 0.1);
            z_scores.push((report.log_z - a * a / 2.0) / report.log_z_sd);
        }
        let chi2 = z_scores.iter().map(|z| z * z).sum::<f64>() / runs as f64;
        assert!((0.5..1.6).contains(&chi2), "mean squared z-score {chi2}");
    }

    #[test]
    fn block_error_sees_what_the_independent_formula_cannot() {
        // Scrambled Sobol points: the true error is far below the formula for independent draws.
        let sobol = sobol_blocks(3, 8 * 8192, 1);
        let lw: Vec<f64> = sobol.points.iter().map(|u| 0.7 * normal_quantile(*u)).collect();
        let iid = weight_report(&lw, None, &[]).unwrap();
        let blocks = weight_report(&lw, Some(&sobol.blocks), &[]).unwrap();
        assert!(blocks.log_z_sd < 0.05 * iid.log_z_sd);
        assert!((blocks.log_z - 0.245).abs() < 6.0 * blocks.log_z_sd + 1e-6, "{}", blocks.log_z);
        // Rows repeated four times: the independent formula is a factor of two too small.
        let mut base = vec![0.0; 20_000];
        CounterField::new(8, "repeat", 1).fill_standard_normal(0, &mut base);
        let repeated: Vec<f64> = base.iter().flat_map(|v| [*v; 4]).collect();
        let ids: Vec<u32> = (0..repeated.len()).map(|i| (i / 800) as u32).collect();
        let naive = weight_report(&repeated, None, &[]).unwrap().log_z_sd;
        let honest = weight_report(&repeated, Some(&ids), &[]).unwrap().log_z_sd;
        assert!((honest / naive / 2.0 - 1.0).abs() < 0.35, "ratio {}", honest / naive);
        let single = weight_report(&base, Some(&vec![0; base.len()]), &[]).unwrap();
        assert!(single.log_z_sd.is_nan());
    }
}
