//! Fits a flow to weighted points by stochastic gradients of `-sum_i w_i log q(x_i)`, in the flow's coordinates.
//! Every batch gradient is an unbiased estimate of the full one; parameters are finite after every step, and those
//! that were best on the validation points are returned.

use crate::HostError;
use crate::rng::stream;
use crate::schedule::{Schedule, ScheduleSettings};
use lwflow_engine::FlowExecutor;
use lwflow_model::{FlowSpec, ParamLayout};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

mod stepper;

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
    /// log r(x_i) `[n]`, the density the points were drawn from in these coordinates, if it is known and normalised.
    pub log_proposal: Option<Vec<f64>>,
    /// Independent batch of each point `[n]` (scramblings of a low-discrepancy sequence), if there are several.
    pub blocks: Option<Vec<u32>>,
}

/// Whether the gradient uses E_r\[q / r\] = 1 to cancel its noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlVariate {
    /// Where the density of the proposal is known: off while the flow is still far from the target (there q / r is a
    /// noise of its own), blended in over a tenth of the visits from `control_start` on, on for the rest.
    Auto,
    /// From the first step; an error if the density of the proposal is not known.
    On,
    /// Plain weighted log likelihood.
    Off,
}

/// Course of the learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateCourse {
    /// The same throughout.
    Constant,
    /// Up over the first fiftieth, then half a cosine down to a hundredth.
    Cosine,
    /// Halved after five validations without improvement.
    Plateau,
}

impl RateCourse {
    fn schedule(self, lr: f64, n_steps: usize) -> Result<Schedule, HostError> {
        let n_steps = n_steps as u64;
        Schedule::new(match self {
            Self::Constant => ScheduleSettings::Constant { lr },
            Self::Cosine => {
                ScheduleSettings::Cosine { lr, n_warmup: n_steps / 50, n_steps, final_fraction: 0.01 }
            }
            Self::Plateau => {
                ScheduleSettings::Plateau { lr, factor: 0.5, patience: 5, threshold: 0.0, min_lr: 1e-3 * lr }
            }
        })
    }
}

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Points per step.
    pub batch_size: usize,
    /// Most points visited (batch size times steps) by the fit that is kept. Without the control variate a flow learns
    /// its points by heart, so no more than [`VISITS_PER_EFFECTIVE_POINT`] times their effective number are visited.
    pub max_visits: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Learning rate of the base distribution relative to that of the layers.
    pub base_learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: RateCourse,
    /// Largest norm of a gradient.
    pub clip_norm: f64,
    /// Share of the weight held out for validation.
    pub validation_share: f64,
    /// Validations without improvement after which training stops (0: never). The best parameters are kept in any case,
    /// and a cosine schedule does most of its good at its end, so the default is never.
    pub patience: usize,
    /// Share of a batch drawn uniformly from all points instead of by weight, while the control variate is on.
    pub uniform_share: f64,
    /// Noise cancellation.
    pub control_variate: ControlVariate,
    /// Share of the visits after which [`ControlVariate::Auto`] begins. A fit whose EM start won, and so is close to the
    /// target from the beginning, begins at [`EARLY_CONTROL`] if that is sooner.
    pub control_start: f64,
}

/// See [`TrainSettings::max_visits`].
pub const VISITS_PER_EFFECTIVE_POINT: f64 = 100.0;

/// Where the control variate begins for a start that is close to the target.
pub const EARLY_CONTROL: f64 = 0.3;

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            batch_size: 512,
            max_visits: 1_000_000,
            learning_rate: 5e-3,
            base_learning_rate: 1.0,
            schedule: RateCourse::Cosine,
            clip_norm: 5.0,
            validation_share: 0.1,
            patience: 0,
            uniform_share: 0.2,
            control_variate: ControlVariate::Auto,
            control_start: 0.7,
        }
    }
}

/// One row of the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HistoryRow {
    /// Step, from 1.
    pub step: usize,
    /// Points visited so far.
    pub visits: usize,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Mean training loss (nats) since the previous row: the batch estimate of -sum w log q.
    pub training_loss: f64,
    /// Validation loss (nats).
    pub validation_loss: f64,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All visits were made.
    MaxVisits,
    /// No improvement for `patience` validations.
    Patience,
    /// The caller asked.
    Interrupted,
}

