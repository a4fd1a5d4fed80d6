//! The runs: every call and kernel of every shape on every path, taking turns.
//! Invariant: compilation and first use are over before the first measurement.

use std::time::Instant;

use anyhow::{Context, Result};
use lwflow_engine::{DeviceChoice, Engine, EngineSettings, ProfiledCall};
use lwflow_model::{Activation, Coupling};

use crate::{Base, Call, PathBench, Row, Shape, Stamp, Workload, paths, peak, programs};

/// A measurement repeats a quick call until this many seconds are full.
const ENOUGH_SECONDS: f64 = 5e-3;
/// A call that has used up this many seconds is not repeated further, but for the second measurement.
const BUDGET_SECONDS: f64 = 4.0;

/// The calls that are taken apart by kernel.
const PROFILED: [ProfiledCall; 5] = [
    ProfiledCall::Forward,
    ProfiledCall::Gradient,
    ProfiledCall::TrainSteps,
    ProfiledCall::LogProbOnDevice,
    ProfiledCall::SampleOnDevice,
];

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// The device.
    pub device: DeviceChoice,
    /// The shapes.
    pub shapes: Vec<Shape>,
    /// Measurements of each call and kernel; fewer for slow ones.
    pub repeats: usize,
}

impl Options {
    /// Every combination of `hidden` and `batch` with a Gaussian and a mixture base, one shape with context and one of splines.
    #[must_use]
    pub fn grid(
        device: DeviceChoice,
        (dim, n_layers, components, activation): (usize, usize, usize, Activation),
        hidden: &[usize],
        batch: &[usize],
        repeats: usize,
    ) -> Self {
        let mut shapes = Vec::new();
        for &hidden in hidden {
            for base in [Base::Mixture(components), Base::Gaussian] {
                let coupling = Coupling::Affine;
                let shape = |&batch| Shape {
                    dim,
                    context_dim: 0,
                    n_layers,
                    hidden,
                    activation,
                    coupling,
                    base,
                    batch,
                };
                shapes.extend(batch.iter().map(shape));
            }
        }
        if let Some(&first) = shapes.first() {
            shapes.push(Shape { context_dim: 3, ..first });
            shapes.push(Shape { coupling: Coupling::SPLINE, ..first });
        }
        Self { device, shapes, repeats }
    }

    /// A run of seconds that still passes through every kind of row.
    #[must_use]
    pub fn tiny(device: DeviceChoice) -> Self {
        let shape = Shape {
            dim: 4,
            context_dim: 0,
            n_layers: 2,
            hidden: 16,
            activation: Activation::Silu,
            coupling: Coupling::Affine,
            base: Base::Mixture(2),
            batch: 64,
        };
        let shapes = vec![
            shape,
            Shape { base: Base::Gaussian, ..shape },
            Shape { context_dim: 3, ..shape },
            Shape { coupling: Coupling::SPLINE, ..shape },
        ];
        Self { device, shapes, repeats: 2 }
    }
}

/// Measures everything: first `begin` gets the stamp of the run, then `report` the rows of each shape, with its name, as soon
/// as they are complete; those of programs in WGSL come last.
///
/// # Errors
/// Any error of the device, of a shape, of `begin` or of `report`.
pub fn run(
    options: &Options,
    begin: impl FnOnce(&Stamp) -> Result<()>,
    mut report: impl FnMut(&str, &[Row]) -> Result<()>,
) -> Result<()> {
    let settings = EngineSettings { device: options.device.clone(), ..EngineSettings::default() };
    let engine = Engine::new(&settings)?;
    let stamp = Stamp::now(engine.info().to_string(), peak::measured_gflops(engine.info())?);
    begin(&stamp)?;
    let blank = |path: &'static str, shape: String, batch: usize| Row {
        stamp: stamp.clone(),
        path,
        kind: "pass",
        name: String::new(),
        shape,
        batch,
        dispatches: None,
        repeats: 0,
        seconds_min: 0.0,
        seconds_median: 0.0,
        samples_per_second: 0.0,
        gflops: None,
        peak_share: None,
    };
    for shape in &options.shapes {
        let blank = |path| blank(path, shape.to_string(), shape.batch);
        let rows = measure(options, shape, blank).with_context(|| format!("measuring {shape}"))?;
        report(&format!("{shape} batch {}", shape.batch), &rows)?;
    }
    let rows = programs::measure(&engine, options, blank).context("measuring programs in WGSL")?;
    report("programs in WGSL", &rows)
}

