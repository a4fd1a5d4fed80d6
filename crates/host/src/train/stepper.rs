//! Makes the steps of a training run, with the optimiser on the host or on the device.
//! Invariant: both draw the same batches and step by the same formula; the host's Adam is its definition.

use super::run::Course;
use super::{Member, TrainingData};
use crate::HostError;
use crate::adam::{Adam, AdamSettings, AdamState, StepOutcome};
use lwflow_engine::{
    EngineError, FlowGroup, Gradient, OptimiserPlace, OptimiserSettings, OptimiserState, TrainSteps,
    WeightedBatch,
};
use lwflow_model::{FlowSpec, ParamLayout};

/// Steps between two looks at the caller's wish to stop, with the optimiser on the device.
const GROUP: usize = 64;

/// Batches of consecutive steps, of each flow of the group: `[steps, flows, batch]`.
#[derive(Debug, Default)]
pub(super) struct Draws {
    /// Rows of the data, batch after batch.
    pub index: Vec<u32>,
    /// Their weights.
    pub weights: Vec<f32>,
    /// Logarithms of their inverse proposal densities, if the control variate is on.
    pub log_inv_proposal: Option<Vec<f32>>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stepped {
    /// The loss of its batch.
    pub loss: f64,
    /// Whether it was taken.
    pub taken: bool,
}

/// Where the optimisers are.
#[derive(Debug)]
enum Place {
    Host(Vec<OnHost>),
    Device,
}

/// A flow's optimiser on the host.
#[derive(Debug)]
struct OnHost {
    spec: FlowSpec,
    layout: ParamLayout,
    adam: Adam,
    rate_scale: Vec<f32>,
    params: Vec<f32>,
    /// Decay of the layers' parameters per step, relative to the learning rate.
    decay: f64,
    average: Option<Average>,
    /// Whether the latest step was taken.
    taken: bool,
}

/// Exponential average of the parameters over the last steps.
#[derive(Debug)]
struct Average {
    /// Steps that it reaches back.
    horizon: f64,
    n: usize,
    params: Vec<f32>,
}

impl Average {
    fn add(&mut self, params: &[f32]) {
        self.n += 1;
        // Of the first few steps it is the mean.
        let share = (1.0 / self.horizon).max(1.0 / self.n as f64) as f32;
        for (mean, &new) in self.params.iter_mut().zip(params) {
            *mean += share * (new - *mean);
        }
    }
}

impl OnHost {
    /// Steps by a gradient at `rate`; whether it could.
    fn step(&mut self, gradient: &Gradient, rate: f64) -> Result<bool, HostError> {
        let Self { spec, layout, adam, rate_scale, params, decay, average, .. } = self;
        let taken = gradient.loss.is_finite()
            && matches!(
                adam.step(params, &gradient.grad, rate, Some(rate_scale))?,
                StepOutcome::Taken { .. }
            );
        if taken {
            if *decay > 0.0 {
                let kept = (1.0 - rate * *decay).max(0.0) as f32;
                params[..layout.base].iter_mut().for_each(|p| *p *= kept);
            }
            if let Some(average) = average {
                average.add(params);
            }
            spec.project(layout, params);
        }
        Ok(taken)
    }
}

/// The steps of one training, of all its flows.
#[derive(Debug)]
pub(super) struct Stepper<'a> {
    data: &'a TrainingData,
    batch: usize,
    place: Place,
}

