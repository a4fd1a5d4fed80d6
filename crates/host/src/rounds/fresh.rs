//! What draws of a flow are worth that trained nothing: effective size with its lower bound, tail, evidence.
//! Invariant: the draws are independent, so that the bootstrap and the error formula hold.

use crate::HostError;
use crate::rng::stream;
use crate::weights::{KHatStatus, WeightReport, weight_report};
use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

/// Bootstrap replicates behind a bound.
const REPLICATES: usize = 2000;
/// Most units that a replicate resamples.
const MAX_UNITS: usize = 4096;

/// Effective sample size with a one-sided bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EssBound {
    /// Kish's effective sample size.
    pub ess: f64,
    /// The 5 % quantile of the bootstrap: with 95 % confidence the effective size is at least that. `None` if the weights'
    /// tail is too heavy for any such claim.
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
    let bounded = match weights.k_hat.status {
        KHatStatus::ConstantTail => true,
        _ => weights.k_hat.value.is_some_and(|k| k <= max_k_hat),
    };
    let lower = bounded.then(|| bootstrap_ess(log_weights, seed)[REPLICATES / 20]);
    Ok(FreshReport { ess: EssBound { ess: weights.ess, lower }, weights })
}

/// Effective sizes of bootstrap replicates, ascending. Above [`MAX_UNITS`] draws their sums over equal groups are resampled,
/// which are independent too.
fn bootstrap_ess(log_weights: &[f64], seed: u64) -> Vec<f64> {
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let units: Vec<(f64, f64)> = log_weights
        .chunks(log_weights.len().div_ceil(MAX_UNITS))
        .map(|group| {
            group.iter().fold((0.0, 0.0), |(sum, square), lw| {
                let w = (lw - max).exp();
                (sum + w, square + w * w)
            })
        })
        .collect();
    let mut sizes: Vec<f64> = (0..REPLICATES as u64)
        .into_par_iter()
        .map(|replicate| {
            let mut rng = stream(seed, "ess bootstrap", replicate);
            let (mut sum, mut square) = (0.0, 0.0);
            for _ in 0..units.len() {
                let (w, w2) = units[rng.random_range(0..units.len())];
                sum += w;
                square += w2;
            }
            if square > 0.0 { sum * sum / square } else { 0.0 }
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
        // The effective size that n draws have in the long run, against the bound of each set of n draws.
        for n in [1_000, 9_000] {
            let truth = n as f64 / std::f64::consts::E;
            let n_sets = 200;
            let below = (0..n_sets)
                .filter(|&set| {
                    let lower = bootstrap_ess(&log_weights(n, set), set)[REPLICATES / 20];
                    lower <= truth
                })
                .count();
            // 95 % wanted; a bootstrap of skewed weights gives somewhat less.
            assert!(below as f64 >= 0.88 * n_sets as f64, "n {n}: {below} of {n_sets}");
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
