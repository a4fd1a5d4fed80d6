//! Evaluates a likelihood in pieces that take a fraction of a second each, counts, and keeps to the budget.
//! Invariant: how the work is cut changes no result; an evaluation that the journal holds is not made again.

use super::journal::Journal;
use crate::HostError;
use crate::likelihood::{Evaluations, Likelihood};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// How long one piece should take.
pub(super) const PIECE: Duration = Duration::from_millis(250);
/// Largest piece.
const MAX_PIECE: usize = 65_536;

/// A likelihood with its count.
pub(super) struct Evaluator<'a> {
    pub(super) likelihood: &'a mut dyn Likelihood,
    pub(super) journal: &'a mut dyn Journal,
    pieces: Pieces,
    /// Evaluations so far, those of the journal and of the deep scan included.
    pub(super) n: usize,
    /// Of these, the ones that the journal holds one by one.
    logged: usize,
    /// Evaluations that were made by this process, and the seconds they took.
    pub(super) made: (usize, f64),
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(likelihood: &'a mut dyn Likelihood, journal: &'a mut dyn Journal) -> Self {
        let pieces = Pieces::new(likelihood);
        Self { likelihood, journal, pieces, n: 0, logged: 0, made: (0, 0.0) }
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
        let (d, m, logged) = (self.likelihood.dim(), self.n_derived(), self.logged);
        let mut out = Evaluations::default();
        self.journal.recall(logged, theta, &mut out)?;
        let mut keep = |kept: Range<usize>, out: &Evaluations| {
            self.journal.record(
                logged + kept.start,
                &theta[kept.start * d..kept.end * d],
                &out.log_likelihood[kept.clone()],
                &out.derived[kept.start * m..kept.end * m],
            )
        };
        let made = self.pieces.evaluate(&mut *self.likelihood, theta, &mut out, &mut keep, go_on)?;
        self.made = (self.made.0 + made.0, self.made.1 + made.1);
        let done = out.log_likelihood.len();
        self.n += done;
        self.logged += done;
        Ok(out)
    }
}

/// Pieces of work that take a fraction of a second each.
pub(super) struct Pieces(usize);

impl Pieces {
    pub(super) fn new(likelihood: &dyn Likelihood) -> Self {
        Self(likelihood.n_parallel())
    }

    /// Evaluates those of `theta`, `[n, D]`, that `out` does not have yet. `keep` gets the new rows of `out` after every piece,
    /// also after one that failed; then `go_on` hears how many are done, and may stop. Evaluations made, and their seconds.
    ///
    /// # Errors
    /// Those of the likelihood and of `keep`.
    pub(super) fn evaluate(
        &mut self,
        likelihood: &mut dyn Likelihood,
        theta: &[f64],
        out: &mut Evaluations,
        keep: &mut impl FnMut(Range<usize>, &Evaluations) -> Result<(), HostError>,
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(usize, f64), HostError> {
        let d = likelihood.dim();
        let n = theta.len() / d;
        let mut made = (0, 0.0);
        let mut done = out.log_likelihood.len();
        while done < n {
            let end = n.min(done + self.0);
            let start = Instant::now();
            let result = likelihood.evaluate(&theta[done * d..end * d], out);
            let took = start.elapsed();
            let got = out.log_likelihood.len() - done;
            keep(done..done + got, out)?;
            result?;
            made = (made.0 + got, made.1 + took.as_secs_f64());
            if took < PIECE / 2 {
                self.0 = (self.0 * 2).min(MAX_PIECE);
            } else if took > PIECE * 2 {
                self.0 = (self.0 / 2).max(likelihood.n_parallel());
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
        Ok(made)
    }
}