impl<'a> Stepper<'a> {
    /// Gives the members' parameters to the group and begins with them.
    pub fn new(group: &mut FlowGroup, members: &[Member<'_>], course: Course<'a>) -> Result<Self, HostError> {
        let Course { data, settings, batch, n_steps, .. } = course;
        let adam =
            AdamSettings { beta2: 0.99, clip_norm: Some(settings.clip_norm), ..AdamSettings::default() };
        let mut on_host = Vec::with_capacity(members.len());
        for (flow, member) in members.iter().enumerate() {
            group.set_params(flow, &member.params)?;
            let layout = ParamLayout::new(member.spec);
            let mut rate_scale = vec![1.0f32; layout.len];
            rate_scale[layout.base..].fill(settings.base_learning_rate as f32);
            let horizon = settings.averaging * n_steps as f64;
            let params = member.params.clone();
            on_host.push(OnHost {
                spec: member.spec.clone(),
                adam: Adam::new(layout.len, adam)?,
                layout,
                rate_scale,
                decay: settings.weight_decay / (n_steps as f64).sqrt(),
                average: (horizon > 1.0).then(|| Average { horizon, n: 0, params: params.clone() }),
                params,
                taken: false,
            });
        }
        let fits = group.kernel_choice().is_some_and(|c| c.optimiser == OptimiserPlace::Device)
            && group.flows_at_once(batch) == members.len()
            && settings.averaging == 0.0
            && settings.weight_decay == 0.0;
        let place = match fits {
            true => match move_to_device(group, data, &on_host, adam) {
                Ok(()) => Place::Device,
                // More than the device holds: points go over batch by batch, and gradients come back.
                Err(EngineError::Limit { .. }) => Place::Host(on_host),
                Err(error) => return Err(error.into()),
            },
            false => Place::Host(on_host),
        };
        Ok(Self { data, batch, place })
    }

    /// Most steps of one call of [`Stepper::run`].
    pub fn group(&self) -> usize {
        match self.place {
            Place::Host(_) => 1,
            Place::Device => GROUP,
        }
    }

    /// Makes a step per batch and rate, `[steps, flows]`.
    pub fn run(
        &mut self,
        group: &mut FlowGroup,
        draws: &Draws,
        rates: &[f64],
    ) -> Result<Vec<Stepped>, HostError> {
        let on_host = match &mut self.place {
            Place::Host(on_host) => on_host,
            Place::Device => {
                let report = group.train_steps(&TrainSteps {
                    batch_size: self.batch,
                    index: &draws.index,
                    weights: &draws.weights,
                    log_inv_proposal: draws.log_inv_proposal.as_deref(),
                    learning_rate: rates,
                })?;
                let rows = report.loss.into_iter().zip(report.taken);
                return Ok(rows.map(|(loss, taken)| Stepped { loss: f64::from(loss), taken }).collect());
            }
        };
        let (n_flows, b) = (on_host.len(), self.batch);
        let mut stepped = Vec::with_capacity(rates.len());
        for (k, rates) in rates.chunks_exact(n_flows).enumerate() {
            let own = |f: usize| (k * n_flows + f) * b..(k * n_flows + f + 1) * b;
            let rows: Vec<_> =
                (0..n_flows).map(|f| rows(self.data, &on_host[f].spec, &draws.index[own(f)])).collect();
            let batches: Vec<WeightedBatch<'_>> = rows
                .iter()
                .enumerate()
                .map(|(f, (theta, context))| WeightedBatch {
                    theta,
                    context,
                    weights: &draws.weights[own(f)],
                    log_inv_proposal: draws.log_inv_proposal.as_ref().map(|lv| &lv[own(f)]),
                })
                .collect();
            let losses = group.step(&batches, on_host, |f, flow: &mut OnHost, gradient| {
                flow.taken = flow.step(gradient, rates[f])?;
                Ok::<_, HostError>(flow.taken.then_some(&flow.params[..]))
            })?;
            let taken = on_host.iter().map(|flow| flow.taken);
            stepped.extend(losses.into_iter().zip(taken).map(|(loss, taken)| Stepped { loss, taken }));
        }
        Ok(stepped)
    }

    /// Gives a flow of the group the parameters that are judged: their average, where there is one.
    pub fn judge(&self, group: &mut FlowGroup, flow: usize) -> Result<(), HostError> {
        match self.average(flow) {
            Some(average) => Ok(group.set_params(flow, average)?),
            None => Ok(()),
        }
    }

    /// The parameters of a flow that are judged, to be kept.
    pub fn judged(&self, group: &mut FlowGroup, flow: usize) -> Result<Vec<f32>, HostError> {
        match (&self.place, self.average(flow)) {
            (_, Some(average)) => Ok(average.to_vec()),
            (Place::Host(on_host), None) => Ok(on_host[flow].params.clone()),
            (Place::Device, None) => Ok(group.params(flow)?),
        }
    }

    fn average(&self, flow: usize) -> Option<&[f32]> {
        match &self.place {
            Place::Host(on_host) => on_host[flow].average.as_ref().map(|average| &average.params[..]),
            Place::Device => None,
        }
    }

    /// Goes back from judging to training.
    pub fn go_on(&self, group: &mut FlowGroup, flow: usize) -> Result<(), HostError> {
        match &self.place {
            Place::Host(on_host) if on_host[flow].average.is_some() => {
                Ok(group.set_params(flow, &on_host[flow].params)?)
            }
            Place::Host(_) | Place::Device => Ok(()),
        }
    }
}

/// Gives the device the points and the optimisers of all flows.
fn move_to_device(
    group: &mut FlowGroup,
    data: &TrainingData,
    on_host: &[OnHost],
    adam: AdamSettings,
) -> Result<(), EngineError> {
    group.set_data(&data.x, &data.context)?;
    let AdamSettings { beta1, beta2, eps, clip_norm } = adam;
    let (mut all, mut states) = (Vec::new(), Vec::new());
    for OnHost { adam, rate_scale, .. } in on_host {
        let AdamState { m, v, step } = adam.state().clone();
        all.push(OptimiserSettings { beta1, beta2, eps, clip_norm, rate_scale: rate_scale.clone() });
        states.push(OptimiserState { m, v, step });
    }
    group.set_optimiser(&all, &states)
}

/// Coordinates and context of the points `index`.
fn rows(data: &TrainingData, spec: &FlowSpec, index: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let (d, c) = (spec.dim, spec.context_dim);
    let mut x = Vec::with_capacity(index.len() * d);
    let mut context = Vec::with_capacity(index.len() * c);
    for &i in index {
        x.extend_from_slice(&data.x[i as usize * d..][..d]);
        context.extend_from_slice(&data.context[i as usize * c..][..c]);
    }
    (x, context)
}

#[cfg(test)]
mod tests {
    use super::super::TrainSettings;
    use super::*;
    use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
    use lwflow_model::{BaseSpec, Flow, FlowSettings};

