//! One flow's side of a training: the points that it draws and is judged by, and what is kept of it.
//! Invariant: a run depends on its own points, parameters and seed alone, whatever other flows step beside it.

use super::report::{Judged, clearly_better};
use super::sampler::{NEGLIGIBLE, Part, Sampler};
use super::split::split;
use super::stepper::{Draws, Stepped, Stepper};
use super::{HistoryRow, Member, StopReason, TrainReport, TrainSettings, TrainingData};
use crate::HostError;
use crate::schedule::Schedule;
use lwflow_engine::FlowGroup;

/// Refused steps in a row after which a fit ends.
const MAX_SKIPPED: usize = 20;

/// What is common to all runs of a training.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) data: &'a TrainingData,
    pub(super) settings: &'a TrainSettings,
    pub(super) control: bool,
    pub(super) batch: usize,
    pub(super) n_steps: usize,
}

/// Parameters and the log densities that they give the points they are judged by.
struct Kept {
    params: Vec<f32>,
    log_prob: Vec<f32>,
    loss: f64,
}

/// One flow of a training.
pub(super) struct Run<'a> {
    course: Course<'a>,
    flow: usize,
    seed: u64,
    dim: usize,
    training: Part,
    judged: Part,
    /// The points of `judged` that are evaluated: those that add something to the loss.
    picked: Vec<usize>,
    by_weight: Sampler,
    mixed: Sampler,
    schedule: Schedule,
    start: Kept,
    best: Kept,
    last_log_prob: Vec<f32>,
    validation_loss: f64,
    skipped: usize,
    waited: usize,
    loss_sum: f64,
    loss_n: usize,
    report: TrainReport,
    /// Whether it still steps; the others of its training may go on without it.
    live: bool,
    keeps_start: bool,
    failed: Option<HostError>,
}

impl<'a> Run<'a> {
    /// Splits the points of flow `flow` of the group and judges its start, whose parameters the group has.
    pub(super) fn new(
        group: &mut FlowGroup,
        flow: usize,
        member: Member<'_>,
        course: Course<'a>,
    ) -> Result<Self, HostError> {
        let Course { data, settings, control, n_steps, .. } = course;
        let (train_index, held_index) = split(data, settings.validation_share, member.seed);
        let training = Part::new(data, train_index, control, member.counts);
        let held = Part::new(data, held_index, control, member.counts);
        // Without the control variate a weightless point adds nothing wherever the flow goes, so none is drawn.
        let by_weight = Sampler::new(&training, 0.0);
        let mixed = Sampler::new(&training, settings.uniform_share);
        let held_out = held.weight.iter().any(|&w| w > 0.0);
        let judged = if held_out { held } else { training.clone() };
        let max = judged.weight.iter().copied().fold(0.0, f64::max);
        let picked: Vec<usize> =
            (0..judged.weight.len()).filter(|&p| judged.weight[p] > NEGLIGIBLE * max).collect();
        let dim = member.spec.dim;
        let (loss, log_prob) = evaluate(group, flow, data, &judged, &picked, dim)?;
        let kept = |loss| Kept { params: member.params.clone(), log_prob: log_prob.clone(), loss };
        let best_loss = if loss.is_finite() { loss } else { f64::INFINITY };
        Ok(Self {
            course,
            flow,
            seed: member.seed,
            dim,
            training,
            judged,
            by_weight,
            mixed,
            schedule: settings.schedule.schedule(settings.learning_rate, n_steps)?,
            start: kept(loss),
            best: kept(best_loss),
            last_log_prob: log_prob,
            validation_loss: loss,
            skipped: 0,
            waited: 0,
            loss_sum: 0.0,
            loss_n: 0,
            report: TrainReport {
                history: Vec::new(),
                stop: StopReason::MaxVisits,
                steps: 0,
                visits: 0,
                skipped_steps: 0,
                n_validation: picked.len(),
                held_out,
                best_validation_loss: best_loss,
                best_step: 0,
                control_variate: control,
                flow_mass: None,
                n_flow_mass: 0,
                starts: Vec::new(),
                judged: Judged::default(),
            },
            picked,
            live: true,
            keeps_start: member.keeps_start,
            failed: None,
        })
    }

    /// Whether it still steps.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// The latest validation loss.
    pub(super) fn validation_loss(&self) -> f64 {
        self.validation_loss
    }

    /// Adds the batch of one step and returns its rate: `share` of the control variate goes into the weight of the
    /// proposal's density. Of a run that is over it is a batch that weighs nothing.
    pub(super) fn draw(&self, draws: &mut Draws, step: usize, share: f64) -> f64 {
        let batch = self.course.batch;
        if !self.live {
            draws.index.resize(draws.index.len() + batch, 0);
            draws.weights.resize(draws.weights.len() + batch, 0.0);
            if share > 0.0 {
                let drawn = draws.log_inv_proposal.get_or_insert_default();
                drawn.resize(drawn.len() + batch, f32::NEG_INFINITY);
            }
            return 0.0;
        }
        let (sampler, part) = (if share > 0.0 { &self.mixed } else { &self.by_weight }, &self.training);
        for p in sampler.draw(batch, self.seed, step) {
            let scale = 1.0 / (batch as f64 * sampler.probability[p]);
            draws.index.push(part.index[p] as u32);
            draws.weights.push((part.weight[p] * scale) as f32);
            if let (Some(lv), true) = (&part.log_inv_proposal, share > 0.0) {
                let drawn = draws.log_inv_proposal.get_or_insert_default();
                drawn.push((lv[p] + (share * scale).ln()) as f32);
            }
        }
        self.schedule.lr(step as u64 - 1)
    }

