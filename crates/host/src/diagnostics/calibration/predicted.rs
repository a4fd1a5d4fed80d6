//! Histograms of predictions, for figures. Invariant: the bins hold the predictions between two quantiles far out, so that a few
//! extreme ones do not squeeze the rest into one bin.

use super::BAND_LEVEL;
use serde::{Deserialize, Serialize};

/// Most bins.
const N_BINS: usize = 30;
/// Share of the predictions that may lie beyond the bins on each side.
const BEYOND: f64 = 0.005;

/// What is predicted for one value, beside what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictedHistogram {
    /// Number of the value, from 0; `None` for the Mahalanobis distance of all values together.
    pub value: Option<usize>,
    /// The observed value, or the observation's distance.
    pub observed: f64,
    /// Where the first bin begins.
    pub low: f64,
    /// How wide a bin is; of whole numbers a whole number.
    pub width: f64,
    /// Predictions in every bin.
    pub counts: Vec<usize>,
    /// The interval of [`BAND_LEVEL`] that p-values are about: the central one, of distances from 0 on.
    pub central: (f64, f64),
}

/// Of value `j`, from its predictions.
pub(super) fn histogram_of_value(j: usize, observed: f64, mut predicted: Vec<f64>) -> PredictedHistogram {
    predicted.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - BAND_LEVEL);
    let central = (quantile(&predicted, tail), quantile(&predicted, 1.0 - tail));
    let low = quantile(&predicted, BEYOND);
    histogram(Some(j), observed, &predicted, low, central)
}

/// Of the Mahalanobis distance, from those of the predictions.
pub(super) fn histogram_of_distances(observed: f64, mut predicted: Vec<f64>) -> PredictedHistogram {
    predicted.sort_by(f64::total_cmp);
    let central = (0.0, quantile(&predicted, BAND_LEVEL));
    histogram(None, observed, &predicted, 0.0, central)
}

/// The quantile of ascending values.
pub(in crate::diagnostics) fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((share * sorted.len() as f64) as usize).min(sorted.len() - 1)]
}

fn histogram(
    value: Option<usize>,
    observed: f64,
    predicted: &[f64],
    low: f64,
    central: (f64, f64),
) -> PredictedHistogram {
    let high = quantile(predicted, 1.0 - BEYOND);
    let whole = value.is_some() && predicted.iter().all(|x| x.fract() == 0.0);
    // Whole numbers stand in the middle of their bins.
    let (low, extent) = if whole { (low - 0.5, high - low + 1.0) } else { (low, high - low) };
    let (width, n_bins) = match (extent > 0.0, whole) {
        (false, _) => (1.0, 1),
        (true, true) => {
            let width = (extent / N_BINS as f64).ceil();
            (width, (extent / width).ceil() as usize)
        }
        (true, false) => (extent / N_BINS as f64, N_BINS),
    };
    let low = if extent > 0.0 { low } else { low - 0.5 };
    let mut counts = vec![0; n_bins];
    for x in predicted.iter().filter(|x| **x >= low) {
        // The largest value of all belongs to the last bin.
        let at = if *x == high { n_bins - 1 } else { ((x - low) / width) as usize };
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
    }
    PredictedHistogram { value, observed, low, width, counts, central }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_all_but_the_tails_and_whole_numbers_stand_in_their_middle() {
        let even: Vec<f64> = (0..2000).rev().map(|i| f64::from(i) / 2000.0).collect();
        let found = histogram_of_value(3, 7.0, even);
        assert_eq!((found.value, found.observed, found.counts.len()), (Some(3), 7.0, N_BINS));
        let inside: usize = found.counts.iter().sum();
        assert!((1978..=1982).contains(&inside), "{inside}");
        let (least, most) = (found.counts.iter().min().unwrap(), found.counts.iter().max().unwrap());
        assert!(*least >= 65 && *most <= 67, "{:?}", found.counts);
        assert!((found.central.0 - 0.025).abs() < 1e-3 && (found.central.1 - 0.975).abs() < 1e-3);

        let dice: Vec<f64> = (0..600).map(|i| f64::from(i % 6 + 1)).collect();
        let found = histogram_of_value(0, 2.0, dice);
        assert_eq!((found.low, found.width, &found.counts[..]), (0.5, 1.0, &[100; 6][..]));
        let wide: Vec<f64> = (0..6000).map(f64::from).collect();
        let found = histogram_of_value(0, 2.0, wide);
        assert!(found.width.fract() == 0.0 && found.counts.len() <= N_BINS, "{found:?}");
        // A value that never varies, and one that is far out.
        let found = histogram_of_value(0, 2.0, vec![2.0; 50]);
        assert_eq!((found.low, found.width, &found.counts[..]), (1.5, 1.0, &[50][..]));
        let found = histogram_of_value(0, 0.0, vec![0.25; 50]);
        assert_eq!((found.low, found.width, &found.counts[..]), (-0.25, 1.0, &[50][..]));
        let mut far: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        far.push(1e300);
        assert!(histogram_of_value(0, 0.5, far).width < 0.1);
        let found = histogram_of_distances(3.0, (0..100).map(|i| f64::from(i) / 100.0).collect());
        assert_eq!((found.value, found.low, found.central), (None, 0.0, (0.0, 0.95)));
    }
}
