//! Where training starts: the weighted EM mixture as base, and the broad mixtures that compete with it.
//! Invariant: every start is a flow whose layers are the identity, so that its density is that of its mixture.

use super::components::visits_of_trials;
use super::{BaseSettings, Components, FitSettings, Stage};
use crate::mixture::{GaussianMixture, MixtureFitSettings, SelectionRow, fit_mixture, select_mixture};
use crate::train::{
    ControlVariate, Member, StopReason, TrainProgress, TrainSettings, TrainingData, train, train_all,
};
use crate::{HostError, rng};
use lwflow_engine::Engine;
use lwflow_model::{Activation, BaseSpec, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec};
use std::ops::ControlFlow;

/// Broad starts that compete with the EM mixture.
pub(super) const N_BROAD: usize = 3;
/// Most and fewest steps of the trial of an activation: enough to order them as whole trainings do where those differ much.
const TRIAL_STEPS: (usize, usize) = (1600, 50);
/// Most and fewest steps of each start.
const PILOT_STEPS: (usize, usize) = (200, 50);

/// Numbers of components that a quick search tries; few, because each is a flow of its own to compile on an adapter.
const LADDER: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// How much work EM is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Once per fit.
    Full,
    /// Once per round.
    Quick,
}

impl Effort {
    pub(super) fn em(self) -> MixtureFitSettings {
        match self {
            Self::Full => MixtureFitSettings { n_restarts: 16, ..MixtureFitSettings::default() },
            Self::Quick => MixtureFitSettings {
                n_restarts: 4,
                n_short: 15,
                n_polish: 30,
                tolerance: 1e-4,
                ..MixtureFitSettings::default()
            },
        }
    }
}

/// Points that the short trainings of [`super::fit`] visit, all together, before the one that is kept. Starts compete only
/// for several components under layers.
pub fn visits_of_starts(settings: &FitSettings, n_components: usize) -> usize {
    let counted = match settings.base {
        BaseSettings::Mixture { components: Components::Trained { max }, .. } => {
            visits_of_trials(&settings.training, settings.training.max_visits, max)
        }
        _ => 0,
    };
    let compete = n_components > 1 && settings.flow.n_layers > 0;
    let starts = if compete { (N_BROAD + 1) * visits_of_start(&settings.training) } else { 0 };
    let tried = if is_tried(settings) { settings.activations.len() } else { 0 };
    counted + starts + tried * visits_of_trial(&settings.training, settings.training.max_visits)
}

fn is_tried(settings: &FitSettings) -> bool {
    settings.activations.len() > 1 && settings.flow.n_layers > 0 && !settings.flow.hidden.is_empty()
}

/// Points that the trial of one activation visits, of a training that visits so many.
fn visits_of_trial(training: &TrainSettings, visits: usize) -> usize {
    let (most, fewest) = TRIAL_STEPS;
    training.batch_size * (visits / training.batch_size / 4).clamp(fewest, most)
}

