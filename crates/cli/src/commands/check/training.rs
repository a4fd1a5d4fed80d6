//! How long a fit will take: some steps of a flow of the task's shape on stand-in points, and some of the mixture's EM on the
//! points themselves. Invariant: only shapes and settings decide the time of a step of training, so those points may be any.

use crate::commands::fit_settings;
use crate::exit::CommandError;
use crate::progress::go_on;
use crate::task::Task;
use lwflow_engine::Engine;
use lwflow_host::HostError;
use lwflow_host::fit::{BaseSettings, Components, FitInput, FitSettings, fit_mixture_only, visits_of_starts};
use lwflow_host::rng::CounterField;
use lwflow_host::train::{TrainingData, train};
use lwflow_model::{BaseSpec, ContextNetworkSpec, Flow, FlowSpec, MixtureSpec};
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Components that are assumed where the task leaves their number to the data.
const ASSUMED_COMPONENTS: usize = 4;
/// Stand-in points.
const N_POINTS: usize = 4096;
/// How long steps are made.
const TIME: Duration = Duration::from_secs(1);

/// How long training takes.
#[derive(Debug, Serialize)]
pub struct TrainingTime {
    /// Parameters of the flow.
    pub n_params: usize,
    /// Components of the base (0: standard normal).
    pub n_components: usize,
    /// Whether that number is a guess, because the data decide.
    pub is_assumed: bool,
    /// Points visited by the starts that compete before the training.
    pub start_visits: usize,
    /// Points visited by the training, at most.
    pub visits: usize,
    /// Points visited per second.
    pub visits_per_second: f64,
    /// Seconds for all visits.
    pub seconds: f64,
    /// Seconds of EM before them, at most; `None` in rounds, where its points are not there yet.
    pub mixture_seconds: Option<f64>,
}

/// Times the training of a flow of `shape` (parameters, context) and reckons how long `visits` take, and with the points of
/// a fit also what comes before them.
///
/// # Errors
/// Those of the engine.
pub fn time_training(
    engine: &Engine,
    task: &Task,
    shape: (usize, usize),
    visits: usize,
    input: Option<&FitInput>,
    seed: u64,
) -> Result<TrainingTime, CommandError> {
    let (d, c) = shape;
    let settings = fit_settings(task);
    let (base, n_components, is_assumed) = match settings.base {
        BaseSettings::Gaussian => (BaseSpec::Gaussian, 0, false),
        BaseSettings::Mixture { components, covariance, trainable } => {
            let (n_components, is_assumed) = match components {
                Components::Fixed(k) => (k, false),
                Components::Auto { max } | Components::Trained { max } => {
                    (max.min(ASSUMED_COMPONENTS), max > 1)
                }
            };
            let mixture = MixtureSpec { n_components, covariance, trainable, ..MixtureSpec::default() };
            (BaseSpec::Mixture(mixture), n_components, is_assumed)
        }
    };
    let spec = FlowSpec::build(d, c, &settings.flow, base, seed)?;
    let params = Flow::<f32>::init(spec.clone(), seed)?.params().to_vec();
    let n_params = params.len();
    let mut executor = engine.flow(&spec)?;
    let (mut clock, mut first, mut last) = (Instant::now(), 0, 0);
    train(&mut executor, &spec, params, &stand_in(&spec, seed), &settings.training, seed, |p| {
        // The first steps also compile kernels.
        if first == 0 {
            (first, clock) = (p.visits, Instant::now());
        }
        last = p.visits;
        if last > first && clock.elapsed() > TIME { ControlFlow::Break(()) } else { go_on() }
    })?;
    // A training of a single step has no second one to time.
    let timed = if last > first { last - first } else { last };
    let visits_per_second = timed as f64 / clock.elapsed().as_secs_f64().max(1e-6);
    let start_visits = input.map_or(0, |_| visits_of_starts(&settings, n_components));
    // Replicas visit what the fit does.
    let visits = visits * (1 + task.training.replicas);
    Ok(TrainingTime {
        n_params,
        n_components,
        is_assumed,
        start_visits,
        visits,
        visits_per_second,
        seconds: (start_visits + visits) as f64 / visits_per_second,
        mixture_seconds: input.map(|input| time_mixture(input, &settings, seed)).transpose()?,
    })
}

/// Seconds of the EM of a fit to `input`, at most: that of the largest number of components, reckoned from its first steps.
fn time_mixture(input: &FitInput, settings: &FitSettings, seed: u64) -> Result<f64, CommandError> {
    let BaseSettings::Mixture { components, covariance, trainable } = settings.base else {
        return Ok(0.0);
    };
    // The steps of K components cost in proportion to K.
    let (largest, share) = match components {
        Components::Fixed(k) => (k, 1.0),
        Components::Auto { max } | Components::Trained { max } => (max, 0.5 * (max as f64 + 1.0)),
    };
    let base = BaseSettings::Mixture { components: Components::Fixed(largest), covariance, trainable };
    let (clock, mut last, mut left) = (Instant::now(), Duration::ZERO, Duration::ZERO);
    let result = fit_mixture_only(input, &base, seed, |p| {
        let now = clock.elapsed();
        left = (now - last) * u32::try_from(p.total - p.done).unwrap_or(u32::MAX);
        last = now;
        // The first fifth are steps on a part of the points.
        let is_typical = 4 * p.done > p.total;
        if now > TIME && is_typical || now > 5 * TIME { ControlFlow::Break(()) } else { go_on() }
    });
    match result {
        // With so few points it takes no time.
        Err(HostError::TooFewPoints { .. }) => Ok(0.0),
        Err(error) => Err(error.into()),
        Ok(_) if last > TIME => Ok(share * (last + left).as_secs_f64()),
        Ok(_) => Ok(share * clock.elapsed().as_secs_f64()),
    }
}

/// Standard normal points of equal weight, as a fit has them after standardisation.
fn stand_in(spec: &FlowSpec, seed: u64) -> TrainingData {
    let (d, c) = (spec.dim, spec.context_dim);
    let normals = |purpose: &str, dim: usize| {
        let mut values = vec![0.0; N_POINTS * dim];
        CounterField::new(seed, purpose, dim).fill_standard_normal(0, &mut values);
        values.into_iter().map(|v| v as f32).collect::<Vec<f32>>()
    };
    let x = normals("stand-in points", d);
    let mut context = normals("stand-in context", c);
    if let Some(ContextNetworkSpec::Set(set)) = &spec.context_network
        && set.counted
    {
        // As long as they get.
        context.chunks_exact_mut(c).for_each(|row| row[0] = set.most(c) as f32);
    }
    let log_density = |x: &[f32]| x.iter().map(|v| -0.5 * f64::from(v * v) - 0.918_938_533).sum::<f64>();
    TrainingData {
        n: N_POINTS,
        log_proposal: Some(x.chunks_exact(d).map(log_density).collect()),
        x,
        context,
        weights: vec![1.0 / N_POINTS as f64; N_POINTS],
        blocks: None,
        effective: None,
    }
}
