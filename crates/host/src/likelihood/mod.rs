//! Where log likelihoods come from: batches of theta in, log L out. A closure, a known target, a child process, a WGSL
//! function. Invariant: an evaluation that is handed out is finite or -inf; everything else is an error with its theta.

mod command;
mod known;
mod observed;
mod wgsl;

use crate::HostError;
use crate::prior::Marginal;
use lwflow_engine::Scanned;
use rayon::prelude::*;
use std::fmt::Debug;
use std::ops::ControlFlow;

pub use crate::command::{CommandSettings, Protocol, kill_commands};
pub use command::{CommandLikelihood, Observation};
pub use observed::ObservedClosure;
pub use wgsl::{WgslLikelihood, WgslParameter};

/// Log likelihoods of a batch of n points, in the order of the points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluations {
    /// log L, `[n]`, in nats: finite or -inf.
    pub log_likelihood: Vec<f64>,
    /// Derived quantities, `[n, M]`.
    pub derived: Vec<f64>,
}

/// A log likelihood that is evaluated in batches.
pub trait Likelihood: Debug + Send {
    /// Number of parameters D.
    fn dim(&self) -> usize;

    /// Names of the derived quantities that are returned with every log likelihood, `[M]`.
    fn derived_names(&self) -> &[String] {
        &[]
    }

    /// Fewest points that keep all of it busy: its workers.
    fn n_parallel(&self) -> usize {
        1
    }

    /// Appends the evaluations of `theta`, `[n, D]`, to `out`. Fewer of them, a prefix, are legal without an error only where
    /// the caller of the run has asked it to stop.
    ///
    /// # Errors
    /// [`HostError`] naming the theta in question. What was evaluated before the error has been appended, a prefix of the
    /// batch.
    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError>;

    /// log L of `theta`, `[n, D]`, again and in f64, by the most exact way there is; `None` if there is none but
    /// [`Likelihood::evaluate`] itself in f32.
    ///
    /// # Errors
    /// As [`Likelihood::evaluate`].
    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError>;

    /// Values X of one observation of [`Likelihood::evaluate_observed`]; `None` if the likelihood takes no observation.
    fn n_observed(&self) -> Option<usize> {
        None
    }

    /// Appends log L `[n]` of `theta`, `[n, D]`, to `out`, where row i is that of observation `observation[i]`, `[n]` below J, of
    /// `observations`, `[J, X]`. Values are finite or -inf.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for a likelihood that takes no observation; errors that name the array, row or index that does not
    /// fit; [`HostError::BadLogValue`] with theta for NaN and +inf. What was evaluated before that one has been appended.
    fn evaluate_observed(
        &mut self,
        theta: &[f64],
        observations: &[f64],
        observation: &[u32],
        out: &mut Vec<f64>,
    ) -> Result<(), HostError> {
        let _ = (theta, observations, observation, out);
        Err(own_observation())
    }

    /// A scan of the prior with independent `marginals`, `[D]`, over the Sobol sequence `key`, that draws, evaluates and sums
    /// where the likelihood runs; `None` if the likelihood has no such place, or not for these marginals.
    ///
    /// # Errors
    /// Any error of the device.
    fn prior_scan(
        &mut self,
        marginals: &[Marginal],
        key: u32,
    ) -> Result<Option<Box<dyn PriorScan>>, HostError> {
        let _ = (marginals, key);
        Ok(None)
    }
}

/// A scan of a prior, block by block. Its draws are never handed out; those worth keeping are told by their place.
pub trait PriorScan {
    /// Scans blocks `first..first + n` and keeps draws with log L above `threshold`. `go_on` hears how many draws are done and
    /// may stop; `None` if it did before the end.
    ///
    /// # Errors
    /// Those of the likelihood or the device. A log L that is not legal may come back in the result.
    fn blocks(
        &mut self,
        first: u32,
        n: u32,
        threshold: f64,
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Scanned>, HostError>;
}

/// A log likelihood from a closure over one theta, `[D]`, in f64; evaluated on all cores.
pub struct ClosureLikelihood<F> {
    dim: usize,
    log_likelihood: F,
}

impl<F: Fn(&[f64]) -> f64 + Send + Sync> ClosureLikelihood<F> {
    /// The log likelihood `log_likelihood` of `dim` parameters.
    ///
    /// ```
    /// use lwflow_host::likelihood::{ClosureLikelihood, Evaluations, Likelihood};
    /// let mut normal = ClosureLikelihood::new(1, |theta: &[f64]| -0.5 * theta[0] * theta[0]);
    /// let mut out = Evaluations::default();
    /// normal.evaluate(&[0.0, 2.0], &mut out)?;
    /// assert_eq!(out.log_likelihood, [0.0, -2.0]);
    /// # Ok::<(), lwflow_host::HostError>(())
    /// ```
    pub fn new(dim: usize, log_likelihood: F) -> Self {
        Self { dim, log_likelihood }
    }

