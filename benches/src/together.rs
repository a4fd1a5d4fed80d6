//! Several flows trained together against the same flows one after another, on one device and taking turns.
//! Invariant: both make the same steps from the same parameters and points; only who shares a dispatch differs.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, ensure};
use lwflow_engine::{
    Engine, FlowExecutor, FlowGroup, OptimiserPlace, OptimiserSettings, OptimiserState, TrainSteps,
    WeightedBatch,
};
use lwflow_host::adam::{Adam, AdamSettings};
use serde::Serialize;

use crate::{Problem, Shape, Spread};

/// So small that the parameters stay what they are for all purposes.
const RATE: f64 = 1e-9;
/// Steps of one submit, with the optimiser on the device.
const GROUP: usize = 16;

/// The result of all pairs of one shape.
#[derive(Debug, Clone, Serialize)]
pub struct Together {
    /// The flow.
    pub shape: String,
    /// Samples of a step of one flow.
    pub batch: usize,
    /// Number of the flows.
    pub n_flows: usize,
    /// Where the optimiser is.
    pub optimiser: OptimiserPlace,
    /// Number of pairs.
    pub pairs: usize,
    /// Samples per second of all flows, one after another.
    pub alone: Spread,
    /// Samples per second of all flows together.
    pub together: Spread,
    /// Together over one after another, pair by pair.
    pub ratio: Spread,
}

impl Together {
    /// The heading of what `Display` writes.
    #[must_use]
    pub fn heading() -> String {
        format!(
            "{:<32} {:>6} {:>6} {:>9} {:>14} {:>14} {:>24}",
            "flow", "batch", "flows", "optimiser", "alone /s", "together /s", "ratio (range)"
        )
    }
}

impl fmt::Display for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { min, median, max } = self.ratio;
        write!(
            f,
            "{:<32} {:>6} {:>6} {:>9} {:>14.0} {:>14.0} {:>24}",
            self.shape,
            self.batch,
            self.n_flows,
            format!("{:?}", self.optimiser).to_lowercase(),
            self.alone.median,
            self.together.median,
            format!("{median:.2} ({min:.2} to {max:.2})"),
        )
    }
}

/// What a trainer on the host holds of one flow.
struct OnHost {
    adam: Adam,
    params: Vec<f32>,
}

impl OnHost {
    fn new(problem: &Problem) -> Result<Self> {
        let adam = Adam::new(problem.params.len(), AdamSettings::default())?;
        Ok(Self { adam, params: problem.params.clone() })
    }
}

/// Flows in groups: all in one, or each in one of its own.
struct Side<'a> {
    problem: &'a Problem,
    weights: Vec<f32>,
    x: &'a [f32],
    on_host: Option<Vec<OnHost>>,
}

impl Side<'_> {
    /// A step of every flow of a group, or a submit of them.
    fn step(&mut self, group: &mut FlowGroup, first: usize) -> Result<usize> {
        let (n_flows, b) = (group.n_flows(), self.weights.len());
        let Some(on_host) = &mut self.on_host else {
            let index: Vec<u32> = (0..b as u32).cycle().take(GROUP * n_flows * b).collect();
            let report = group.train_steps(&TrainSteps {
                batch_size: b,
                index: &index,
                weights: &self.weights.repeat(GROUP * n_flows),
                log_inv_proposal: None,
                learning_rate: &vec![RATE; GROUP * n_flows],
            })?;
            ensure!(report.taken.iter().all(|taken| *taken), "a step was refused");
            return Ok(GROUP);
        };
        let batch = WeightedBatch { theta: self.x, weights: &self.weights, ..WeightedBatch::default() };
        let on_host = &mut on_host[first..first + n_flows];
        group.step(&vec![batch; n_flows], on_host, |_, flow: &mut OnHost, gradient| {
            flow.adam.step(&mut flow.params, &gradient.grad, RATE, None)?;
            Ok::<_, anyhow::Error>(Some(&flow.params[..]))
        })?;
        Ok(1)
    }

    fn begin(&self, group: &mut FlowGroup) -> Result<()> {
        for f in 0..group.n_flows() {
            group.set_params(f, &self.problem.params)?;
        }
        if self.on_host.is_none() {
            let (n, f) = (self.problem.params.len(), group.n_flows());
            let AdamSettings { beta1, beta2, eps, clip_norm } = AdamSettings::default();
            let settings = OptimiserSettings { beta1, beta2, eps, clip_norm, rate_scale: vec![1.0; n] };
            group.set_data(self.x, &[])?;
            group.set_optimiser(&vec![settings; f], &vec![OptimiserState::new(n); f])?;
        }
        Ok(())
    }
}

