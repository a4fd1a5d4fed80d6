//! Tail shape k-hat of importance weights: a generalised Pareto fit to the largest weights.
//! Source: Vehtari, Simpson, Gelman, Yao, Gabry 2024 (Pareto smoothed importance sampling) and, for the fit,
//! Zhang and Stephens 2009. k-hat above 0.7 means that no figure from these weights can be trusted.

use super::check_log_values;
use crate::error::HostError;
use serde::{Deserialize, Serialize};

/// Fewest exceedances that can be fitted.
const MIN_TAIL: usize = 5;

/// What the tail fit rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KHatStatus {
    /// The fit was made.
    Fitted,
    /// All tail weights are equal: there is no tail, and no k-hat.
    ConstantTail,
    /// Too few rows for a tail of five, and no k-hat.
    TooFewRows,
    /// Fewer than five weights above the cut-off are above zero: a handful of rows carries everything; k-hat is +inf.
    TooFewPositive,
}

/// Shape of the weight tail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KHat {
    /// The shape; +inf (null in JSON) where a handful of rows carries everything; none where there is no tail.
    pub value: Option<f64>,
    /// Number of tail weights fitted.
    pub n_tail: usize,
    /// What `value` rests on.
    pub status: KHatStatus,
}

/// The generalised Pareto distribution of the largest weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Log of the weight that the tail begins above.
    pub log_cutoff: f64,
    /// Logarithm of the unit of `scale`.
    pub log_unit: f64,
    /// Scale sigma of what weights exceed the cut-off by.
    pub scale: f64,
    /// Shape k.
    pub shape: f64,
}

impl Tail {
    /// Share of the tail's weights above exp(`log_weight`).
    pub fn survival(&self, log_weight: f64) -> f64 {
        let over =
            ((log_weight - self.log_unit).exp() - (self.log_cutoff - self.log_unit).exp()) / self.scale;
        let k = self.shape;
        match over {
            over if over <= 0.0 => 1.0,
            over if k.abs() < 1e-9 => (-over).exp(),
            // Beyond the end of a bounded tail there is nothing.
            over if 1.0 + k * over <= 0.0 => 0.0,
            over => (1.0 + k * over).powf(-1.0 / k),
        }
    }
}

/// k-hat of log weights `[n]`: tail of min(n/5, 3 sqrt(n)) weights over the next largest one.
///
/// # Errors
/// [`HostError::BadLogValue`] for NaN or +inf.
pub fn psis_k_hat(log_weights: &[f64]) -> Result<KHat, HostError> {
    Ok(psis_tail(log_weights)?.0)
}

/// [`psis_k_hat`] with the distribution, where one was fitted.
pub(crate) fn psis_tail(log_weights: &[f64]) -> Result<(KHat, Option<Tail>), HostError> {
    check_log_values("log_weights", log_weights, &[], true)?;
    let n = log_weights.len();
    let n_tail = (0.2 * n as f64).min(3.0 * (n as f64).sqrt()).ceil() as usize;
    if n_tail < MIN_TAIL || n_tail >= n {
        return Ok((KHat { value: None, n_tail, status: KHatStatus::TooFewRows }, None));
    }
    let mut scratch = log_weights.to_vec();
    // Ascending partition: the tail is everything after `cutoff`.
    let (_, cutoff, tail) = scratch.select_nth_unstable_by(n - n_tail - 1, f64::total_cmp);
    let max = tail.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max - *cutoff < 1e-12 || max == f64::NEG_INFINITY {
        return Ok((KHat { value: None, n_tail, status: KHatStatus::ConstantTail }, None));
    }
    let base = (*cutoff - max).exp();
    // exp_m1 keeps the digits of exceedances that are far smaller than the cut-off itself.
    let mut exceedances: Vec<f64> = tail
        .iter()
        .map(|lw| if base > 0.0 { base * (lw - *cutoff).exp_m1() } else { (lw - max).exp() })
        .filter(|x| *x > 0.0)
        .collect();
    if exceedances.len() < MIN_TAIL {
        return Ok((KHat { value: Some(f64::INFINITY), n_tail, status: KHatStatus::TooFewPositive }, None));
    }
    exceedances.sort_unstable_by(f64::total_cmp);
    let (k, scale) = fit_generalised_pareto(&exceedances);
    let m = exceedances.len() as f64;
    // Weak prior towards 0.5 worth ten observations (Vehtari et al. 2024, appendix C).
    let value = if k.is_nan() { f64::INFINITY } else { (k * m + 5.0) / (m + 10.0) };
    let tail = Tail { log_cutoff: *cutoff, log_unit: max, scale, shape: value };
    Ok((KHat { value: Some(value), n_tail: exceedances.len(), status: KHatStatus::Fitted }, Some(tail)))
}

