//! Evaluates a likelihood in pieces that take a fraction of a second each, counts, and keeps to the budget.
//! Invariant: how the work is cut changes no result; an evaluation that the journal holds is not made again.

use super::journal::Journal;
use crate::HostError;
use crate::likelihood::{Evaluations, Likelihood};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How long one piece should take.
pub(super) const PIECE: Duration = Duration::from_millis(250);
/// Largest piece.
const MAX_PIECE: usize = 65_536;

/// A likelihood with its count.
pub(super) struct Evaluator<'a> {
    pub(super) likelihood: &'a mut dyn Likelihood,
    pub(super) journal: &'a mut dyn Journal,
    piece: usize,
    /// Evaluations so far, those of the journal and of the deep scan included.
    pub(super) n: usize,
    /// Of these, the ones that the journal holds one by one.
    logged: usize,
    /// Evaluations that were made by this process, and the seconds they took.
    pub(super) made: (usize, f64),
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(likelihood: &'a mut dyn Likelihood, journal: &'a mut dyn Journal) -> Self {
        let piece = likelihood.n_parallel();
        Self { likelihood, journal, piece, n: 0, logged: 0, made: (0, 0.0) }
    }

    /// Number of derived quantities.
    pub(super) fn n_derived(&self) -> usize {
        self.likelihood.derived_names().len()
    }

    /// Where runs are kept.
    pub(super) fn journal(&mut self) -> &mut dyn Journal {
        self.journal
    }

    /// The audit of the likelihood.
    ///
    /// # Errors
    /// Those of the likelihood.
    pub(super) fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        self.likelihood.audit(theta)
    }

    /// Evaluates `theta`, `[n, D]`; `go_on` hears how many are done after every piece, and may stop.
    ///
    /// # Errors
    /// Those of the likelihood and of the journal; what was evaluated before is in the journal.
    pub(super) fn evaluate(
        &mut self,
        theta: &[f64],
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Evaluations, HostError> {
        let (d, m) = (self.likelihood.dim(), self.n_derived());
        let n = theta.len() / d;
        let mut out = Evaluations::default();
        self.journal.recall(self.logged, theta, &mut out)?;
        let mut done = out.log_likelihood.len();
        while done < n {
            let end = n.min(done + self.piece);
            let start = Instant::now();
            let piece = &theta[done * d..end * d];
            let result = self.likelihood.evaluate(piece, &mut out);
            let took = start.elapsed();
            let got = out.log_likelihood.len() - done;
            let kept = done..done + got;
            self.journal.record(
                self.logged + done,
                &theta[kept.start * d..kept.end * d],
                &out.log_likelihood[kept.clone()],
                &out.derived[kept.start * m..kept.end * m],
            )?;
            result?;
            self.made.0 += got;
            self.made.1 += took.as_secs_f64();
            if took < PIECE / 2 {
                self.piece = (self.piece * 2).min(MAX_PIECE);
            } else if took > PIECE * 2 {
                self.piece = (self.piece / 2).max(self.likelihood.n_parallel());
            }
            done += got;
            if go_on(done).is_break() {
                break;
            }
            if done < end {
                return Err(HostError::Likelihood {
                    source_name: "log_likelihood".into(),
                    problem: format!("{got} values for {} theta, and no error", end - (done - got)),
                });
            }
        }
        self.n += done;
        self.logged += done;
        Ok(out)
    }
}
