//! Compares every pass of a small flow with the f64 definition, so that a device or driver that computes wrong numbers
//! is refused before a fit rather than found out after it. Outcomes are noted per adapter, driver and version.

pub(crate) mod note;

use std::fmt;

use lwflow_model::{
    Activation, BaseSpec, Coupling, Covariance, Flow, FlowSettings, FlowSpec, Mixing, MixtureSpec,
};

use crate::{Engine, EngineError, EngineSettings};
pub use note::SelfTestNote;

/// Allowed error in units of the f32 rounding of the summed magnitudes; the same for every figure and device.
const BOUND: f64 = 128.0;

/// One figure of the self-test.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTestCheck {
    /// What was compared, for instance `gradient`.
    pub name: &'static str,
    /// Largest error, in units of f32 epsilon times the magnitude of the terms.
    pub error: f64,
    /// The allowed error in the same units.
    pub bound: f64,
}

/// The result of a self-test.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTestReport {
    /// The device, in words.
    pub device: String,
    /// Whether an earlier pass on the same device, driver and version was found instead of testing.
    pub cached: bool,
    /// The figures; empty if `cached`.
    pub checks: Vec<SelfTestCheck>,
}

impl SelfTestCheck {
    /// Whether the figure is within its bound.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

impl SelfTestReport {
    /// Whether every figure is within its bound.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(SelfTestCheck::passed)
    }
}

/// Of a failed test the figures that are out of bounds, else all.
impl fmt::Display for SelfTestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cached {
            return f.write_str("passed before on this device and driver");
        }
        let passed = self.passed();
        for (i, check) in self.checks.iter().filter(|check| passed || !check.passed()).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {:.1} (allowed {:.0})", check.name, check.error, check.bound)?;
        }
        f.write_str(" in units of f32 rounding")
    }
}

/// Largest |got - expected| / (epsilon * magnitude); infinite where lengths or finite masks differ.
fn error(got: &[f32], expected: &[f64], magnitude: &[f64]) -> f64 {
    if got.len() != expected.len() || magnitude.len() != expected.len() {
        return f64::INFINITY;
    }
    let unit = f64::from(f32::EPSILON);
    let errors = got.iter().zip(expected).zip(magnitude).map(|((&g, &e), &m)| {
        let difference = (f64::from(g) - e).abs();
        if difference.is_finite() { difference / (unit * m.max(f64::MIN_POSITIVE)) } else { f64::INFINITY }
    });
    errors.fold(0.0, f64::max)
}

/// A flow of the test: odd sizes, all features, deterministic parameters of order one.
fn flow(
    base: BaseSpec,
    hidden: &[usize],
    activation: Activation,
    coupling: Coupling,
) -> Result<Flow<f64>, EngineError> {
    let hidden = hidden.to_vec();
    let mixing = Mixing::Alternate;
    let settings =
        FlowSettings { n_layers: 3, hidden, activation, mixing, coupling, ..FlowSettings::default() };
    let mut flow = Flow::<f64>::init(FlowSpec::build(5, 2, &settings, base, 1)?, 1)?;
    for (i, p) in flow.params_mut().iter_mut().enumerate() {
        // Through f32, so that both sides have the same parameters.
        *p = f64::from((*p + 0.3 * (1.7 * i as f64 + 0.4).sin()) as f32);
    }
    Ok(flow)
}

fn mixture(covariance: Covariance) -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec {
        n_components: 3,
        covariance,
        weight_floor: 0.01,
        ..MixtureSpec::default()
    })
}

/// More than one padded block of samples, and not a multiple of it.
const N_SAMPLES: usize = 131;

fn wave(len: usize, step: f64) -> Vec<f32> {
    (0..len).map(|i| (1.2 * (step * i as f64 + 0.3).sin()) as f32).collect()
}

/// theta and context of the test.
fn inputs(d: usize, c: usize) -> (Vec<f32>, Vec<f32>) {
    (wave(N_SAMPLES * d, 0.731), wave(N_SAMPLES * c, 1.117))
}

