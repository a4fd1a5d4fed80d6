//! All evaluated points of a run with the density they were really drawn from: the balance heuristic over everything
//! that drew (Veach and Guibas 1995; deterministic-mixture weights of adaptive multiple importance sampling, Cornuet et al.
//! 2012). Invariant: the mixture of a point counts every draw of the run, those that came after it included.

use super::report::EvaluatedPoints;
use crate::HostError;
use crate::fit::FitInput;
use crate::outer::Support;
use crate::posterior::Posterior;
use crate::prior::Prior;
use crate::rng::CounterField;
use crate::weights::{kish_ess, log_add, log_sum_exp, normalised_weights, thinned};
use lwflow_engine::Engine;
use rayon::prelude::*;

/// See [`Pool::least_log_prior`], nats.
const HOPELESS: f64 = 1000.0;

/// A flow that drew points.
#[derive(Debug)]
struct Proposal {
    flow: Posterior,
    log_n: f64,
}

/// Evaluated points, in the order of their evaluation.
#[derive(Debug)]
pub(super) struct Pool {
    dim: usize,
    /// `[n, D]`.
    pub(super) theta: Vec<f64>,
    /// `[n]`.
    pub(super) log_likelihood: Vec<f64>,
    /// `[n]`.
    pub(super) log_prior: Vec<f64>,
    /// log of sum_j n_j q_j over the flows that drew, `[n]`.
    log_flows: Vec<f64>,
    n_prior: usize,
    /// Draws of the deep scan, and the log L above which they are in the pool.
    deep: (usize, f64),
    proposals: Vec<Proposal>,
}

/// Points that have just been evaluated.
pub(super) struct Drawn {
    /// `[n, D]`.
    pub(super) theta: Vec<f64>,
    /// `[n]`.
    pub(super) log_likelihood: Vec<f64>,
}

/// What all points together say of the posterior.
pub(super) struct Worth {
    /// Effective size.
    pub(super) ess: f64,
    /// log Z and its standard error, which counts the points as independent.
    pub(super) log_z: f64,
    pub(super) log_z_sd: f64,
}

impl Pool {
    pub(super) fn new(dim: usize) -> Self {
        Self {
            dim,
            theta: Vec::new(),
            log_likelihood: Vec::new(),
            log_prior: Vec::new(),
            log_flows: Vec::new(),
            n_prior: 0,
            deep: (0, f64::NEG_INFINITY),
            proposals: Vec::new(),
        }
    }

    /// Number of points.
    pub(super) fn n(&self) -> usize {
        self.log_likelihood.len()
    }

    /// Draws from the prior, each of which is among them.
    pub(super) fn n_prior(&self) -> usize {
        self.n_prior
    }

    /// Least log prior of a draw that is worth an evaluation: below it, its likelihood would have to be e^1000 times the
    /// largest one seen to weigh as much as the best point. Wide tails under a logarithm reach numbers, like 1e-300, at which
    /// no likelihood should be asked.
    pub(super) fn least_log_prior(&self) -> f64 {
        let finite = |i: &usize| self.log_likelihood[*i] > f64::NEG_INFINITY;
        let (mut largest, mut best) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for i in (0..self.n()).filter(finite) {
            largest = largest.max(self.log_likelihood[i]);
            best = best.max(self.log_likelihood[i] + self.log_prior[i]);
        }
        if largest > f64::NEG_INFINITY { best - largest - HOPELESS } else { f64::NEG_INFINITY }
    }

