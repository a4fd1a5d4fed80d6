//! The two sides of the split as the optimiser sees them, and the batches drawn from one of them.
//! Invariant: the expectation of a batch gradient is the gradient on the whole part.

use super::TrainingData;
use crate::rng::stream;
use rand::RngExt;

/// Weights below this share of the largest carry no information in f32 sums.
pub(super) const NEGLIGIBLE: f64 = 1e-12;

/// Indices and derived arrays of one side of the split.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) index: Vec<usize>,
    /// Weights, renormalised within the part.
    pub(super) weight: Vec<f64>,
    /// log of 1 / (n r_i), n the points of the part.
    pub(super) log_inv_proposal: Option<Vec<f64>>,
}

impl Part {
    /// The points `index`, each of which counts so often, or once.
    pub(super) fn new(data: &TrainingData, index: Vec<usize>, control: bool, counts: Option<&[f64]>) -> Self {
        let count = |i: usize| counts.map_or(1.0, |counts| counts[i]);
        let weights: Vec<f64> = index.iter().map(|&i| data.weights[i] * count(i)).collect();
        let total: f64 = weights.iter().sum();
        let n: f64 = index.iter().map(|&i| count(i)).sum();
        let log_inv_proposal = match (&data.log_proposal, control) {
            (Some(lr), true) => Some(index.iter().map(|&i| count(i).ln() - lr[i] - n.ln()).collect()),
            _ => None,
        };
        Self { weight: weights.into_iter().map(|w| w / total).collect(), index, log_inv_proposal }
    }

    pub(super) fn gather(&self, data: &TrainingData, dim: usize, picked: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let context_dim = data.context.len() / data.n.max(1);
        let mut x = Vec::with_capacity(picked.len() * dim);
        let mut context = Vec::with_capacity(picked.len() * context_dim);
        for &p in picked {
            let i = self.index[p];
            x.extend_from_slice(&data.x[i * dim..][..dim]);
            context.extend_from_slice(&data.context[i * context_dim..][..context_dim]);
        }
        (x, context)
    }
}

/// Draws batches with probabilities s_i = (1 - e) w_i + e / n by systematic resampling; a drawn point contributes
/// w_i / (B s_i), so that the batch gradient is an unbiased estimate of the full one and no work is spent on points
/// that can add nothing.
pub(super) struct Sampler {
    cumulative: Vec<f64>,
    pub(super) probability: Vec<f64>,
}

impl Sampler {
    pub(super) fn new(part: &Part, e: f64) -> Self {
        let n = part.weight.len() as f64;
        let max = part.weight.iter().copied().fold(0.0, f64::max);
        let probability: Vec<f64> = part
            .weight
            .iter()
            .map(|&w| (1.0 - e) * if w > NEGLIGIBLE * max { w } else { 0.0 } + e / n)
            .collect();
        let total: f64 = probability.iter().sum();
        let mut sum = 0.0;
        let probability: Vec<f64> = probability.iter().map(|p| p / total).collect();
        let cumulative = probability
            .iter()
            .map(|p| {
                sum += p;
                sum
            })
            .collect();
        Self { cumulative, probability }
    }

    pub(super) fn draw(&self, batch: usize, seed: u64, step: usize) -> Vec<usize> {
        let offset: f64 = stream(seed, "batch", step as u64).random();
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let mut i = 0;
        (0..batch)
            .map(|k| {
                let position = (k as f64 + offset) / batch as f64 * total;
                i += self.cumulative[i..].partition_point(|&c| c <= position);
                i = i.min(self.cumulative.len() - 1);
                i
            })
            .collect()
    }
}