    #[test]
    fn decay_goes_by_the_root_of_the_steps_and_leaves_the_base_alone() {
        let engine = EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() };
        let engine = Engine::new(&engine).unwrap();
        let base = BaseSpec::Mixture(lwflow_model::MixtureSpec { n_components: 2, ..Default::default() });
        let spec = FlowSpec::build(2, 0, &FlowSettings::default(), base, 1).unwrap();
        let layout = ParamLayout::new(&spec);
        let start = Flow::<f32>::init(spec.clone(), 1).unwrap().params().to_vec();
        let data = TrainingData { n: 4, x: vec![0.5; 8], weights: vec![0.25; 4], ..TrainingData::default() };
        let settings = TrainSettings { weight_decay: 2.0, ..TrainSettings::default() };
        // Weights of zero: without a gradient decay alone moves parameters.
        let draws = Draws { index: vec![0; 12], weights: vec![0.0; 12], ..Draws::default() };
        for n_steps in [4_usize, 100] {
            let mut group = engine.flow_group(std::slice::from_ref(&spec)).unwrap();
            let course = Course { data: &data, settings: &settings, control: false, batch: 4, n_steps };
            let member =
                Member { spec: &spec, params: start.clone(), counts: None, seed: 0, keeps_start: true };
            let mut stepper = Stepper::new(&mut group, &[member], course).unwrap();
            assert!(stepper.run(&mut group, &draws, &[0.1; 3]).unwrap().iter().all(|s| s.taken));
            let params = stepper.judged(&mut group, 0).unwrap();
            let kept = (1.0 - 0.1 * 2.0 / (n_steps as f64).sqrt()).powi(3) as f32;
            assert!(start[..layout.base].iter().any(|&p| p != 0.0));
            for (at, (&p, &s)) in params.iter().zip(&start).enumerate() {
                let expected = if at < layout.base { kept * s } else { s };
                assert!((p - expected).abs() <= 1e-6 * expected.abs(), "{n_steps} {at}: {p} {expected}");
            }
        }
    }
}
