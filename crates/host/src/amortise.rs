//! Likelihood-weighted amortisation: for every simulated observation many parameters, drawn from the flow so far and from the
//! prior, weighted by the likelihood of that observation and normalised among themselves; on them the flow is trained on.
//! Invariant: the weights of one observation sum to one, whatever its likelihood's scale.

use crate::fit::{FitInput, FitProgress, FitReport, FitSettings, Stage, fit};
use crate::likelihood::{Likelihood, own_observation};
use crate::posterior::Posterior;
use crate::prior::{Prior, transform_rows};
use crate::rng::{CounterField, stream};
use crate::train::{StopReason, TrainingData, train};
use crate::weights::{log_add, log_sum_exp};
use crate::{HostError, error};
use lwflow_engine::Engine;
use rand::Rng;
use serde::Serialize;
use std::ops::{ControlFlow, Range};

/// How parameters are drawn for each observation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AmortiseSettings {
    /// Likelihood evaluations of each simulated observation, all rounds together.
    pub evaluations_per_simulation: usize,
    /// Times that parameters are drawn and the flow is trained on them.
    pub n_rounds: usize,
    /// Share of the parameters that is drawn from the prior.
    pub prior_share: f64,
}

impl Default for AmortiseSettings {
    fn default() -> Self {
        Self { evaluations_per_simulation: 64, n_rounds: 2, prior_share: 0.1 }
    }
}

/// What one round found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AmortiseRound {
    /// Parameters drawn for each observation.
    pub n_each: usize,
    /// Mean effective number of them.
    pub mean_ess: f64,
    /// Observations for which none had a likelihood; their own parameters stay.
    pub n_without: usize,
    /// Validation loss after training, in nats.
    pub validation_loss: f64,
}

/// What the amortisation did.
#[derive(Debug, Clone, Serialize)]
pub struct AmortiseReport {
    /// Simulations.
    pub n_simulations: usize,
    /// Likelihood evaluations.
    pub n_evaluations: usize,
    /// One row per round.
    pub rounds: Vec<AmortiseRound>,
}

/// Observations that draw at a time.
const CHUNK: usize = 2048;
/// Most numbers of a round's points, parameters and context together.
const MAX_NUMBERS: usize = 200_000_000;

