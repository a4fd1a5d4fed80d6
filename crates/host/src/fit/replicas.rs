//! Replicas of a fit: the same training on bootstrap weights, with layers and batches of other seeds, beside the fit itself.
//! How much their answers differ is the error that the number of points and the training leave in the fit's.
//! Invariant: the fit is what it is without them.

use super::start::{Effort, params_with};
use crate::HostError;
use crate::mixture::{GaussianMixture, MixtureFitSettings, refit_mixture};
use crate::rng::{open_uniform, stream};
use crate::train::{Member, TrainingData};
use lwflow_model::{Flow, FlowSpec};
use rand::RngExt;

/// EM steps on a replica's weights, from the mixture of the fit, which is near; training does the rest.
const EM_STEPS: usize = 10;

/// Bootstrap counts of the points, `[n]`, of mean one: those of the Bayesian bootstrap (Rubin 1981), independent standard
/// exponentials, one for each block of points that depend on each other, or for each point.
fn counts(data: &TrainingData, seed: u64, replica: usize) -> Vec<f64> {
    let mut rng = stream(seed, "bootstrap counts", replica as u64);
    let n_units = data
        .blocks
        .as_ref()
        .map_or(data.n, |blocks| blocks.iter().copied().max().map_or(0, |last| last as usize + 1));
    let units: Vec<f64> = (0..n_units).map(|_| -open_uniform(&mut rng).ln()).collect();
    let mut counts = match &data.blocks {
        Some(blocks) => blocks.iter().map(|&block| units[block as usize]).collect(),
        None => units,
    };
    let mean = counts.iter().sum::<f64>() / data.n as f64;
    counts.iter_mut().for_each(|count| *count /= mean);
    counts
}

/// What the base of a fit starts from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// A mixture that EM fitted: replicas fit it to their own weights, under layers of their own.
    Mixture(&'a GaussianMixture),
    /// Parameters without a mixture of their points: all start from them.
    Params(&'a [f32]),
    /// A standard normal, under layers of their own.
    Gaussian,
}

/// What replicas train from.
pub(super) struct Replicas<'a> {
    spec: &'a FlowSpec,
    counts: Vec<Vec<f64>>,
    seeds: Vec<u64>,
    params: Vec<Vec<f32>>,
    /// Whether they start from their own points.
    knows_points: bool,
}

impl<'a> Replicas<'a> {
    /// `n` replicas of a fit.
    ///
    /// # Errors
    /// Those of the specification and of EM.
    pub(super) fn new(
        n: usize,
        spec: &'a FlowSpec,
        start: Start<'_>,
        data: &TrainingData,
        seed: u64,
    ) -> Result<Self, HostError> {
        let knows_points = matches!(start, Start::Mixture(_));
        let (counts_of, seeds, params) = (Vec::new(), Vec::new(), Vec::new());
        let mut replicas = Self { spec, counts: counts_of, seeds, params, knows_points };
        let x: Vec<f64> = match start {
            Start::Mixture(_) if n > 0 => data.x.iter().map(|&v| f64::from(v)).collect(),
            _ => Vec::new(),
        };
        for k in 0..n {
            let counts = counts(data, seed, k);
            let seed = stream(seed, "replica", k as u64).random();
            let flow = Flow::<f32>::init(spec.clone(), seed)?;
            let params = match start {
                Start::Params(params) => params.to_vec(),
                Start::Gaussian => flow.params().to_vec(),
                Start::Mixture(mixture) => {
                    let weights: Vec<f64> = data.weights.iter().zip(&counts).map(|(w, c)| w * c).collect();
                    let em = MixtureFitSettings { covariance: mixture.covariance, ..Effort::Full.em() };
                    params_with(&flow, &refit_mixture(&x, &weights, mixture, &em, EM_STEPS)?)
                }
            };
            replicas.counts.push(counts);
            replicas.seeds.push(seed);
            replicas.params.push(params);
        }
        Ok(replicas)
    }

    /// Them as members of a group.
    pub(super) fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let each = self.seeds.iter().zip(self.counts.iter().zip(&self.params));
        each.map(|(&seed, (counts, params))| Member {
            spec: self.spec,
            params: params.clone(),
            counts: Some(counts),
            seed,
            keeps_start: self.knows_points,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_as_one_and_counts_have_mean_one() {
        let n = 4000;
        let weights = vec![1.0 / n as f64; n];
        let mut data = TrainingData { n, weights, ..TrainingData::default() };
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        for replica in 0..3 {
            let counts = counts(&data, 7, replica);
            let square: Vec<f64> = counts.iter().map(|c| (c - 1.0).powi(2)).collect();
            assert!((mean(&counts) - 1.0).abs() < 1e-12);
            // The variance of a standard exponential is one, and its own standard error here 2.8 / 63.
            assert!((mean(&square) - 1.0).abs() < 0.2, "{}", mean(&square));
        }
        assert_ne!(counts(&data, 7, 0), counts(&data, 7, 1));
        assert_eq!(counts(&data, 7, 0), counts(&data, 7, 0));
        data.blocks = Some((0..n as u32).map(|i| i / 100).collect());
        let counts = counts(&data, 7, 0);
        assert!(counts.chunks(100).all(|block| block.iter().all(|c| *c == block[0])));
        assert!(counts[0] != counts[100]);
    }
}
