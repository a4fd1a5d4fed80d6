//! The flow of a round: tempers what was evaluated, trains on it, and begins again more carefully where that does not stay
//! finite. Invariant: a flow that the journal holds is not trained again.

use super::draws::round_seed;
use super::policy;
use super::report::{RoundsEvent, StopCause};
use super::run::Rounds;
use crate::HostError;
use crate::fit::{FitSettings, refit};
use crate::posterior::Posterior;
use crate::weights::kish_ess;
use std::ops::ControlFlow;

/// A round's flow.
pub(super) struct Trained {
    /// The flow.
    pub posterior: Posterior,
    /// Power of the likelihood that it was trained for.
    pub beta: f64,
    /// Effective size of the points that it was trained on.
    pub pooled_ess: f64,
    /// Points visited in training.
    pub visits: usize,
}

impl Rounds<'_> {
    /// Trains on all points so far, from `previous` or anew, for the largest power of the likelihood that leaves `temper_ess`
    /// effective points.
    pub(super) fn train(
        &mut self,
        fit: &FitSettings,
        round: usize,
        previous: Option<&Posterior>,
        temper_ess: f64,
        watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Trained, HostError> {
        let log_proposal = self.pool.log_proposal();
        let beta = self.pool.temper(&log_proposal, 0.0, temper_ess);
        let supports = self.prior.supports();
        let input = self.pool.weighted(&self.names, &self.labels, &supports, log_proposal, beta);
        let pooled_ess = kish_ess(&input.log_weights);
        let mut settings = fit.clone();
        settings.training.max_visits = policy::visits(fit.training.max_visits, beta);
        if let Some(posterior) = self.evaluator.journal().flow(round)? {
            return Ok(Trained { posterior, beta, pooled_ess, visits: 0 });
        }
        // The mixture and the starts come first, and may take longer than a step.
        let max_visits = settings.training.max_visits;
        let begins = RoundsEvent::Training { round, beta, visits: 0, max_visits, validation_loss: None };
        if watch(begins).is_break() {
            self.stopped = Some(StopCause::Interrupted);
        }
        let mut attempt = 0;
        let (posterior, report) = loop {
            let stopped = &mut self.stopped;
            let result = refit(
                self.engine,
                &input,
                &settings,
                previous,
                self.seed,
                round_seed(self.seed, round),
                |visits, max_visits, validation_loss| {
                    let event = RoundsEvent::Training { round, beta, visits, max_visits, validation_loss };
                    if watch(event).is_break() {
                        *stopped = Some(StopCause::Interrupted);
                    }
                    if stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            );
            match result {
                Err(HostError::NonFinite { .. }) if attempt < policy::MAX_RETRIES => {
                    attempt += 1;
                    settings.training.learning_rate /= 3.0;
                }
                other => break other?,
            }
        };
        if watch(RoundsEvent::Trained { round, history: &report.history }).is_break() {
            self.stopped.get_or_insert(StopCause::Interrupted);
        }
        if self.stopped.is_none() {
            self.evaluator.journal().keep_flow(round, &posterior)?;
        }
        Ok(Trained { posterior, beta, pooled_ess, visits: report.visits })
    }
}
