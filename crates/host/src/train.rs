//! Fits a flow to weighted points by stochastic gradients of `-sum_i w_i log q(x_i)`, in the flow's coordinates.
//! Every batch gradient is an unbiased estimate of the full one; parameters are finite after every step, and those
//! that were best on the validation points are returned. Several flows may train at once, in step with each other.

mod report;
mod run;
mod sampler;
mod settings;
mod split;
mod stepper;

pub use report::{HistoryRow, Judged, StopReason, TrainProgress, TrainReport};
pub use settings::{ControlVariate, RateCourse, TrainSettings, VISITS_PER_EFFECTIVE_POINT};

use crate::HostError;
use lwflow_engine::{Engine, EngineError, FlowExecutor, FlowGroup};
use lwflow_model::FlowSpec;
use run::{Course, Run};
use std::ops::ControlFlow;
use stepper::{Draws, Stepper};

/// Weighted points in the flow's coordinates.
#[derive(Debug, Clone, Default)]
pub struct TrainingData {
    /// Number of points.
    pub n: usize,
    /// Points `[n, D]`.
    pub x: Vec<f32>,
    /// Context `[n, C]`.
    pub context: Vec<f32>,
    /// Self-normalised weights `[n]`.
    pub weights: Vec<f64>,
    /// log r(x_i) `[n]`, the density the points were drawn from in these coordinates, if it is known and normalised. With
    /// context, r must be the density of x given its context.
    pub log_proposal: Option<Vec<f64>>,
    /// Independent batch of each point `[n]` (a scrambling of a low-discrepancy sequence, a run of a Markov chain), if
    /// there are several.
    pub blocks: Option<Vec<u32>>,
    /// Effective number of points, where they know of less than their weights show (autocorrelation).
    pub effective: Option<f64>,
}

impl TrainingData {
    /// Effective number of points: Kish's of the weights, or less where less is known.
    pub fn effective_points(&self) -> f64 {
        let kish = 1.0 / self.weights.iter().map(|w| w * w).sum::<f64>();
        self.effective.map_or(kish, |known| known.min(kish))
    }
}

/// Largest share of the control variate. At one, mass of the flow that no drawn point sees (a thin layer at a bound)
/// would cost only to second order, and noise would let it grow; at 0.9 it costs to first order, and 99 % of the
/// variance is still gone.
const CONTROL_SHARE: f64 = 0.9;
/// Validations per run.
const N_VALIDATIONS: usize = 40;

/// How much of the control variate step `step` of `n_steps` uses.
fn control_share(settings: &TrainSettings, step: usize, n_steps: usize) -> f64 {
    match settings.control_variate {
        ControlVariate::Off => 0.0,
        ControlVariate::On => CONTROL_SHARE,
        ControlVariate::Auto => {
            CONTROL_SHARE * ((step as f64 / n_steps as f64 - settings.control_start) / 0.1).clamp(0.0, 1.0)
        }
    }
}

/// What one flow of a group trains from, and how it differs from the others.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// Its specification.
    pub spec: &'a FlowSpec,
    /// Its parameters at the start.
    pub params: Vec<f32>,
    /// How often each point counts, `[n]`: bootstrap weights, of mean one. None: each once.
    pub counts: Option<&'a [f64]>,
    /// Seed of its batches and of its validation points.
    pub seed: u64,
    /// Whether the start is kept where the training gains nothing clear over it: not of a start that knows nothing of the
    /// points as this member counts them.
    pub keeps_start: bool,
}

/// Parameters that were best on the validation points, and what happened, or why there are none.
pub type Trained = Result<(Vec<f32>, TrainReport), HostError>;

/// Trains from `params` and returns the parameters that were best on the validation points.
///
/// `progress` is called after every step, or every few steps where the optimiser is on the device, and may stop the
/// run; the best parameters so far are returned then.
///
/// # Errors
/// [`HostError::NonFinite`] if twenty steps in a row had to be refused; [`HostError::Invalid`] for settings that make no
/// sense; errors of the engine.
pub fn train(
    executor: &mut FlowExecutor,
    spec: &FlowSpec,
    params: Vec<f32>,
    data: &TrainingData,
    settings: &TrainSettings,
    seed: u64,
    progress: impl FnMut(TrainProgress) -> ControlFlow<()>,
) -> Trained {
    let member = Member { spec, params, counts: None, seed, keeps_start: true };
    let mut trained = train_group(executor.as_group(), vec![member], data, settings, progress)?;
    trained.pop().unwrap_or_else(|| Err(HostError::invalid("flows", 0, "at least one")))
}