/// Trains a flow with every activation of the settings for a short while from the same start and returns the one that did
/// best on the validation points, with all their losses; that of the flow without a trial where there is nothing to choose.
pub(super) fn choose_activation(
    engine: &Engine,
    (dim, context_dim): (usize, usize),
    base: &BaseSpec,
    data: &TrainingData,
    settings: &FitSettings,
    seed: u64,
    progress: &mut dyn FnMut(Stage, usize, usize, Option<f64>) -> ControlFlow<()>,
) -> Result<(Activation, Vec<(Activation, f64)>), HostError> {
    let mut losses: Vec<(Activation, f64)> = Vec::new();
    if !is_tried(settings) {
        return Ok((settings.activations.first().copied().unwrap_or(settings.flow.activation), losses));
    }
    let n = settings.activations.len();
    let visits = settings.training.visits(data);
    let max_visits = visits_of_trial(&settings.training, visits);
    // A step's decay is that of the whole training, which the trial stands for.
    let share = max_visits as f64 / visits as f64;
    let weight_decay = settings.training.weight_decay * share.sqrt();
    let trial = TrainSettings { max_visits, weight_decay, ..settings.training.clone() };
    for (k, &activation) in settings.activations.iter().enumerate() {
        let flow = FlowSettings { activation, ..settings.flow.clone() };
        let spec = FlowSpec::build(dim, context_dim, &flow, base.clone(), seed)?;
        let start = Flow::<f32>::init(spec.clone(), seed)?.params().to_vec();
        let trained =
            train(&mut engine.flow(&spec)?, &spec, start, data, &trial, seed, |p: TrainProgress| {
                progress(Stage::Starts, k * p.max_visits + p.visits, n * p.max_visits, p.loss())
            });
        let report = match trained {
            Ok((_, report)) => report,
            // Another may do; if none does, the training itself says so.
            Err(HostError::NonFinite { .. }) => {
                losses.push((activation, f64::INFINITY));
                continue;
            }
            Err(error) => return Err(error),
        };
        losses.push((activation, report.best_validation_loss));
        if report.stop == StopReason::Interrupted {
            break;
        }
    }
    let best = losses.iter().copied().reduce(|best, next| if next.1 < best.1 { next } else { best });
    Ok((best.map_or(settings.flow.activation, |(activation, _)| activation), losses))
}

/// Points that one start visits: of a short training no more than a quarter, so that finding the start costs what training
/// does.
fn visits_of_start(training: &TrainSettings) -> usize {
    let (most, fewest) = PILOT_STEPS;
    training.batch_size * (training.max_visits / training.batch_size / (N_BROAD + 1)).clamp(fewest, most)
}

/// Trains the EM mixture and a few broad mixtures for a short while, all at once, and returns the parameters that did best on
/// the validation points, with all their losses (the EM mixture's first). EM can settle on components that straddle what a
/// flow must keep apart (two rings cut into quarters), and no later step leaves that topology.
pub(super) fn compete(
    engine: &Engine,
    spec: &FlowSpec,
    mixture: &GaussianMixture,
    data: &TrainingData,
    settings: &FitSettings,
    seed: u64,
    with_base: &dyn Fn(&GaussianMixture) -> Vec<f32>,
    progress: &mut dyn FnMut(Stage, usize, usize, Option<f64>) -> ControlFlow<()>,
) -> Result<(Vec<f32>, Vec<f64>), HostError> {
    let pilot = TrainSettings {
        max_visits: visits_of_start(&settings.training),
        control_variate: ControlVariate::Off,
        ..settings.training.clone()
    };
    let broad = (1..=N_BROAD).map(|k| with_base(&broad(mixture, data, seed, k as u64)));
    let starts = std::iter::once(with_base(mixture)).chain(broad);
    let members: Vec<Member<'_>> =
        starts.map(|params| Member { spec, params, counts: None, seed, keeps_start: true }).collect();
    let trained = train_all(engine, members, data, &pilot, &mut |p: TrainProgress| {
        progress(Stage::Starts, p.visits, p.max_visits, p.loss())
    })?;
    let mut best: Option<(f64, Vec<f32>)> = None;
    let mut losses = Vec::new();
    for trained in trained {
        // Another start may do; if none does, the training itself says so.
        let (loss, params) = match trained {
            Ok((params, report)) => (report.best_validation_loss, Some(params)),
            Err(HostError::NonFinite { .. }) => (f64::INFINITY, None),
            Err(error) => return Err(error),
        };
        losses.push(loss);
        if let Some(params) = params.filter(|_| best.as_ref().is_none_or(|(b, _)| loss < *b)) {
            best = Some((loss, params));
        }
    }
    let params = best.map_or_else(|| with_base(mixture), |(_, params)| params);
    Ok((params, losses))
}

