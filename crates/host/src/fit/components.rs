//! The number of components by what the flow makes of it: flows with 1 to so many components train for a short while, all at
//! once, and the smallest number is taken whose density of held-out points is as good as the best one's, up to its noise.

use super::start::{Effort, base_of, params_with};
use super::{BaseSettings, FitSettings};
use crate::HostError;
use crate::mixture::{GaussianMixture, MixtureFitSettings, fit_mixture};
use crate::train::{
    ControlVariate, Member, TrainProgress, TrainReport, TrainSettings, TrainingData, train_all,
};
use lwflow_engine::Engine;
use lwflow_model::{Flow, FlowSpec};
use std::ops::ControlFlow;

/// Most and fewest steps of each flow.
const STEPS: (usize, usize) = (800, 50);

/// Standard errors of the paired difference by which the best has to lead over a smaller number: the best of several leads by one
/// often enough by luck.
const SURE: f64 = 2.0;

/// Points that the flows of 1 to `max` components visit, all together, in a fit whose training visits so many.
pub(super) fn visits_of_trials(training: &TrainSettings, visits: usize, max: usize) -> usize {
    max * visits_of_one(training, visits)
}

fn visits_of_one(training: &TrainSettings, visits: usize) -> usize {
    let (most, fewest) = STEPS;
    training.batch_size * (visits / training.batch_size / 8).clamp(fewest, most)
}

/// The mixture of the number that was taken, and the validation loss of every number, in nats.
pub(super) struct ByTraining {
    pub(super) mixture: GaussianMixture,
    pub(super) losses: Vec<(usize, f64)>,
}

/// Weighted EM for every number of components up to `max`, as far as the points are enough, and a short training from each.
/// Once `progress` breaks, the best so far is taken.
pub(super) fn components_by_training(
    engine: &Engine,
    shape: (usize, usize),
    data: &TrainingData,
    settings: &FitSettings,
    max: usize,
    seed: u64,
    em_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    progress: &mut dyn FnMut(TrainProgress) -> ControlFlow<()>,
) -> Result<ByTraining, HostError> {
    let BaseSettings::Mixture { covariance, trainable, .. } = settings.base else {
        return Err(HostError::invalid("base", "gaussian", "a mixture, whose components are counted"));
    };
    let (dim, context_dim) = shape;
    let em = MixtureFitSettings { covariance, ..Effort::Full.em() };
    let x: Vec<f64> = data.x.iter().map(|&v| f64::from(v)).collect();
    let mut mixtures: Vec<GaussianMixture> = Vec::new();
    for k in 1..=max.max(1) {
        let mut watch = |done: usize, total: usize| em_progress((k - 1) * total + done, max * total);
        let fitted = match fit_mixture(&x, &data.weights, dim, k, &em, seed, &mut watch) {
            Err(HostError::TooFewPoints { .. }) if !mixtures.is_empty() => break,
            fitted => fitted?,
        };
        mixtures.push(fitted.mixture);
        if fitted.interrupted {
            break;
        }
    }
    let spec = |mixture: &GaussianMixture| {
        FlowSpec::build(dim, context_dim, &settings.flow, base_of(mixture, trainable), seed)
    };
    let specs: Vec<FlowSpec> = mixtures.iter().map(spec).collect::<Result<_, _>>()?;
    let mut members = Vec::with_capacity(specs.len());
    for (spec, mixture) in specs.iter().zip(&mixtures) {
        let params = params_with(&Flow::init(spec.clone(), seed)?, mixture);
        members.push(Member { spec, params, counts: None, seed, keeps_start: true });
    }
    let trial = TrainSettings {
        max_visits: visits_of_one(&settings.training, settings.training.visits(data)),
        control_variate: ControlVariate::Off,
        ..settings.training.clone()
    };
    let trained = train_all(engine, members, data, &trial, progress)?;
    let reports: Vec<Option<TrainReport>> =
        trained.into_iter().map(|trained| trained.ok().map(|(_, report)| report)).collect();
    let loss = |at: usize| reports[at].as_ref().map_or(f64::INFINITY, |r| r.best_validation_loss);
    let best = (0..mixtures.len()).min_by(|&a, &b| loss(a).total_cmp(&loss(b))).unwrap_or_default();
    let as_good = |at: usize| match (&reports[at], &reports[best]) {
        (Some(report), Some(best)) => !best.judged.clearly_better(&report.judged, SURE),
        _ => false,
    };
    let taken = (0..best).find(|&at| as_good(at)).unwrap_or(best);
    let losses = mixtures.iter().enumerate().map(|(at, m)| (m.n_components, loss(at))).collect();
    Ok(ByTraining { mixture: mixtures.swap_remove(taken), losses })
}
