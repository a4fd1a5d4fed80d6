//! From weighted pairs to a trained posterior: weights, outer bijections, mixture initialisation, training.
//! Everything that is not a file or a picture happens here, so that a program that embeds lwflow gets the same fit.

mod components;
mod refit;
mod replicas;
mod standardise;
mod start;

pub use refit::{refit, try_refit_start, visits_of_refit_starts};
pub use start::visits_of_starts;

use crate::mixture::{GaussianMixture, SelectionRow};
use crate::novelty::Novelty;
use crate::outer::{Support, fit_outer};
use crate::posterior::Posterior;
use crate::train::{Member, TrainProgress, TrainReport, TrainSettings, TrainingData, train_all};
use crate::{HostError, weights};
use components::{ByTraining, components_by_training};
use lwflow_engine::Engine;
use lwflow_model::{
    Activation, ContextNetworkSpec, Coupling, Covariance, Flow, FlowSettings, FlowSpec, OuterTransform,
    ParamLayout,
};
use replicas::{Replicas, Start};
use serde::{Deserialize, Serialize};
use standardise::standardisation;
use start::{
    Effort, N_BROAD, base_of, choose_activation, compete, initial_base, mixture_params, params_with,
};
use std::cell::RefCell;
use std::ops::ControlFlow;

/// Weighted pairs in the user's coordinates.
#[derive(Debug, Clone, Default)]
pub struct FitInput {
    /// Parameter names, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels, `[D]`.
    pub labels: Vec<String>,
    /// Supports, `[D]`.
    pub supports: Vec<Support>,
    /// Parameters, `[n, D]`.
    pub theta: Vec<f64>,
    /// Context, `[n, C]`.
    pub context: Vec<f64>,
    /// Unnormalised log weights, `[n]`: finite or -inf.
    pub log_weights: Vec<f64>,
    /// Normalised log density of what each row was drawn from, `[n]`, in the user's coordinates, if known. Not used with
    /// context: E_r\[q(theta | c) / r(theta)\] is one only if c does not depend on theta, and in simulated pairs it does.
    pub log_proposal: Option<Vec<f64>>,
    /// Independent batch of each row, `[n]`, if the rows are not one independent sample.
    pub blocks: Option<Vec<u32>>,
    /// Effective number of rows, where it is less than the weights show: of a Markov chain with its autocorrelation.
    pub effective: Option<f64>,
}

/// Fewest effective points that a fit accepts. So few give the mean of a parameter to a third of its standard deviation
/// at best; with less, a flow describes the points and not a density.
pub const MIN_FIT_ESS: f64 = 10.0;

/// Number of components of a mixture base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Components {
    /// So many.
    Fixed(usize),
    /// The number of least weighted BIC up to so many.
    Auto {
        /// Largest number tried.
        max: usize,
    },
    /// The smallest number up to so many whose flow, after a short training, does as well on held-out points as the best.
    /// [`fit`] alone trains for it; elsewhere this is [`Components::Auto`].
    Trained {
        /// Largest number tried.
        max: usize,
    },
}

/// Base distribution of the flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseSettings {
    /// Standard normal.
    Gaussian,
    /// Gaussian mixture.
    Mixture {
        /// Number of components.
        components: Components,
        /// Shape of the covariances.
        covariance: Covariance,
        /// Whether the mixture is trained with the flow.
        trainable: bool,
    },
}

impl Default for BaseSettings {
    fn default() -> Self {
        Self::Mixture {
            components: Components::Auto { max: 12 },
            covariance: Covariance::Full,
            trainable: true,
        }
    }
}

/// Settings of a fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    /// Coupling layers (`n_layers = 0`: the base distribution alone).
    pub flow: FlowSettings,
    /// Base distribution.
    pub base: BaseSettings,
    /// Training.
    pub training: TrainSettings,
    /// Activations of the conditioners that are tried in short trainings, and of which the one of least validation loss is
    /// taken instead of that of `flow`; fewer than two: none is tried.
    #[serde(default)]
    pub activations: Vec<Activation>,
}