/// A mixture of the same shape that commits to nothing: means at 0.7 of randomly drawn weighted points, each component
/// half as wide as the data (which has zero mean and unit scale here), equal weights.
fn broad(like: &GaussianMixture, data: &TrainingData, seed: u64, index: u64) -> GaussianMixture {
    let (d, k) = (like.dim, like.n_components);
    let mut rng = rng::stream(seed, "broad start", index);
    let mut cumulative = 0.0;
    let sums: Vec<f64> = data
        .weights
        .iter()
        .map(|w| {
            cumulative += w;
            cumulative
        })
        .collect();
    let mut covariance = vec![0.0; d * d];
    for (x, &w) in data.x.chunks_exact(d).zip(&data.weights) {
        for i in 0..d {
            for j in 0..=i {
                covariance[i * d + j] += w * f64::from(x[i]) * f64::from(x[j]);
            }
        }
    }
    let factor = lower_cholesky(&covariance, d);
    let mut mixture = like.clone();
    mixture.logits.fill(0.0);
    for c in 0..k {
        let u = rng::open_uniform(&mut rng) * cumulative;
        let i = sums.partition_point(|&s| s < u).min(data.n - 1);
        for j in 0..d {
            mixture.means[c * d + j] = 0.7 * f64::from(data.x[i * d + j]);
        }
        let to = &mut mixture.cholesky[c * d * (d + 1) / 2..][..d * (d + 1) / 2];
        for i in 0..d {
            for j in 0..=i {
                let diagonal = like.covariance == Covariance::Diagonal;
                to[i * (i + 1) / 2 + j] = match (i == j, diagonal) {
                    (true, true) => 0.5 * covariance[i * d + i].sqrt(),
                    (false, true) => 0.0,
                    _ => 0.5 * factor[i * d + j],
                };
            }
        }
    }
    mixture
}

/// Lower Cholesky factor of a covariance `[d, d]` (lower triangle read); pivots are kept above 1e-6.
fn lower_cholesky(a: &[f64], d: usize) -> Vec<f64> {
    let mut l = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let sum: f64 = a[i * d + j] - (0..j).map(|m| l[i * d + m] * l[j * d + m]).sum::<f64>();
            l[i * d + j] = if i == j { sum.max(1e-6).sqrt() } else { sum / l[j * d + j] };
        }
    }
    l
}

/// Base specification and the mixture it starts from, by weighted EM. The layers start as the identity and never move
/// coordinates, so the points' own coordinates are base coordinates.
pub(super) fn initial_base(
    data: &TrainingData,
    dim: usize,
    settings: &BaseSettings,
    effort: Effort,
    seed: u64,
    progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(BaseSpec, Option<GaussianMixture>, Vec<SelectionRow>), HostError> {
    let BaseSettings::Mixture { components, covariance, trainable } = settings else {
        return Ok((BaseSpec::Gaussian, None, Vec::new()));
    };
    let x: Vec<f64> = data.x.iter().map(|&v| f64::from(v)).collect();
    let em = MixtureFitSettings { covariance: *covariance, ..effort.em() };
    let (mixture, table) = match *components {
        Components::Fixed(k) => {
            (fit_mixture(&x, &data.weights, dim, k, &em, seed, progress)?.mixture, Vec::new())
        }
        // `fit` trains flows for the latter, see components.rs; elsewhere the criterion has to do.
        Components::Auto { max } | Components::Trained { max } => {
            let all: Vec<usize> = match effort {
                Effort::Full => (1..=max).collect(),
                Effort::Quick => LADDER.into_iter().filter(|&k| k <= max).collect(),
            };
            let patience = if effort == Effort::Quick { 2 } else { all.len() };
            let selection = select_mixture(&x, &data.weights, dim, &all, patience, &em, seed, progress)?;
            (selection.fit.mixture, selection.table)
        }
    };
    Ok((base_of(&mixture, *trainable), Some(mixture), table))
}

/// The base that begins as a mixture.
pub(super) fn base_of(mixture: &GaussianMixture, trainable: bool) -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec {
        n_components: mixture.n_components,
        covariance: mixture.covariance,
        trainable,
        ..MixtureSpec::default()
    })
}

