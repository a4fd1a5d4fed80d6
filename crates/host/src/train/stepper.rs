//! Makes the steps of a training run, with the optimiser on the host or on the device.
//! Invariant: both draw the same batches and step by the same formula; the host's Adam is its definition.

use super::{TrainSettings, TrainingData};
use crate::HostError;
use crate::adam::{Adam, AdamSettings, AdamState, StepOutcome};
use lwflow_engine::{
    EngineError, FlowExecutor, OptimiserPlace, OptimiserSettings, OptimiserState, TrainSteps,
};
use lwflow_model::{FlowSpec, ParamLayout};

/// Steps between two looks at the caller's wish to stop, with the optimiser on the device.
const GROUP: usize = 64;

/// Batches of consecutive steps.
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

/// Where the optimiser is.
#[derive(Debug)]
enum Place {
    Host(Box<OnHost>),
    Device,
}

/// The optimiser on the host.
#[derive(Debug)]
struct OnHost {
    adam: Adam,
    rate_scale: Vec<f32>,
    params: Vec<f32>,
    /// Decay of the layers' parameters per step, relative to the learning rate.
    decay: f64,
    average: Option<Average>,
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

/// The steps of one run.
#[derive(Debug)]
pub(super) struct Stepper<'a> {
    spec: &'a FlowSpec,
    layout: &'a ParamLayout,
    data: &'a TrainingData,
    batch: usize,
    place: Place,
}

impl<'a> Stepper<'a> {
    /// Begins with `params`, which the executor has.
    pub fn new(
        executor: &mut FlowExecutor,
        spec: &'a FlowSpec,
        layout: &'a ParamLayout,
        data: &'a TrainingData,
        settings: &TrainSettings,
        (batch, n_steps): (usize, usize),
        params: &[f32],
    ) -> Result<Self, HostError> {
        let mut rate_scale = vec![1.0f32; layout.len];
        rate_scale[layout.base..].fill(settings.base_learning_rate as f32);
        let adam =
            AdamSettings { beta2: 0.99, clip_norm: Some(settings.clip_norm), ..AdamSettings::default() };
        let checked = Adam::new(layout.len, adam)?;
        let fits = executor.kernel_choice().is_some_and(|c| c.optimiser == OptimiserPlace::Device)
            && batch <= executor.piece_samples()
            && settings.averaging == 0.0
            && settings.weight_decay == 0.0;
        let on_device = fits
            && match executor.set_data(&data.x, &data.context) {
                Ok(()) => true,
                // More points than the device holds: they go over batch by batch.
                Err(EngineError::Limit { .. }) => false,
                Err(error) => return Err(error.into()),
            };
        let place = if on_device {
            let AdamState { m, v, step } = checked.state().clone();
            let AdamSettings { beta1, beta2, eps, clip_norm } = adam;
            let settings = OptimiserSettings { beta1, beta2, eps, clip_norm, rate_scale };
            executor.set_optimiser(&settings, &OptimiserState { m, v, step })?;
            Place::Device
        } else {
            let horizon = settings.averaging * n_steps as f64;
            let average = (horizon > 1.0).then(|| Average { horizon, n: 0, params: params.to_vec() });
            let (params, decay) = (params.to_vec(), settings.weight_decay / (n_steps as f64).sqrt());
            Place::Host(Box::new(OnHost { adam: checked, rate_scale, params, decay, average }))
        };
        Ok(Self { spec, layout, data, batch, place })
    }

    /// Most steps of one call of [`Stepper::run`].
    pub fn group(&self) -> usize {
        match self.place {
            Place::Host(_) => 1,
            Place::Device => GROUP,
        }
    }