    /// Takes note of step `step`.
    pub(super) fn absorb(&mut self, step: usize, stepped: Stepped) {
        if !self.live {
            return;
        }
        self.report.steps = step;
        self.report.visits += self.course.batch;
        if stepped.taken {
            self.skipped = 0;
            self.loss_sum += stepped.loss;
            self.loss_n += 1;
            return;
        }
        self.skipped += 1;
        self.report.skipped_steps += 1;
        if self.skipped >= MAX_SKIPPED {
            self.live = false;
            self.failed = Some(HostError::NonFinite { step, skipped: self.skipped, loss: stepped.loss });
        }
    }

    /// Judges the parameters as they are at `step`, whose learning rate was `rate`, and decides whether to go on.
    pub(super) fn judge(
        &mut self,
        group: &mut FlowGroup,
        stepper: &Stepper<'_>,
        step: usize,
        rate: f64,
        interrupted: bool,
    ) -> Result<(), HostError> {
        if !self.live {
            return Ok(());
        }
        stepper.judge(group, self.flow)?;
        let (loss, log_prob) =
            evaluate(group, self.flow, self.course.data, &self.judged, &self.picked, self.dim)?;
        stepper.go_on(group, self.flow)?;
        self.validation_loss = loss;
        self.report.history.push(HistoryRow {
            step,
            visits: self.report.visits,
            learning_rate: rate,
            training_loss: if self.loss_n > 0 { self.loss_sum / self.loss_n as f64 } else { f64::NAN },
            validation_loss: loss,
        });
        (self.loss_sum, self.loss_n) = (0.0, 0);
        self.schedule.observe(loss);
        if loss < self.best.loss {
            self.best = Kept { params: stepper.judged(group, self.flow)?, log_prob, loss };
            self.report.best_step = step;
            self.waited = 0;
        } else {
            self.waited += 1;
            self.last_log_prob = log_prob;
        }
        let patience = self.course.settings.patience;
        if interrupted {
            self.report.stop = StopReason::Interrupted;
        } else if patience > 0 && self.waited >= patience {
            self.report.stop = StopReason::Patience;
        } else {
            return Ok(());
        }
        self.live = false;
        Ok(())
    }

    /// Chooses what is kept, gives it to the group and tells about the run.
    pub(super) fn finish(
        mut self,
        group: &mut FlowGroup,
        stepper: &Stepper<'_>,
    ) -> Result<Result<(Vec<f32>, TrainReport), HostError>, HostError> {
        if let Some(error) = self.failed {
            return Ok(Err(error));
        }
        let weights: Vec<f64> = self.picked.iter().map(|&p| self.judged.weight[p]).collect();
        // The validation loss has noise of its own; the annealed end of a complete run is kept unless it is clearly worse. Of
        // averages the best is taken as it is: they have no such noise, and a run on few points ends learning them by heart.
        let complete = self.report.stop == StopReason::MaxVisits
            && self.waited > 0
            && self.course.settings.averaging == 0.0;
        if complete && !clearly_better(&weights, &self.best.log_prob, &self.last_log_prob, 2.0) {
            let (params, log_prob) = (stepper.judged(group, self.flow)?, self.last_log_prob.clone());
            self.best = Kept { params, log_prob, loss: self.validation_loss };
            self.report.best_step = self.report.steps;
        }
        // Nor is a start that was right already (EM on a Gaussian mixture) given up for steps that gained nothing.
        let start = &self.start;
        let as_good = |start: &Kept| !clearly_better(&weights, &self.best.log_prob, &start.log_prob, 1.0);
        if self.keeps_start && start.loss.is_finite() && as_good(start) {
            self.best = self.start;
            self.report.best_step = 0;
        }
        self.report.best_validation_loss = self.best.loss;
        self.report.judged = Judged { weights, log_prob: self.best.log_prob };
        group.set_params(self.flow, &self.best.params)?;
        let data = self.course.data;
        if data.log_proposal.is_some() {
            let picked: Vec<usize> = (0..data.n).collect();
            let all = Part::new(data, picked.clone(), true, None);
            self.report.n_flow_mass = data.n;
            let (x, context) = all.gather(data, self.dim, &picked);
            let log_prob = group.log_prob(self.flow, &x, &context)?;
            self.report.flow_mass = all
                .log_inv_proposal
                .map(|lv| lv.iter().zip(&log_prob).map(|(lv, &q)| (f64::from(q) + lv).exp()).sum::<f64>());
        }
        Ok(Ok((self.best.params, self.report)))
    }
}

/// Loss of a part under the parameters of a flow, `-sum w log q`, and the log densities.
fn evaluate(
    group: &mut FlowGroup,
    flow: usize,
    data: &TrainingData,
    part: &Part,
    picked: &[usize],
    dim: usize,
) -> Result<(f64, Vec<f32>), HostError> {
    let (x, context) = part.gather(data, dim, picked);
    let log_prob = group.log_prob(flow, &x, &context)?;
    let terms = picked.iter().zip(&log_prob).filter(|(p, _)| part.weight[**p] > 0.0);
    let loss = terms.fold(0.0, |loss, (&p, &q)| loss - part.weight[p] * f64::from(q));
    Ok((loss, log_prob))
}
