//! From a prior and a likelihood to a posterior, in rounds. Invariant: an outcome is what the host's rounds gave, with its
//! verdict; a fit that was stopped has the outcome of what there was.

use crate::options::{Options, option_methods};
use crate::weighted::WeightedFit;
use crate::{Error, Posterior};
use lwflow_engine::{Engine, WgslData, WgslProgram, WgslSource};
use lwflow_host::likelihood::{ClosureLikelihood, Likelihood, WgslLikelihood, WgslParameter};
use lwflow_host::prior::Prior;
use lwflow_host::rounds::{
    FolderJournal, Identity, Journal, NoJournal, Problem, RoundsEvent, RoundsResult, RoundsSettings,
    StopCause, Verdict, equal_weight, run,
};
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A log likelihood in WGSL, with what it reads: docs/wgsl-likelihood.md has its language.
#[derive(Debug, Clone, Default)]
pub struct Wgsl {
    text: String,
    data: Option<WgslData>,
    derived: Vec<String>,
    offsets: Option<Vec<f64>>,
}

impl Wgsl {
    /// The functions of `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Observed data, `[n_rows, n_columns]`.
    #[must_use]
    pub fn data(mut self, values: Vec<f64>, n_columns: usize) -> Self {
        self.data = Some(WgslData { values, n_columns });
        self
    }

    /// Names of the derived quantities, `[M]`.
    #[must_use]
    pub fn derived<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.derived = names.into_iter().map(Into::into).collect();
        self
    }

    /// What `theta` is less in the function, `[D]`, for parameters that 32 bits would be too coarse for.
    #[must_use]
    pub fn offsets(mut self, offsets: Vec<f64>) -> Self {
        self.offsets = Some(offsets);
        self
    }

    fn on(self, engine: &Engine, prior: &dyn Prior, names: &[String]) -> Result<WgslLikelihood, Error> {
        let program = WgslProgram::new(&WgslSource {
            file: "log_likelihood.wgsl".into(),
            text: self.text,
            dim: prior.dim(),
            n_derived: self.derived.len(),
            data: self.data,
            ..WgslSource::default()
        })?;
        let offsets = self.offsets.unwrap_or_else(|| vec![0.0; prior.dim()]);
        let parameters = WgslParameter::of_prior(prior, names, &offsets)?;
        Ok(WgslLikelihood::new(engine, &program, &parameters, self.derived)?)
    }
}

/// Where log L comes from.
enum Source<'a> {
    Missing,
    Given(Box<dyn Likelihood + 'a>),
    Wgsl(Wgsl),
}

type Watch<'a> = Box<dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()> + 'a>;

/// A fit of a posterior from a prior and a likelihood.
pub struct Fit<'a> {
    prior: Box<dyn Prior + 'a>,
    source: Source<'a>,
    rounds: RoundsSettings,
    folder: Option<PathBuf>,
    watch: Option<Watch<'a>>,
    options: Options,
}

impl fmt::Debug for Fit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fit")
            .field("prior", &self.prior)
            .field("rounds", &self.rounds)
            .finish_non_exhaustive()
    }
}

impl<'a> Fit<'a> {
    /// A fit with this prior, which may be the [`Posterior::prior`] of an earlier one.
    pub fn new(prior: impl Prior + 'a) -> Self {
        Self {
            prior: Box::new(prior),
            source: Source::Missing,
            rounds: RoundsSettings::default(),
            folder: None,
            watch: None,
            options: Options::default(),
        }
    }

