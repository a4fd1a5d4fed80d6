//! The passes on the cores against the f64 definition, at every level that this processor has, over awkward shapes.
//! Invariant: one bound constant for all comparisons, in f32 roundings of the summed magnitudes of the terms.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use lwflow_model::{
    Activation, BaseSpec, Coupling, Covariance, Flow, FlowSettings, FlowSpec, LayerSpec, MixtureSpec,
};

use super::{Cpu, CpuFlow, Level};
use crate::{EngineError, Gradient, WeightedBatch};

/// Allowed error in units of f32 epsilon times the summed magnitudes of the terms.
const BOUND: f64 = 64.0;

/// A small generator, so that the inputs are the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform in [-1, 1).
    fn value(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn values(&mut self, n: usize, scale: f64) -> Vec<f32> {
        (0..n).map(|_| (scale * self.value()) as f32).collect()
    }
}

/// Couplings that take turns between uneven index sets, so that no shape is square.
fn spec(
    dim: usize,
    c: usize,
    layers: usize,
    hidden: &[usize],
    activation: Activation,
    base: BaseSpec,
) -> FlowSpec {
    spec_of(Coupling::Affine, (dim, c), (layers, hidden), activation, base)
}

fn spec_of(
    coupling: Coupling,
    (dim, context_dim): (usize, usize),
    (n_layers, hidden): (usize, &[usize]),
    activation: Activation,
    base: BaseSpec,
) -> FlowSpec {
    let hidden = hidden.to_vec();
    let settings = FlowSettings { n_layers, hidden, activation, coupling, ..FlowSettings::default() };
    let layers = (0..n_layers)
        .map(|l| (0..dim).partition(|j| dim == 1 || (j + l) % 3 == 0 || (dim == 2 && j % 2 == l % 2)))
        .filter(|(transformed, _): &(Vec<usize>, Vec<usize>)| !transformed.is_empty())
        .map(|(transformed, identity)| settings.layer(identity, transformed))
        .collect();
    FlowSpec { dim, context_dim, context_network: None, layers, base }
}