/// What a training run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// Rows at every validation.
    pub history: Vec<HistoryRow>,
    /// Why it ended.
    pub stop: StopReason,
    /// Steps made.
    pub steps: usize,
    /// Points visited.
    pub visits: usize,
    /// Steps refused because the loss or the gradient was not finite.
    pub skipped_steps: usize,
    /// Points behind every validation loss.
    pub n_validation: usize,
    /// Validation loss of the parameters that were kept.
    pub best_validation_loss: f64,
    /// Step whose parameters were kept (0: the start).
    pub best_step: usize,
    /// Whether the control variate was used.
    pub control_variate: bool,
    /// The flow's mass as its proposal's points see it, sum q / (n r): one, but for noise, unless the flow hides mass
    /// between the points. `None` if the density of the proposal is not known.
    pub flow_mass: Option<f64>,
    /// Validation losses of the starts that competed, the first from EM; empty without a competition.
    pub starts: Vec<f64>,
}

/// What a progress callback gets.
#[derive(Debug, Clone, Copy)]
pub struct TrainProgress {
    /// Points visited so far.
    pub visits: usize,
    /// Points to visit.
    pub max_visits: usize,
    /// Latest validation loss.
    pub validation_loss: f64,
}

/// Refused steps in a row after which a fit ends.
const MAX_SKIPPED: usize = 20;
/// Largest share of the control variate. At one, mass of the flow that no drawn point sees (a thin layer at a bound)
/// would cost only to second order, and noise would let it grow; at 0.9 it costs to first order, and 99 % of the
/// variance is still gone.
const CONTROL_SHARE: f64 = 0.9;
/// Validations per run.
const N_VALIDATIONS: usize = 40;
/// Weights below this share of the largest carry no information in f32 sums.
const NEGLIGIBLE: f64 = 1e-12;

/// Indices and derived arrays of one side of the split.
struct Part {
    index: Vec<usize>,
    /// Weights, renormalised within the part.
    weight: Vec<f64>,
    /// log of 1 / (n r_i), n the points of the part.
    log_inv_proposal: Option<Vec<f64>>,
}

impl Part {
    fn new(data: &TrainingData, index: Vec<usize>, control: bool) -> Self {
        let total: f64 = index.iter().map(|&i| data.weights[i]).sum();
        let n = index.len() as f64;
        let log_inv_proposal = match (&data.log_proposal, control) {
            (Some(lr), true) => Some(index.iter().map(|&i| -lr[i] - n.ln()).collect()),
            _ => None,
        };
        Self { weight: index.iter().map(|&i| data.weights[i] / total).collect(), index, log_inv_proposal }
    }

    fn gather(&self, data: &TrainingData, dim: usize, picked: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let context_dim = data.context.len() / data.n.max(1);
        let mut x = Vec::with_capacity(picked.len() * dim);
        let mut context = Vec::with_capacity(picked.len() * context_dim);
        for &p in picked {
            let i = self.index[p];
            x.extend_from_slice(&data.x[i * dim..][..dim]);
            context.extend_from_slice(&data.context[i * context_dim..][..context_dim]);
        }
        (x, context)
    }
}

/// Splits points into training and validation: by whole independent blocks where the data has at least eight of them,
/// so that both sides keep the evenness of their points; otherwise one of every 1 / share points in order of weight.
fn split(data: &TrainingData, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    if share <= 0.0 {
        return ((0..data.n).collect(), Vec::new());
    }
    let mut rng = stream(seed, "split", 0);
    if let Some(blocks) = &data.blocks {
        let n_blocks = blocks.iter().copied().max().map_or(0, |b| b as usize + 1);
        if n_blocks >= 8 {
            let held = ((share * n_blocks as f64).round() as usize).clamp(1, n_blocks - 1);
            let mut order: Vec<usize> = (0..n_blocks).collect();
            order.shuffle(&mut rng);
            let mut is_held = vec![false; n_blocks];
            for &b in &order[..held] {
                is_held[b] = true;
            }
            return (0..data.n).partition(|&i| !is_held[blocks[i] as usize]);
        }
    }
    let mut order: Vec<usize> = (0..data.n).collect();
    order.sort_by(|&a, &b| data.weights[b].total_cmp(&data.weights[a]).then(a.cmp(&b)));
    let every = (1.0 / share).round().max(2.0) as usize;
    let mut is_held = vec![false; data.n];
    for group in order.chunks(every) {
        if group.len() == every {
            is_held[group[rng.random_range(0..every)]] = true;
        }
    }
    (0..data.n).partition(|&i| !is_held[i])
}

