//! What a round draws: points of a flow that trained nothing, and a share of the prior's, evaluated as far as the budget goes.
//! Invariant: draw i of a round depends on the seed, the round and i alone, so that more can be drawn at any time.

use super::pool::Drawn;
use super::report::{RoundsEvent, log_weights};
use super::run::Rounds;
use crate::HostError;
use crate::posterior::{Posterior, Samples};
use crate::prior::transform_rows;
use crate::rng::{CounterField, stream};
use rand::Rng;
use rayon::prelude::*;
use std::ops::ControlFlow;

/// The seed of all that is random in a round; those of different runs share nothing.
pub(super) fn round_seed(seed: u64, round: usize) -> u64 {
    stream(seed, "round", round as u64).next_u64()
}

/// log q of a draw at which no density can be had: its weight is zero, and the draw still counts.
const NO_DENSITY: f64 = 1e300;

/// Draws far out may overflow in 32 bits on their way through the layers: their log q is taken from the definition in 64.
fn settle_overflow(flow: &Posterior, samples: &mut Samples) -> Result<(), HostError> {
    let d = flow.dim();
    for i in 0..samples.log_prob.len() {
        if !samples.log_prob[i].is_finite() {
            let log_q = flow.log_prob_f64(&samples.theta[i * d..][..d])?[0];
            samples.log_prob[i] = if log_q.is_finite() { log_q } else { NO_DENSITY };
        }
    }
    Ok(())
}

/// Independent draws of one flow with their likelihoods, and the draws from the prior of the same round.
pub(super) struct Fresh {
    pub(super) samples: Samples,
    pub(super) log_likelihood: Vec<f64>,
    pub(super) log_prior: Vec<f64>,
    pub(super) derived: Vec<f64>,
    from_prior: Drawn,
}

impl Fresh {
    pub(super) fn n(&self) -> usize {
        self.log_likelihood.len()
    }

    pub(super) fn log_weights(&self, beta: f64) -> Vec<f64> {
        log_weights(&self.log_likelihood, &self.log_prior, &self.samples.log_prob, beta)
    }
}

impl Rounds<'_> {
    /// Draws of `flow` and of the prior, evaluated.
    pub(super) fn draw(
        &mut self,
        flow: &Posterior,
        round: usize,
        n_flow: usize,
        n_prior: usize,
        watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Fresh, HostError> {
        let d = self.prior.dim();
        let mut fresh = Fresh {
            samples: Samples { theta: Vec::new(), log_prob: Vec::new() },
            log_likelihood: Vec::new(),
            log_prior: Vec::new(),
            derived: Vec::new(),
            from_prior: Drawn { theta: Vec::new(), log_likelihood: Vec::new() },
        };
        self.draw_more(flow, round, &mut fresh, n_flow, watch)?;
        let field = CounterField::new(self.seed, "prior share", d);
        let mut u = vec![0.0; n_prior * d];
        field.fill_uniform((round as u64) << 32, &mut u);
        let mut theta = transform_rows(self.prior, &u);
        if self.stop().is_none() {
            let out = self.evaluate(round, &theta, watch)?;
            theta.truncate(out.log_likelihood.len() * d);
            fresh.from_prior = Drawn { theta, log_likelihood: out.log_likelihood };
        }
        Ok(fresh)
    }

    /// Appends `n_more` draws of `flow`.
    pub(super) fn draw_more(
        &mut self,
        flow: &Posterior,
        round: usize,
        fresh: &mut Fresh,
        n_more: usize,
        watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), HostError> {
        let (d, n) = (self.prior.dim(), fresh.n());
        let seed = round_seed(self.seed, round);
        let mut executor = self.engine.flow(flow.spec())?;
        let mut samples = flow.sample(&mut executor, n + n_more.min(self.left()), &[], seed)?;
        let log_prior: Vec<f64> =
            samples.theta[n * d..].par_chunks_exact(d).map(|t| self.prior.log_prior(t)).collect();
        let floor = self.pool.least_log_prior();
        let asked: Vec<usize> = (0..log_prior.len()).filter(|&i| log_prior[i] >= floor).collect();
        let theta: Vec<f64> =
            asked.iter().flat_map(|i| &samples.theta[(n + i) * d..][..d]).copied().collect();
        let out = self.evaluate(round, &theta, watch)?;
        // As far as the evaluations go; what was not asked for has no likelihood and unknown derived quantities.
        let n_more = asked.get(out.log_likelihood.len()).copied().unwrap_or(log_prior.len());
        let m = self.evaluator.n_derived();
        let (mut log_likelihood, mut derived) = (vec![f64::NEG_INFINITY; n_more], vec![f64::NAN; n_more * m]);
        for (k, &i) in asked.iter().take(out.log_likelihood.len()).enumerate() {
            log_likelihood[i] = out.log_likelihood[k];
            derived[i * m..][..m].copy_from_slice(&out.derived[k * m..][..m]);
        }
        let n = n + n_more;
        samples.theta.truncate(n * d);
        samples.log_prob.truncate(n);
        settle_overflow(flow, &mut samples)?;
        fresh.samples = samples;
        fresh.log_likelihood.extend(log_likelihood);
        fresh.derived.extend(derived);
        fresh.log_prior.extend(&log_prior[..n_more]);
        Ok(())
    }

    /// Adds what a round drew to the pool.
    pub(super) fn pool_round(&mut self, flow: &Posterior, fresh: &Fresh) -> Result<(), HostError> {
        let drawn = Drawn {
            theta: [&fresh.samples.theta[..], &fresh.from_prior.theta].concat(),
            log_likelihood: [&fresh.log_likelihood[..], &fresh.from_prior.log_likelihood].concat(),
        };
        let n_prior = fresh.from_prior.log_likelihood.len();
        self.pool.add(self.engine, self.prior, Some(flow), n_prior, drawn)
    }
}