/// Fits a conditional flow to joint draws `input` (weight one each: neural posterior estimation), then to parameters that are
/// drawn for each of its observations, `input.context`, and weighted by p(x | theta) pi(theta) / r(theta), normalised for each
/// observation (the importance-weighted loss of method.md, section 1, for every context at once). The parameters that an
/// observation was simulated from are an exact draw from its posterior, worth one effective point, and stay among them.
///
/// # Errors
/// As [`fit`], and those of the likelihood. [`HostError::Invalid`] for an input without context.
pub fn fit_likelihood_weighted(
    engine: &Engine,
    input: &FitInput,
    prior: &dyn Prior,
    likelihood: &mut dyn Likelihood,
    settings: (&FitSettings, &AmortiseSettings),
    seed: u64,
    mut progress: impl FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<(Posterior, FitReport, AmortiseReport), HostError> {
    let (settings, how) = settings;
    let n = input.log_weights.len();
    if input.context.is_empty() {
        return Err(HostError::invalid("context", "empty", "an observation for every simulation"));
    }
    check_reads(likelihood, input.context.len() / n.max(1))?;
    let (mut posterior, mut report) = fit(engine, input, settings, seed, &mut progress)?;
    let width = prior.dim() + posterior.spec().context_dim;
    let n_each =
        (how.evaluations_per_simulation / how.n_rounds.max(1)).min(MAX_NUMBERS / (n * width).max(1)).max(2);
    let mut done = AmortiseReport { n_simulations: n, n_evaluations: 0, rounds: Vec::new() };
    let mut points = Points { observation_ess: vec![0.0; n], ..Points::default() };
    for round in 0..how.n_rounds {
        if report.training.stop == StopReason::Interrupted {
            break;
        }
        let seed = stream(seed, "amortise", round as u64).next_u64();
        (points.ess, points.n_without) = (0.0, 0);
        let mut executor = engine.flow(posterior.spec())?;
        for first in (0..n).step_by(CHUNK) {
            let observations = first..(first + CHUNK).min(n);
            let drawn =
                draw(&posterior, &mut executor, prior, input, observations, (n_each, how.prior_share), seed)?;
            done.n_evaluations += drawn.log_ratio.len();
            weigh(likelihood, input, drawn, n_each, &mut points)?;
            if progress(FitProgress { stage: Stage::Weighting, done: first, total: n, validation_loss: None })
                .is_break()
            {
                report.training.stop = StopReason::Interrupted;
                return Ok((posterior, report, done));
            }
        }
        let data = points.data(&posterior, input);
        let spec = posterior.spec().clone();
        let start = posterior.flow.params().to_vec();
        executor.set_params(&start)?;
        let (params, training) =
            train(&mut executor, &spec, start, &data, &settings.training, seed, |p| progress(p.into()))?;
        posterior.flow = lwflow_model::Flow::from_params(spec, params)?;
        let contexts = posterior.standardised_context(&input.context);
        posterior.learn_novelty(&mut executor, &contexts)?;
        done.rounds.push(AmortiseRound {
            n_each,
            mean_ess: points.ess / n as f64,
            n_without: points.n_without,
            validation_loss: training.best_validation_loss,
        });
        report.training = training;
    }
    Ok((posterior, report, done))
}

/// Refuses a likelihood that does not read observations of `n_observed` values.
///
/// # Errors
/// [`HostError::Invalid`] with what it reads.
pub fn check_reads(likelihood: &dyn Likelihood, n_observed: usize) -> Result<(), HostError> {
    match likelihood.n_observed() {
        None => Err(own_observation()),
        Some(got) if got != n_observed => {
            let expected = format!("{n_observed}, as many as are simulated");
            Err(HostError::invalid(
                "the number of values that the likelihood reads of an observation",
                got,
                expected,
            ))
        }
        Some(_) => Ok(()),
    }
}

/// Parameters drawn for some observations, `n_each` for each.
struct Drawn {
    observations: Range<usize>,
    theta: Vec<f64>,
    /// log pi - log r.
    log_ratio: Vec<f64>,
}

/// Draws from the flow and from the prior, stratified: the last of each observation's are the prior's.
fn draw(
    posterior: &Posterior,
    executor: &mut lwflow_engine::FlowExecutor,
    prior: &dyn Prior,
    input: &FitInput,
    observations: Range<usize>,
    (n_each, prior_share): (usize, f64),
    seed: u64,
) -> Result<Drawn, HostError> {
    let (d, c) = (prior.dim(), posterior.spec().context_dim);
    let n_prior = ((prior_share * n_each as f64).round() as usize).clamp(1, n_each - 1);
    let n_flow = n_each - n_prior;
    let contexts = &input.context[observations.start * c..observations.end * c];
    let n = observations.len();
    let chunk_seed = stream(seed, "observations", observations.start as u64).next_u64();
    let mut flow = (Vec::with_capacity(n * n_flow * d), Vec::with_capacity(n * n_flow));
    posterior.sample_many(executor, n_flow, contexts, chunk_seed, |mut piece| {
        flow.0.append(&mut piece.theta);
        flow.1.append(&mut piece.log_prob);
        ControlFlow::Continue(())
    })?;
    let mut u = vec![0.0; n * n_prior * d];
    CounterField::new(chunk_seed, "prior share", d).fill_uniform(0, &mut u);
    let from_prior = transform_rows(prior, &u);
    let repeated: Vec<f64> =
        contexts.chunks_exact(c).flat_map(|x| std::iter::repeat_n(x, n_prior).flatten()).copied().collect();
    let of_prior = posterior.log_prob(executor, &from_prior, &repeated)?;
    let (share_flow, share_prior) =
        ((n_flow as f64 / n_each as f64).ln(), (n_prior as f64 / n_each as f64).ln());
    let mut drawn = Drawn { observations, theta: Vec::with_capacity(n * n_each * d), log_ratio: Vec::new() };
    let mut add = |theta: &[f64], log_q: f64| {
        let log_prior = prior.log_prior(theta);
        let log_r = log_add(share_flow + log_q, share_prior + log_prior);
        drawn.theta.extend_from_slice(theta);
        // A draw at the edge of the prior, where 32 bits leave no density, counts nothing.
        drawn.log_ratio.push(if log_r.is_finite() { log_prior - log_r } else { f64::NEG_INFINITY });
    };
    for k in 0..n {
        for i in k * n_flow..(k + 1) * n_flow {
            add(&flow.0[i * d..][..d], flow.1[i]);
        }
        for i in k * n_prior..(k + 1) * n_prior {
            add(&from_prior[i * d..][..d], of_prior[i]);
        }
    }
    Ok(drawn)
}

/// Weighted points of all rounds.
#[derive(Default)]
struct Points {
    theta: Vec<f64>,
    /// Weight among the draws of its round for its observation, times their effective number.
    weights: Vec<f64>,
    observation: Vec<u32>,
    /// Effective number of points of each observation, all rounds together.
    observation_ess: Vec<f64>,
    /// Sum of the effective numbers of this round.
    ess: f64,
    n_without: usize,
}

/// Weights draws by the likelihood of their observation and adds those that weigh anything.
fn weigh(
    likelihood: &mut dyn Likelihood,
    input: &FitInput,
    drawn: Drawn,
    n_each: usize,
    points: &mut Points,
) -> Result<(), HostError> {
    let d = input.names.len();
    let c = input.context.len() / input.log_weights.len();
    let contexts = &input.context[drawn.observations.start * c..drawn.observations.end * c];
    let index: Vec<u32> =
        (0..drawn.observations.len() as u32).flat_map(|k| std::iter::repeat_n(k, n_each)).collect();
    let mut log_likelihood = Vec::with_capacity(index.len());
    likelihood.evaluate_observed(&drawn.theta, contexts, &index, &mut log_likelihood)?;
    error::check_length("log_likelihood", log_likelihood.len(), index.len(), "one for each theta")?;
    for (k, observation) in drawn.observations.enumerate() {
        let rows = k * n_each..(k + 1) * n_each;
        let lw: Vec<f64> = rows.clone().map(|i| log_likelihood[i] + drawn.log_ratio[i]).collect();
        let total = log_sum_exp(&lw);
        let w: Vec<f64> =
            lw.iter().map(|lw| if total.is_finite() { (lw - total).exp() } else { 0.0 }).collect();
        let square: f64 = w.iter().map(|w| w * w).sum();
        let ess = if square > 0.0 { 1.0 / square } else { 0.0 };
        points.ess += ess;
        points.n_without += usize::from(ess == 0.0);
        points.observation_ess[observation] += ess;
        for (i, w) in rows.zip(w) {
            // Less than a millionth of an observation moves no gradient.
            if w > 1e-6 {
                points.theta.extend_from_slice(&drawn.theta[i * d..][..d]);
                points.weights.push(w * ess);
                points.observation.push(observation as u32);
            }
        }
    }
    Ok(())
}

impl Points {
    /// As training data in the coordinates of `posterior`, with the parameters that the observations were simulated from; each
    /// observation weighs one and lies on one side of the split.
    fn data(&self, posterior: &Posterior, input: &FitInput) -> TrainingData {
        let (d, c) = (posterior.dim(), posterior.spec().context_dim);
        let n = self.observation_ess.len();
        let mut data = TrainingData { blocks: Some(Vec::new()), ..TrainingData::default() };
        let context = posterior.standardised_context(&input.context);
        let mut x = vec![0.0; d];
        let mut add = |theta: &[f64], observation: usize, w: f64| {
            if posterior.outer.to_flow(theta, &mut x).is_none() {
                return;
            }
            data.n += 1;
            data.x.extend(x.iter().map(|&v| v as f32));
            data.context.extend_from_slice(&context[observation * c..][..c]);
            data.weights.push(w / ((1.0 + self.observation_ess[observation]) * n as f64));
            if let Some(blocks) = &mut data.blocks {
                blocks.push(observation as u32);
            }
        };
        for (observation, theta) in input.theta.chunks_exact(d).enumerate() {
            add(theta, observation, 1.0);
        }
        for (i, theta) in self.theta.chunks_exact(d).enumerate() {
            add(theta, self.observation[i] as usize, self.weights[i]);
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::Evaluations;
    use crate::prior::{IndependentPrior, Marginal};
    use crate::rng::sobol_blocks;
    use lwflow_engine::{DeviceChoice, EngineSettings};

    /// x = theta + 0.5 n with a standard normal prior: the posterior is normal with mean 0.8 x and variance 0.2.
    #[derive(Debug)]
    struct Noise {
        n: usize,
        nothing_below: f64,
    }

    impl Likelihood for Noise {
        fn dim(&self) -> usize {
            2
        }

        fn n_observed(&self) -> Option<usize> {
            Some(2)
        }

        fn evaluate(&mut self, _: &[f64], _: &mut Evaluations) -> Result<(), HostError> {
            Err(HostError::invalid("observation", "none", "one"))
        }

        fn evaluate_observed(
            &mut self,
            theta: &[f64],
            observations: &[f64],
            observation: &[u32],
            out: &mut Vec<f64>,
        ) -> Result<(), HostError> {
            self.n += observation.len();
            for (theta, &k) in theta.chunks_exact(2).zip(observation) {
                let x = &observations[2 * k as usize..][..2];
                let square: f64 = theta.iter().zip(x).map(|(t, x)| (x - t).powi(2)).sum();
                out.push(if x[0] < self.nothing_below { f64::NEG_INFINITY } else { -2.0 * square });
            }
            Ok(())
        }

        fn audit(&mut self, _: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
            Ok(None)
        }
    }

    fn normals(seed: u64, n: usize) -> Vec<f64> {
        let mut out = vec![0.0; n];
        CounterField::new(seed, "test", 1).fill_standard_normal(0, &mut out);
        out
    }

    fn simulated(n: usize) -> FitInput {
        let normal = Marginal::Normal { mean: 0.0, sd: 1.0 };
        let prior = IndependentPrior::new(vec![normal; 2]).unwrap();
        let theta = transform_rows(&prior, &sobol_blocks(3, n, 2).points);
        let context = theta.iter().zip(normals(4, 2 * n)).map(|(t, z)| t + 0.5 * z).collect();
        FitInput {
            names: vec!["a".into(), "b".into()],
            labels: vec!["a".into(), "b".into()],
            supports: prior.supports(),
            theta,
            context,
            log_weights: vec![0.0; n],
            ..FitInput::default()
        }
    }

    /// Mean forward KL of the posteriors of 500 fresh observations from the exact ones.
    fn distance(posterior: &Posterior, engine: &Engine) -> f64 {
        let z = normals(5, 4000);
        let (mut theta, mut context, mut truth) = (Vec::new(), Vec::new(), 0.0);
        for row in z.chunks_exact(8).map(|z| &z[..6]) {
            let x = [row[0] + 0.5 * row[2], row[1] + 0.5 * row[3]];
            theta.extend([0.8 * x[0] + 0.2f64.sqrt() * row[4], 0.8 * x[1] + 0.2f64.sqrt() * row[5]]);
            context.extend(x);
            truth -= (std::f64::consts::TAU * 0.2).ln() + 0.5 * (row[4] * row[4] + row[5] * row[5]);
        }
        let mut executor = engine.flow(posterior.spec()).unwrap();
        let log_q = posterior.log_prob(&mut executor, &theta, &context).unwrap();
        (truth - log_q.iter().sum::<f64>()) / 500.0
    }

    #[test]
    fn likelihoods_of_many_parameters_make_up_for_few_simulations() {
        let engine =
            Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap();
        let input = simulated(400);
        let normal = Marginal::Normal { mean: 0.0, sd: 1.0 };
        let prior = IndependentPrior::new(vec![normal; 2]).unwrap();
        let mut settings = FitSettings::conditional();
        settings.flow.n_layers = 2;
        settings.flow.hidden = vec![16];
        settings.training.max_visits = 40_000;
        let (plain, _) = fit(&engine, &input, &settings, 1, |_| ControlFlow::Continue(())).unwrap();
        let run = |likelihood: &mut Noise| {
            let how = AmortiseSettings { evaluations_per_simulation: 32, ..AmortiseSettings::default() };
            let go_on = |_| ControlFlow::Continue(());
            fit_likelihood_weighted(&engine, &input, &prior, likelihood, (&settings, &how), 1, go_on).unwrap()
        };
        let mut likelihood = Noise { n: 0, nothing_below: f64::NEG_INFINITY };
        let (weighted, _, report) = run(&mut likelihood);
        assert_eq!((report.n_evaluations, likelihood.n), (400 * 32, 400 * 32));
        assert!(report.rounds.iter().all(|r| r.n_without == 0 && r.mean_ess > 6.0), "{report:?}");
        let (before, after) = (distance(&plain, &engine), distance(&weighted, &engine));
        println!("KL {before:.4} by simulations, {after:.4} with likelihoods");
        assert!(after < 0.5 * before && after < 0.03, "{before} {after}");
        // Observations that no likelihood speaks for keep the parameters that they were simulated from.
        let (kept, _, report) = run(&mut Noise { n: 0, nothing_below: 0.0 });
        let n_below = input.context.chunks_exact(2).filter(|x| x[0] < 0.0).count();
        assert!(report.rounds.iter().all(|r| r.n_without == n_below), "{report:?}");
        assert!(distance(&kept, &engine) < 1.5 * before, "{}", distance(&kept, &engine));
    }

    #[test]
    fn a_likelihood_with_its_own_observation_is_refused() {
        let engine =
            Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap();
        let normal = Marginal::Normal { mean: 0.0, sd: 1.0 };
        let prior = IndependentPrior::new(vec![normal; 2]).unwrap();
        let mut settings = FitSettings::conditional();
        settings.training.max_visits = 1000;
        let refuse = |input: &FitInput, likelihood: &mut dyn Likelihood| {
            let how = AmortiseSettings::default();
            let too_late = |_| panic!("nothing is trained before the likelihood is looked at");
            fit_likelihood_weighted(&engine, input, &prior, likelihood, (&settings, &how), 1, too_late)
                .unwrap_err()
                .to_string()
        };
        let mut own = crate::likelihood::ClosureLikelihood::new(2, |theta: &[f64]| -theta[0]);
        let error = refuse(&simulated(100), &mut own);
        assert!(error.contains("its own observation"), "{error}");
        let bare = FitInput { context: Vec::new(), ..simulated(100) };
        let error = refuse(&bare, &mut own);
        assert!(error.contains("context"), "{error}");
        let mut of_three = crate::likelihood::ObservedClosure::new(2, 3, |_: &[f64], _: &[f64]| 0.0);
        let error = refuse(&simulated(100), &mut of_three);
        assert!(error.contains("is 3, expected 2"), "{error}");
    }
}