    /// Makes a step per batch and rate.
    pub fn run(
        &mut self,
        executor: &mut FlowExecutor,
        draws: &Draws,
        rates: &[f64],
    ) -> Result<Vec<Stepped>, HostError> {
        match &mut self.place {
            Place::Device => {
                let report = executor.train_steps(&TrainSteps {
                    batch_size: self.batch,
                    index: &draws.index,
                    weights: &draws.weights,
                    log_inv_proposal: draws.log_inv_proposal.as_deref(),
                    learning_rate: rates,
                })?;
                let rows = report.loss.into_iter().zip(report.taken);
                Ok(rows.map(|(loss, taken)| Stepped { loss: f64::from(loss), taken }).collect())
            }
            Place::Host(on_host) => {
                let OnHost { adam, rate_scale, params, decay, average } = &mut **on_host;
                let mut stepped = Vec::with_capacity(rates.len());
                for (k, &rate) in rates.iter().enumerate() {
                    let samples = k * self.batch..(k + 1) * self.batch;
                    let (x, context) = rows(self.data, self.spec, &draws.index[samples.clone()]);
                    let weights = &draws.weights[samples.clone()];
                    let lv = draws.log_inv_proposal.as_ref().map(|lv| &lv[samples]);
                    let gradient = executor.gradient(&x, &context, weights, lv)?;
                    let loss = gradient.loss;
                    let taken = loss.is_finite()
                        && matches!(
                            adam.step(params, &gradient.grad, rate, Some(rate_scale))?,
                            StepOutcome::Taken { .. }
                        );
                    if taken {
                        if *decay > 0.0 {
                            let kept = (1.0 - rate * *decay).max(0.0) as f32;
                            params[..self.layout.base].iter_mut().for_each(|p| *p *= kept);
                        }
                        if let Some(average) = average {
                            average.add(params);
                        }
                        self.spec.project(self.layout, params);
                        executor.set_params(params)?;
                    }
                    stepped.push(Stepped { loss, taken });
                }
                Ok(stepped)
            }
        }
    }

    /// Gives the executor the parameters that are judged: their average, where there is one.
    pub fn judge(&self, executor: &mut FlowExecutor) -> Result<(), HostError> {
        match self.average() {
            Some(average) => Ok(executor.set_params(average)?),
            None => Ok(()),
        }
    }

    /// The parameters that are judged, to be kept.
    pub fn judged(&self, executor: &mut FlowExecutor) -> Result<Vec<f32>, HostError> {
        match (&self.place, self.average()) {
            (_, Some(average)) => Ok(average.to_vec()),
            (Place::Host(on_host), None) => Ok(on_host.params.clone()),
            (Place::Device, None) => Ok(executor.params()?),
        }
    }

    fn average(&self) -> Option<&[f32]> {
        match &self.place {
            Place::Host(on_host) => on_host.average.as_ref().map(|average| &average.params[..]),
            Place::Device => None,
        }
    }

    /// Goes back from judging to training.
    pub fn go_on(&self, executor: &mut FlowExecutor) -> Result<(), HostError> {
        match &self.place {
            Place::Host(on_host) if on_host.average.is_some() => Ok(executor.set_params(&on_host.params)?),
            Place::Host(_) | Place::Device => Ok(()),
        }
    }
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
            let mut executor = engine.flow(&spec).unwrap();
            executor.set_params(&start).unwrap();
            let mut stepper =
                Stepper::new(&mut executor, &spec, &layout, &data, &settings, (4, n_steps), &start).unwrap();
            assert!(stepper.run(&mut executor, &draws, &[0.1; 3]).unwrap().iter().all(|s| s.taken));
            let params = stepper.judged(&mut executor).unwrap();
            let kept = (1.0 - 0.1 * 2.0 / (n_steps as f64).sqrt()).powi(3) as f32;
            assert!(start[..layout.base].iter().any(|&p| p != 0.0));
            for (at, (&p, &s)) in params.iter().zip(&start).enumerate() {
                let expected = if at < layout.base { kept * s } else { s };
                assert!((p - expected).abs() <= 1e-6 * expected.abs(), "{n_steps} {at}: {p} {expected}");
            }
        }
    }
}