    /// A fit to points `theta`, `[n, D]`, with `weights`, `[n]`, of a common unknown factor: see [`WeightedFit`].
    pub fn weighted(theta: Vec<f64>, weights: &[f64]) -> WeightedFit<'a> {
        WeightedFit::new(theta, weights)
    }

    /// The log likelihood of one theta, `[D]`, in nats, evaluated on all cores. -inf is legal; NaN and +inf end the fit.
    #[must_use]
    pub fn log_likelihood(self, f: impl Fn(&[f64]) -> f64 + Send + Sync + 'a) -> Self {
        let likelihood = ClosureLikelihood::new(self.prior.dim(), f);
        self.likelihood(likelihood)
    }

    /// A likelihood of any kind: [`BatchLikelihood`](crate::BatchLikelihood) from a closure over batches, a child process, or
    /// an implementation of the trait.
    #[must_use]
    pub fn likelihood(mut self, likelihood: impl Likelihood + 'a) -> Self {
        self.source = Source::Given(Box::new(likelihood));
        self
    }

    /// A likelihood in WGSL, on the fit's device.
    #[must_use]
    pub fn wgsl(mut self, wgsl: Wgsl) -> Self {
        self.source = Source::Wgsl(wgsl);
        self
    }

    /// Changes how rounds run, and the contract.
    #[must_use]
    pub fn rounds(mut self, change: impl FnOnce(&mut RoundsSettings)) -> Self {
        change(&mut self.rounds);
        self
    }

    /// Keeps every evaluation and flow in `folder`, and goes on where the run there ended. It must have begun with the same
    /// prior, settings, seed and device; that the likelihood is the same is the caller's promise.
    #[must_use]
    pub fn journal(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Calls `watch` several times a second; once it breaks, the fit ends at its next step.
    #[must_use]
    pub fn on_progress(mut self, watch: impl FnMut(RoundsEvent<'_>) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    option_methods!();

    /// Runs the fit.
    ///
    /// # Errors
    /// [`Error::NoLikelihood`]; [`Error::Interrupted`] if it was stopped before there was a flow; [`Error::Host`] for settings
    /// or a likelihood that are not legal, or an engine that fails.
    pub fn run(self) -> Result<Outcome, Error> {
        let Self { prior, source, rounds, folder, watch, options } = self;
        let (names, labels) = options.names(prior.dim())?;
        let engine = options.engine()?;
        let mut likelihood: Box<dyn Likelihood + '_> = match source {
            Source::Missing => return Err(Error::NoLikelihood),
            Source::Given(likelihood) => likelihood,
            Source::Wgsl(wgsl) => Box::new(wgsl.on(&engine, &*prior, &names)?),
        };
        let derived_names = likelihood.derived_names().to_vec();
        let mut journal: Box<dyn Journal> = match &folder {
            None => Box::new(NoJournal),
            Some(folder) => {
                let identity = Identity::from([
                    ("lwflow".into(), env!("CARGO_PKG_VERSION").into()),
                    ("seed".into(), options.seed.to_string()),
                    ("device".into(), engine.info().to_string()),
                    ("parameters".into(), names.join(", ")),
                    ("prior".into(), format!("{prior:?}")),
                    // How long a run may take does not change what it finds.
                    ("rounds".into(), format!("{:?}", RoundsSettings { max_time: None, ..rounds.clone() })),
                    ("fit".into(), format!("{:?}", options.fit)),
                ]);
                let (d, m) = (prior.dim(), derived_names.len());
                Box::new(match folder.join("run.json").exists() {
                    true => FolderJournal::resume(folder, &identity, d, m)?,
                    false => FolderJournal::begin(folder, &identity, d, m, false)?,
                })
            }
        };
        let problem = Problem { names, labels, prior: &*prior, likelihood: &mut *likelihood, start: None };
        let mut watch = watch.unwrap_or_else(|| Box::new(|_: RoundsEvent<'_>| ControlFlow::Continue(())));
        let mut stopped = false;
        let result =
            run(&engine, problem, &options.fit, &rounds, options.seed, &mut *journal, &mut |event| {
                // A wish to stop holds, whether or not it is repeated.
                stopped = stopped || options.unless_cancelled(watch(event)).is_break();
                if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        let result = match result {
            Err(_) if stopped => return Err(Error::Interrupted),
            other => other?,
        };
        let posterior = Posterior::new(&engine, result.posterior.clone())?;
        Ok(Outcome { posterior, derived_names, result })
    }
}

/// What a fit gave.
#[derive(Debug)]
pub struct Outcome {
    /// The posterior.
    pub posterior: Posterior,
    /// Names of the derived quantities, `[M]`.
    pub derived_names: Vec<String>,
    /// The weighted fresh draws of the final flow, and the report with the verdict.
    pub result: RoundsResult,
}

impl Outcome {
    /// Whether the contract is met, and why not.
    pub fn verdict(&self) -> &Verdict {
        &self.result.report.verdict
    }

    /// Whether the fit was stopped before its end.
    pub fn interrupted(&self) -> bool {
        self.result.report.stop == StopCause::Interrupted
    }

    /// Rows of the fresh draws that make an equally weighted sample of the posterior itself, not of the flow: at most `n`, and
    /// no more than the weights are worth.
    pub fn equal_weight(&self, n: usize, seed: u64) -> Vec<usize> {
        equal_weight(&self.result.log_weights(), n, seed)
    }
}
