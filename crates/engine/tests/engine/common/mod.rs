//! What the engine's tests share: the device or a counted skip, random flows and inputs, and the comparison with the
//! f64 definition. Invariant: one bound constant for all tests; it is not raised for one of them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod moved;

use lwflow_engine::{DeviceChoice, Engine, EngineSettings, OptimiserSettings, OptimiserState, TrainSteps};
use lwflow_model::{
    Activation, BaseSpec, ContextNetworkSpec, Covariance, Flow, FlowSettings, FlowSpec, MixtureSpec,
};

use moved::Moved;

/// Allowed error in units of f32 epsilon times the summed magnitudes of the terms.
pub const BOUND: f64 = 64.0;

/// The devices of the tests: the cores and the best adapter. Without an adapter the test counts as skipped.
pub fn engines_with(settings: &EngineSettings) -> Vec<Engine> {
    let cores = EngineSettings { device: DeviceChoice::Cpu, ..settings.clone() };
    [Engine::new(&cores).unwrap()].into_iter().chain(gpu_with(settings)).collect()
}

pub fn engines() -> Vec<Engine> {
    engines_with(&EngineSettings::default())
}

/// The adapter of the tests, or `None`.
pub fn gpu_with(settings: &EngineSettings) -> Option<Engine> {
    let settings = EngineSettings { device: DeviceChoice::Gpu, ..settings.clone() };
    lwflow_skip::adapter(Engine::new(&settings))
}

pub fn gpu() -> Option<Engine> {
    gpu_with(&EngineSettings::default())
}

/// A small generator, so that the inputs are the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform in [-1, 1).
    pub fn value(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn values(&mut self, n: usize, scale: f64) -> Vec<f32> {
        (0..n).map(|_| (scale * self.value()) as f32).collect()
    }
}

/// Couplings that alternate between uneven index sets, so that no shape is square.
pub fn spec(
    dim: usize,
    context_dim: usize,
    n_layers: usize,
    hidden: &[usize],
    activation: Activation,
    base: BaseSpec,
) -> FlowSpec {
    let settings = FlowSettings { n_layers, hidden: hidden.to_vec(), activation, ..FlowSettings::default() };
    spec_of(dim, context_dim, &settings, base)
}

/// The same for settings of any kind of coupling.
pub fn spec_of(dim: usize, context_dim: usize, settings: &FlowSettings, base: BaseSpec) -> FlowSpec {
    let layers = (0..settings.n_layers)
        .map(|l| (0..dim).partition(|j| dim == 1 || (j + l) % 3 == 0 || (dim == 2 && j % 2 == l % 2)))
        .filter(|(transformed, _): &(Vec<usize>, Vec<usize>)| !transformed.is_empty())
        .map(|(transformed, identity)| settings.layer(identity, transformed))
        .collect();
    let context_network = settings.context_network.clone();
    let spec = FlowSpec { dim, context_dim, context_network, layers, base };
    spec.validate().unwrap();
    spec
}

pub fn mixture(n_components: usize, covariance: Covariance, trainable: bool) -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec {
        n_components,
        covariance,
        trainable,
        weight_floor: 0.01,
        scale_floor: 1e-4,
    })
}