fn measure(options: &Options, shape: &Shape, blank: impl Fn(&'static str) -> Row) -> Result<Vec<Row>> {
    let work = Workload::new(shape);
    let mut paths = paths(&options.device, shape)?;
    let mut cases = Vec::new();
    for (path, bench) in paths.iter_mut().enumerate() {
        let name = bench.name;
        let model = (bench.multiply_adds() * shape.batch) as f64;
        for call in Call::ALL {
            // The optimiser is the same for all paths.
            if call == Call::Adam && path > 0 || !bench.can(call) {
                continue;
            }
            bench.call(call, &work)?;
            let begin = Instant::now();
            bench.call(call, &work)?;
            let once = begin.elapsed().as_secs_f64();
            let mut row = blank(if call == Call::Adam { "host" } else { name });
            row.name = call.name().to_owned();
            let flop = call.flop().map(|f| f * model);
            let n_inner = (ENOUGH_SECONDS / once.max(1e-9)).ceil().clamp(1.0, 1e4) as usize;
            cases.push(Case { path, what: What::Call { call, n_inner }, flop, row, seconds: Vec::new() });
        }
        let mut seen = Vec::new();
        for call in PROFILED {
            for kernel in bench.profile(call, &work)? {
                // A training step and the calls between buffers repeat kernels of the others; theirs are their own.
                if call != ProfiledCall::Gradient && seen.contains(&kernel.kernel) {
                    continue;
                }
                seen.push(kernel.kernel.clone());
                let mut row = blank(name);
                row.kind = "kernel";
                row.name = format!("{}/{}", call.name(), kernel.kernel);
                row.dispatches = Some(kernel.dispatches);
                let flop = kernel_flop(&kernel.kernel).map(|f| f * model);
                let what = What::Kernel { call, kernel: kernel.kernel };
                cases.push(Case { path, what, flop, row, seconds: Vec::new() });
            }
        }
    }
    for _ in 0..options.repeats.max(1) {
        for (path, bench) in paths.iter_mut().enumerate() {
            turn(path, bench, &work, &mut cases)?;
        }
    }
    Ok(cases.into_iter().map(|case| case.finish()).collect())
}

/// FLOP per multiply-add of the model, for the kernels that run its linear maps: each has one of the three products of a
/// gradient. What a kernel computes again is not counted.
fn kernel_flop(kernel: &str) -> Option<f64> {
    let products = [
        "fused_inverse",
        "fused_forward",
        "fused_backward_data",
        "fused_weight_grad",
        "linear_forward",
        "linear_backward_data",
        "linear_weight_grad",
    ];
    products.contains(&kernel).then_some(2.0)
}

/// One measurement of every case of a path.
fn turn(path: usize, bench: &mut PathBench, work: &Workload, cases: &mut [Case]) -> Result<()> {
    let spent = |case: &Case| case.seconds.len() >= 2 && case.seconds.iter().sum::<f64>() > BUDGET_SECONDS;
    for case in cases.iter_mut().filter(|c| c.path == path && !spent(c)) {
        if let What::Call { call, n_inner } = case.what {
            let begin = Instant::now();
            for _ in 0..n_inner {
                bench.call(call, work)?;
            }
            case.seconds.push(begin.elapsed().as_secs_f64() / n_inner as f64);
        }
    }
    for profiled in PROFILED {
        let times = bench.profile(profiled, work)?;
        for case in cases.iter_mut().filter(|c| c.path == path) {
            if let What::Kernel { call, kernel } = &case.what
                && *call == profiled
            {
                case.seconds.extend(times.iter().filter(|t| t.kernel == *kernel).map(|t| t.seconds));
            }
        }
    }
    Ok(())
}

enum What {
    Call { call: Call, n_inner: usize },
    Kernel { call: ProfiledCall, kernel: String },
}

struct Case {
    path: usize,
    what: What,
    /// Model FLOP of one call.
    flop: Option<f64>,
    row: Row,
    seconds: Vec<f64>,
}

impl Case {
    fn finish(self) -> Row {
        self.row.measured(self.seconds, self.flop)
    }
}