/// Measures `n_flows` flows of a shape in `pairs` pairs of windows of so many seconds.
///
/// # Errors
/// Any error of the device, or of a shape.
pub fn measure(
    engine: &Engine,
    shape: &Shape,
    n_flows: usize,
    pairs: usize,
    seconds: f64,
) -> Result<Together> {
    let problem = Problem::new(shape, shape.batch)?;
    let mut alone: Vec<FlowExecutor> =
        (0..n_flows).map(|_| engine.flow(&problem.spec)).collect::<Result<_, _>>()?;
    let mut together = engine.flow_group(&vec![problem.spec.clone(); n_flows])?;
    let optimiser = together.kernel_choice().map_or(OptimiserPlace::Host, |choice| choice.optimiser);
    let on_host = |_| OnHost::new(&problem);
    let on_host = match optimiser {
        OptimiserPlace::Device => None,
        _ => Some((0..n_flows).map(on_host).collect::<Result<_>>()?),
    };
    let (x, weights) = problem.batch(shape.batch);
    let mut side = Side { problem: &problem, weights, x, on_host };
    side.begin(&mut together)?;
    for flow in &mut alone {
        side.begin(flow.as_group())?;
    }
    let mut window = |grouped: bool, seconds: f64| -> Result<f64> {
        let (mut steps, begin) = (0, Instant::now());
        while steps == 0 || begin.elapsed().as_secs_f64() < seconds {
            if grouped {
                steps += side.step(&mut together, 0)?;
                continue;
            }
            let mut made = 0;
            for (f, flow) in alone.iter_mut().enumerate() {
                made = side.step(flow.as_group(), f)?;
            }
            steps += made;
        }
        Ok((steps * n_flows * shape.batch) as f64 / begin.elapsed().as_secs_f64())
    };
    // Compilation and first use are over then.
    window(false, 0.0)?;
    window(true, 0.0)?;
    let (mut each, mut all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs.max(1) {
        each.push(window(false, seconds)?);
        all.push(window(true, seconds)?);
        ratios.push(all[all.len() - 1] / each[each.len() - 1]);
    }
    Ok(Together {
        shape: shape.to_string(),
        batch: shape.batch,
        n_flows,
        optimiser,
        pairs: pairs.max(1),
        alone: Spread::of(&each),
        together: Spread::of(&all),
        ratio: Spread::of(&ratios),
    })
}

/// Small flows at small batches, from what a pilot trains to what a fit does.
#[must_use]
pub fn shapes(tiny: bool) -> Vec<Shape> {
    let of = |dim, n_layers, hidden, batch| Shape {
        dim,
        context_dim: 0,
        n_layers,
        hidden,
        activation: lwflow_model::Activation::Relu,
        coupling: lwflow_model::Coupling::Affine,
        base: crate::Base::Mixture(3),
        batch,
    };
    if tiny {
        return vec![of(2, 2, 8, 64)];
    }
    let mut shapes = Vec::new();
    for (dim, n_layers, hidden) in [(2, 4, 16), (4, 6, 32), (8, 8, 64)] {
        shapes.extend([64, 128, 256, 512, 1024].map(|batch| of(dim, n_layers, hidden, batch)));
    }
    shapes
}