/// Trains flows on a device, as many at once as it holds: all of them, or half and then the rest. See [`train_group`].
///
/// # Errors
/// As [`train_group`], and those of the device for a flow that it does not hold alone.
pub fn train_all(
    engine: &Engine,
    mut members: Vec<Member<'_>>,
    data: &TrainingData,
    settings: &TrainSettings,
    progress: &mut dyn FnMut(TrainProgress) -> ControlFlow<()>,
) -> Result<Vec<Trained>, HostError> {
    let n = members.len();
    let specs: Vec<FlowSpec> = members.iter().map(|member| member.spec.clone()).collect();
    let mut group = match engine.flow_group(&specs) {
        Err(EngineError::Limit { .. }) if n > 1 => {
            let rest = members.split_off(n / 2);
            // Each part counts the visits of its own flows.
            let shares = [members.len(), rest.len()];
            let mut trained = Vec::with_capacity(n);
            for (part, members) in [members, rest].into_iter().enumerate() {
                let before = part * shares[0];
                trained.extend(train_all(engine, members, data, settings, &mut |p: TrainProgress| {
                    let of_one = p.max_visits / shares[part];
                    progress(TrainProgress {
                        visits: before * of_one + p.visits,
                        max_visits: n * of_one,
                        validation_loss: p.validation_loss,
                    })
                })?);
            }
            return Ok(trained);
        }
        group => group?,
    };
    train_group(&mut group, members, data, settings, progress)
}

/// Trains the flows of a group at once, each as [`train`] would alone; `progress` counts the points that all of them visit, and
/// its loss is the least. A flow whose steps do not stay finite ends with its own error, and the others go on.
///
/// # Errors
/// As [`train`], but for steps that are not finite.
pub fn train_group(
    group: &mut FlowGroup,
    members: Vec<Member<'_>>,
    data: &TrainingData,
    settings: &TrainSettings,
    mut progress: impl FnMut(TrainProgress) -> ControlFlow<()>,
) -> Result<Vec<Trained>, HostError> {
    let n_flows = members.len();
    if n_flows != group.n_flows() {
        return Err(HostError::invalid("flows", n_flows, format!("{}, those of the group", group.n_flows())));
    }
    let control = match settings.control_variate {
        ControlVariate::Off => false,
        ControlVariate::Auto => data.log_proposal.is_some(),
        ControlVariate::On if data.log_proposal.is_some() => true,
        ControlVariate::On => {
            return Err(HostError::invalid(
                "training.control_variate",
                "on",
                "auto or off, because the density of the draws is not known or, with context, of no use",
            ));
        }
    };
    if settings.batch_size == 0 || settings.max_visits == 0 {
        return Err(HostError::invalid("training.batch_size and max_visits", 0, "at least 1"));
    }
    let max_visits = settings.visits(data);
    let batch = settings.batch_size.min(max_visits);
    let n_steps = max_visits.div_ceil(batch);
    let every = (n_steps / N_VALIDATIONS).max(1);
    let course = Course { data, settings, control, batch, n_steps };
    let mut stepper = Stepper::new(group, &members, course)?;
    let mut runs = Vec::with_capacity(n_flows);
    for (flow, member) in members.into_iter().enumerate() {
        runs.push(Run::new(group, flow, member, course)?);
    }
    let share = |step: usize| if control { control_share(settings, step, n_steps) } else { 0.0 };
    let mut step = 0;
    while step < n_steps && runs.iter().any(Run::is_live) {
        // A group of steps ends where a validation is due or the control variate begins.
        let first = step + 1;
        let last = n_steps.min(step + stepper.group()).min(first.next_multiple_of(every));
        let controlled = share(first) > 0.0;
        let steps = (first..=last).take_while(|&s| (share(s) > 0.0) == controlled);
        let (mut draws, mut rates) = (Draws::default(), Vec::new());
        for step in steps {
            rates.extend(runs.iter().map(|run| run.draw(&mut draws, step, share(step))));
        }
        for stepped in stepper.run(group, &draws, &rates)?.chunks_exact(n_flows) {
            step += 1;
            runs.iter_mut().zip(stepped).for_each(|(run, &stepped)| run.absorb(step, stepped));
        }
        let stop = progress(TrainProgress {
            visits: n_flows * step * batch,
            max_visits: n_flows * n_steps * batch,
            validation_loss: runs.iter().map(Run::validation_loss).fold(f64::NAN, f64::min),
        });
        if step % every == 0 || step == n_steps || stop.is_break() {
            let latest = &rates[rates.len() - n_flows..];
            for (run, &rate) in runs.iter_mut().zip(latest) {
                run.judge(group, &stepper, step, rate, stop.is_break())?;
            }
        }
    }
    runs.into_iter().map(|run| run.finish(group, &stepper)).collect()
}