/// Runs the test and notes how it ended; an error with the figures if it fails.
pub(crate) fn run(engine: &Engine) -> Result<SelfTestReport, EngineError> {
    let mut checks = Vec::new();
    // Two hidden layers run on kernels of their own on some adapters, one layer never does; the last engine uses none
    // of them.
    let portable = Engine {
        opened: engine.opened.clone(),
        settings: EngineSettings { portable_kernels: true, ..engine.settings.clone() },
    };
    let affine = Coupling::Affine;
    let spline = Coupling::Spline { n_bins: 5, bound: 3.0 };
    for (engine, base, hidden, activation, coupling) in [
        (engine, mixture(Covariance::Full), &[9, 6][..], Activation::Silu, affine),
        (engine, mixture(Covariance::Diagonal), &[9, 6], Activation::Relu, affine),
        (engine, mixture(Covariance::Full), &[9, 6], Activation::Tanh, affine),
        (engine, BaseSpec::Gaussian, &[9], Activation::Silu, affine),
        (&portable, BaseSpec::Gaussian, &[9, 6], Activation::Tanh, affine),
        (engine, mixture(Covariance::Full), &[9, 6], Activation::Silu, spline),
    ] {
        check_flow(engine, &flow(base, hidden, activation, coupling)?, &mut checks)?;
    }
    let report = SelfTestReport { device: engine.info().to_string(), cached: false, checks };
    note::write(engine, &report);
    if report.passed() { Ok(report) } else { Err(EngineError::SelfTest { report: Box::new(report) }) }
}

fn check_flow(engine: &Engine, flow: &Flow<f64>, checks: &mut Vec<SelfTestCheck>) -> Result<(), EngineError> {
    let n = N_SAMPLES;
    let (d, c) = (flow.spec().dim, flow.spec().context_dim);
    let (theta, context) = inputs(d, c);
    let weights: Vec<f32> = (0..n).map(|i| (i % 7) as f32 / (3 * n) as f32).collect();
    let control: Vec<f32> = wave(n, 0.377).iter().map(|v| v - 1.0).collect();
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
    let (theta64, context64) = (wide(&theta), wide(&context));
    let (weights64, control64) = (wide(&weights), wide(&control));

    let mut executor = engine.flow(flow.spec())?;
    let params: Vec<f32> = flow.params().iter().map(|&p| p as f32).collect();
    executor.set_params(&params)?;
    let mut check = |name, got: &[f32], expected: &[f64], magnitude: &[f64]| {
        checks.push(SelfTestCheck { name, error: error(got, expected, magnitude), bound: BOUND });
    };
    let plus_one = |v: &[f64]| -> Vec<f64> { v.iter().map(|v| 1.0 + v.abs()).collect() };

    let (z, log_det) = executor.inverse(&theta, &context)?;
    let (z64, log_det64) = flow.inverse_and_log_det(&theta64, &context64)?;
    check("inverse", &z, &z64, &plus_one(&z64));
    check("log_det", &log_det, &log_det64, &plus_one(&log_det64));
    let (back, _) = executor.forward(&theta, &context)?;
    let (back64, _) = flow.forward_and_log_det(&theta64, &context64)?;
    check("forward", &back, &back64, &plus_one(&back64));

    let expected = flow.gradient(&theta64, &context64, &weights64, Some(&control64))?;
    let mut magnitude = vec![0.0; expected.params.len()];
    let mut log_magnitude = Vec::with_capacity(n);
    for i in 0..n {
        let (theta, context) = (&theta64[i * d..][..d], &context64[i * c..][..c]);
        let (w, lv) = (&weights64[i..=i], &control64[i..=i]);
        let one = flow.gradient(theta, context, w, Some(lv))?;
        for (m, g) in magnitude.iter_mut().zip(&one.params) {
            *m += g.abs();
        }
        let z = &z64[i * d..][..d];
        log_magnitude.push(1.0 + z.iter().map(|z| z * z).sum::<f64>() + one.log_prob[0].abs());
    }
    // Elements whose terms cancel within a sample still carry the rounding of their neighbours.
    let mean = magnitude.iter().sum::<f64>() / magnitude.len() as f64;
    magnitude.iter_mut().for_each(|m| *m += mean);
    let got = executor.gradient(&theta, &context, &weights, Some(&control))?;
    check("log_prob", &got.log_prob, &expected.log_prob, &log_magnitude);
    check("gradient", &got.grad, &expected.params, &magnitude);
    let scale = expected.context.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
    let context_magnitude: Vec<f64> = expected.context.iter().map(|v| v.abs() + scale).collect();
    check("gradient of the context", &got.grad_context, &expected.context, &context_magnitude);
    Ok(())
}

