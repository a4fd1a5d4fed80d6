//! A fit that may go on from an earlier one: rounds train on weighted points that change little from one to the next.
//! Invariant: layers that are gone on from keep their structure, whoever made them, so that their parameters carry over.

use super::start::{Effort, initial_base, mixture_params};
use super::{FitInput, FitSettings, assemble, prepare};
use crate::posterior::Posterior;
use crate::train::{ControlVariate, TrainProgress, TrainReport, TrainSettings, TrainingData, train};
use crate::{HostError, rng, weights};
use lwflow_engine::Engine;
use lwflow_model::{Flow, FlowSpec, ParamLayout};
use std::ops::ControlFlow;

/// Points that a mixture is fitted to, drawn by weight.
const EM_POINTS: usize = 8192;
/// Steps in which starts compete.
const PILOT_STEPS: usize = 100;

/// Fits a flow to weighted pairs, from the identity or from the layers of `previous`, whichever does better on the held-out
/// points after a short run. The base is fitted anew in both cases, by EM where the layers put the points.
///
/// # Errors
/// As [`super::fit`].
pub fn refit(
    engine: &Engine,
    input: &FitInput,
    settings: &FitSettings,
    previous: Option<&Posterior>,
    layer_seed: u64,
    seed: u64,
    mut progress: impl FnMut(usize, usize, Option<f64>) -> ControlFlow<()>,
) -> Result<(Posterior, TrainReport), HostError> {
    let prepared = prepare(input, previous.map(|p| &p.outer), None)?;
    prepared.check_effective(input)?;
    let d = input.names.len();
    let data = &prepared.data;
    let thin = thinned(data, d, seed);
    let mut starts = vec![start(&thin, d, settings, None, layer_seed, seed)?];
    if let Some(previous) = previous.filter(|p| !p.spec().layers.is_empty()) {
        let mut executor = engine.flow(previous.spec())?;
        previous.load(&mut executor)?;
        let (z, _) = executor.inverse(&thin.x, &[])?;
        // Layers that overflow at these points are no start.
        if z.iter().all(|v| v.is_finite()) {
            let moved = TrainingData { x: z, ..thin };
            starts.push(start(&moved, d, settings, Some(previous), layer_seed, seed)?);
        }
    }
    let pilot = TrainSettings {
        max_visits: PILOT_STEPS * settings.training.batch_size,
        control_variate: ControlVariate::Off,
        ..settings.training.clone()
    };
    let mut best: Option<(f64, FlowSpec, Vec<f32>)> = None;
    let single = starts.len() == 1;
    for (spec, params) in starts {
        let (loss, params) = if single {
            (0.0, params)
        } else {
            let mut executor = engine.flow(&spec)?;
            let (params, report) =
                train(&mut executor, &spec, params, data, &pilot, seed, |_| progress(0, 1, None))?;
            (report.best_validation_loss, params)
        };
        if best.as_ref().is_none_or(|(b, _, _)| loss < *b) {
            best = Some((loss, spec, params));
        }
    }
    let Some((_, spec, params)) = best else {
        return Err(HostError::invalid("starts", 0, "at least one"));
    };
    let mut executor = engine.flow(&spec)?;
    let (params, report) =
        train(&mut executor, &spec, params, data, &settings.training, seed, |p: TrainProgress| {
            progress(p.visits, p.max_visits, p.loss())
        })?;
    Ok((assemble(input, prepared, Flow::from_params(spec, params)?, layer_seed), report))
}

/// Points that the two starts of a [`refit`] visit before the one that is kept, from the second round on.
pub fn visits_of_refit_starts(settings: &FitSettings) -> usize {
    2 * PILOT_STEPS * settings.training.batch_size
}

/// Does what a start of [`refit`] does before it trains, with standard normal points for those of a run, as many as it takes at
/// most: a fit of the mixture of the base. For those who want to know how long that takes.
///
/// # Errors
/// Those of the settings.
pub fn try_refit_start(dim: usize, settings: &FitSettings, seed: u64) -> Result<(), HostError> {
    let mut x = vec![0.0; EM_POINTS * dim];
    rng::CounterField::new(seed, "stand-in points", dim).fill_standard_normal(0, &mut x);
    let data = TrainingData {
        n: EM_POINTS,
        x: x.into_iter().map(|v| v as f32).collect(),
        weights: vec![1.0; EM_POINTS],
        ..TrainingData::default()
    };
    start(&data, dim, settings, None, seed, seed).map(|_| ())
}

/// Specification and parameters to start from: a mixture fitted to `data` under the layers of `previous`, or under none.
fn start(
    data: &TrainingData,
    dim: usize,
    settings: &FitSettings,
    previous: Option<&Posterior>,
    layer_seed: u64,
    seed: u64,
) -> Result<(FlowSpec, Vec<f32>), HostError> {
    let go_on = |_, _| ControlFlow::Continue(());
    let (base, mixture, _) = initial_base(data, dim, &settings.base, Effort::Quick, seed, go_on)?;
    let spec = match previous {
        Some(previous) => FlowSpec { base, ..previous.spec().clone() },
        None => FlowSpec::build(dim, 0, &settings.flow, base, layer_seed)?,
    };
    let mut params = Flow::<f32>::init(spec.clone(), layer_seed)?.params().to_vec();
    let at = ParamLayout::new(&spec).base;
    if let Some(previous) = previous {
        params[..at].copy_from_slice(&previous.flow.params()[..at]);
    }
    if let Some(mixture) = &mixture {
        params[at..].copy_from_slice(&mixture_params(mixture));
    }
    Ok((spec, params))
}

/// At most [`EM_POINTS`] points, drawn by systematic resampling; a point's weight is how often it was drawn.
fn thinned(data: &TrainingData, dim: usize, seed: u64) -> TrainingData {
    let offset = rng::CounterField::new(seed, "thin", 1).uniform(0, 0);
    let mut thin = TrainingData::default();
    for (row, share) in weights::thinned(&data.weights, EM_POINTS, offset) {
        thin.n += 1;
        thin.x.extend_from_slice(&data.x[row * dim..][..dim]);
        thin.weights.push(share);
    }
    thin
}