/// A flow with random parameters that are exact in f32; couplings shrink with their width, so that depth and width do
/// not make the map chaotic.
pub fn random_flow(spec: FlowSpec, seed: u64) -> (Flow<f64>, Vec<f32>) {
    let mut flow = Flow::<f64>::init(spec, seed).unwrap();
    let mut random = Random::new(seed + 1);
    let base = flow.layout().base;
    let mut scale = vec![0.3; flow.layout().len];
    let layout = flow.layout();
    for linear in layout.layers.iter().flatten().chain(&layout.phi).chain(&layout.rho) {
        scale[linear.weight..linear.weight + linear.n_in * linear.n_out]
            .fill(1.0 / (linear.n_in.max(1) as f64).sqrt());
    }
    let dim = flow.spec().dim;
    scale[base..].fill(0.5 / (dim as f64).sqrt());
    for (p, scale) in flow.params_mut().iter_mut().zip(scale) {
        *p = f64::from((scale * random.value()) as f32);
    }
    let params = flow.params().iter().map(|&p| p as f32).collect();
    (flow, params)
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Largest error in units of f32 epsilon times the magnitude; panics on unequal lengths or finite masks.
pub fn error(what: &str, got: &[f32], expected: &[f64], magnitude: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    assert_eq!(magnitude.len(), expected.len(), "{what}: length of the magnitudes");
    let mut worst = 0.0_f64;
    for (i, ((&g, &e), &m)) in got.iter().zip(expected).zip(magnitude).enumerate() {
        assert_eq!(g.is_finite(), e.is_finite(), "{what}[{i}]: got {g}, expected {e}");
        if e.is_finite() {
            worst = worst.max((f64::from(g) - e).abs() / (f64::from(f32::EPSILON) * m));
        }
    }
    worst
}

/// Fails if the error is out of bounds; returns it.
pub fn compare(what: &str, got: &[f32], expected: &[f64], magnitude: &[f64]) -> f64 {
    let worst = error(what, got, expected, magnitude);
    assert!(worst <= BOUND, "{what}: error {worst:.1} f32 roundings of the magnitude, allowed {BOUND}");
    worst
}

/// Inputs of one batch.
pub struct Batch {
    pub theta: Vec<f32>,
    pub context: Vec<f32>,
    pub weights: Vec<f32>,
    pub control: Vec<f32>,
}

pub fn batch(spec: &FlowSpec, n: usize, seed: u64) -> Batch {
    let mut random = Random::new(seed);
    let mut weights: Vec<f32> = random.values(n, 1.0).iter().map(|w| w.max(0.0) / n as f32).collect();
    weights[0] = 1.0 / n as f32;
    let mut context = random.values(n * spec.context_dim, 1.0);
    if let Some(ContextNetworkSpec::Set(set)) = &spec.context_network
        && set.counted
    {
        // From none to all, in no order of the rows.
        for (i, row) in context.chunks_exact_mut(spec.context_dim).enumerate() {
            row[0] = (7 * i % (set.most(spec.context_dim) + 1)) as f32;
        }
    }
    Batch { theta: random.values(n * spec.dim, 2.0), context, weights, control: random.values(n, 1.0) }
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Compares every pass of a flow with the f64 definition; returns the worst error of each.
pub fn compare_flow(
    engine: &Engine,
    spec: &FlowSpec,
    n: usize,
    seed: u64,
    control: bool,
) -> Vec<(&'static str, f64)> {
    let (flow, params) = random_flow(spec.clone(), seed);
    let Batch { theta, context, weights, control: lv } = batch(spec, n, seed + 2);
    let lv = control.then_some(lv);
    let mut executor = engine.flow(spec).unwrap();
    executor.set_params(&params).unwrap();
    let (d, c) = (spec.dim, spec.context_dim);
    let (theta64, context64, weights64) = (wide(&theta), wide(&context), wide(&weights));
    let lv64 = lv.as_deref().map(wide);
    let moved = Moved::new(&flow, &theta64, &context64, &weights64, lv64.as_deref());

    // Each layer's rounding is of the order of the largest coordinate and passes through the layers after it.
    let spread = |rows: &[f64]| -> Vec<f64> {
        rows.chunks_exact(d)
            .flat_map(|r| {
                let largest = r.iter().fold(1.0_f64, |a, v| a.max(v.abs()));
                std::iter::repeat_n(largest, d)
            })
            .collect()
    };
    let mut errors = Vec::new();
    let (z64, log_det64) = flow.inverse_and_log_det(&theta64, &context64).unwrap();
    let (z, log_det) = executor.inverse(&theta, &context).unwrap();
    errors.push(("inverse", compare("inverse", &z, &z64, &sum(&spread(&z64), &moved.z))));
    let log_det_magnitude: Vec<f64> = log_det64.iter().map(|v| d as f64 + v.abs()).collect();
    let log_det_magnitude = sum(&log_det_magnitude, &moved.log_det);
    errors.push(("log_det", compare("log_det", &log_det, &log_det64, &log_det_magnitude)));
    let (x64, _) = flow.forward_and_log_det(&theta64, &context64).unwrap();
    let (x, _) = executor.forward(&theta, &context).unwrap();
    errors.push(("forward", compare("forward", &x, &x64, &sum(&spread(&x64), &moved.x))));

    let expected = flow.gradient(&theta64, &context64, &weights64, lv64.as_deref()).unwrap();
    let got = executor.gradient(&theta, &context, &weights, lv.as_deref()).unwrap();
    let log_magnitude: Vec<f64> = z64
        .chunks_exact(d)
        .zip(&expected.log_prob)
        .zip(&moved.log_prob)
        .map(|((z, p), moved)| d as f64 + z.iter().map(|z| z * z).sum::<f64>() + p.abs() + moved)
        .collect();
    errors.push(("log_prob", compare("log_prob", &got.log_prob, &expected.log_prob, &log_magnitude)));
    let alone = executor.log_prob(&theta, &context).unwrap();
    assert_eq!(alone, got.log_prob, "log_prob and gradient give different bits");

    let mut magnitude = vec![0.0; flow.layout().len];
    let mut context_magnitude = Vec::new();
    for i in 0..n {
        let lv = lv64.as_ref().map(|lv| &lv[i..=i]);
        let one =
            flow.gradient(&theta64[i * d..][..d], &context64[i * c..][..c], &weights64[i..=i], lv).unwrap();
        magnitude.iter_mut().zip(&one.params).for_each(|(m, g)| *m += g.abs());
        // Far below any weight, an f32 exponential has run out of exponents.
        let size = one.theta.iter().chain(&one.context).fold(weights64[i].max(1e-30), |a, v| a.max(v.abs()));
        context_magnitude.extend(std::iter::repeat_n(size, c));
    }
    // Terms that cancel within a sample carry the rounding of what they are made of; the block's mean stands for it.
    for block in &flow.layout().blocks {
        let block = &mut magnitude[block.range()];
        let mean = block.iter().sum::<f64>() / block.len().max(1) as f64;
        block.iter_mut().for_each(|m| *m += mean.max(1e-30));
    }
    // So do sums and derivatives near zero.
    let magnitude = sum(&magnitude, &moved.params);
    let context_magnitude = sum(&context_magnitude, &moved.context);
    errors.push(("gradient", compare("gradient", &got.grad, &expected.params, &magnitude)));
    let what = "gradient of the context";
    errors.push((what, compare(what, &got.grad_context, &expected.context, &context_magnitude)));
    let terms: f64 = weights64.iter().zip(&log_magnitude).map(|(w, m)| w * m).sum();
    let loss_error = (got.loss - expected.loss).abs() / (f64::from(f32::EPSILON) * terms);
    assert!(loss_error <= BOUND, "loss {} expected {}", got.loss, expected.loss);

    // The same again as a training step that moves nothing: its first moment is the gradient, and log_prob then runs on
    // parameters that the device packed. The points lie in another order than the batch.
    let on_host = executor.kernel_choice().is_none() || spec.context_network.is_some();
    if on_host || n > executor.piece_samples() {
        return errors;
    }
    let reversed = |rows: &[f32], width: usize| -> Vec<f32> {
        rows.chunks_exact(width.max(1)).rev().flatten().copied().collect()
    };
    executor.set_data(&reversed(&theta, d), &reversed(&context, c)).unwrap();
    let settings = OptimiserSettings {
        beta1: 0.0,
        beta2: 0.99,
        eps: 1e-8,
        clip_norm: None,
        rate_scale: vec![1.0; params.len()],
    };
    executor.set_optimiser(&settings, &OptimiserState::new(params.len())).unwrap();
    let index: Vec<u32> = (0..n as u32).rev().collect();
    let twice = |values: &[f32]| [values, values].concat();
    let control = lv.as_deref().map(twice);
    let steps = TrainSteps {
        batch_size: n,
        index: &[&index[..], &index].concat(),
        weights: &twice(&weights),
        log_inv_proposal: control.as_deref(),
        learning_rate: &[0.0; 2],
    };
    let report = executor.train_steps(&steps).unwrap();
    assert_eq!(report.taken, [true; 2]);
    assert!(report.loss[0] == report.loss[1] || matches!(spec.base, BaseSpec::Mixture(_)));
    let m = executor.optimiser_state().unwrap().m;
    errors.push(("step's gradient", compare("step's gradient", &m, &expected.params, &magnitude)));
    let norm = expected.params.iter().map(|g| g * g).sum::<f64>().sqrt();
    let norm_magnitude = magnitude.iter().map(|g| g * g).sum::<f64>().sqrt();
    for k in 0..2 {
        compare("step's loss", &report.loss[k..=k], &[expected.loss], &[terms]);
        compare("step's norm", &report.grad_norm[k..=k], &[norm], &[norm_magnitude]);
    }
    assert_eq!(executor.params().unwrap(), params);
    let log_prob = executor.log_prob(&theta, &context).unwrap();
    let what = "log_prob after steps";
    errors.push((what, compare(what, &log_prob, &expected.log_prob, &log_magnitude)));
    errors
}