    fn values(&self, theta: &[f64]) -> Result<Vec<f64>, HostError> {
        crate::error::n_rows("theta", theta.len(), self.dim)?;
        Ok(theta.par_chunks_exact(self.dim).with_min_len(256).map(|t| (self.log_likelihood)(t)).collect())
    }
}

impl<F> Debug for ClosureLikelihood<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClosureLikelihood").field("dim", &self.dim).finish_non_exhaustive()
    }
}

impl<F: Fn(&[f64]) -> f64 + Send + Sync> Likelihood for ClosureLikelihood<F> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        append_legal(&self.values(theta)?, theta, &mut out.log_likelihood)
    }

    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        self.values(theta).map(Some)
    }
}

/// A log likelihood from a closure over a batch of theta, `[n, D]`, in f64.
pub struct BatchLikelihood<F> {
    dim: usize,
    name: String,
    log_likelihood: F,
}

impl<F> BatchLikelihood<F>
where
    F: FnMut(&[f64]) -> Result<Vec<f64>, Box<dyn std::error::Error + Send + Sync>> + Send,
{
    /// The log likelihood `log_likelihood` of `dim` parameters, whose errors are told with its `name`. It gets theta `[n, D]`
    /// and returns log L `[n]`; fewer, a prefix, where it was asked to stop.
    ///
    /// ```
    /// use lwflow_host::likelihood::{BatchLikelihood, Evaluations, Likelihood};
    /// let square = |theta: &[f64]| Ok(theta.iter().map(|x| -0.5 * x * x).collect());
    /// let mut normal = BatchLikelihood::new(1, "normal", square);
    /// let mut out = Evaluations::default();
    /// normal.evaluate(&[0.0, 2.0], &mut out)?;
    /// assert_eq!(out.log_likelihood, [0.0, -2.0]);
    /// # Ok::<(), lwflow_host::HostError>(())
    /// ```
    pub fn new(dim: usize, name: impl Into<String>, log_likelihood: F) -> Self {
        Self { dim, name: name.into(), log_likelihood }
    }

    fn values(&mut self, theta: &[f64]) -> Result<Vec<f64>, HostError> {
        let n = crate::error::n_rows("theta", theta.len(), self.dim)?;
        let fail = |problem: String| HostError::Likelihood { source_name: self.name.clone(), problem };
        let values = (self.log_likelihood)(theta).map_err(|e| fail(e.to_string()))?;
        if values.len() > n {
            return Err(fail(format!("{} values for {n} theta", values.len())));
        }
        Ok(values)
    }
}

impl<F> Debug for BatchLikelihood<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("BatchLikelihood");
        shown.field("name", &self.name).field("dim", &self.dim).finish_non_exhaustive()
    }
}

impl<F> Likelihood for BatchLikelihood<F>
where
    F: FnMut(&[f64]) -> Result<Vec<f64>, Box<dyn std::error::Error + Send + Sync>> + Send,
{
    fn dim(&self) -> usize {
        self.dim
    }

    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        let values = self.values(theta)?;
        append_legal(&values, &theta[..values.len() * self.dim], &mut out.log_likelihood)
    }

    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        let values = self.values(theta)?;
        Ok((values.len() * self.dim == theta.len()).then_some(values))
    }
}

/// The error of a likelihood that takes no observation.
pub(crate) fn own_observation() -> HostError {
    let expected = "one that reads the observation: a function in WGSL that calls data(row, column), a command with data, or a \
                    closure over theta and x";
    HostError::invalid("the likelihood", "one that has its own observation", expected)
}

/// Appends the log likelihoods of `theta`, `[n, D]`, up to the first that is not legal.
///
/// # Errors
/// [`HostError::BadLogValue`] with the theta of that one.
fn append_legal(values: &[f64], theta: &[f64], out: &mut Vec<f64>) -> Result<(), HostError> {
    let n_legal = values.iter().position(|v| !is_legal(*v)).unwrap_or(values.len());
    out.extend_from_slice(&values[..n_legal]);
    crate::weights::check_log_values("log_likelihood", values, theta, true)
}

/// Whether a log likelihood may be handed out.
pub(crate) fn is_legal(log_likelihood: f64) -> bool {
    log_likelihood < f64::INFINITY
}