fn mixture(n_components: usize, covariance: Covariance, trainable: bool) -> BaseSpec {
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
fn random_flow(spec: FlowSpec, seed: u64) -> (Flow<f64>, Vec<f32>) {
    let mut flow = Flow::<f64>::init(spec, seed).unwrap();
    let mut random = Random::new(seed + 1);
    let base = flow.layout().base;
    let mut scale = vec![0.3; flow.layout().len];
    for linear in flow.layout().layers.iter().flatten() {
        scale[linear.weight..][..linear.n_in * linear.n_out].fill(1.0 / (linear.n_in.max(1) as f64).sqrt());
    }
    let dim = flow.spec().dim;
    scale[base..].fill(0.5 / (dim as f64).sqrt());
    for (p, scale) in flow.params_mut().iter_mut().zip(scale) {
        *p = f64::from((scale * random.value()) as f32);
    }
    let params = flow.params().iter().map(|&p| p as f32).collect();
    (flow, params)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Fails unless every element is within [`BOUND`] roundings of its magnitude.
#[track_caller]
fn compare(what: &str, got: &[f32], expected: &[f64], magnitude: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    assert_eq!(magnitude.len(), expected.len(), "{what}: length of the magnitudes");
    for (i, ((&g, &e), &m)) in got.iter().zip(expected).zip(magnitude).enumerate() {
        assert_eq!(g.is_finite(), e.is_finite(), "{what}[{i}]: got {g}, expected {e}");
        let error = (f64::from(g) - e).abs() / (f64::from(f32::EPSILON) * m);
        assert!(!e.is_finite() || error <= BOUND, "{what}[{i}]: got {g}, expected {e}: error {error:.1}");
    }
}

struct Batch {
    theta: Vec<f32>,
    context: Vec<f32>,
    weights: Vec<f32>,
    control: Vec<f32>,
}

fn batch(spec: &FlowSpec, n: usize, seed: u64) -> Batch {
    let mut random = Random::new(seed);
    let mut weights: Vec<f32> = random.values(n, 1.0).iter().map(|w| w.max(0.0) / n as f32).collect();
    weights[0] = 1.0 / n as f32;
    let mut control = random.values(n, 1.0);
    control[n / 2] = f32::NEG_INFINITY;
    Batch {
        theta: random.values(n * spec.dim, 2.0),
        context: random.values(n * spec.context_dim, 1.0),
        weights,
        control,
    }
}

impl CpuFlow {
    fn gradient_of(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
    ) -> Result<Gradient, EngineError> {
        self.gradient(&WeightedBatch { theta, context, weights, log_inv_proposal })
    }
}

fn flow_at(level: Level, n_threads: usize, spec: &FlowSpec, params: &[f32]) -> CpuFlow {
    let mut flow = CpuFlow::new(Cpu::with_level(Some(n_threads), level), spec).unwrap();
    flow.set_params(params).unwrap();
    flow
}

/// Compares every pass of a flow with the definition, at every level.
fn compare_flow(spec: &FlowSpec, n: usize, seed: u64, control: bool) {
    println!("{spec:?} n {n}");
    let (flow, params) = random_flow(spec.clone(), seed);
    let Batch { theta, context, weights, control: lv } = batch(spec, n, seed + 2);
    let lv = control.then_some(lv);
    let (d, c) = (spec.dim, spec.context_dim);
    let (theta64, context64, weights64) = (wide(&theta), wide(&context), wide(&weights));
    let lv64 = lv.as_deref().map(wide);
    // In a spline of K bins the rounding of a coordinate is K / 2 roundings of the place in a bin.
    let of = |layer: &LayerSpec| match layer {
        LayerSpec::AffineCoupling(_) => 1.0,
        LayerSpec::SplineCoupling(c) => (0.5 * c.n_bins as f64).max(1.0),
    };
    let rough = spec.layers.iter().map(of).fold(1.0, f64::max);
    let compare = |what: &str, got: &[f32], expected: &[f64], magnitude: &[f64]| {
        let magnitude: Vec<f64> = magnitude.iter().map(|m| rough * m).collect();
        compare(what, got, expected, &magnitude);
    };

    // Each layer's rounding is of the order of the largest coordinate and passes through the layers after it.
    let spread = |rows: &[f64]| -> Vec<f64> {
        rows.chunks_exact(d)
            .flat_map(|r| std::iter::repeat_n(r.iter().fold(1.0_f64, |a, v| a.max(v.abs())), d))
            .collect()
    };
    let (z64, log_det64) = flow.inverse_and_log_det(&theta64, &context64).unwrap();
    let log_det_magnitude: Vec<f64> = log_det64.iter().map(|v| d as f64 + v.abs()).collect();
    let (x64, _) = flow.forward_and_log_det(&theta64, &context64).unwrap();
    let expected = flow.gradient(&theta64, &context64, &weights64, lv64.as_deref()).unwrap();
    let log_magnitude: Vec<f64> = z64
        .chunks_exact(d)
        .zip(&expected.log_prob)
        .map(|(z, p)| d as f64 + z.iter().map(|z| z * z).sum::<f64>() + p.abs())
        .collect();
    let mut magnitude = vec![0.0; flow.layout().len];
    // The gradients of the raw values of a spline cancel in their sum over W: softmax alone makes two thirds of them add to zero.
    let summed = spec.layers.iter().map(|layer| match layer {
        LayerSpec::AffineCoupling(_) => 1.0,
        LayerSpec::SplineCoupling(c) => (3 * c.n_bins - 1) as f64,
    });
    let summed = summed.fold(1.0, f64::max);
    let mut context_magnitude = Vec::new();
    for i in 0..n {
        let lv = lv64.as_ref().map(|lv| &lv[i..=i]);
        let (theta, context) = (&theta64[i * d..][..d], &context64[i * c..][..c]);
        let one = flow.gradient(theta, context, &weights64[i..=i], lv).unwrap();
        magnitude.iter_mut().zip(&one.params).for_each(|(m, g)| *m += g.abs());
        let size = one.theta.iter().chain(&one.context).fold(weights64[i].max(1e-30), |a, v| a.max(v.abs()));
        context_magnitude.extend(std::iter::repeat_n(summed * size, c));
    }
    // Terms that cancel within a sample carry the rounding of what they are made of; the block's mean stands for it.
    for block in &flow.layout().blocks {
        let block = &mut magnitude[block.range()];
        let mean = block.iter().sum::<f64>() / block.len().max(1) as f64;
        block.iter_mut().for_each(|m| *m += mean.max(1e-30));
    }

    for level in Level::available() {
        println!("{level}");
        let mut native = flow_at(level, 2, spec, &params);
        let (z, log_det) = native.inverse(&theta, &context).unwrap();
        compare("inverse", &z, &z64, &spread(&z64));
        compare("log_det", &log_det, &log_det64, &log_det_magnitude);
        let (x, _) = native.forward(&theta, &context).unwrap();
        compare("forward", &x, &x64, &spread(&x64));
        let got = native.gradient_of(&theta, &context, &weights, lv.as_deref()).unwrap();
        compare("log_prob", &got.log_prob, &expected.log_prob, &log_magnitude);
        let alone = native.log_prob(&theta, &context).unwrap();
        assert_eq!(alone, got.log_prob, "log_prob and gradient give different bits");
        compare("gradient", &got.grad, &expected.params, &magnitude);
        compare("gradient of the context", &got.grad_context, &expected.context, &context_magnitude);
        let terms: f64 = weights64.iter().zip(&log_magnitude).map(|(w, m)| w * m).sum();
        let error = (got.loss - expected.loss).abs() / (f64::from(f32::EPSILON) * terms);
        assert!(error <= BOUND, "loss {} expected {}", got.loss, expected.loss);
    }
}

use Activation::{Relu, Silu, Tanh};
use BaseSpec::Gaussian;
use Covariance::{Diagonal, Full};

#[test]
fn every_batch_size() {
    for (i, n) in
        [1, 2, 15, 16, 17, 47, 48, 49, 95, 96, 97, 127, 129, 191, 193, 255, 257, 400].into_iter().enumerate()
    {
        let base = if i % 2 == 0 { mixture(3, Full, true) } else { Gaussian };
        compare_flow(&spec(3, i % 3, 3, &[9, 6], [Silu, Tanh][i / 2 % 2], base), n, i as u64, i % 3 == 0);
    }
}

#[test]
fn every_width() {
    // Around the sizes of tiles and vectors, unequal, none, one, and more than two.
    let shapes: [&[usize]; 18] = [
        &[],
        &[1],
        &[2, 1],
        &[3, 5],
        &[7, 8],
        &[15, 16],
        &[16, 15],
        &[17, 33],
        &[31, 32],
        &[32, 31],
        &[48, 47],
        &[64, 65],
        &[63, 80],
        &[100, 20, 36],
        &[4, 4, 4, 4, 4],
        &[129, 16],
        &[18, 19, 20, 21],
        &[200],
    ];
    for (i, hidden) in shapes.into_iter().enumerate() {
        let base = [mixture(2, Full, true), Gaussian, mixture(4, Diagonal, true)][i % 3].clone();
        compare_flow(&spec(5, i % 4, 2, hidden, [Silu, Tanh][i % 2], base), 70, 20 + i as u64, i % 2 == 0);
    }
}

#[test]
fn every_dimension() {
    for (i, dim) in [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 48, 64, 70].into_iter().enumerate() {
        let base = [mixture(3, Full, true), mixture(2, Diagonal, true), Gaussian][i % 3].clone();
        compare_flow(
            &spec(dim, [0, 3, 20][i % 3], 2, &[20, 12], Silu, base.clone()),
            50,
            40 + i as u64,
            true,
        );
        if i % 3 != 2 {
            let base = if i % 3 == 0 { mixture(2, Diagonal, true) } else { mixture(3, Full, true) };
            compare_flow(&spec(dim, 0, 1, &[8], Tanh, base), 33, 60 + i as u64, false);
        }
    }
}

#[test]
fn relu_no_layers_and_frozen_mixtures() {
    compare_flow(&spec(4, 2, 3, &[24, 17], Relu, mixture(3, Full, true)), 100, 5, true);
    compare_flow(&spec(8, 0, 4, &[32, 32], Relu, Gaussian), 150, 7, false);
    compare_flow(&spec(2, 0, 4, &[64], Relu, mixture(8, Full, true)), 150, 8, true);
    compare_flow(&spec(3, 0, 0, &[], Silu, mixture(3, Full, true)), 60, 1, true);
    compare_flow(&spec(3, 2, 0, &[], Silu, Gaussian), 60, 2, true);
    compare_flow(&spec(3, 1, 2, &[8], Silu, mixture(3, Full, false)), 60, 3, true);
    compare_flow(&spec(1, 0, 2, &[8], Silu, mixture(3, Diagonal, false)), 60, 4, false);
}

/// Splines: one, two and many bins, one dimension, points outside the interval, every shape of conditioner.
#[test]
fn splines_of_every_shape() {
    let of = |n_bins, bound| Coupling::Spline { n_bins, bound };
    for (i, n) in [1, 2, 15, 16, 17, 47, 48, 49, 97, 257].into_iter().enumerate() {
        let base = if i % 2 == 0 { mixture(3, Full, true) } else { Gaussian };
        let spec = spec_of(of(8, 3.0), (3, i % 4), (3, &[9, 6]), [Silu, Tanh][i / 2 % 2], base);
        compare_flow(&spec, n, i as u64, i % 3 == 0);
    }
    for (i, n_bins) in [1, 2, 3, 8, 30].into_iter().enumerate() {
        for (dim, bound) in [(1, 3.0), (2, 1.5), (5, 2.5), (17, 4.0)] {
            let base = [mixture(2, Diagonal, true), Gaussian][i % 2].clone();
            let spec = spec_of(of(n_bins, bound), (dim, 3 * (i % 2)), (2, &[20]), Silu, base);
            compare_flow(&spec, 70, 50 + (10 * i + dim) as u64, i % 2 == 0);
        }
    }
    // A linear conditioner of random weights makes steep splines, and a second layer multiplies what they make of a rounding
    // beyond what the bound knows of (in 32 bits the definition itself is as far off).
    compare_flow(&spec_of(of(5, 3.0), (4, 2), (1, &[]), Silu, Gaussian), 60, 5, true);
    compare_flow(&spec_of(of(5, 3.0), (4, 0), (2, &[31, 17, 5]), Relu, mixture(3, Full, true)), 60, 6, false);
}

fn settled(n_threads: usize, n: usize, d: usize, hidden: &[usize]) -> (Gradient, Vec<f32>) {
    let settings = FlowSettings { n_layers: 3, hidden: hidden.to_vec(), ..FlowSettings::default() };
    let base = mixture(3, Full, true);
    let spec = FlowSpec::build(d, 1, &settings, base, 1).unwrap();
    let (_, params) = random_flow(spec.clone(), 2);
    let Batch { theta, context, weights, control } = batch(&spec, n, 3);
    let mut flow = flow_at(Level::detect(), n_threads, &spec, &params);
    let gradient = flow.gradient_of(&theta, &context, &weights, Some(&control)).unwrap();
    (gradient, flow.forward(&theta, &context).unwrap().0)
}

#[test]
fn the_same_bits_with_any_number_of_threads() {
    for (n, d, hidden) in [(5000, 3, &[32, 32][..]), (700, 8, &[160, 170]), (1, 2, &[8])] {
        let one = settled(1, n, d, hidden);
        for n_threads in [2, 3, 7] {
            assert_eq!(settled(n_threads, n, d, hidden), one);
        }
    }
}

#[test]
fn results_do_not_depend_on_earlier_calls() {
    let spec = spec(5, 2, 2, &[9, 3], Tanh, mixture(3, Full, true));
    let (_, params) = random_flow(spec.clone(), 1);
    let mut flow = flow_at(Level::detect(), 2, &spec, &params);
    let small = batch(&spec, 33, 2);
    let large = batch(&spec, 500, 3);
    let first = flow.gradient_of(&small.theta, &small.context, &small.weights, Some(&small.control)).unwrap();
    let rows = flow.inverse(&small.theta, &small.context).unwrap();
    flow.gradient_of(&large.theta, &large.context, &large.weights, None).unwrap();
    flow.log_prob(&large.theta, &large.context).unwrap();
    let mut nan = large.theta.clone();
    nan.fill(3e38);
    flow.gradient_of(&nan, &large.context, &large.weights, None).unwrap();
    let again = flow.gradient_of(&small.theta, &small.context, &small.weights, Some(&small.control)).unwrap();
    assert_eq!(again, first);
    assert_eq!(flow.inverse(&small.theta, &small.context).unwrap(), rows);
}

#[test]
fn a_sample_does_not_depend_on_its_place() {
    let spec = spec(4, 1, 3, &[20, 33], Silu, mixture(2, Full, true));
    let (_, params) = random_flow(spec.clone(), 1);
    for level in Level::available() {
        let mut flow = flow_at(level, 2, &spec, &params);
        let Batch { theta, context, .. } = batch(&spec, 1000, 3);
        let all = flow.log_prob(&theta, &context).unwrap();
        for i in [0, 15, 16, 40, 100, 255, 999] {
            let one = flow.log_prob(&theta[4 * i..][..4], &context[i..=i]).unwrap();
            assert_eq!(one[0].to_bits(), all[i].to_bits(), "{level}: sample {i}");
        }
    }
}

#[test]
fn many_pieces_and_chunks_add_up() {
    // More samples than one piece holds; the gradient of a batch made of copies is that of one copy.
    let spec = spec(2, 0, 1, &[4], Silu, mixture(2, Full, true));
    let (flow, params) = random_flow(spec.clone(), 1);
    let copies = 70_000;
    let one = batch(&spec, 8, 2);
    let theta = one.theta.repeat(copies);
    let weights: Vec<f32> = one.weights.repeat(copies).iter().map(|w| w / copies as f32).collect();
    let got = flow_at(Level::detect(), 2, &spec, &params).gradient_of(&theta, &[], &weights, None).unwrap();
    let expected = flow.gradient(&wide(&one.theta), &[], &wide(&one.weights), None).unwrap();
    let scale = expected.params.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
    let magnitude: Vec<f64> = expected.params.iter().map(|v| v.abs() + scale).collect();
    compare("gradient", &got.grad, &expected.params, &magnitude);
}

#[test]
fn extreme_values_end_without_a_panic() {
    let spec = spec(3, 0, 6, &[8], Silu, mixture(2, Full, true));
    let (_, mut params) = random_flow(spec.clone(), 1);
    for level in Level::available() {
        let mut flow = flow_at(level, 2, &spec, &params);
        for value in [1e30_f32, -3e38, 1e-40] {
            let theta = vec![value; 3 * 50];
            let got = flow.gradient_of(&theta, &[], &[0.02; 50], Some(&[-1.0; 50])).unwrap();
            assert_eq!(got.log_prob.len(), 50);
            assert!(value < 1.0 && value > 0.0 || got.log_prob.iter().all(|p| *p < -1e30 || p.is_nan()));
        }
    }
    params.iter_mut().for_each(|p| *p *= 1e25);
    let mut flow = flow_at(Level::detect(), 1, &spec, &params);
    flow.gradient_of(&[1.0; 30], &[], &[0.1; 10], None).unwrap();
}

#[test]
fn empty_batches_are_empty() {
    let spec = spec(3, 1, 2, &[8], Silu, Gaussian);
    let (_, params) = random_flow(spec.clone(), 1);
    let mut flow = flow_at(Level::detect(), 2, &spec, &params);
    assert_eq!(flow.log_prob(&[], &[]).unwrap(), [0.0; 0]);
    let got = flow.gradient_of(&[], &[], &[], None).unwrap();
    assert_eq!((got.loss, got.grad), (0.0, vec![0.0; params.len()]));
}

#[test]
fn wrong_arguments_are_refused() {
    let spec = spec(2, 1, 1, &[4], Silu, Gaussian);
    let (_, params) = random_flow(spec.clone(), 1);
    let mut flow = CpuFlow::new(Cpu::new(Some(1)), &spec).unwrap();
    let text = |error: EngineError| {
        assert!(error.is_recoverable());
        error.to_string()
    };
    let none = text(flow.log_prob(&[0.0, 0.0], &[0.0]).unwrap_err());
    assert_eq!(none, "log_prob: the flow has no parameters; call set_params first");
    assert!(text(flow.set_params(&params[1..]).unwrap_err()).starts_with("params: got"));
    flow.set_params(&params).unwrap();
    assert_eq!(flow.layout().len, params.len());
    assert_eq!(flow.spec(), &spec);
    let nan = text(flow.inverse(&[0.0, f32::NAN], &[0.0]).unwrap_err());
    assert_eq!(nan, "theta: value NaN at row 0, column 1; expected a finite number");
    assert!(text(flow.forward(&[0.0; 3], &[0.0]).unwrap_err()).starts_with("z: got 3 values"));
    let (theta, context) = ([0.0, 0.0], [0.0]);
    for (weights, lv) in [(&[][..], None), (&[f32::INFINITY], None), (&[1.0], Some(&[f32::NAN][..]))] {
        flow.gradient_of(&theta, &context, weights, lv).unwrap_err();
    }
    let mut wrong = spec.clone();
    wrong.dim = 0;
    assert!(CpuFlow::new(Cpu::new(None), &wrong).is_err());
}

#[test]
fn the_device_says_what_it_is() {
    let cpu: Arc<Cpu> = Cpu::new(None);
    assert!(cpu.n_threads() >= 1);
    assert_eq!(super::simd_level(), cpu.level().to_string());
    assert!(!super::processor_name().is_empty());
}
