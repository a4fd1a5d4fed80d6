//! What draws of a flow are worth that trained nothing: effective size with its lower bound, tail, evidence.
//! Invariant: the draws are independent, so that the bootstrap and the error formula hold.

use crate::HostError;
use crate::rng::{normal_pair, open_uniform, stream};
use crate::weights::{KHatStatus, Tail, WeightReport, psis_tail, weight_report};
use rayon::prelude::*;
use serde::Serialize;

/// Bootstrap replicates behind a bound.
const REPLICATES: usize = 1000;
/// Standard errors by which the tail's shape is taken heavier than fitted: the fit is uncertain, and too light a tail would
/// overstate the effective size.
const SHAPE_MARGIN: f64 = 0.5;

/// Effective sample size with a one-sided bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EssBound {
    /// Kish's effective sample size.
    pub ess: f64,
    /// With 95 % confidence the effective size is at least that: the 5 % quantile of a bootstrap that draws the largest
    /// weights from their fitted Pareto tail, because resampling alone cannot see a weight larger than the largest.
    /// `None` if the tail is too heavy for any such claim.
    pub lower: Option<f64>,
}

/// Figures of fresh draws.
#[derive(Debug, Clone, Serialize)]
pub struct FreshReport {
    /// Effective sample size and bound.
    pub ess: EssBound,
    /// Everything else that the weights say.
    pub weights: WeightReport,
}

/// Judges independent draws with log weights `[n]` at `theta` `[n, D]`.
///
/// # Errors
/// [`HostError`] for an illegal weight, or if all are zero.
pub(super) fn judge(
    log_weights: &[f64],
    theta: &[f64],
    max_k_hat: f64,
    seed: u64,
) -> Result<FreshReport, HostError> {
    let weights = weight_report(log_weights, None, theta)?;
    let (k_hat, tail) = psis_tail(log_weights)?;
    let lower = match (k_hat.status, tail) {
        (KHatStatus::ConstantTail, _) => Some(weights.ess),
        (_, Some(tail)) if tail.shape <= max_k_hat => {
            Some(bootstrap_ess(log_weights, &tail, k_hat.n_tail, seed)[REPLICATES / 20].min(weights.ess))
        }
        _ => None,
    };
    Ok(FreshReport { ess: EssBound { ess: weights.ess, lower }, weights })
}

/// Effective sizes of replicates, ascending: sums of the weights below the tail by the normal distribution that they
/// have, those of the tail by draws from it.
fn bootstrap_ess(log_weights: &[f64], tail: &Tail, n_tail: usize, seed: u64) -> Vec<f64> {
    let body: Vec<f64> = log_weights
        .iter()
        .filter(|lw| **lw <= tail.log_cutoff)
        .map(|lw| (lw - tail.log_unit).exp())
        .collect();
    let n_body = body.len() as f64;
    let moment = |p: i32| body.iter().map(|w| w.powi(p)).sum::<f64>() / n_body;
    let [m1, m2, m3, m4] = [1, 2, 3, 4].map(moment);
    // Cholesky factor of the covariance of (w, w^2).
    let sd1 = (m2 - m1 * m1).max(0.0).sqrt();
    let cross = if sd1 > 0.0 { (m3 - m1 * m2) / sd1 } else { 0.0 };
    let rest = (m4 - m2 * m2 - cross * cross).max(0.0).sqrt();
    let shape = tail.shape + SHAPE_MARGIN * (1.0 + tail.shape) / (n_tail as f64).sqrt();
    let cutoff = (tail.log_cutoff - tail.log_unit).exp();
    let mut sizes: Vec<f64> = (0..REPLICATES as u64)
        .into_par_iter()
        .map(|replicate| {
            let mut rng = stream(seed, "ess bootstrap", replicate);
            let (a, b) = normal_pair(&mut rng);
            let root = n_body.sqrt();
            let mut sum = n_body * m1 + root * sd1 * a;
            let mut square = n_body * m2 + root * (cross * a + rest * b);
            for _ in 0..n_tail {
                let u = open_uniform(&mut rng);
                let over = if shape.abs() < 1e-9 { -u.ln() } else { (u.powf(-shape) - 1.0) / shape };
                let w = cutoff + tail.scale * over;
                sum += w;
                square += w * w;
            }
            if square > 0.0 && sum > 0.0 { sum * sum / square } else { 0.0 }
        })
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterField;

    /// Log weights of a log-normal with sigma 1: ESS fraction 1 / e.
    fn log_weights(n: usize, seed: u64) -> Vec<f64> {
        let mut lw = vec![0.0; n];
        CounterField::new(seed, "test", 1).fill_standard_normal(0, &mut lw);
        lw
    }

    #[test]
    fn the_bound_covers_what_it_says() {
        // The effective size that n draws have in the long run, against the bound of each of 200 sets of n draws.
        for n in [1_000, 9_000] {
            let truth = n as f64 / std::f64::consts::E;
            let lower = |set| judge(&log_weights(n, set), &[], 0.7, set).unwrap().ess.lower;
            let below = (0..200).filter(|&set| lower(set).is_some_and(|lower| lower <= truth)).count();
            assert!(below >= 190, "n {n}: {below} of 200");
            let mean = (0..50).filter_map(lower).sum::<f64>() / 50.0;
            assert!(mean > 0.4 * truth, "n {n}: a bound of {mean} is of no use");
        }
    }

    #[test]
    fn heavy_tails_and_constant_weights() {
        let constant = judge(&[0.25; 500], &[], 0.7, 1).unwrap();
        assert_eq!(constant.ess, EssBound { ess: 500.0, lower: Some(500.0) });
        // Pareto weights with shape 1: no finite mean.
        let heavy: Vec<f64> = (1..2000).map(|i| -(f64::from(i) / 2000.0).ln()).collect();
        let heavy = judge(&heavy, &[], 0.7, 1).unwrap();
        assert!(heavy.ess.lower.is_none() && heavy.weights.k_hat.value.unwrap() > 0.8, "{heavy:?}");
    }
}
