//! Whether amortised posteriors are calibrated, from pairs (theta, x) that trained nothing: ranks of the truth among posterior
//! draws, and what a posterior predicts beside what was observed. Invariant: all tests are functions of arrays and a seed; the
//! p-values of ranks are exact for the discrete ranks.
//!
//! One mechanism carries three tests. If draws come from the posterior, the rank of the truth among them is uniform for every
//! quantity that is a function of theta and x: of a parameter, simulation-based calibration (Talts et al. 2018, 1804.06788); of
//! log q, a test of all parameters at once (Modrák et al. 2023, 2211.02383), which is also the expected coverage of
//! highest-density regions (Hermans et al. 2022, 2110.06581); of the distance from a random point, TARP (Lemos et al. 2023,
//! 2302.03026).

mod predicted;
mod predictive;
mod ranks;
#[cfg(test)]
mod tests;
mod uniformity;

pub use predicted::PredictedHistogram;
pub(super) use predicted::quantile;
pub use predictive::{PredictiveCheck, predictive_check};
pub use ranks::{RankCollector, posterior_ranks, quantities};
pub use uniformity::{RankBin, UniformRanks, holm};

use crate::HostError;
use serde::{Deserialize, Serialize};

/// Level of the bands, which are for the eye.
pub const BAND_LEVEL: f64 = 0.95;
/// Fewest pairs that say anything.
pub const MIN_PAIRS: usize = 50;
/// Standard errors from which a departure has a name.
const CLEAR: f64 = 3.0;

/// A quantity whose rank is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Quantity {
    /// A parameter.
    Parameter {
        /// Its name.
        name: String,
    },
    /// log q(theta | x): expected coverage.
    LogProb,
    /// The distance from a random point: TARP.
    Distance,
}

/// What a posterior does whose ranks are not uniform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// It claims to know too much.
    TooNarrow,
    /// It claims to know too little.
    TooWide,
    /// Its values are too low.
    TooLow,
    /// Its values are too high.
    TooHigh,
    /// Something that neither the mean nor the spread of the ranks shows clearly.
    Other,
}

/// What the ranks of one quantity say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantityReport {
    /// The quantity.
    pub quantity: Quantity,
    /// p-value of the simultaneous band; the smaller, the less uniform.
    pub p_value: f64,
    /// `p_value`, adjusted for the number of quantities (Holm 1979).
    pub p_adjusted: f64,
    /// Largest difference between the distribution function of the ranks and the uniform one, with its sign. A region of highest
    /// density of level c holds the truth if the rank of log q is at least (1 - c) L, so that of log q this is the largest error
    /// of the expected coverage, positive where regions hold the truth less often than they claim.
    pub largest_deviation: f64,
    /// p-value of that difference (Kolmogorov and Smirnov).
    pub p_value_ks: f64,
    /// Mean rank in units of L: 1/2 for a calibrated posterior.
    pub mean_rank: f64,
    /// How it departs, where the adjusted p-value is below the level of the report.
    pub departure: Option<Departure>,
    /// Histogram of the ranks.
    pub histogram: Vec<RankBin>,
    /// Distribution function of the ranks at [`CalibrationReport::shares`].
    pub cdf: Vec<f64>,
}

/// What the ranks of all quantities say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// Number of pairs N.
    pub n_pairs: usize,
    /// Number of posterior draws L for each.
    pub n_draws: usize,
    /// Level of the adjusted p-values.
    pub alpha: f64,
    /// Whether all tests pass.
    pub passed: bool,
    /// Every quantity, parameters first.
    pub quantities: Vec<QuantityReport>,
    /// Places of the distribution functions, as shares of the ranks, `[K]`.
    pub shares: Vec<f64>,
    /// Lower and upper end, `[K]`, of the band that holds the distribution function of a calibrated posterior at all places at
    /// once with a probability of [`BAND_LEVEL`].
    pub band: Vec<(f64, f64)>,
}

