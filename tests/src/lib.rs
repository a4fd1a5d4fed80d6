//! Harness for the tests of the whole: the device or a counted skip, random flows and batches, and a number type that
//! carries its own rounding error, and targets that are made to fail on.
//! Invariant: [`SLACK`] is one constant for all comparisons; it is not raised for one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bounded;
pub mod honest;
mod shaken;

pub use bounded::Bounded;
pub use shaken::{Shaken, propagated};

use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::fit::{BaseSettings, FitInput, FitSettings};
use lwflow_host::outer::Support;
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_model::{Flow, FlowSettings, FlowSpec};

/// Allowed error in units of the first-order bound of [`Bounded`]. The bound is a worst case: roundings of either sign
/// stay at a tenth of it, which leaves room for kernels that add in another order.
pub const SLACK: f64 = 1.0;

/// The device of the tests: the software adapter, on macOS whatever there is. Without one the test counts as skipped.
///
/// # Panics
/// As [`lwflow_skip::adapter`].
pub fn engine() -> Option<Engine> {
    let device = if cfg!(target_os = "macos") { DeviceChoice::Gpu } else { DeviceChoice::Software };
    lwflow_skip::adapter(Engine::new(&EngineSettings { device, ..EngineSettings::default() }))
}

/// A small generator, the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for every seed.
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

    /// `n` values uniform in [-scale, scale).
    pub fn values(&mut self, n: usize, scale: f64) -> Vec<f32> {
        (0..n).map(|_| (scale * self.value()) as f32).collect()
    }
}

/// A flow whose parameters are nowhere trivial and exact in f32.
pub fn random_flow(spec: &FlowSpec, seed: u64) -> Flow<f32> {
    let mut random = Random::new(seed);
    let mut flow = Flow::<f32>::init(spec.clone(), seed).unwrap();
    for p in flow.params_mut() {
        *p += (0.4 * random.value()) as f32;
    }
    flow
}

/// Inputs of one batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[n, D]`
    pub theta: Vec<f32>,
    /// `[n, C]`
    pub context: Vec<f32>,
    /// `[n]`, at least 0, some of them 0.
    pub weights: Vec<f32>,
    /// log of 1 / (n r), `[n]`.
    pub log_inv_proposal: Vec<f32>,
}

impl Batch {
    /// A random batch of `n` samples for `spec`.
    pub fn random(spec: &FlowSpec, n: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let weights = random.values(n, 2.0).iter().map(|w| w.max(0.0) / n as f32).collect();
        Self {
            theta: random.values(n * spec.dim, 2.0),
            context: random.values(n * spec.context_dim, 1.0),
            weights,
            log_inv_proposal: random.values(n, 1.0),
        }
    }
}

/// f32 values in another number type.
pub fn cast<T: lwflow_model::Real>(values: &[f32]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(f64::from(v))).collect()
}

/// Largest error of `got` in units of the error bound of `expected`, with the index where it is.
///
/// # Panics
/// If lengths or finite masks differ, or a bound is so wide that it says nothing.
#[track_caller]
pub fn error_in_bounds(what: &str, got: &[f32], expected: &[Bounded]) -> (f64, usize) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1e-3_f64, |a, e| a.max(e.value.abs()));
    let mut worst = (0.0, 0);
    for (i, (&g, e)) in got.iter().zip(expected).enumerate() {
        assert_eq!(g.is_finite(), e.value.is_finite(), "{what}[{i}]: got {g}, expected {}", e.value);
        assert!(e.error < 0.01 * largest, "{what}[{i}]: bound {:.1e} of {} says nothing", e.error, e.value);
        // Below the least normal number f32 has no relative precision.
        let ratio = (f64::from(g) - e.value).abs() / (e.error + f64::from(f32::MIN_POSITIVE));
        if ratio > worst.0 {
            worst = (ratio, i);
        }
    }
    worst
}

/// Fails unless `got` lies within [`SLACK`] times the error bound of `expected`, element by element; returns the largest
/// error in units of its bound.
///
/// # Panics
/// As [`error_in_bounds`], or if an error is out of its bound.
#[track_caller]
pub fn compare(what: &str, got: &[f32], expected: &[Bounded]) -> f64 {
    let (worst, i) = error_in_bounds(what, got, expected);
    assert!(
        worst <= SLACK,
        "{what}[{i}]: got {}, expected {}; error {worst:.1} times its bound {:.1e}, allowed {SLACK}",
        got[i],
        expected[i].value,
        expected[i].error
    );
    worst
}

/// `n` weighted prior draws of a known target.
pub fn target_input(target: Target, n: usize, seed: u64) -> FitInput {
    let d = target.dim();
    let points = lwflow_host::rng::sobol_blocks(seed, n, d);
    let theta: Vec<f64> = points.points.chunks_exact(d).flat_map(|u| target.prior_sample(u)).collect();
    FitInput {
        names: target.parameter_names(),
        labels: target.parameter_labels(),
        supports: supports(&target.supports()),
        log_weights: theta.chunks_exact(d).map(|t| target.log_likelihood(t)).collect(),
        log_proposal: Some(theta.chunks_exact(d).map(|t| target.log_prior(t)).collect()),
        blocks: Some(points.blocks),
        theta,
        context: Vec::new(),
        effective: None,
    }
}

/// Supports with edges chosen automatically.
pub fn supports(bounds: &[(Option<f64>, Option<f64>)]) -> Vec<Support> {
    bounds.iter().map(|&(lower, upper)| Support { lower, upper, ..Support::default() }).collect()
}

/// The small shape that all fits here share, so that its kernels compile once.
pub fn small_fit(base: BaseSettings, max_visits: usize) -> FitSettings {
    FitSettings {
        flow: FlowSettings { n_layers: 2, hidden: vec![8, 8], ..FlowSettings::default() },
        base,
        training: TrainSettings { batch_size: 128, max_visits, ..TrainSettings::default() },
        ..FitSettings::default()
    }
}