/// Shape k and scale sigma of a generalised Pareto distribution, from ascending positive exceedances: posterior mean of
/// the profile parameter on a grid of quantiles (Zhang and Stephens 2009, with the sign of k of Vehtari et al.).
fn fit_generalised_pareto(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let quartile = x[((n / 4.0 + 0.5).floor() as usize).clamp(1, x.len()) - 1];
    let largest = x[x.len() - 1];
    let n_grid = 30 + n.sqrt() as usize;
    let mean_log = |b: f64| x.iter().map(|v| (-b * v).ln_1p()).sum::<f64>() / n;
    let grid: Vec<(f64, f64)> = (1..=n_grid)
        .map(|j| {
            let b = 1.0 / largest + (1.0 - (n_grid as f64 / (j as f64 - 0.5)).sqrt()) / (3.0 * quartile);
            let k = mean_log(b);
            (b, n * ((-b / k).ln() - k - 1.0))
        })
        .collect();
    let max = grid.iter().map(|g| g.1).fold(f64::NEG_INFINITY, f64::max);
    let (mut total, mut sum) = (0.0, 0.0);
    for (b, log_lik) in grid.iter().filter(|g| g.1.is_finite()) {
        let w = (log_lik - max).exp();
        total += w;
        sum += w * b;
    }
    let b_hat = sum / total;
    let k = mean_log(b_hat);
    (k, -k / b_hat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterField;

    fn uniforms(seed: u64, n: usize) -> Vec<f64> {
        let mut u = vec![0.0; n];
        CounterField::new(seed, "psis", 1).fill_uniform(0, &mut u);
        u
    }

    #[test]
    fn the_fit_recovers_shape_and_scale_of_pareto_draws() {
        for (k, sigma) in [(0.2f64, 1.0), (0.5, 3.0), (0.9, 0.1), (-0.3, 2.0)] {
            let mut x: Vec<f64> =
                uniforms(4, 20_000).iter().map(|u| sigma / k * (u.powf(-k) - 1.0)).collect();
            x.sort_unstable_by(f64::total_cmp);
            let (k_fit, sigma_fit) = fit_generalised_pareto(&x);
            let se = (1.0 + k) / (x.len() as f64).sqrt();
            assert!((k_fit - k).abs() < 4.0 * se, "k {k} fitted as {k_fit}");
            assert!((sigma_fit / sigma - 1.0).abs() < 0.05, "sigma {sigma} fitted as {sigma_fit}");
        }
    }

    #[test]
    fn k_hat_of_pareto_weights_is_their_shape_whatever_their_scale() {
        for k in [0.3, 0.6, 1.0] {
            let lw: Vec<f64> = uniforms(6, 100_000).iter().map(|u| -k * u.ln() - 700.0).collect();
            let hat = psis_k_hat(&lw).unwrap();
            assert_eq!((hat.n_tail, hat.status), (949, KHatStatus::Fitted));
            assert!((hat.value.unwrap() - k).abs() < 0.17, "k {k} came out as {:?}", hat.value);
        }
    }

    #[test]
    fn bounded_weights_have_a_small_k_hat() {
        let lw: Vec<f64> = uniforms(1, 50_000).iter().map(|u| (0.5 + u).ln()).collect();
        assert!(psis_k_hat(&lw).unwrap().value.unwrap() < 0.0);
    }

    #[test]
    fn no_tail_and_no_rows_are_said_not_guessed() {
        assert_eq!(psis_k_hat(&[-3.0; 1000]).unwrap().status, KHatStatus::ConstantTail);
        assert_eq!(psis_k_hat(&[-3.0; 10]).unwrap().status, KHatStatus::TooFewRows);
        assert_eq!(psis_k_hat(&[]).unwrap().status, KHatStatus::TooFewRows);
        let mut lw = vec![f64::NEG_INFINITY; 1000];
        lw[3] = 0.0;
        lw[70] = -1.0;
        let hat = psis_k_hat(&lw).unwrap();
        assert_eq!((hat.status, hat.value), (KHatStatus::TooFewPositive, Some(f64::INFINITY)));
        assert!(psis_k_hat(&[f64::NAN; 100]).is_err());
    }
}