/// The parameters of a flow with a mixture for its base.
pub(super) fn params_with(flow: &Flow<f32>, mixture: &GaussianMixture) -> Vec<f32> {
    let mut params = flow.params().to_vec();
    params[flow.layout().base..].copy_from_slice(&mixture_params(mixture));
    params
}

/// The base's slice of the flow's parameter vector: logits, means, then log scales or Cholesky factors with the log of
/// the diagonal.
pub(super) fn mixture_params(mixture: &GaussianMixture) -> Vec<f32> {
    let (d, k) = (mixture.dim, mixture.n_components);
    let mut out: Vec<f64> = mixture.logits.clone();
    out.extend(&mixture.means);
    for c in 0..k {
        let factor = &mixture.cholesky[c * d * (d + 1) / 2..][..d * (d + 1) / 2];
        for i in 0..d {
            for j in 0..=i {
                let entry = factor[i * (i + 1) / 2 + j];
                match (i == j, mixture.covariance) {
                    (true, _) => out.push(entry.ln()),
                    (false, Covariance::Full) => out.push(entry),
                    (false, Covariance::Diagonal) => {}
                }
            }
        }
    }
    out.into_iter().map(|v| v as f32).collect()
}

#[cfg(test)]
mod tests {
    use crate::fit::{FitInput, FitReport, FitSettings, fit, visits_of_starts};
    use crate::outer::Support;
    use crate::rng::CounterField;
    use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
    use lwflow_model::Activation;
    use std::ops::ControlFlow;

    /// A fit of 400 pairs x = theta + n, its activation, and the visits of its short trainings.
    fn fitted(activations: &[Activation]) -> (Activation, FitReport, usize) {
        let mut z = vec![0.0; 800];
        CounterField::new(4, "pairs", 2).fill_standard_normal(0, &mut z);
        let input = FitInput {
            names: vec!["a".to_owned()],
            labels: vec!["a".to_owned()],
            supports: vec![Support::default()],
            theta: z.chunks_exact(2).map(|z| z[0]).collect(),
            context: z.chunks_exact(2).map(|z| z[0] + z[1]).collect(),
            log_weights: vec![0.0; 400],
            ..FitInput::default()
        };
        let mut settings = FitSettings { activations: activations.to_vec(), ..FitSettings::conditional() };
        (settings.flow.n_layers, settings.flow.hidden) = (2, vec![8]);
        settings.training.max_visits = 32_000;
        let engine = EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() };
        let mut visits = 0;
        let watch = |p: crate::fit::FitProgress| {
            if p.stage == super::Stage::Starts {
                visits = p.total;
            }
            ControlFlow::Continue(())
        };
        let (posterior, report) = fit(&Engine::new(&engine).unwrap(), &input, &settings, 1, watch).unwrap();
        assert!(visits == visits_of_starts(&settings, 0), "{visits}");
        (posterior.spec().layers[0].activation(), report, visits)
    }

    #[test]
    fn the_activation_of_least_loss_is_taken_and_one_alone_is_not_tried() {
        use Activation::{Relu, Silu, Tanh};
        let (taken, report, visits) = fitted(&[Tanh, Relu, Silu]);
        assert_eq!(visits, 3 * 8000);
        assert_eq!(report.activations.iter().map(|tried| tried.0).collect::<Vec<_>>(), [Tanh, Relu, Silu]);
        let best = report.activations.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(taken, best.0);
        assert!(report.notes.iter().any(|note| note.contains("short trainings") && note.contains("relu")));
        // The names decide nothing: the other way round it is the same.
        assert_eq!(fitted(&[Silu, Relu, Tanh]).0, taken);
        for alone in [Relu, Silu] {
            let (taken, report, visits) = fitted(&[alone]);
            assert_eq!((taken, report.activations.len(), visits), (alone, 0, 0));
        }
    }
}
