//! How time and memory grow with samples, layers and weights, for the training step of one device.
//! Invariant: a series changes one thing; the caller's own arrays are counted apart from what the engine takes.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use lwflow_engine::Engine;
use lwflow_model::{Activation, Coupling, ParamLayout};
use serde::Serialize;

use crate::contest::{Ours, Turn};
use crate::memory::{forget_peak, peak_bytes};
use crate::{Base, Problem, Shape, Spread, multiply_adds};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grows {
    /// Samples of a step.
    Samples,
    /// Coupling layers.
    Layers,
    /// Multiply-adds of a sample, by the width of the hidden layers.
    Weights,
}

/// Flows of one series with their sizes.
#[derive(Debug)]
pub struct Series {
    /// What grows.
    pub grows: Grows,
    /// From the smallest on.
    pub shapes: Vec<Shape>,
}

impl Series {
    /// The three series: in seconds, or with `long` up to 10 million samples, 128 layers and D = 64, H = 512 at full
    /// batches.
    #[must_use]
    pub fn all(long: bool) -> [Self; 3] {
        let small = Shape {
            dim: 8,
            context_dim: 0,
            n_layers: 8,
            hidden: 32,
            activation: Activation::Relu,
            coupling: Coupling::Affine,
            base: Base::Mixture(3),
            batch: if long { 65_536 } else { 8192 },
        };
        let mut samples = vec![4096, 16_384, 65_536, 262_144];
        let mut layers = vec![2, 4, 8, 16, 32];
        if long {
            samples.extend([1_000_000, 3_000_000, 10_000_000]);
            layers.extend([64, 128]);
        }
        let wide = Shape { dim: 64, batch: if long { 16_384 } else { 1024 }, ..small };
        [
            Self {
                grows: Grows::Samples,
                shapes: samples.into_iter().map(|batch| Shape { batch, ..small }).collect(),
            },
            Self {
                grows: Grows::Layers,
                shapes: layers.into_iter().map(|n_layers| Shape { n_layers, ..small }).collect(),
            },
            Self {
                grows: Grows::Weights,
                shapes: [32, 64, 128, 256, 512].into_iter().map(|hidden| Shape { hidden, ..wide }).collect(),
            },
        ]
    }

    /// Three flows that take no time at all, to see that it runs.
    #[must_use]
    pub fn tiny() -> [Self; 3] {
        Self::all(false).map(|series| {
            let tiny = |s: &Shape| Shape { dim: 4, hidden: s.hidden.min(64) / 4, batch: s.batch / 64, ..*s };
            Self { grows: series.grows, shapes: series.shapes.iter().take(2).map(tiny).collect() }
        })
    }
}

/// One flow of a series.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What grows in its series.
    pub grows: Grows,
    /// The flow.
    pub shape: String,
    /// Samples of a step.
    pub batch: usize,
    /// How much there is of what grows.
    pub amount: usize,
    /// Seconds of a training step.
    pub seconds: Spread,
    /// Nanoseconds of the median step per sample and multiply-add of the model.
    pub nanoseconds: f64,
    /// Model GFLOP per second of the median step.
    pub gflops: f64,
    /// Bytes of the points, weights and log densities, which the caller holds.
    pub data_bytes: u64,
    /// Bytes of the parameters once.
    pub parameter_bytes: u64,
    /// Peak resident bytes of the process.
    pub peak_bytes: Option<u64>,
    /// The peak above `baseline`, less the data. What the allocator kept of earlier flows counts too.
    pub engine_bytes: Option<u64>,
}

impl Step {
    /// The heading of what `Display` writes.
    #[must_use]
    pub fn heading() -> String {
        format!(
            "{:<9} {:<32} {:>9} {:>9} {:>10} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9}",
            "grows",
            "flow",
            "batch",
            "amount",
            "median ms",
            "ps/MA",
            "GF/s",
            "data MB",
            "params MB",
            "peak MB",
            "rest MB"
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
        let maybe =
            |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |b| format!("{:.0}", b as f64 / 1e6));
        write!(
            f,
            "{:<9} {:<32} {:>9} {:>9} {:>10.2} {:>8.1} {:>7.1} {:>9} {:>9} {:>9} {:>9}",
            format!("{:?}", self.grows).to_lowercase(),
            self.shape,
            self.batch,
            self.amount,
            1e3 * self.seconds.median,
            1e3 * self.nanoseconds,
            self.gflops,
            mega(self.data_bytes),
            mega(self.parameter_bytes),
            maybe(self.peak_bytes),
            maybe(self.engine_bytes),
        )
    }
}

/// Measures one flow of a series: the median of `repeats` training steps after a first one. `baseline` is the resident
/// size of the process with an open device and nothing else.
///
/// # Errors
/// Any error of the device.
pub fn measure(
    engine: &Engine,
    baseline: Option<u64>,
    grows: Grows,
    shape: &Shape,
    repeats: usize,
) -> Result<Step> {
    forget_peak();
    let problem = Problem::new(shape, shape.batch)?;
    let (x, weights) = problem.batch(shape.batch);
    let mut ours = Ours::new(engine, &problem)?;
    ours.call(Turn::TrainStep, x, &weights)?;
    let mut seconds = Vec::new();
    for _ in 0..repeats.max(1) {
        let begin = Instant::now();
        ours.call(Turn::TrainStep, x, &weights)?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let peak = peak_bytes();
    let layout = ParamLayout::new(&problem.spec);
    let seconds = Spread::of(&seconds);
    let work = (multiply_adds(&layout) * shape.batch) as f64;
    // The points; the weights, here twice; the log densities that come back.
    let data_bytes = 4 * (shape.batch * (shape.dim + 3)) as u64;
    Ok(Step {
        grows,
        shape: shape.to_string(),
        batch: shape.batch,
        amount: match grows {
            Grows::Samples => shape.batch,
            Grows::Layers => shape.n_layers,
            Grows::Weights => multiply_adds(&layout),
        },
        seconds,
        nanoseconds: 1e9 * seconds.median / work,
        gflops: Turn::TrainStep.flop() * work / seconds.median / 1e9,
        data_bytes,
        parameter_bytes: 4 * layout.len as u64,
        peak_bytes: peak,
        engine_bytes: baseline.zip(peak).map(|(baseline, peak)| peak.saturating_sub(baseline + data_bytes)),
    })
}

/// The power of the amount that the time grows with, by least squares on logarithms: 1 is linear, less is a fixed cost
/// that still shows at small sizes.
#[must_use]
pub fn exponent(steps: &[Step]) -> f64 {
    let points: Vec<(f64, f64)> =
        steps.iter().map(|s| ((s.amount as f64).ln(), s.seconds.median.ln())).collect();
    slope(&points)
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (xy, xx) =
        points.iter().fold((0.0, 0.0), |(xy, xx), p| (xy + (p.0 - x) * (p.1 - y), xx + (p.0 - x).powi(2)));
    xy / xx
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_power_is_found() {
        let points: Vec<(f64, f64)> =
            [1.0_f64, 2.0, 8.0, 64.0].iter().map(|&x| (x.ln(), (3.0 * x.powf(1.5)).ln())).collect();
        assert!((slope(&points) - 1.5).abs() < 1e-12);
    }
}
