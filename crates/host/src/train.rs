//! Fits a flow to weighted points by stochastic gradients of `-sum_i w_i log q(x_i)`, in the flow's coordinates.
//! Every batch gradient is an unbiased estimate of the full one; parameters are finite after every step, and those
//! that were best on the validation points are returned.

mod report;
mod sampler;
mod settings;
mod split;
mod stepper;

pub use report::{HistoryRow, StopReason, TrainProgress, TrainReport};
pub use settings::{ControlVariate, RateCourse, TrainSettings, VISITS_PER_EFFECTIVE_POINT};

use crate::HostError;
use lwflow_engine::FlowExecutor;
use lwflow_model::{FlowSpec, ParamLayout};
use sampler::{NEGLIGIBLE, Part, Sampler};
use split::split;
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

/// Refused steps in a row after which a fit ends.
const MAX_SKIPPED: usize = 20;
/// Largest share of the control variate. At one, mass of the flow that no drawn point sees (a thin layer at a bound)
/// would cost only to second order, and noise would let it grow; at 0.9 it costs to first order, and 99 % of the
/// variance is still gone.
const CONTROL_SHARE: f64 = 0.9;
/// Validations per run.
const N_VALIDATIONS: usize = 40;

/// Adds the batch of one step: `share` of the control variate goes into the weight of the proposal's density.
fn draw_step(
    draws: &mut Draws,
    sampler: &Sampler,
    part: &Part,
    batch: usize,
    share: f64,
    seed: u64,
    step: usize,
) {
    for p in sampler.draw(batch, seed, step) {
        let scale = 1.0 / (batch as f64 * sampler.probability[p]);
        draws.index.push(part.index[p] as u32);
        draws.weights.push((part.weight[p] * scale) as f32);
        if let (Some(lv), true) = (&part.log_inv_proposal, share > 0.0) {
            let drawn = draws.log_inv_proposal.get_or_insert_default();
            drawn.push((lv[p] + (share * scale).ln()) as f32);
        }
    }
}

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

/// What [`evaluate`] finds.
struct Evaluated {
    loss: f64,
    mass: Option<f64>,
    log_prob: Vec<f32>,
}

/// Whether the first log densities are better than the second on the weighted points by more than `n_se` standard errors
/// of the difference.
fn clearly_better(first: &[f32], second: &[f32], part: &Part, picked: &[usize], n_se: f64) -> bool {
    let gain = |k: usize| f64::from(first[k]) - f64::from(second[k]);
    let mean: f64 = picked.iter().enumerate().map(|(k, &p)| part.weight[p] * gain(k)).sum();
    if !mean.is_finite() {
        return true;
    }
    let variance: f64 =
        picked.iter().enumerate().map(|(k, &p)| (part.weight[p] * (gain(k) - mean)).powi(2)).sum();
    mean > n_se * variance.sqrt()
}

