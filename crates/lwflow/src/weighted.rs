//! From weighted points to a density. Invariant: with weights of an unknown common factor there is no evidence.

use crate::options::{Options, option_methods};
use crate::{Error, Posterior};
use lwflow_host::HostError;
use lwflow_host::fit::{FitInput, FitProgress, FitReport, FitSettings, fit_with_replicas};
use lwflow_host::outer::Support;
use lwflow_host::train::StopReason;
use lwflow_host::weights::logs;
use std::fmt;
use std::ops::ControlFlow;

/// The weights as they were given.
#[derive(Debug)]
enum Weights {
    Plain(Vec<f64>),
    Log(Vec<f64>),
}

/// A fit of a flow to weighted points, such as the chain of another sampler.
pub struct WeightedFit<'a> {
    theta: Vec<f64>,
    weights: Weights,
    context: Option<Vec<f64>>,
    supports: Option<Vec<Support>>,
    effective: Option<f64>,
    replicas: usize,
    watch: Option<Box<dyn FnMut(FitProgress) -> ControlFlow<()> + 'a>>,
    options: Options,
}

impl fmt::Debug for WeightedFit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightedFit").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> WeightedFit<'a> {
    /// Points `theta`, `[n, D]`, with `weights`, `[n]`: finite and not negative. D follows from the two lengths.
    pub fn new(theta: Vec<f64>, weights: &[f64]) -> Self {
        Self::of(theta, Weights::Plain(weights.to_vec()))
    }

    /// Points `theta`, `[n, D]`, with log weights, `[n]`: finite or -inf.
    pub fn log_weighted(theta: Vec<f64>, log_weights: Vec<f64>) -> Self {
        Self::of(theta, Weights::Log(log_weights))
    }

    fn of(theta: Vec<f64>, weights: Weights) -> Self {
        let options = Options::default();
        let (context, supports, effective, watch) = (None, None, None, None);
        Self { theta, weights, context, supports, effective, replicas: 0, watch, options }
    }

    /// An observation for every point, `[n, C]`: the fit gives a conditional posterior, which is a density for any observation. Of
    /// joint draws of a prior and a simulator all weights are one (neural posterior estimation). This sets what suits such a flow
    /// ([`FitSettings::conditional`](lwflow_host::fit::FitSettings::conditional)); what `fit` changes after it, holds.
    #[must_use]
    pub fn context(mut self, context: Vec<f64>) -> Self {
        self.context = Some(context);
        self.options.fit = FitSettings::conditional();
        self
    }

    /// Supports of the parameters, `[D]`; the real line without. No draw lies on or outside a bound.
    #[must_use]
    pub fn supports(mut self, supports: Vec<Support>) -> Self {
        self.supports = Some(supports);
        self
    }

    /// What the points are worth where it is less than their weights show: a Markov chain with its autocorrelation.
    #[must_use]
    pub fn effective_size(mut self, n: f64) -> Self {
        self.effective = Some(n);
        self
    }

    /// Trains so many replicas beside the fit, on bootstrap weights and with other seeds: the spread of what they answer is the
    /// error of the fit ([`WeightedOutcome::replicas`], [`error_bars`](lwflow_host::diagnostics::error_bars)).
    #[must_use]
    pub fn replicas(mut self, n: usize) -> Self {
        self.replicas = n;
        self
    }

    /// Calls `watch` several times a second; once it breaks, the fit ends at its next step.
    #[must_use]
    pub fn on_progress(mut self, watch: impl FnMut(FitProgress) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    option_methods!();

    /// Runs the fit.
    ///
    /// # Errors
    /// [`Error::Host`] for arrays that do not fit or hold what is not legal, naming the row; for fewer than ten effective
    /// points; for an engine that fails.
    pub fn run(self) -> Result<WeightedOutcome, Error> {
        let Self { theta, weights, context, supports, effective, replicas, watch, options } = self;
        let log_weights = match weights {
            Weights::Plain(weights) => logs(&weights)?,
            Weights::Log(log_weights) => log_weights,
        };
        let n = log_weights.len();
        if n == 0 || theta.is_empty() || !theta.len().is_multiple_of(n) {
            let expected = format!("[n, D] for the {n} weights");
            return Err(HostError::Length { what: "theta", got: theta.len(), expected }.into());
        }
        let d = theta.len() / n;
        all_finite("theta", &theta, d)?;
        let context = match context {
            None => Vec::new(),
            Some(context) if context.is_empty() || !context.len().is_multiple_of(n) => {
                let expected = format!("[n, C] for the {n} weights, C > 0");
                return Err(HostError::Length { what: "context", got: context.len(), expected }.into());
            }
            Some(context) => context,
        };
        all_finite("context", &context, context.len() / n)?;
        let (names, labels) = options.names(d)?;
        let supports = supports.unwrap_or_else(|| vec![Support::default(); d]);
        if supports.len() != d {
            let expected = format!("{d}, one for each parameter");
            return Err(HostError::Length { what: "supports", got: supports.len(), expected }.into());
        }
        for (name, support) in names.iter().zip(&supports) {
            let (lower, upper) = (support.lower, support.upper);
            let is_finite = lower.iter().chain(&upper).all(|bound| bound.is_finite());
            if !is_finite || lower.zip(upper).is_some_and(|(lower, upper)| lower >= upper) {
                let what = format!("support of parameter {name}");
                let shown = |bound: Option<f64>| bound.map_or("open".to_owned(), |bound| bound.to_string());
                let got = format!("({}, {})", shown(lower), shown(upper));
                let expected = "finite bounds in order, or open sides".into();
                return Err(HostError::Invalid { what, got, expected }.into());
            }
        }
        let engine = options.engine()?;
        let input = FitInput {
            names,
            labels,
            supports,
            theta,
            context,
            log_weights,
            effective,
            ..FitInput::default()
        };
        let mut watch = watch.unwrap_or_else(|| Box::new(|_: FitProgress| ControlFlow::Continue(())));
        let fitted = fit_with_replicas(&engine, &input, &options.fit, replicas, options.seed, |progress| {
            options.unless_cancelled(watch(progress))
        });
        let (posterior, replicas, report) = fitted?;
        let replicas =
            replicas.into_iter().map(|replica| Posterior::new(&engine, replica)).collect::<Result<_, _>>()?;
        Ok(WeightedOutcome { posterior: Posterior::new(&engine, posterior)?, replicas, report })
    }
}

/// Refuses a number that is not finite, naming its row.
fn all_finite(what: &'static str, values: &[f64], width: usize) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column, value) = (at / width, at % width, values[at]);
            Err(HostError::BadValue { what, row, column, value, expected: "a finite number" }.into())
        }
    }
}

/// What a fit of weighted points gave.
#[derive(Debug)]
pub struct WeightedOutcome {
    /// The density.
    pub posterior: Posterior,
    /// As many densities as were asked for, less those whose training did not stay finite.
    pub replicas: Vec<Posterior>,
    /// What the fit did.
    pub report: FitReport,
}

impl WeightedOutcome {
    /// Whether the fit was stopped before its end.
    pub fn interrupted(&self) -> bool {
        self.report.training.stop == StopReason::Interrupted
    }
}