impl FitSettings {
    /// What suits a flow with context: one density per observation, of which the points are too few for a mixture of their own.
    /// Smooth conditioners follow observations that move and widen a posterior, those with kinks one that folds and turns:
    /// which of them it is, a trial says.
    #[must_use]
    pub fn conditional() -> Self {
        let flow = FlowSettings {
            n_layers: 5,
            hidden: vec![50, 50],
            activation: Activation::Tanh,
            coupling: Coupling::Spline { n_bins: 8, bound: 5.0 },
            ..FlowSettings::default()
        };
        let training = TrainSettings {
            batch_size: 64,
            max_visits: 3_000_000,
            learning_rate: 3e-3,
            averaging: 0.03,
            weight_decay: 12.0,
            ..TrainSettings::default()
        };
        Self {
            flow,
            base: BaseSettings::Gaussian,
            training,
            activations: vec![Activation::Tanh, Activation::Relu],
        }
    }
}

/// What a fit did.
#[derive(Debug, Clone, Serialize)]
pub struct FitReport {
    /// Rows.
    pub n: usize,
    /// Rows of positive weight.
    pub n_weighted: usize,
    /// Kish's effective sample size of the weights.
    pub ess: f64,
    /// Criterion of every number of components tried; empty if the number was given.
    pub components: Vec<SelectionRow>,
    /// Number of components of the base (0: standard normal).
    pub n_components: usize,
    /// Validation loss of every number of components that a flow was trained with to choose among them, in nats.
    pub component_trials: Vec<(usize, f64)>,
    /// Validation loss of every activation tried, in nats; empty if none was.
    pub activations: Vec<(Activation, f64)>,
    /// Parameters of the flow.
    pub n_params: usize,
    /// Training.
    pub training: TrainReport,
    /// Sentences for people: edges, choices.
    pub notes: Vec<String>,
}

/// Pairs ready for training with what was found out on the way.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Points in the flow's coordinates.
    pub data: TrainingData,
    /// Bijections and standardisation.
    pub outer: OuterTransform,
    /// Location and scale of the context, `[C]` each.
    pub context: (Vec<f64>, Vec<f64>),
    /// How far from the points' context another one lies; `None` without context, and of sets, whose features are not
    /// there yet.
    pub novelty: Option<Novelty>,
    /// Sentences for people.
    pub notes: Vec<String>,
}

impl Prepared {
    /// Whether the points of `input`, which these were prepared from, are enough for a fit.
    ///
    /// # Errors
    /// [`HostError::TooFewEffective`] below [`MIN_FIT_ESS`].
    pub fn check_effective(&self, input: &FitInput) -> Result<(), HostError> {
        let effective = self.data.effective_points();
        if effective >= MIN_FIT_ESS {
            return Ok(());
        }
        let n_weighted = input.log_weights.iter().filter(|&&lw| lw > f64::NEG_INFINITY).count();
        Err(HostError::TooFewEffective { effective, n_weighted, least: MIN_FIT_ESS })
    }
}

/// What a fit is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// EM of the mixture base; counted in its steps.
    Mixture,
    /// Short runs with every activation, and from the EM mixture and from broad ones, all of a kind together; counted in
    /// points visited.
    Starts,
    /// Parameters for every observation, drawn and weighted; counted in observations.
    Weighting,
    /// The training itself; counted in points visited.
    Training,
}

/// How far a fit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitProgress {
    /// Stage; one that is not needed does not come.
    pub stage: Stage,
    /// How much of it is done.
    pub done: usize,
    /// How much there is; EM often ends sooner.
    pub total: usize,
    /// Latest validation loss, in nats; none before there is one.
    pub validation_loss: Option<f64>,
}

impl From<TrainProgress> for FitProgress {
    fn from(p: TrainProgress) -> Self {
        Self { stage: Stage::Training, done: p.visits, total: p.max_visits, validation_loss: p.loss() }
    }
}

