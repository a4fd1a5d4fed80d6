//! Effective sample size of a weighted Markov chain, its autocorrelation included.
//! Kish's figure sees only unequal weights; here the variance of the weighted mean is estimated from the series itself.

/// Longer chains are summed over neighbouring rows first, so that the cost stays bounded.
const MAX_BLOCKS: usize = 1 << 14;
/// Fewer rows say nothing about their correlation.
const MIN_ROWS: usize = 8;

/// Effective sample size of each parameter, `[dim]`, from `theta [n, dim]` in the order of the chain and `weights [n]`.
/// `None` for a parameter that does not vary, for under 8 rows, or if the lengths do not fit.
///
/// With d_i = x_i - mean, the weighted mean has the variance of sum(w_i d_i)/W, for which the initial monotone positive
/// sequence estimator is used on the series w_i d_i (Geyer 1992, section 3.3); ESS = weighted variance of x / that. A
/// multiplicity weight thus counts as so many equal, fully correlated rows.
pub fn autocorrelation_ess(theta: &[f64], dim: usize, weights: &[f64]) -> Vec<Option<f64>> {
    let n = weights.len();
    if dim == 0 || n < MIN_ROWS || Some(theta.len()) != n.checked_mul(dim) {
        return vec![None; dim];
    }
    (0..dim).map(|j| one_parameter(n, |i| theta[i * dim + j], weights)).collect()
}

fn one_parameter(n: usize, x: impl Fn(usize) -> f64, weights: &[f64]) -> Option<f64> {
    let total: f64 = weights.iter().sum();
    let mean = (0..n).map(|i| weights[i] * x(i)).sum::<f64>() / total;
    let spread: f64 = (0..n).map(|i| weights[i] * (x(i) - mean).powi(2)).sum();
    if !(spread > 0.0 && spread.is_finite()) {
        return None;
    }
    let rows_per_block = n.div_ceil(MAX_BLOCKS);
    let series: Vec<f64> = (0..n)
        .step_by(rows_per_block)
        .map(|start| {
            let rows = start..n.min(start + rows_per_block);
            rows.map(|i| weights[i] * (x(i) - mean)).sum()
        })
        .collect();
    let variance_of_sum = series.len() as f64 * long_run_variance(&series);
    let ess = total * spread / variance_of_sum;
    (ess.is_finite() && ess > 0.0).then_some(ess)
}

/// Variance of the sum of a zero-mean series, per element.
fn long_run_variance(series: &[f64]) -> f64 {
    let n = series.len();
    let covariance =
        |lag: usize| series.iter().zip(&series[lag..]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
    let at_zero = covariance(0);
    let mut sum = -at_zero;
    let mut last = f64::INFINITY;
    for lag in (0..n.saturating_sub(1)).step_by(2) {
        let pair = if lag == 0 { at_zero + covariance(1) } else { covariance(lag) + covariance(lag + 1) };
        if pair <= 0.0 {
            break;
        }
        last = last.min(pair);
        sum += 2.0 * last;
    }
    // An antithetic chain can make the estimate vanish; the same bound on the gain as in Vehtari et al. 2021.
    sum.max(at_zero / (n as f64).log10().max(1.0))
}