/// Draws batches with probabilities s_i = (1 - e) w_i + e / n by systematic resampling; a drawn point contributes
/// w_i / (B s_i), so that the batch gradient is an unbiased estimate of the full one and no work is spent on points
/// that can add nothing.
struct Sampler {
    cumulative: Vec<f64>,
    probability: Vec<f64>,
}

impl Sampler {
    fn new(part: &Part, e: f64) -> Self {
        let n = part.weight.len() as f64;
        let max = part.weight.iter().copied().fold(0.0, f64::max);
        let probability: Vec<f64> = part
            .weight
            .iter()
            .map(|&w| (1.0 - e) * if w > NEGLIGIBLE * max { w } else { 0.0 } + e / n)
            .collect();
        let total: f64 = probability.iter().sum();
        let mut sum = 0.0;
        let probability: Vec<f64> = probability.iter().map(|p| p / total).collect();
        let cumulative = probability
            .iter()
            .map(|p| {
                sum += p;
                sum
            })
            .collect();
        Self { cumulative, probability }
    }

    fn draw(&self, batch: usize, seed: u64, step: usize) -> Vec<usize> {
        let offset: f64 = stream(seed, "batch", step as u64).random();
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let mut i = 0;
        (0..batch)
            .map(|k| {
                let position = (k as f64 + offset) / batch as f64 * total;
                i += self.cumulative[i..].partition_point(|&c| c <= position);
                i = i.min(self.cumulative.len() - 1);
                i
            })
            .collect()
    }
}

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
                "auto or off, because the density of the draws is not known",
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
    let judged = if held.weight.iter().any(|&w| w > 0.0) { &held } else { &training };
    let max = judged.weight.iter().copied().fold(0.0, f64::max);
    let picked: Vec<usize> =
        (0..judged.weight.len()).filter(|&p| judged.weight[p] > NEGLIGIBLE * max).collect();

    let effective = 1.0 / data.weights.iter().map(|w| w * w).sum::<f64>();
    let useful = if control { usize::MAX } else { (VISITS_PER_EFFECTIVE_POINT * effective).ceil() as usize };
    let max_visits = settings.max_visits.min(useful);
    let batch = settings.batch_size.min(max_visits);
    let n_steps = max_visits.div_ceil(batch);
    let every = (n_steps / N_VALIDATIONS).max(1);
    let mut schedule = settings.schedule.schedule(settings.learning_rate, n_steps)?;

    executor.set_params(&params)?;
    let mut stepper = Stepper::new(executor, spec, &layout, data, settings, batch, &params)?;
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
        best_validation_loss: if start.is_finite() { start } else { f64::INFINITY },
        best_step: 0,
        control_variate: control,
        flow_mass: None,
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
            let evaluated = evaluate(executor, data, judged, &picked, spec.dim)?;
            validation_loss = evaluated.loss;
            report.history.push(HistoryRow {
                step,
                visits: report.visits,
                learning_rate: rate,
                training_loss: loss_sum / loss_n.max(1) as f64,
                validation_loss,
            });
            (loss_sum, loss_n) = (0.0, 0);
            schedule.observe(validation_loss);
            if validation_loss < report.best_validation_loss {
                report.best_validation_loss = validation_loss;
                report.best_step = step;
                best = stepper.params(executor)?;
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
    let complete = report.stop == StopReason::MaxVisits && waited > 0;
    if complete && !clearly_better(&best_log_prob, &last_log_prob, judged, &picked, 2.0) {
        best = stepper.params(executor)?;
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
        report.flow_mass = evaluate(executor, data, &all, &picked, spec.dim)?.mass;
    }
    Ok((best, report))
}
