//! What a run keeps so that it survives: every evaluation, or what a deep scan leaves of it, within a second of being made,
//! and the flow of every round.
//! All else follows from these and the seed, so a run that is resumed reaches the same bits.

use super::deep::DeepScan;
use crate::HostError;
use crate::likelihood::Evaluations;
use crate::posterior::Posterior;

/// Where a run keeps what it must not lose.
pub trait Journal {
    /// Appends to `out` the evaluations of `theta`, `[n, D]`, that the journal holds from evaluation number `first` on.
    ///
    /// # Errors
    /// [`HostError`] if what it holds was evaluated elsewhere than at `theta`: it is another run's.
    fn recall(&mut self, first: usize, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError>;

    /// Keeps evaluations `first..` at `theta`, `[n, D]`: log L, `[n]`, derived quantities, `[n, M]`.
    ///
    /// # Errors
    /// [`HostError`] if they cannot be written.
    fn record(
        &mut self,
        first: usize,
        theta: &[f64],
        log_likelihood: &[f64],
        derived: &[f64],
    ) -> Result<(), HostError>;

    /// What the journal holds of the deep scan of the prior.
    ///
    /// # Errors
    /// [`HostError`] if it is damaged.
    fn deep_scan(&mut self) -> Result<Option<DeepScan>, HostError>;

    /// Keeps what there is of the deep scan, in place of what was kept before.
    ///
    /// # Errors
    /// [`HostError`] if it cannot be written.
    fn keep_deep_scan(&mut self, scan: &DeepScan) -> Result<(), HostError>;

    /// log L of the first draws of block `block` of the deep scan, if the journal was given them before the block was done.
    ///
    /// # Errors
    /// [`HostError`] if they cannot be read.
    fn deep_block(&mut self, block: u32) -> Result<Vec<f64>, HostError>;

    /// Keeps log L of draws `first..` of block `block` of the deep scan; those of other blocks may go.
    ///
    /// # Errors
    /// [`HostError`] if they cannot be written.
    fn keep_deep_block(&mut self, block: u32, first: usize, log_likelihood: &[f64]) -> Result<(), HostError>;

    /// The flow of round `round`, if the journal holds it.
    ///
    /// # Errors
    /// [`HostError`] if it is damaged.
    fn flow(&mut self, round: usize) -> Result<Option<Posterior>, HostError>;

    /// Keeps the flow of round `round`.
    ///
    /// # Errors
    /// [`HostError`] if it cannot be written.
    fn keep_flow(&mut self, round: usize, flow: &Posterior) -> Result<(), HostError>;
}

/// Keeps nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn recall(&mut self, _: usize, _: &[f64], _: &mut Evaluations) -> Result<(), HostError> {
        Ok(())
    }

    fn record(&mut self, _: usize, _: &[f64], _: &[f64], _: &[f64]) -> Result<(), HostError> {
        Ok(())
    }

    fn deep_scan(&mut self) -> Result<Option<DeepScan>, HostError> {
        Ok(None)
    }

    fn keep_deep_scan(&mut self, _: &DeepScan) -> Result<(), HostError> {
        Ok(())
    }

    fn deep_block(&mut self, _: u32) -> Result<Vec<f64>, HostError> {
        Ok(Vec::new())
    }

    fn keep_deep_block(&mut self, _: u32, _: usize, _: &[f64]) -> Result<(), HostError> {
        Ok(())
    }

    fn flow(&mut self, _: usize) -> Result<Option<Posterior>, HostError> {
        Ok(None)
    }

    fn keep_flow(&mut self, _: usize, _: &Posterior) -> Result<(), HostError> {
        Ok(())
    }
}