/// Runs the test unless it passed before.
pub(crate) fn run_cached(engine: &Engine) -> Result<SelfTestReport, EngineError> {
    if note::read(engine) == Some(SelfTestNote::Passed) {
        let device = engine.info().to_string();
        return Ok(SelfTestReport { device, cached: true, checks: Vec::new() });
    }
    run(engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceChoice;
    use crate::engine::Opened;

    /// The bound would not survive a relu whose argument rounds to the other side of zero on another device.
    #[test]
    fn relu_arguments_stay_clear_of_zero() {
        let base = mixture(Covariance::Diagonal);
        let flow = flow(base, &[9, 6], Activation::Relu, Coupling::Affine).unwrap();
        let (d, c) = (flow.spec().dim, flow.spec().context_dim);
        let (theta, context) = inputs(d, c);
        let mut least = f64::INFINITY;
        for (theta, context) in theta.chunks_exact(d).zip(context.chunks_exact(c)) {
            // The identity part of layer l is what the layers above it have made of theta.
            for l in 0..flow.spec().layers.len() {
                let mut above = flow.spec().clone();
                let first = flow.layout().layers[l][0].weight;
                above.layers.drain(..=l);
                let rest = flow.layout().layers.get(l + 1).map_or(flow.layout().base, |n| n[0].weight);
                let part = Flow::from_params(above, flow.params()[rest..].to_vec()).unwrap();
                let wide: Vec<f64> = theta.iter().map(|&v| f64::from(v)).collect();
                let context: Vec<f64> = context.iter().map(|&v| f64::from(v)).collect();
                let (v, _) = part.inverse_and_log_det(&wide, &context).unwrap();
                assert!(first < rest);
                let identity = flow.spec().layers[l].identity();
                let mut input: Vec<f64> = identity.iter().map(|&j| v[j]).chain(context).collect();
                let linears = &flow.layout().layers[l];
                for linear in &linears[..linears.len() - 1] {
                    let p = flow.params();
                    input = (0..linear.n_out)
                        .map(|o| {
                            let row = &p[linear.weight + o * linear.n_in..][..linear.n_in];
                            let a =
                                p[linear.bias + o] + row.iter().zip(&input).map(|(w, x)| w * x).sum::<f64>();
                            least = least.min(a.abs());
                            a.max(0.0)
                        })
                        .collect();
                }
            }
        }
        assert!(least > 2e-5, "smallest relu argument {least:e}");
    }

    #[test]
    fn errors_are_counted_in_roundings() {
        let epsilon = f64::from(f32::EPSILON);
        assert_eq!(error(&[1.0], &[1.0 + 3.0 * epsilon], &[1.0]), 3.0);
        assert_eq!(error(&[1.0], &[1.0, 1.0], &[1.0, 1.0]), f64::INFINITY);
        assert_eq!(error(&[f32::NAN], &[1.0], &[1.0]), f64::INFINITY);
        let check = |name, error| SelfTestCheck { name, error, bound: BOUND };
        let checks = vec![check("log_det", 3.0), check("inverse", 300.0)];
        let report = SelfTestReport { device: "x".into(), cached: false, checks };
        assert!(!report.passed());
        let refused = EngineError::SelfTest { report: Box::new(report) };
        assert!(!refused.is_recoverable());
        let text = "device x failed its self-test: inverse 300.0 (allowed 128) in units of f32 rounding";
        assert_eq!(refused.to_string(), text);
    }

    /// An adapter whose tiled inverse computes the forward map is refused with the figures, and they are noted.
    #[test]
    fn a_device_that_computes_wrong_is_refused() {
        let folder = std::env::temp_dir().join(format!("lwflow-wrong-device-{}", std::process::id()));
        let settings = EngineSettings {
            device: DeviceChoice::Gpu,
            cache_folder: Some(folder.clone()),
            ..EngineSettings::default()
        };
        let Some(engine) = lwflow_skip::adapter(Engine::new(&settings)) else { return };
        assert_eq!(engine.self_test_note(), None);
        assert!(engine.ensure_tested().unwrap().passed());
        assert_eq!(engine.self_test_note(), Some(SelfTestNote::Passed));
        let Opened::Gpu(gpu) = &engine.opened else { panic!("{engine:?}") };
        gpu.confuse("affine_coupling_inverse", "affine_coupling_forward");
        // What was noted stands until it is asked again.
        assert!(engine.ensure_tested().unwrap().cached);
        let EngineError::SelfTest { report } = engine.self_test().unwrap_err() else { panic!("passed") };
        let wrong = report.checks.iter().filter(|c| !c.passed()).count();
        assert!(wrong > 3 && wrong < report.checks.len(), "{report}");
        let Some(SelfTestNote::Failed(figures)) = engine.self_test_note() else { panic!("not noted") };
        assert_eq!(figures, report.to_string());
        assert!(figures.starts_with("inverse ") && !figures.contains('\n'), "{figures}");
        // A fit asks once more, and is refused.
        assert!(matches!(engine.ensure_tested(), Err(EngineError::SelfTest { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