    /// Adds points of which the last `n_prior` were drawn from the prior and the rest from `flow`.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn add(
        &mut self,
        engine: &Engine,
        prior: &dyn Prior,
        flow: Option<&Posterior>,
        n_prior: usize,
        drawn: Drawn,
    ) -> Result<(), HostError> {
        let n_old = self.n();
        let n_new = drawn.log_likelihood.len();
        let log_prior: Vec<f64> =
            drawn.theta.par_chunks_exact(self.dim).with_min_len(512).map(|t| prior.log_prior(t)).collect();
        self.theta.extend_from_slice(&drawn.theta);
        self.log_likelihood.extend(drawn.log_likelihood);
        self.log_prior.extend(log_prior);
        self.log_flows.resize(n_old + n_new, f64::NEG_INFINITY);
        self.n_prior += n_prior;
        let new = n_old * self.dim..;
        for Proposal { flow, log_n } in &self.proposals {
            let log_q = log_prob(engine, flow, &self.theta[new.clone()])?;
            add_density(&mut self.log_flows[n_old..], &log_q, *log_n);
        }
        let n_flow = n_new - n_prior;
        if let Some(flow) = flow.filter(|_| n_flow > 0) {
            let log_n = (n_flow as f64).ln();
            let log_q = log_prob(engine, flow, &self.theta)?;
            add_density(&mut self.log_flows, &log_q, log_n);
            self.proposals.push(Proposal { flow: flow.clone(), log_n });
        }
        Ok(())
    }

    /// Adds those of `n_deep` draws from the prior whose log L is above `threshold`; once in a run, before any flow.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn add_deep(
        &mut self,
        engine: &Engine,
        prior: &dyn Prior,
        n_deep: usize,
        threshold: f64,
        kept: Drawn,
    ) -> Result<(), HostError> {
        self.deep = (n_deep, threshold);
        self.add(engine, prior, None, 0, kept)
    }

    /// Draws of the deep scan that would be in the pool if log L were `log_likelihood` at them: all or none.
    fn n_deep_at(&self, log_likelihood: f64) -> usize {
        let (n_deep, threshold) = self.deep;
        if log_likelihood > threshold { n_deep } else { 0 }
    }

    /// Log weights of the first `n` points, those of the scan, towards the posterior by the scan alone, which put the first
    /// `n_whole` of them there one by one.
    pub(super) fn scan_log_weights(&self, n_whole: usize, n: usize) -> Vec<f64> {
        let n_prior = |log_l: f64| (n_whole + self.n_deep_at(log_l)) as f64;
        self.log_likelihood[..n].iter().map(|log_l| log_l - n_prior(*log_l).ln()).collect()
    }

    /// log of the density that point i was drawn from, times the share of all draws that the pool holds: the sum of all
    /// proposals, each times its draws, over the points of the pool. A mean over them is an integral.
    pub(super) fn log_proposal(&self) -> Vec<f64> {
        let log_n = (self.n() as f64).ln();
        let log_prior = |i: usize| {
            ((self.n_prior + self.n_deep_at(self.log_likelihood[i])) as f64).ln() + self.log_prior[i]
        };
        (0..self.n()).map(|i| log_add(self.log_flows[i], log_prior(i)) - log_n).collect()
    }

    /// Log weights towards prior times likelihood^beta.
    pub(super) fn log_weights(&self, log_proposal: &[f64], beta: f64) -> Vec<f64> {
        (0..self.n())
            .map(|i| {
                let log_l = self.log_likelihood[i];
                if log_l == f64::NEG_INFINITY {
                    return log_l;
                }
                beta * log_l + self.log_prior[i] - log_proposal[i]
            })
            .collect()
    }

    /// See [`Worth`].
    pub(super) fn worth(&self) -> Worth {
        let log_weights = self.log_weights(&self.log_proposal(), 1.0);
        let (n, ess) = (log_weights.len() as f64, kish_ess(&log_weights));
        let log_z_sd = ((n / ess - 1.0).max(0.0) / n).sqrt();
        Worth { ess, log_z: log_sum_exp(&log_weights) - n.ln(), log_z_sd }
    }

    /// The largest beta in (`from`, 1] whose effective sample size reaches `target_ess`; `from` if none does.
    pub(super) fn temper(&self, log_proposal: &[f64], from: f64, target_ess: f64) -> f64 {
        let ess = |beta: f64| kish_ess(&self.log_weights(log_proposal, beta));
        if ess(1.0) >= target_ess {
            return 1.0;
        }
        let (mut low, mut high) = (from, 1.0);
        // On the scale of the logarithm first: beta may begin at a millionth.
        for _ in 0..60 {
            let middle = if low > 0.0 && high / low > 2.0 {
                (low * high).sqrt()
            } else if low > 0.0 || high < 1e-12 {
                0.5 * (low + high)
            } else {
                high / 16.0
            };
            if ess(middle) >= target_ess {
                low = middle
            } else {
                high = middle
            }
            if high - low <= 1e-3 * high && low > 0.0 {
                break;
            }
        }
        low
    }

    /// At most `n` points, by systematic resampling with the weights towards the posterior; none if no point carries any.
    pub(super) fn thinned(&self, n: usize, seed: u64) -> EvaluatedPoints {
        let log_weights = self.log_weights(&self.log_proposal(), 1.0);
        let Ok(weights) = normalised_weights(&log_weights, &[]) else { return EvaluatedPoints::default() };
        let offset = CounterField::new(seed, "thin points", 1).uniform(0, 0);
        let mut points = EvaluatedPoints::default();
        for (i, weight) in thinned(&weights, n, offset) {
            points.theta.extend_from_slice(&self.theta[i * self.dim..][..self.dim]);
            points.weights.push(weight);
            points.log_likelihood.push(self.log_likelihood[i]);
            points.log_prior.push(self.log_prior[i]);
        }
        points
    }

    /// The points as weighted pairs towards prior times likelihood^beta.
    pub(super) fn weighted(
        &self,
        names: &[String],
        labels: &[String],
        supports: &[Support],
        log_proposal: Vec<f64>,
        beta: f64,
    ) -> FitInput {
        FitInput {
            names: names.to_vec(),
            labels: labels.to_vec(),
            supports: supports.to_vec(),
            theta: self.theta.clone(),
            context: Vec::new(),
            log_weights: self.log_weights(&log_proposal, beta),
            log_proposal: Some(log_proposal),
            blocks: None,
            effective: None,
        }
    }
}

fn log_prob(engine: &Engine, flow: &Posterior, theta: &[f64]) -> Result<Vec<f64>, HostError> {
    flow.log_prob(&mut engine.flow(flow.spec())?, theta, &[])
}

/// sums = log(e^sums + n q).
fn add_density(sums: &mut [f64], log_q: &[f64], log_n: f64) {
    for (sum, q) in sums.iter_mut().zip(log_q) {
        *sum = log_add(*sum, log_n + q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_hopeless_only_far_below_the_best_point() {
        let mut pool = Pool::new(1);
        assert_eq!(pool.least_log_prior(), f64::NEG_INFINITY);
        pool.log_likelihood = vec![f64::NEG_INFINITY];
        pool.log_prior = vec![-1.0];
        assert_eq!(pool.least_log_prior(), f64::NEG_INFINITY);
        // The best point lies far out in the prior: it moves the limit with it.
        pool.log_likelihood.extend([-5000.0, -10.0]);
        pool.log_prior.extend([-2.0, -4000.0]);
        assert_eq!(pool.least_log_prior(), -5000.0);
    }
}
