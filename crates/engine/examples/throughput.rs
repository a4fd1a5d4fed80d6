//! Samples per second of one training step and of log_prob on the chosen device (`LWFLOW_DEVICE`), for the shapes
//! that the project's measurements use: D 8, eight layers, two hidden layers, a full mixture of three components.
//! Arguments: hidden widths, and `spline` for spline couplings instead of affine ones.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lwflow_engine::{Engine, EngineError, EngineSettings};
use lwflow_model::{Activation, BaseSpec, Coupling, Flow, FlowSettings, FlowSpec, MixtureSpec};

fn main() -> Result<(), EngineError> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<usize> = words.iter().filter_map(|a| a.parse().ok()).collect();
    let is_spline = words.iter().any(|word| word == "spline");
    let coupling = if is_spline { Coupling::SPLINE } else { Coupling::Affine };
    let engine = Engine::new(&EngineSettings::default())?;
    println!("{}", engine.info());
    let widths = if args.is_empty() { vec![32, 64, 128] } else { args };
    for width in widths {
        let settings = FlowSettings {
            hidden: vec![width, width],
            activation: Activation::Relu,
            coupling,
            ..FlowSettings::default()
        };
        let base = BaseSpec::Mixture(MixtureSpec { n_components: 3, ..MixtureSpec::default() });
        let spec = FlowSpec::build(8, 0, &settings, base, 1)?;
        let flow = Flow::<f32>::init(spec.clone(), 1)?;
        let mut executor = engine.flow(&spec)?;
        executor.set_params(flow.params())?;
        // Multiply-adds of one sample: forward, gradient of the inputs, gradient of the weights.
        let weights: usize = flow.layout().layers.iter().flatten().map(|l| l.n_in * l.n_out).sum();
        for n in [1024, 16384] {
            let theta: Vec<f32> = (0..n * spec.dim).map(|i| (0.37 * i as f32).sin()).collect();
            let w = vec![1.0 / n as f32; n];
            let first = Instant::now();
            executor.gradient(&theta, &[], &w, None)?;
            let first = first.elapsed().as_secs_f64();
            let step = median(|| {
                executor
                    .set_params(flow.params())
                    .and_then(|()| executor.gradient(&theta, &[], &w, None).map(drop))
            })?;
            let log_prob = median(|| executor.log_prob(&theta, &[]).map(drop))?;
            println!(
                "H {width:4} B {n:6}: first {first:6.2} s, step {:8.1} k samples/s ({:5.2} GF/s), log_prob {:8.1} k samples/s",
                n as f64 / step / 1e3,
                6.0 * weights as f64 * n as f64 / step / 1e9,
                n as f64 / log_prob / 1e3,
            );
        }
    }
    Ok(())
}

fn median(mut call: impl FnMut() -> Result<(), EngineError>) -> Result<f64, EngineError> {
    let mut times = Vec::new();
    for _ in 0..7 {
        let begin = Instant::now();
        call()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
