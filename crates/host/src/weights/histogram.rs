//! Log weights in equal bins, with the tail that was fitted to the largest. A figure is drawn from it without the weights.

use super::{Tail, log_sum_exp, psis_tail};
use crate::HostError;
use serde::{Deserialize, Serialize};

/// Bins.
const N_BINS: usize = 80;
/// Nats below the largest log weight at which the bins end: what is lighter weighs nothing.
const DEPTH: f64 = 25.0;

/// Counts of log weights, in nats above the logarithm of the mean weight: a draw at 0 weighs one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightHistogram {
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last one ends: the largest log weight.
    pub high: f64,
    /// Draws in each bin.
    pub counts: Vec<usize>,
    /// Draws in all.
    pub n: usize,
    /// Draws of weight zero.
    pub n_zero: usize,
    /// Draws of positive weight below the first bin.
    pub n_below: usize,
    /// Largest normalised weight.
    pub largest_share: f64,
    /// The generalised Pareto distribution of the largest weights; `None` if none could be fitted.
    pub tail: Option<Tail>,
    /// Draws that the tail was fitted to.
    pub n_tail: usize,
}

impl WeightHistogram {
    /// Counts log weights `[n]`; `None` if all are -inf.
    ///
    /// # Errors
    /// [`HostError::BadLogValue`] for NaN or +inf.
    pub fn new(log_weights: &[f64]) -> Result<Option<Self>, HostError> {
        let (k_hat, tail) = psis_tail(log_weights)?;
        let n = log_weights.len();
        let log_mean = log_sum_exp(log_weights) - (n as f64).ln();
        if log_mean == f64::NEG_INFINITY {
            return Ok(None);
        }
        let positive = || log_weights.iter().filter(|lw| **lw > f64::NEG_INFINITY).map(|lw| lw - log_mean);
        let (least, high) =
            positive().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        // Equal weights have one bin's width all the same.
        let low = least.max(high - DEPTH).min(high - 1e-3);
        let mut counts = vec![0; N_BINS];
        let mut n_below = 0;
        for x in positive() {
            let place = (x - low) / (high - low) * N_BINS as f64;
            if place < 0.0 {
                n_below += 1;
            } else {
                counts[(place as usize).min(N_BINS - 1)] += 1;
            }
        }
        let tail = tail.map(|tail| Tail {
            log_cutoff: tail.log_cutoff - log_mean,
            log_unit: tail.log_unit - log_mean,
            ..tail
        });
        Ok(Some(Self {
            low,
            high,
            counts,
            n,
            n_zero: n - positive().count(),
            n_below,
            largest_share: (high - (n as f64).ln()).exp(),
            tail,
            n_tail: k_hat.n_tail,
        }))
    }

    /// Where bin `k` begins; `k` may be the number of bins.
    pub fn edge(&self, k: usize) -> f64 {
        self.low + (self.high - self.low) * k as f64 / self.counts.len() as f64
    }

    /// Draws that the fitted tail lets expect between two log weights above its cut-off; `None` without a fit.
    pub fn expected(&self, from: f64, to: f64) -> Option<f64> {
        let tail = self.tail?;
        Some(self.n_tail as f64 * (tail.survival(from) - tail.survival(to)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterField;

    #[test]
    fn counts_and_tail_agree_for_pareto_weights() {
        let mut u = vec![0.0; 40_000];
        CounterField::new(2, "histogram", 1).fill_uniform(0, &mut u);
        let mut lw: Vec<f64> = u.iter().map(|u| 300.0 - 0.4 * u.ln()).collect();
        lw.push(f64::NEG_INFINITY);
        let histogram = WeightHistogram::new(&lw).unwrap().unwrap();
        assert_eq!((histogram.n, histogram.n_zero), (40_001, 1));
        assert_eq!(histogram.counts.iter().sum::<usize>() + histogram.n_below, 40_000);
        // The mean of Pareto weights of shape 0.4 over 1 is 1 / (1 - 0.4).
        assert!((histogram.low - 0.6f64.ln()).abs() < 0.02, "{}", histogram.low);
        let above = histogram.tail.unwrap().log_cutoff;
        let from = (0..80).find(|k| histogram.edge(*k) > above).unwrap();
        let counted: usize = histogram.counts[from..].iter().sum();
        let expected = histogram.expected(histogram.edge(from), f64::INFINITY).unwrap();
        assert!((expected / counted as f64 - 1.0).abs() < 0.1, "{expected} {counted}");
        let json = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<WeightHistogram>(&json).unwrap(), histogram);
    }

    #[test]
    fn equal_and_absent_weights_are_no_error() {
        let equal = WeightHistogram::new(&[-7.0; 500]).unwrap().unwrap();
        assert_eq!((equal.counts.iter().sum::<usize>(), equal.tail), (500, None));
        assert!((equal.largest_share - 0.002).abs() < 1e-12);
        assert_eq!(WeightHistogram::new(&[f64::NEG_INFINITY; 5]).unwrap(), None);
        assert!(WeightHistogram::new(&[f64::NAN; 5]).is_err());
    }
}