/// Normalises the weights, fits the outer transform and moves the points into the flow's coordinates; where a circle was
/// cut open in `earlier`, it is again if that is still good. How the context is standardised depends on its `network`.
///
/// # Errors
/// [`HostError`] naming the row of an illegal weight, of a weighted point outside the support or of an illegal count.
pub fn prepare(
    input: &FitInput,
    earlier: Option<&OuterTransform>,
    network: Option<&ContextNetworkSpec>,
) -> Result<Prepared, HostError> {
    let d = input.names.len();
    let w = weights::normalised_weights(&input.log_weights, &input.theta)?;
    let n = w.len();
    let (outer, mut notes) = fit_outer(&input.theta, &w, &input.names, &input.supports, earlier)?;
    let c = input.context.len() / n.max(1);
    let log_proposal = input.log_proposal.as_ref().filter(|_| c == 0);
    if log_proposal.is_none() && input.log_proposal.is_some() {
        notes.push("with context the density of the draws cancels no noise and was not used".to_owned());
    }
    if let Some(network) = network {
        network.validate(c)?;
        network.check(&input.context, c)?;
    }
    let (location, scale) = standardisation(&input.context, &w, c, network);
    let mut data = TrainingData {
        n: 0,
        log_proposal: log_proposal.map(|_| Vec::new()),
        effective: input.effective,
        ..TrainingData::default()
    };
    data.blocks = input.blocks.as_ref().map(|_| Vec::new());
    let mut x = vec![0.0; d];
    let mut n_outside = 0;
    for i in 0..n {
        // A weightless point on or outside a bound adds nothing: the flow has no density there.
        let Some(log_det) = outer.to_flow(&input.theta[i * d..][..d], &mut x) else {
            n_outside += 1;
            continue;
        };
        data.n += 1;
        data.x.extend(x.iter().map(|&v| v as f32));
        data.context.extend((0..c).map(|j| ((input.context[i * c + j] - location[j]) / scale[j]) as f32));
        data.weights.push(w[i]);
        if let (Some(to), Some(from)) = (&mut data.log_proposal, log_proposal) {
            to.push(from[i] + log_det);
        }
        if let (Some(to), Some(from)) = (&mut data.blocks, &input.blocks) {
            to.push(from[i]);
        }
    }
    if n_outside > 0 {
        notes.push(format!(
            "{n_outside} points of weight zero lie on or outside the bounds and were left out"
        ));
    }
    let is_set = matches!(network, Some(ContextNetworkSpec::Set(_)));
    let novelty = if is_set { None } else { Novelty::fit(&weighted_context(&data, c), c) };
    Ok(Prepared { data, outer, context: (location, scale), novelty, notes })
}

/// The contexts of points that weigh anything, `[n, C]`.
fn weighted_context(data: &TrainingData, c: usize) -> Vec<f32> {
    let rows = data.context.chunks_exact(c.max(1)).zip(&data.weights);
    rows.filter(|(_, w)| **w > 0.0).flat_map(|(x, _)| x).copied().collect()
}

