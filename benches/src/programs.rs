//! Programs in WGSL on a device: a likelihood of given points and of draws of a scan, and a simulator.
//! Invariant: a call does the same work every time it is made.

use std::time::Instant;

use anyhow::{Context, Result};
use lwflow_engine::{
    DeviceKind, Engine, KernelTime, QuantileTable, SOBOL_BLOCK, SimulatorProgram, WgslProgram, WgslSource,
};

use crate::{Options, Row};

const LIKELIHOOD: &str = "fn log_likelihood(theta: array<f32, D>) -> f32 {
    return log_add(normal_log_pdf(theta[0], 1.0, 0.2), normal_log_pdf(theta[1], -1.0, 0.3));
}";
const SIMULATOR: &str = "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    return array<f32, X>(theta[0] + normal(stream), theta[1] * exponential(stream));
}";
const DIM: usize = 2;

/// A call of `batch` samples, and its kernels.
struct Program<'a> {
    name: &'static str,
    batch: usize,
    /// Returns how many values came back.
    call: Box<dyn FnMut() -> Result<usize> + 'a>,
    profile: Box<dyn FnMut() -> Result<Vec<KernelTime>> + 'a>,
}

/// Rows of the programs, as many samples as the largest batch of the shapes and four blocks of a scan.
///
/// # Errors
/// Any error of the device.
pub(crate) fn measure(
    engine: &Engine,
    options: &Options,
    blank: impl Fn(&'static str, String, usize) -> Row,
) -> Result<Vec<Row>> {
    const BLOCKS: u32 = 4;
    let n = options.shapes.iter().map(|shape| shape.batch).max().unwrap_or(1);
    let theta: Vec<f32> = (0..DIM * n).map(|i| (0.37 * i as f64).sin() as f32).collect();
    let source =
        WgslSource { file: "bench.wgsl".into(), text: LIKELIHOOD.into(), dim: DIM, ..Default::default() };
    let program = WgslProgram::new(&source)?;
    let (mut called, mut profiled) = (engine.likelihood(&program)?, engine.likelihood(&program)?);
    let uniform = QuantileTable::new(0.0, |u| 4.0 * u - 2.0).context("a uniform prior has quantiles")?;
    let quantiles = [uniform.clone(), uniform];
    let (mut scan, mut scan_profiled) = (called.scan(7, &quantiles)?, called.scan(7, &quantiles)?);
    let source = WgslSource {
        file: "bench.wgsl".into(),
        text: SIMULATOR.into(),
        dim: DIM,
        n_observed: 2,
        ..Default::default()
    };
    let program = SimulatorProgram::new(&source)?;
    let (mut simulator, mut simulator_profiled) = (engine.simulator(&program)?, engine.simulator(&program)?);
    let theta = &theta;
    let programs = [
        Program {
            name: "log_likelihood",
            batch: n,
            call: Box::new(move || Ok(called.evaluate(theta)?.0.len())),
            profile: Box::new(move || Ok(profiled.profile(theta)?)),
        },
        Program {
            name: "scan",
            batch: BLOCKS as usize * SOBOL_BLOCK,
            call: Box::new(move || Ok(scan.blocks(0, BLOCKS, 0.0)?.blocks.len())),
            profile: Box::new(move || Ok(scan_profiled.profile(0, BLOCKS)?)),
        },
        Program {
            name: "simulate",
            batch: n,
            call: Box::new(move || Ok(simulator.simulate(1, 0, theta)?.len())),
            profile: Box::new(move || Ok(simulator_profiled.profile(1, theta)?)),
        },
    ];
    let path = if engine.info().kind == DeviceKind::Cpu { "native" } else { "wgsl" };
    let mut rows = Vec::new();
    for mut program in programs {
        let row = |name: String| Row { name, ..blank(path, format!("D{DIM}"), program.batch) };
        (program.call)()?;
        let mut seconds = Vec::new();
        let mut kernels: Vec<(KernelTime, Vec<f64>)> =
            (program.profile)()?.into_iter().map(|kernel| (kernel, Vec::new())).collect();
        for _ in 0..options.repeats.max(1) {
            let begin = Instant::now();
            (program.call)()?;
            seconds.push(begin.elapsed().as_secs_f64());
            for ((_, seconds), kernel) in kernels.iter_mut().zip((program.profile)()?) {
                seconds.push(kernel.seconds);
            }
        }
        rows.push(row(program.name.to_owned()).measured(seconds, None));
        for (kernel, seconds) in kernels {
            let row = row(format!("{}/{}", program.name, kernel.kernel));
            rows.push(
                Row { kind: "kernel", dispatches: Some(kernel.dispatches), ..row }.measured(seconds, None),
            );
        }
    }
    Ok(rows)
}