/// Loss of a part under the executor's parameters, `-sum w log q`, and the flow's mass seen by it, `sum q / (n r)`.
fn evaluate(
    executor: &mut FlowExecutor,
    data: &TrainingData,
    part: &Part,
    picked: &[usize],
    dim: usize,
) -> Result<Evaluated, HostError> {
    let (x, context) = part.gather(data, dim, picked);
    let log_prob = executor.log_prob(&x, &context)?;
    let (mut loss, mut mass) = (0.0, 0.0);
    for (&p, &q) in picked.iter().zip(&log_prob) {
        let q = f64::from(q);
        if part.weight[p] > 0.0 {
            loss -= part.weight[p] * q;
        }
        if let Some(lv) = &part.log_inv_proposal {
            mass += (q + lv[p]).exp();
        }
    }
    Ok(Evaluated { loss, mass: part.log_inv_proposal.is_some().then_some(mass), log_prob })
}

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
    mut progress: impl FnMut(TrainProgress) -> ControlFlow<()>,
) -> Result<(Vec<f32>, TrainReport), HostError> {
    let layout = ParamLayout::new(spec);
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
    let (train_index, held_index) = split(data, settings.validation_share, seed);
    let training = Part::new(data, train_index, control);
    let held = Part::new(data, held_index, control);
    // Without the control variate a weightless point adds nothing wherever the flow goes, so none is drawn.
    let by_weight = Sampler::new(&training, 0.0);
    let mixed = Sampler::new(&training, settings.uniform_share);
    // Points that add nothing to the validation loss are not evaluated.
    let held_out = held.weight.iter().any(|&w| w > 0.0);
    let judged = if held_out { &held } else { &training };
    let max = judged.weight.iter().copied().fold(0.0, f64::max);
    let picked: Vec<usize> =
        (0..judged.weight.len()).filter(|&p| judged.weight[p] > NEGLIGIBLE * max).collect();

    let max_visits = settings.visits(data);
    let batch = settings.batch_size.min(max_visits);
    let n_steps = max_visits.div_ceil(batch);
    let every = (n_steps / N_VALIDATIONS).max(1);
    let mut schedule = settings.schedule.schedule(settings.learning_rate, n_steps)?;

    executor.set_params(&params)?;
    let mut stepper = Stepper::new(executor, spec, &layout, data, settings, (batch, n_steps), &params)?;
    let mut best = params.clone();
    let evaluated = evaluate(executor, data, judged, &picked, spec.dim)?;
    let (start, mut best_log_prob) = (evaluated.loss, evaluated.log_prob);
    let mut report = TrainReport {
        history: Vec::new(),
        stop: StopReason::MaxVisits,
        steps: 0,
        visits: 0,
        skipped_steps: 0,
        n_validation: picked.len(),
        held_out,
        best_validation_loss: if start.is_finite() { start } else { f64::INFINITY },
        best_step: 0,
        control_variate: control,
        flow_mass: None,
        n_flow_mass: 0,
        starts: Vec::new(),
    };
    let (mut skipped, mut waited, mut loss_sum, mut loss_n) = (0, 0, 0.0, 0usize);
    let mut last_log_prob = best_log_prob.clone();
    let (start_params, start_log_prob) = (params, best_log_prob.clone());
    let mut validation_loss = start;
    let share = |step: usize| if control { control_share(settings, step, n_steps) } else { 0.0 };
    let mut step = 0;
    while step < n_steps {
        // A group ends where a validation is due or the control variate begins.
        let first = step + 1;
        let last = n_steps.min(step + stepper.group()).min(first.next_multiple_of(every));
        let controlled = share(first) > 0.0;
        let steps = (first..=last).take_while(|&s| (share(s) > 0.0) == controlled);
        let (mut draws, mut rates) = (Draws::default(), Vec::new());
        for step in steps {
            let sampler = if controlled { &mixed } else { &by_weight };
            draw_step(&mut draws, sampler, &training, batch, share(step), seed, step);
            rates.push(schedule.lr(step as u64 - 1));
        }
        let rate = rates.last().copied().unwrap_or_default();
        for stepped in stepper.run(executor, &draws, &rates)? {
            step += 1;
            report.visits += batch;
            if stepped.taken {
                skipped = 0;
                loss_sum += stepped.loss;
                loss_n += 1;
                continue;
            }
            skipped += 1;
            report.skipped_steps += 1;
            if skipped >= MAX_SKIPPED {
                return Err(HostError::NonFinite { step, skipped, loss: stepped.loss });
            }
        }
        report.steps = step;
        let stop =
            progress(TrainProgress { visits: report.visits, max_visits: n_steps * batch, validation_loss });
        if step % every == 0 || step == n_steps || stop.is_break() {
            stepper.judge(executor)?;
            let evaluated = evaluate(executor, data, judged, &picked, spec.dim)?;
            stepper.go_on(executor)?;
            validation_loss = evaluated.loss;
            report.history.push(HistoryRow {
                step,
                visits: report.visits,
                learning_rate: rate,
                training_loss: if loss_n > 0 { loss_sum / loss_n as f64 } else { f64::NAN },
                validation_loss,
            });
            (loss_sum, loss_n) = (0.0, 0);
            schedule.observe(validation_loss);
            if validation_loss < report.best_validation_loss {
                report.best_validation_loss = validation_loss;
                report.best_step = step;
                best = stepper.judged(executor)?;
                best_log_prob = evaluated.log_prob;
                waited = 0;
            } else {
                waited += 1;
                last_log_prob = evaluated.log_prob;
            }
            if stop.is_break() {
                report.stop = StopReason::Interrupted;
                break;
            }
            if settings.patience > 0 && waited >= settings.patience {
                report.stop = StopReason::Patience;
                break;
            }
        }
    }
    // The validation loss has noise of its own; the annealed end of a complete run is kept unless it is clearly worse.
    // Of averages the best is taken as it is: they have no such noise, and a run on few points ends learning them by heart.
    let complete = report.stop == StopReason::MaxVisits && waited > 0 && settings.averaging == 0.0;
    if complete && !clearly_better(&best_log_prob, &last_log_prob, judged, &picked, 2.0) {
        best = stepper.judged(executor)?;
        best_log_prob = last_log_prob;
        report.best_step = report.steps;
        report.best_validation_loss = validation_loss;
    }
    // Nor is a start that was right already (EM on a Gaussian mixture) given up for steps that gained nothing.
    if start.is_finite() && !clearly_better(&best_log_prob, &start_log_prob, judged, &picked, 1.0) {
        best.copy_from_slice(&start_params);
        report.best_step = 0;
        report.best_validation_loss = start;
    }
    executor.set_params(&best)?;
    if data.log_proposal.is_some() {
        let all = Part::new(data, (0..data.n).collect(), true);
        let picked: Vec<usize> = (0..data.n).collect();
        report.n_flow_mass = data.n;
        report.flow_mass = evaluate(executor, data, &all, &picked, spec.dim)?.mass;
    }
    Ok((best, report))
}
