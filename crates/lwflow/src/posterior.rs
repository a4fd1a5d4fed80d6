//! A trained posterior on its device. Invariant: results depend on the model, the arguments and the seed alone, so that
//! threads may share one.

use crate::{Error, options};
use lwflow_engine::{DeviceChoice, Engine, FlowExecutor, wgpu};
use lwflow_host::HostError;
use lwflow_host::files::LogZ;
use lwflow_host::model_file::{Precision, read_model, write_model};
use lwflow_host::novelty::NoveltyScore;
use lwflow_host::posterior::{Posterior as Model, Samples};
use lwflow_host::prior::{FlowPrior, transform_rows};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// A density that can be sampled and evaluated; a conditional one is a density for every observation, its context.
#[derive(Debug)]
pub struct Posterior {
    model: Model,
    engine: Engine,
    executor: Mutex<FlowExecutor>,
    prior: OnceLock<FlowPrior>,
}

impl Posterior {
    /// The posterior of a model on the engine's device.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn new(engine: &Engine, model: Model) -> Result<Self, Error> {
        let mut executor = engine.flow(model.spec())?;
        model.load(&mut executor)?;
        let engine = engine.clone();
        Ok(Self { model, engine, executor: Mutex::new(executor), prior: OnceLock::new() })
    }

    /// Reads a model file and opens the device.
    ///
    /// # Errors
    /// [`Error::ModelFile`] naming file and fault; those of the engine.
    pub fn load(path: impl AsRef<Path>, device: &DeviceChoice) -> Result<Self, Error> {
        let model = read_model(path.as_ref())?;
        Self::new(&options::open(device)?, model)
    }

    /// Writes a model file (docs/model-format.md), atomically.
    ///
    /// # Errors
    /// [`Error::ModelFile`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        Ok(write_model(path.as_ref(), &self.model, Precision::F32)?)
    }

    /// The model: names, layers, outer transform, seed.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Names of the parameters, `[D]`.
    pub fn names(&self) -> &[String] {
        &self.model.names
    }

    /// Number of parameters D.
    pub fn dim(&self) -> usize {
        self.model.dim()
    }

    /// Number of values C of an observation; 0 of a posterior that is not conditional.
    pub fn context_dim(&self) -> usize {
        self.model.spec().context_dim
    }

    /// log Z with its standard error, where the fit gave one: never for bare weights.
    pub fn evidence(&self) -> Option<LogZ> {
        self.model.evidence
    }

    fn executor(&self) -> MutexGuard<'_, FlowExecutor> {
        self.executor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what a conditional posterior cannot do without an observation.
    fn without_context(&self) -> Result<(), Error> {
        match self.context_dim() {
            0 => Ok(()),
            c => {
                let expected = format!("{c} values for each observation: the posterior is conditional");
                Err(HostError::Invalid { what: "context".into(), got: "none".into(), expected }.into())
            }
        }
    }

    /// Contexts `[K, C]` as a whole number K of rows, `of` many where it is known how many.
    fn check_contexts(&self, contexts: &[f64], of: Option<usize>) -> Result<(), Error> {
        let c = self.context_dim();
        let invalid = |got: String, expected: String| {
            Err(HostError::Invalid { what: "context".into(), got, expected }.into())
        };
        if c == 0 {
            return invalid(
                format!("{} values", contexts.len()),
                "none: the posterior is not conditional".into(),
            );
        }
        let rows = contexts.len() / c;
        if contexts.len() != rows * c || of.is_some_and(|n| n != rows) {
            let n = of.map_or("K".to_owned(), |n| n.to_string());
            return invalid(format!("{} values", contexts.len()), format!("[{n}, {c}]"));
        }
        match contexts.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (row, column, value) = (at / c, at % c, contexts[at]);
                Err(HostError::BadValue { what: "context", row, column, value, expected: "a finite number" }
                    .into())
            }
        }
    }

    /// The posterior of one observation, `[C]`: a density with all that these have, such as [`Posterior::prior`].
    ///
    /// # Errors
    /// [`HostError::Invalid`] for another number of values; those of the engine.
    pub fn given(&self, context: &[f64]) -> Result<Self, Error> {
        self.check_contexts(context, Some(1))?;
        Self::new(&self.engine, self.model.given(context)?)
    }

    /// How far from the training's each of the observations `contexts`, `[K, C]`, lies; none if the model does not know.
    ///
    /// # Errors
    /// [`HostError::Invalid`] if the array does not fit.
    pub fn novelty(&self, contexts: &[f64]) -> Result<Option<Vec<NoveltyScore>>, Error> {
        self.check_contexts(contexts, None)?;
        Ok(self.model.novelty_scores(contexts)?)
    }

    /// `n_each` draws for each of the observations `contexts`, `[K, C]`, those of the first before those of the second. Draw i of
    /// observation k depends on the seed, the observation, k and i alone.
    ///
    /// # Errors
    /// Those of the engine; [`HostError::Invalid`] if the array does not fit.
    pub fn sample_given(&self, n_each: usize, contexts: &[f64], seed: u64) -> Result<Samples, Error> {
        self.check_contexts(contexts, None)?;
        let mut all = Samples { theta: Vec::new(), log_prob: Vec::new() };
        self.model.sample_many(&mut self.executor(), n_each, contexts, seed, |mut piece| {
            all.theta.append(&mut piece.theta);
            all.log_prob.append(&mut piece.log_prob);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// log q of theta, `[n, D]`, each given its row of `contexts`, `[n, C]`; -inf on or outside a bound.
    ///
    /// # Errors
    /// As [`Posterior::log_prob`]; [`HostError::Invalid`] if the contexts do not fit.
    pub fn log_prob_given(&self, theta: &[f64], contexts: &[f64]) -> Result<Vec<f64>, Error> {
        self.check_contexts(contexts, Some(theta.len() / self.dim()))?;
        Ok(self.model.log_prob(&mut self.executor(), theta, contexts)?)
    }

    /// `n` draws with their log densities; draw i depends on the seed and i alone.
    ///
    /// # Errors
    /// Those of the engine; [`HostError::Invalid`] for a conditional posterior: see [`Posterior::given`].
    pub fn sample(&self, n: usize, seed: u64) -> Result<Samples, Error> {
        self.without_context()?;
        Ok(self.model.sample(&mut self.executor(), n, &[], seed)?)
    }

    /// log q of theta, `[n, D]`; -inf on or outside a bound.
    ///
    /// # Errors
    /// Those of the engine; [`HostError::Invalid`] if the array does not fit, holds what is not finite, or for a conditional
    /// posterior.
    pub fn log_prob(&self, theta: &[f64]) -> Result<Vec<f64>, Error> {
        self.without_context()?;
        Ok(self.model.log_prob(&mut self.executor(), theta, &[])?)
    }

    /// The posterior as the next prior, in 64 bits and without a device.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for a conditional posterior.
    pub fn prior(&self) -> Result<FlowPrior, Error> {
        self.without_context()?;
        Ok(FlowPrior::new(&self.model)?)
    }

    /// Points of the unit cube `u`, `[n, D]`, to theta, `[n, D]`: the uniform cube becomes exactly this distribution, and
    /// neighbours stay neighbours. 0 and 1 stand for the nearest numbers between them.
    ///
    /// # Errors
    /// [`HostError::BadValue`] naming a number outside 0 to 1, [`HostError::Length`]; [`HostError::Invalid`] for a flow with
    /// context.
    pub fn prior_transform(&self, u: &[f64]) -> Result<Vec<f64>, Error> {
        let d = self.dim();
        if !u.len().is_multiple_of(d) {
            let expected = format!("a multiple of D = {d}");
            return Err(HostError::Length { what: "u", got: u.len(), expected }.into());
        }
        if let Some(at) = u.iter().position(|u| !(0.0..=1.0).contains(u)) {
            let (row, column, value) = (at / d, at % d, u[at]);
            return Err(HostError::BadValue { what: "u", row, column, value, expected: "0 to 1" }.into());
        }
        let prior = match self.prior.get() {
            Some(prior) => prior,
            None => {
                let prior = self.prior()?;
                self.prior.get_or_init(|| prior)
            }
        };
        let inside: Vec<f64> = u.iter().map(|u| u.clamp(f64::MIN_POSITIVE, 1f64.next_down())).collect();
        Ok(transform_rows(prior, &inside))
    }

    /// log q of `n` rows of the buffer `theta`, `[n, D]`, into the buffer `log_prob`, `[n]`, both of f32 and on the device of the
    /// engine, without a copy through the host and without waiting:
    /// [`FlowExecutor::log_prob_on_device`](lwflow_engine::FlowExecutor::log_prob_on_device).
    ///
    /// # Errors
    /// Buffers that do not fit; an engine on the cores, which has no buffers; a flow with context.
    pub fn log_prob_on_device(
        &self,
        n: usize,
        theta: &wgpu::Buffer,
        log_prob: &wgpu::Buffer,
    ) -> Result<(), Error> {
        Ok(self.executor().log_prob_on_device(&self.model.outer, n, theta, log_prob)?)
    }

    /// `n` draws into the buffer `theta`, `[n, D]`, and their log q into the buffer `log_prob`, `[n]`:
    /// [`FlowExecutor::sample_on_device`](lwflow_engine::FlowExecutor::sample_on_device).
    ///
    /// # Errors
    /// As [`Posterior::log_prob_on_device`].
    pub fn sample_on_device(
        &self,
        seed: u64,
        n: usize,
        theta: &wgpu::Buffer,
        log_prob: &wgpu::Buffer,
    ) -> Result<(), Error> {
        Ok(self.executor().sample_on_device(&self.model.outer, seed, n, theta, log_prob)?)
    }
}
