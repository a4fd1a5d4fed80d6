//! What a posterior predicts, beside what was observed (Gelman, Meng & Stern 1996; Box 1980). Invariant: the observation counts
//! as one of the simulations, so that each p-value is that of a rank, at least 1 / (n + 1), and exact if the observation is one
//! more draw of the prediction.

use super::holm;
use super::predicted::{PredictedHistogram, histogram_of_distances, histogram_of_value};
use crate::HostError;
use crate::error::n_rows;
use serde::{Deserialize, Serialize};

/// Values whose histograms are kept at most.
const MAX_HISTOGRAMS: usize = 11;
/// Added to the correlation matrix of the predictions, so that values that determine each other leave it invertible.
const RIDGE: f64 = 1e-9;

/// An observation beside the predictions of its posterior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictiveCheck {
    /// Number of predictions.
    pub n: usize,
    /// Mean of every predicted value, `[X]`.
    pub mean: Vec<f64>,
    /// Standard deviation of every predicted value, `[X]`.
    pub sd: Vec<f64>,
    /// Share of predictions below each observed value, equal ones counted half, `[X]`.
    pub below: Vec<f64>,
    /// Two-sided p-value of the place of each observed value among the predicted ones, `[X]`.
    pub p_values: Vec<f64>,
    /// p-value of the Mahalanobis distance of the observation from the middle of the predictions.
    pub p_value_distance: f64,
    /// `p_values` and then `p_value_distance`, adjusted for their number (Holm 1979), `[X + 1]`.
    pub p_adjusted: Vec<f64>,
    /// What is predicted for the values that are least expected, eleven at most and in their order, and for the Mahalanobis distance.
    #[serde(default)]
    pub histograms: Vec<PredictedHistogram>,
}

impl PredictiveCheck {
    /// The smallest adjusted p-value.
    pub fn least(&self) -> f64 {
        self.p_adjusted.iter().copied().fold(1.0, f64::min)
    }
}

/// Compares `observed`, `[X]`, with predictions `simulated`, `[n, X]`, one for each of n draws of the posterior.
///
/// # Errors
/// [`HostError::Invalid`] for fewer than ten predictions; [`HostError::Length`] and [`HostError::BadValue`] for arrays that do
/// not fit or are not finite.
pub fn predictive_check(observed: &[f64], simulated: &[f64]) -> Result<PredictiveCheck, HostError> {
    let width = observed.len();
    let n = n_rows("predictions", simulated.len(), width)?;
    if n < 10 {
        return Err(HostError::invalid("the number of predictions", n, "at least 10"));
    }
    for (what, values) in [("observation", observed), ("predictions", simulated)] {
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            let (row, column, value) = (i / width, i % width, values[i]);
            return Err(HostError::BadValue { what, row, column, value, expected: "a finite number" });
        }
    }
    let place = |j: usize| {
        let column = || simulated.iter().skip(j).step_by(width);
        let below = column().filter(|x| **x < observed[j]).count();
        let above = column().filter(|x| **x > observed[j]).count();
        let equal = n - below - above;
        // The observation among the predictions; of equal values half lie on each side.
        let tail = (below.min(above) as f64 + 0.5 * equal as f64 + 1.0) / (n + 1) as f64;
        ((below as f64 + 0.5 * equal as f64) / n as f64, (2.0 * tail).min(1.0))
    };
    let (below, p_values): (Vec<f64>, Vec<f64>) = (0..width).map(place).unzip();
    let mean_of = |j: usize| simulated.iter().skip(j).step_by(width).sum::<f64>() / n as f64;
    let mean: Vec<f64> = (0..width).map(mean_of).collect();
    let sd_of = |j: usize| {
        let square = simulated.iter().skip(j).step_by(width).map(|x| (x - mean[j]).powi(2)).sum::<f64>();
        (square / (n - 1) as f64).sqrt()
    };
    let sd: Vec<f64> = (0..width).map(sd_of).collect();
    let mut distances = distances(observed, simulated);
    let own = distances.pop().unwrap_or(0.0);
    // The observation is one of the points, and as far out as itself.
    let as_far = distances.iter().filter(|d| **d >= own).count() + 1;
    let p_value_distance = as_far as f64 / (n + 1) as f64;
    let all: Vec<f64> = p_values.iter().copied().chain([p_value_distance]).collect();
    let mut shown: Vec<usize> = (0..width).collect();
    shown.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    shown.truncate(MAX_HISTOGRAMS);
    shown.sort_unstable();
    let column = |j: usize| simulated.iter().skip(j).step_by(width).copied().collect();
    let mut histograms: Vec<PredictedHistogram> =
        shown.into_iter().map(|j| histogram_of_value(j, observed[j], column(j))).collect();
    histograms.push(histogram_of_distances(own, distances));
    Ok(PredictiveCheck { n, mean, sd, below, p_values, p_value_distance, p_adjusted: holm(&all), histograms })
}

/// Mahalanobis distances `[n + 1]` of the predictions and last of the observation from the middle of all of them; 0 where nothing
/// varies.
fn distances(observed: &[f64], simulated: &[f64]) -> Vec<f64> {
    let width = observed.len();
    let rows = || simulated.chunks_exact(width).chain([observed]);
    let n = rows().count() as f64;
    let mean: Vec<f64> = (0..width).map(|j| rows().map(|row| row[j]).sum::<f64>() / n).collect();
    let sd_of = |j: usize| (rows().map(|row| (row[j] - mean[j]).powi(2)).sum::<f64>() / n).sqrt();
    let sd: Vec<f64> = (0..width).map(sd_of).collect();
    // A value that never varies says nothing.
    let kept: Vec<usize> = (0..width).filter(|j| sd[*j] > 0.0).collect();
    let m = kept.len();
    let standard: Vec<f64> =
        rows().flat_map(|row| kept.iter().map(|&j| (row[j] - mean[j]) / sd[j]).collect::<Vec<_>>()).collect();
    if m == 0 {
        return vec![0.0; n as usize];
    }
    // Cholesky factor of the correlation matrix.
    let mut factor = vec![0.0; m * m];
    for row in standard.chunks_exact(m) {
        for i in 0..m {
            for j in 0..=i {
                factor[i * m + j] += row[i] * row[j] / n;
            }
        }
    }
    for i in 0..m {
        factor[i * m + i] += RIDGE;
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| factor[i * m + k] * factor[j * m + k]).sum();
            let rest = factor[i * m + j] - dot;
            factor[i * m + j] = if i == j { rest.max(RIDGE).sqrt() } else { rest / factor[j * m + j] };
        }
    }
    let distance = |row: &[f64]| {
        let mut solved = vec![0.0; m];
        for i in 0..m {
            let dot: f64 = (0..i).map(|k| factor[i * m + k] * solved[k]).sum();
            solved[i] = (row[i] - dot) / factor[i * m + i];
        }
        solved.iter().map(|v| v * v).sum::<f64>().sqrt()
    };
    standard.chunks_exact(m).map(distance).collect()
}
