//! Weighted points as the mixture fit sees them: checked, pruned and normalised.
//! Pruning drops the lightest points as long as they hold less than 1e-10 of the weight together, so every weighted
//! average of a function of magnitude one changes by less than 1e-9; of likelihood weights most points go.

use super::{ROWS_PER_TASK, check_finite};
use crate::error::{HostError, check_length, n_rows};
use crate::rng::{open_uniform, stream};
use rayon::prelude::*;

/// Largest share of the weight that pruning may drop.
pub(crate) const PRUNED_SHARE: f64 = 1e-10;

/// Points with weights above zero that sum to 1.
#[derive(Clone, Debug)]
pub(crate) struct WeightedPoints {
    pub dim: usize,
    /// `[n, dim]`
    pub points: Vec<f64>,
    /// `[n]`
    pub weights: Vec<f64>,
    /// Kish's effective sample size of all weights given.
    pub ess: f64,
    /// Share of the weight that was dropped.
    pub pruned_share: f64,
}

impl WeightedPoints {
    /// Checks and prunes `points`, `[n, dim]`, with non-negative `weights`, `[n]`, of any positive sum.
    pub(crate) fn new(points: &[f64], weights: &[f64], dim: usize) -> Result<Self, HostError> {
        let n = n_rows("points", points.len(), dim)?;
        check_length("weights", weights.len(), n, "one per point")?;
        check_finite("points", points, dim)?;
        if let Some(row) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
            let expected = "a finite number of at least 0";
            return Err(HostError::BadValue {
                what: "weights",
                row,
                column: 0,
                value: weights[row],
                expected,
            });
        }
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return Err(HostError::AllWeightsZero { what: "weights", n });
        }
        let square: f64 = weights.iter().map(|w| (w / total).powi(2)).sum();
        let mut order: Vec<u32> = (0..n as u32).filter(|i| weights[*i as usize] > 0.0).collect();
        order.sort_unstable_by(|a, b| weights[*a as usize].total_cmp(&weights[*b as usize]).then(a.cmp(b)));
        let (mut dropped, mut n_dropped) = (0.0, 0);
        for i in &order {
            let next = dropped + weights[*i as usize] / total;
            if next > PRUNED_SHARE {
                break;
            }
            dropped = next;
            n_dropped += 1;
        }
        let mut kept = order.split_off(n_dropped);
        kept.sort_unstable();
        let scale = 1.0 / kept.iter().map(|i| weights[*i as usize]).sum::<f64>();
        Ok(Self {
            dim,
            points: kept.iter().flat_map(|i| points[*i as usize * dim..][..dim].iter().copied()).collect(),
            weights: kept.iter().map(|i| weights[*i as usize] * scale).collect(),
            ess: 1.0 / square,
            pruned_share: dropped,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    /// Weighted mean, `[D]`, and covariance, `[D, D]`.
    pub(crate) fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let dim = self.dim;
        let rows = || self.points.chunks(dim).zip(&self.weights);
        let mut mean = vec![0.0; dim];
        for (x, w) in rows() {
            mean.iter_mut().zip(x).for_each(|(m, x)| *m += w * x);
        }
        let mut covariance = vec![0.0; dim * dim];
        for (x, w) in rows() {
            for i in 0..dim {
                for j in 0..=i {
                    covariance[i * dim + j] += w * (x[i] - mean[i]) * (x[j] - mean[j]);
                }
            }
        }
        for i in 0..dim {
            for j in 0..i {
                covariance[j * dim + i] = covariance[i * dim + j];
            }
        }
        (mean, covariance)
    }

    /// Number of distinct points, counted no further than `limit`.
    pub(crate) fn n_distinct(&self, limit: usize) -> usize {
        let mut seen: Vec<&[f64]> = Vec::new();
        for x in self.points.chunks(self.dim) {
            if seen.len() >= limit {
                break;
            }
            if !seen.contains(&x) {
                seen.push(x);
            }
        }
        seen.len()
    }

    /// At most `n` points drawn by systematic resampling, with their counts as weights; all points if there are fewer.
    pub(crate) fn subsample(&self, n: usize, seed: u64) -> Self {
        if self.len() <= n {
            return self.clone();
        }
        let offset = open_uniform(&mut stream(seed, "mixture/subsample", 0));
        let (mut points, mut weights) = (Vec::new(), Vec::new());
        let (mut cumulative, mut taken) = (0.0, 0usize);
        for (x, w) in self.points.chunks(self.dim).zip(&self.weights) {
            cumulative += w * n as f64;
            let count = (((cumulative - offset).ceil().max(0.0) as usize).min(n)).saturating_sub(taken);
            if count > 0 {
                taken += count;
                points.extend_from_slice(x);
                weights.push(count as f64);
            }
        }
        weights.iter_mut().for_each(|w| *w /= taken as f64);
        Self { dim: self.dim, points, weights, ess: self.ess.min(n as f64), pruned_share: self.pruned_share }
    }

    /// Sums of `f(rows, weights, &mut sums)` over fixed tasks, added in task order: the same bits on any thread count.
    pub(crate) fn sum_over_tasks<F>(&self, n_sums: usize, f: F) -> Vec<f64>
    where
        F: Fn(&[f64], &[f64], &mut [f64]) + Sync,
    {
        let tasks: Vec<Vec<f64>> = self
            .points
            .par_chunks(ROWS_PER_TASK * self.dim)
            .zip(self.weights.par_chunks(ROWS_PER_TASK))
            .map(|(rows, weights)| {
                let mut sums = vec![0.0; n_sums];
                f(rows, weights, &mut sums);
                sums
            })
            .collect();
        let mut total = vec![0.0; n_sums];
        for sums in &tasks {
            total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        }
        total
    }
}
