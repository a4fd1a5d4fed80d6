//! Choice of the number of components by a weighted Bayesian information criterion.
//! BIC(K) = P_K log ESS - 2 ESS l_K, with l_K the weighted mean log likelihood and P_K the free parameters: the
//! effective sample size stands where unweighted data have their number. The smallest BIC wins, ties to smaller K.

use super::em::{MixtureFit, MixtureFitSettings, check_settings, fit};
use super::points::WeightedPoints;
use super::{Covariance, triangle};
use crate::error::HostError;
use serde::Serialize;
use std::ops::ControlFlow;

/// One row of the table of candidates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelectionRow {
    /// Components K.
    pub n_components: usize,
    /// Free parameters P_K.
    pub n_params: usize,
    /// Weighted mean log likelihood l_K (nats).
    pub mean_log_likelihood: f64,
    /// The criterion.
    pub bic: f64,
}

/// The chosen mixture and the table it was chosen from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureSelection {
    /// The fit of smallest BIC.
    pub fit: MixtureFit,
    /// All candidates, ascending in K.
    pub table: Vec<SelectionRow>,
}

/// Free parameters of a mixture of `k` components in `dim` dimensions.
fn n_params(k: usize, dim: usize, covariance: Covariance) -> usize {
    let shape = match covariance {
        Covariance::Diagonal => dim,
        Covariance::Full => triangle(dim),
    };
    k - 1 + k * (dim + shape)
}

/// Fits every K of `candidates`, ascending, and keeps the one of smallest BIC; arguments as for [`super::fit_mixture`].
/// After `patience` candidates in a row that are worse than the best, larger ones are not tried.
/// K beyond the number of distinct weighted points are left out of the table. Where `progress` breaks, the best of the
/// candidates that are complete is returned, or else the first as far as it got.
///
/// # Errors
/// As [`super::fit_mixture`], and [`HostError::BadSetting`] without candidates.
pub fn select_mixture(
    points: &[f64],
    weights: &[f64],
    dim: usize,
    candidates: &[usize],
    patience: usize,
    settings: &MixtureFitSettings,
    seed: u64,
    mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<MixtureSelection, HostError> {
    if !candidates.is_sorted() || candidates.is_empty() {
        let (got, expected) = (format!("{candidates:?}"), "candidates in ascending order");
        return Err(HostError::BadSetting { setting: "n_components", got, expected });
    }
    candidates.iter().try_for_each(|&k| check_settings(settings, k))?;
    let data = WeightedPoints::new(points, weights, dim)?;
    let mut best: Option<(f64, MixtureFit)> = None;
    let mut table = Vec::new();
    let n_steps = settings.n_steps().saturating_mul(candidates.len());
    let mut worse = 0;
    for (i, &k) in candidates.iter().enumerate() {
        let mut candidate_progress =
            |done: usize| progress((i * settings.n_steps()).saturating_add(done), n_steps);
        let candidate = match fit(&data, k, settings, seed, &mut candidate_progress) {
            Err(HostError::TooFewPoints { .. }) if best.is_some() => break,
            other => other?,
        };
        if let Some((_, best)) = best.as_mut().filter(|_| candidate.interrupted) {
            best.interrupted = true;
            break;
        }
        let interrupted = candidate.interrupted;
        let n_params = n_params(k, dim, settings.covariance);
        let bic = n_params as f64 * data.ess.ln() - 2.0 * data.ess * candidate.mean_log_likelihood;
        let mean_log_likelihood = candidate.mean_log_likelihood;
        table.push(SelectionRow { n_components: k, n_params, mean_log_likelihood, bic });
        if best.as_ref().is_none_or(|b| bic < b.0) {
            best = Some((bic, candidate));
            worse = 0;
        } else {
            worse += 1;
        }
        if interrupted || worse >= patience {
            break;
        }
    }
    match best {
        Some((_, fit)) => Ok(MixtureSelection { fit, table }),
        None => Err(HostError::AllWeightsZero { what: "weights", n: weights.len() }),
    }
}