/// Tests the ranks of every quantity, `[Q][N]`, each among `n_draws` draws, and adjusts the p-values for their number; a test
/// fails whose adjusted p-value is below `alpha`.
///
/// # Errors
/// [`HostError::Invalid`] for fewer than [`MIN_PAIRS`] pairs or an `alpha` outside (0, 1); [`HostError::Length`] and
/// [`HostError::BadValue`] for ranks that do not fit.
pub fn calibration_report(
    quantities: &[Quantity],
    ranks: &[Vec<u32>],
    n_draws: usize,
    alpha: f64,
) -> Result<CalibrationReport, HostError> {
    crate::error::check_length("ranks", ranks.len(), quantities.len(), "one row per quantity")?;
    let n_pairs = ranks.first().map_or(0, Vec::len);
    if n_pairs < MIN_PAIRS {
        return Err(HostError::invalid("the number of pairs", n_pairs, format!("at least {MIN_PAIRS}")));
    }
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(HostError::invalid("alpha", alpha, "a number above 0 and below 1"));
    }
    let uniform = UniformRanks::new(n_pairs, n_draws)?;
    let n_bins = (n_pairs / 20).clamp(5, 20);
    let report = |(quantity, ranks): (&Quantity, &Vec<u32>)| -> Result<QuantityReport, HostError> {
        let counts = uniform.counts(ranks)?;
        let (largest_deviation, p_value_ks) = uniform.largest_deviation(&counts);
        Ok(QuantityReport {
            quantity: quantity.clone(),
            p_value: uniform.band_p_value(&counts),
            p_adjusted: f64::NAN,
            largest_deviation,
            p_value_ks,
            mean_rank: ranks.iter().map(|r| f64::from(*r)).sum::<f64>() / (n_pairs * n_draws) as f64,
            departure: None,
            histogram: uniform.histogram(ranks, n_bins, BAND_LEVEL),
            cdf: counts.iter().map(|count| *count as f64 / n_pairs as f64).collect(),
        })
    };
    let mut reports: Vec<QuantityReport> =
        quantities.iter().zip(ranks).map(report).collect::<Result<_, _>>()?;
    let adjusted = holm(&reports.iter().map(|r| r.p_value).collect::<Vec<_>>());
    for ((report, p), ranks) in reports.iter_mut().zip(adjusted).zip(ranks) {
        report.p_adjusted = p;
        report.departure = (p < alpha).then(|| departure(&report.quantity, ranks, n_draws));
    }
    Ok(CalibrationReport {
        n_pairs,
        n_draws,
        alpha,
        passed: reports.iter().all(|r| r.departure.is_none()),
        quantities: reports,
        shares: uniform.shares(),
        band: uniform.band(BAND_LEVEL),
    })
}

/// Names what is wrong with ranks that are not uniform, by their mean and their spread, whichever is clearer.
fn departure(quantity: &Quantity, ranks: &[u32], n_draws: usize) -> Departure {
    let n = ranks.len() as f64;
    let shares = || ranks.iter().map(|r| (f64::from(*r) + 0.5) / (n_draws + 1) as f64 - 0.5);
    // Of a uniform number around zero: variance 1/12, and that of its square 1/180.
    let shift = shares().sum::<f64>() / n * (12.0 * n).sqrt();
    let spread = (shares().map(|u| u * u).sum::<f64>() / n - 1.0 / 12.0) * (180.0 * n).sqrt();
    let name = |value: f64, above, below| if value > 0.0 { above } else { below };
    match quantity {
        _ if shift.abs().max(spread.abs()) < CLEAR => Departure::Other,
        // The truth at a low density: regions hold it less often than they claim.
        Quantity::LogProb if shift.abs() > CLEAR => name(shift, Departure::TooWide, Departure::TooNarrow),
        Quantity::LogProb => Departure::Other,
        _ if spread.abs() > shift.abs() => name(spread, Departure::TooNarrow, Departure::TooWide),
        // More draws below the truth than there should be.
        Quantity::Parameter { .. } => name(shift, Departure::TooLow, Departure::TooHigh),
        Quantity::Distance => Departure::Other,
    }
}