/// Fits a flow to weighted pairs.
///
/// `progress` is called many times a second in most fits; once it breaks, every stage ends at its next step, and the
/// posterior is what there is by then ([`crate::train::StopReason::Interrupted`]).
///
/// # Errors
/// [`HostError`] for bad input, fewer than [`MIN_FIT_ESS`] effective points, a training that does not stay finite, or an
/// engine that fails.
pub fn fit(
    engine: &Engine,
    input: &FitInput,
    settings: &FitSettings,
    seed: u64,
    progress: impl FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<(Posterior, FitReport), HostError> {
    fit_with_replicas(engine, input, settings, 0, seed, progress)
        .map(|(posterior, _, report)| (posterior, report))
}

/// [`fit`], and so many replicas beside it: the same training on bootstrap weights of the points (Rubin 1981; of whole blocks
/// where points depend on each other), with layers and batches of other seeds. All train at once. The fit is what it is
/// without them, and how much their answers differ is the error that the number of points and the training leave in its own.
/// A replica whose steps do not stay finite is left out.
///
/// # Errors
/// As [`fit`].
pub fn fit_with_replicas(
    engine: &Engine,
    input: &FitInput,
    settings: &FitSettings,
    n_replicas: usize,
    seed: u64,
    mut progress: impl FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<(Posterior, Vec<Posterior>, FitReport), HostError> {
    let mut prepared = prepare(input, None, settings.flow.context_network.as_ref())?;
    prepared.check_effective(input)?;
    let d = input.names.len();
    let data = &prepared.data;
    let n_weighted = input.log_weights.iter().filter(|&&lw| lw > f64::NEG_INFINITY).count();
    let mut stopped = false;
    // A wish to stop holds for the stages that follow, whether or not the caller repeats it.
    let mut progress = |stage, done, total, validation_loss| {
        stopped = stopped || progress(FitProgress { stage, done, total, validation_loss }).is_break();
        if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let c = prepared.context.0.len();
    let mut component_trials = Vec::new();
    let (base, mixture, components) = match settings.base {
        BaseSettings::Mixture { components: Components::Trained { max }, trainable, .. } => {
            let progress = RefCell::new(&mut progress);
            let mut em = |done, total| (*progress.borrow_mut())(Stage::Mixture, done, total, None);
            let mut training =
                |p: TrainProgress| (*progress.borrow_mut())(Stage::Starts, p.visits, p.max_visits, p.loss());
            let ByTraining { mixture, losses } =
                components_by_training(engine, (d, c), data, settings, max, seed, &mut em, &mut training)?;
            prepared.notes.push(words_of_trials(mixture.n_components, &losses));
            component_trials = losses;
            (base_of(&mixture, trainable), Some(mixture), Vec::new())
        }
        _ => initial_base(data, d, &settings.base, Effort::Full, seed, |done, total| {
            progress(Stage::Mixture, done, total, None)
        })?,
    };
    let (activation, activations) =
        choose_activation(engine, (d, c), &base, data, settings, seed, &mut progress)?;
    if activations.len() > 1 {
        let words = |(a, loss): &(Activation, f64)| format!("{a:?} {loss:.3}").to_lowercase();
        let tried: Vec<String> = activations.iter().map(words).collect();
        let tried = tried.join(", ");
        prepared.notes.push(format!(
            "activations in short trainings, by validation loss in nats: {tried}; the least was taken"
        ));
    }
    let spec = FlowSpec::build(d, c, &FlowSettings { activation, ..settings.flow.clone() }, base, seed)?;
    let flow = Flow::<f32>::init(spec.clone(), seed)?;
    let with_base = |mixture: &GaussianMixture| params_with(&flow, mixture);
    if let (BaseSettings::Mixture { components: Components::Auto { max }, .. }, Some(mixture)) =
        (&settings.base, &mixture)
    {
        let k = mixture.n_components;
        prepared.notes.push(format!("K = {k} components have the least BIC of 1 to {max} and were taken"));
    }
    let mut start = mixture.as_ref().map_or_else(|| flow.params().to_vec(), &with_base);
    let mut starts = Vec::new();
    if let Some(mixture) = mixture.as_ref().filter(|m| m.n_components > 1 && !spec.layers.is_empty()) {
        (start, starts) = compete(engine, &spec, mixture, data, settings, seed, &with_base, &mut progress)?;
        if let Some(best) =
            (1..starts.len()).find(|&k| starts[k] <= starts.iter().copied().fold(f64::INFINITY, f64::min))
        {
            let words =
                format!("broad start {best} of {} did better than the EM mixture and was taken", N_BROAD);
            prepared.notes.push(words);
        }
    }
    // The EM mixture stands first among the starts.
    let least = starts.iter().copied().fold(f64::INFINITY, f64::min);
    let replicas_from = match &mixture {
        None => Start::Gaussian,
        Some(mixture) if starts.first().is_none_or(|&of_em| of_em <= least) => Start::Mixture(mixture),
        Some(_) => Start::Params(&start),
    };
    let replicas = Replicas::new(n_replicas, &spec, replicas_from, data, seed)?;
    let mut members =
        vec![Member { spec: &spec, params: start.clone(), counts: None, seed, keeps_start: true }];
    members.extend(replicas.members());
    let trained = train_all(engine, members, data, &settings.training, &mut |p: TrainProgress| {
        progress(Stage::Training, p.visits, p.max_visits, p.loss())
    })?;
    let mut trained = trained.into_iter();
    let (params, mut training) =
        trained.next().unwrap_or_else(|| Err(HostError::invalid("flows", 0, "at least one")))?;
    training.starts = starts;
    if !training.held_out {
        let words =
            "too few weighted points to hold some out: the validation loss is that of the training points";
        prepared.notes.push(words.to_owned());
    }
    let report = FitReport {
        n: input.log_weights.len(),
        n_weighted,
        ess: weights::kish_ess(&input.log_weights),
        components,
        component_trials,
        n_components: mixture.as_ref().map_or(0, |m| m.n_components),
        activations,
        n_params: ParamLayout::new(&spec).len,
        training,
        notes: std::mem::take(&mut prepared.notes),
    };
    let contexts = if prepared.novelty.is_none() { weighted_context(data, c) } else { Vec::new() };
    let mut posterior = assemble(input, prepared, Flow::from_params(spec.clone(), params)?, seed);
    let mut others = Vec::with_capacity(n_replicas);
    for (params, _) in trained.flatten() {
        others.push(Posterior { flow: Flow::from_params(spec.clone(), params)?, ..posterior.clone() });
    }
    if !contexts.is_empty() {
        let mut executor = engine.flow(&spec)?;
        for posterior in others.iter_mut().chain([&mut posterior]) {
            posterior.learn_novelty(&mut executor, &contexts)?;
        }
    }
    Ok((posterior, others, report))
}

/// What the trials of numbers of components said, for people.
fn words_of_trials(taken: usize, losses: &[(usize, f64)]) -> String {
    let each: Vec<String> = losses.iter().map(|(k, loss)| format!("{k}: {loss:.3}")).collect();
    format!(
        "K = {taken} components were taken, the least number whose flow does as well as the best after a short training, up to \
         two standard errors; validation losses in nats by K: {}",
        each.join(", ")
    )
}

/// A posterior that is the weighted EM mixture alone, without layers and without training. Where `progress` breaks, it is
/// the mixture so far.
///
/// # Errors
/// As [`fit`].
pub fn fit_mixture_only(
    input: &FitInput,
    base: &BaseSettings,
    seed: u64,
    mut progress: impl FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<Posterior, HostError> {
    let prepared = prepare(input, None, None)?;
    let d = input.names.len();
    let (base, mixture, _) = initial_base(&prepared.data, d, base, Effort::Full, seed, |done, total| {
        progress(FitProgress { stage: Stage::Mixture, done, total, validation_loss: None })
    })?;
    let settings = FlowSettings { n_layers: 0, ..FlowSettings::default() };
    let spec = FlowSpec::build(d, prepared.context.0.len(), &settings, base, seed)?;
    let flow = Flow::from_params(spec, mixture.as_ref().map(mixture_params).unwrap_or_default())?;
    Ok(assemble(input, prepared, flow, seed))
}

fn assemble(input: &FitInput, prepared: Prepared, flow: Flow<f32>, seed: u64) -> Posterior {
    Posterior {
        names: input.names.clone(),
        labels: input.labels.clone(),
        outer: prepared.outer,
        flow,
        context_location: prepared.context.0,
        context_scale: prepared.context.1,
        novelty: prepared.novelty,
        seed,
        evidence: None,
    }
}
