//! What 32-bit arithmetic costs: log q by the f64 definition and log L by the likelihood's own f64, on a random subset of
//! the fresh draws and on those of largest weight. Invariant: the draws are those behind the figures that count.

use crate::HostError;
use crate::posterior::Posterior;
use crate::rng::stream;
use rand::seq::index::sample;
use serde::Serialize;

/// Draws picked at random.
const N_RANDOM: usize = 512;
/// Draws of largest weight.
const N_TOP: usize = 128;

/// Differences between 32 and 64 bits, in nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// Draws compared at random.
    pub n_random: usize,
    /// Draws of largest weight compared.
    pub n_top: usize,
    /// Largest difference of log q.
    pub log_prob_largest: f64,
    /// Mean absolute difference of log q, weighted.
    pub log_prob_weighted: f64,
    /// Largest difference of log L; `None` if the likelihood has no 64-bit form.
    pub log_likelihood_largest: Option<f64>,
    /// Mean absolute difference of log L, weighted.
    pub log_likelihood_weighted: Option<f64>,
    /// log Z in 64 bits less log Z in 32, on the random draws.
    pub log_z_shift: f64,
}

/// log L of theta, `[n, D]`, in 64 bits, if the likelihood has such a form.
pub(super) type Again<'a> = dyn FnMut(&[f64]) -> Result<Option<Vec<f64>>, HostError> + 'a;

/// Compares; the arrays belong to fresh draws of `flow`.
///
/// # Errors
/// Those of the likelihood and the model.
pub(super) fn audit(
    flow: &Posterior,
    theta: &[f64],
    log_prob: &[f64],
    log_likelihood: &[f64],
    log_weights: &[f64],
    again: &mut Again<'_>,
    seed: u64,
) -> Result<AuditReport, HostError> {
    let (n, d) = (log_prob.len(), flow.dim());
    let mut rng = stream(seed, "audit", 0);
    let mut picked: Vec<usize> = sample(&mut rng, n, N_RANDOM.min(n)).into_vec();
    picked.sort_unstable();
    let n_random = picked.len();
    let mut by_weight: Vec<usize> = (0..n).collect();
    by_weight.sort_by(|&a, &b| log_weights[b].total_cmp(&log_weights[a]).then(a.cmp(&b)));
    picked.extend(by_weight.into_iter().take(N_TOP));
    let rows: Vec<f64> = picked.iter().flat_map(|&i| theta[i * d..][..d].iter().copied()).collect();
    let log_q = flow.log_prob_f64(&rows)?;
    let log_l = again(&rows)?;
    let max = picked.iter().map(|&i| log_weights[i]).fold(f64::NEG_INFINITY, f64::max);
    let weight = |k: usize| if k < n_random { (log_weights[picked[k]] - max).exp() } else { 0.0 };
    let total: f64 = (0..n_random).map(weight).sum();
    // Draws without weight cannot matter; where both are -inf they agree.
    let difference = |a: f64, b: f64| if a == b { 0.0 } else { a - b };
    let dq: Vec<f64> = picked.iter().zip(&log_q).map(|(&i, q)| difference(*q, log_prob[i])).collect();
    let dl: Option<Vec<f64>> = log_l
        .map(|log_l| picked.iter().zip(&log_l).map(|(&i, l)| difference(*l, log_likelihood[i])).collect());
    let weighted = |delta: &[f64]| {
        (0..n_random).filter(|&k| weight(k) > 0.0).map(|k| weight(k) / total * delta[k].abs()).sum::<f64>()
    };
    let largest = |delta: &[f64]| {
        let seen = (0..picked.len()).filter(|&k| log_weights[picked[k]] > max - 30.0);
        seen.map(|k| delta[k].abs()).fold(0.0, f64::max)
    };
    let shifted: f64 = (0..n_random)
        .filter(|&k| weight(k) > 0.0)
        .map(|k| weight(k) / total * (dl.as_ref().map_or(0.0, |dl| dl[k]) - dq[k]).exp())
        .sum();
    Ok(AuditReport {
        n_random,
        n_top: picked.len() - n_random,
        log_prob_largest: largest(&dq),
        log_prob_weighted: weighted(&dq),
        log_likelihood_largest: dl.as_deref().map(largest),
        log_likelihood_weighted: dl.as_deref().map(weighted),
        log_z_shift: shifted.ln(),
    })
}
