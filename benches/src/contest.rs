//! Like for like: the same formula, parameters and points in lwflow and in other frameworks, taking turns.
//! Invariant: a contestant is measured only after its results have been compared with the definition, and every one of
//! its windows has a window of lwflow beside it.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use lwflow_engine::{Engine, FlowExecutor};
use lwflow_host::adam::{Adam, AdamSettings};
use lwflow_model::ParamLayout;
use serde::{Deserialize, Serialize};

use crate::problem::{CHECK_STEPS, Difference, Outcome, Problem, compare};
use crate::shape::multiply_adds;
use crate::worker::Worker;
use crate::{Shape, Spread};

/// What takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Turn {
    /// Loss, all gradients and Adam.
    TrainStep,
    /// Log density of given points.
    LogProb,
    /// The map from given base draws to samples, with its log_det. Random numbers are not part of it, so that all make
    /// the same samples.
    Sample,
}

impl Turn {
    /// Its name in tables and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainStep => "train_step",
            Self::LogProb => "log_prob",
            Self::Sample => "sample",
        }
    }

    /// Model FLOP per multiply-add of the linear maps.
    #[must_use]
    pub fn flop(self) -> f64 {
        if self == Self::TrainStep { 6.0 } else { 2.0 }
    }
}

/// lwflow's side of a contest.
#[derive(Debug)]
pub struct Ours {
    executor: FlowExecutor,
    adam: Adam,
    params: Vec<f32>,
}

impl Ours {
    /// A flow on the engine's device with the parameters of a problem.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn new(engine: &Engine, problem: &Problem) -> Result<Self> {
        let mut executor = engine.flow(&problem.spec)?;
        executor.set_params(&problem.params)?;
        let adam = Adam::new(problem.params.len(), AdamSettings::default())?;
        Ok(Self { executor, adam, params: problem.params.clone() })
    }

    /// What is compared with the definition.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn outcome(&mut self, problem: &Problem) -> Result<Outcome> {
        let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
        let (x, weights) = problem.check_batch();
        let first = self.executor.gradient(x, &[], &weights, None)?;
        let log_prob = wide(self.executor.log_prob(x, &[])?);
        let theta = wide(self.executor.forward(x, &[])?.0);
        let loss_after = problem.loss_after(|params| {
            self.executor.set_params(params)?;
            let gradient = self.executor.gradient(x, &[], &weights, None)?;
            Ok((gradient.loss, gradient.grad))
        })?;
        self.executor.set_params(&problem.params)?;
        Ok(Outcome { loss: first.loss, loss_after, log_prob, grad: wide(first.grad), theta })
    }

    /// Makes a call once.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn call(&mut self, turn: Turn, x: &[f32], weights: &[f32]) -> Result<()> {
        // The rate is so small that the parameters stay what they are for all purposes.
        const RATE: f64 = 1e-9;
        match turn {
            Turn::TrainStep => {
                let gradient = self.executor.gradient(x, &[], weights, None)?;
                self.adam.step(&mut self.params, &gradient.grad, RATE, None)?;
                self.executor.set_params(&self.params)?;
            }
            Turn::LogProb => drop(self.executor.log_prob(x, &[])?),
            Turn::Sample => drop(self.executor.forward(x, &[])?),
        }
        Ok(())
    }

    /// Calls until `seconds` are full; samples per second.
    fn window(&mut self, turn: Turn, x: &[f32], weights: &[f32], seconds: f64) -> Result<f64> {
        let (mut calls, begin) = (0, Instant::now());
        while calls == 0 || begin.elapsed().as_secs_f64() < seconds {
            self.call(turn, x, weights)?;
            calls += 1;
        }
        Ok((calls * weights.len()) as f64 / begin.elapsed().as_secs_f64())
    }
}

/// Commands to a worker of a contest.
#[derive(Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command<'a> {
    Load { file: &'a std::path::Path },
    Check { contestant: &'a str, steps: usize, rate: f64 },
    Warm { contestant: &'a str, call: &'a str, batch: usize },
    Window { contestant: &'a str, call: &'a str, batch: usize, seconds: f64 },
}

#[derive(Deserialize)]
struct Loaded {}

#[derive(Deserialize)]
struct Warmed {
    first_seconds: f64,
}

#[derive(Deserialize)]
struct Window {
    calls: usize,
    seconds: f64,
}

/// One of the others: a name within a worker.
#[derive(Debug)]
pub struct Rival<'a> {
    /// The process.
    pub worker: &'a mut Worker,
    /// `torch`, `torch.compile`, `jax.jit`.
    pub name: &'static str,
}

/// The result of all pairs of one call.
#[derive(Debug, Clone, Serialize)]
pub struct Pairs {
    /// The other side.
    pub rival: String,
    /// The call.
    pub turn: Turn,
    /// The flow.
    pub shape: String,
    /// Samples per call.
    pub batch: usize,
    /// Programs that wanted a core in the last minute, these two included, where the system says so.
    pub load: Option<f64>,
    /// Number of pairs.
    pub pairs: usize,
    /// Seconds of the rival's first call, compilation included.
    pub rival_first_seconds: f64,
    /// lwflow's samples per second.
    pub ours: Spread,
    /// The rival's samples per second.
    pub theirs: Spread,
    /// lwflow over rival, pair by pair.
    pub ratio: Spread,
    /// lwflow's model GFLOP per second by the median.
    pub gflops: f64,
    /// The rival's.
    pub rival_gflops: f64,
}

/// Compares lwflow and a rival with the definition; fails with the figures of what is out of bounds.
///
/// # Errors
/// Any error of a device or worker; a result out of bounds.
pub fn check(name: &str, layout: &ParamLayout, truth: &Outcome, got: &Outcome) -> Result<Difference> {
    let differences = compare(layout, truth, got);
    let broken: Vec<String> = differences
        .iter()
        .filter(|d| !d.holds())
        .take(8)
        .map(|d| format!("{}: relative difference {:.2e}, bound {:.0e}", d.what, d.error, d.bound))
        .collect();
    if !broken.is_empty() {
        bail!("{name} and the definition differ:\n    {}", broken.join("\n    "));
    }
    differences.into_iter().next().context("nothing was compared")
}

/// Hands a problem to a worker.
///
/// # Errors
/// Those of the worker.
pub fn load(worker: &mut Worker, file: &std::path::Path) -> Result<()> {
    worker.ask(&Command::Load { file }).map(|Loaded {}| ())
}

impl Rival<'_> {
    /// What is compared with the definition.
    ///
    /// # Errors
    /// Those of the worker.
    pub fn outcome(&mut self) -> Result<Outcome> {
        let (steps, rate) = CHECK_STEPS;
        self.worker.ask(&Command::Check { contestant: self.name, steps, rate })
    }

    /// Pairs of windows, whose order alternates too.
    ///
    /// # Errors
    /// Those of the device and the worker.
    pub fn contest(
        &mut self,
        ours: &mut Ours,
        problem: &Problem,
        shape: &Shape,
        turn: Turn,
        (pairs, seconds): (usize, f64),
    ) -> Result<Pairs> {
        let (contestant, call, batch) = (self.name, turn.name(), shape.batch);
        let (x, weights) = problem.batch(batch);
        ours.call(turn, x, &weights)?;
        let warmed: Warmed = self.worker.ask(&Command::Warm { contestant, call, batch })?;
        let mut theirs = || -> Result<f64> {
            let window: Window = self.worker.ask(&Command::Window { contestant, call, batch, seconds })?;
            Ok((window.calls * batch) as f64 / window.seconds)
        };
        let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
        for pair in 0..pairs.max(1) {
            if pair % 2 == 0 {
                our_rates.push(ours.window(turn, x, &weights, seconds)?);
                their_rates.push(theirs()?);
            } else {
                their_rates.push(theirs()?);
                our_rates.push(ours.window(turn, x, &weights, seconds)?);
            }
        }
        let ratios: Vec<f64> = our_rates.iter().zip(&their_rates).map(|(a, b)| a / b).collect();
        let flop = turn.flop() * multiply_adds(&ParamLayout::new(&problem.spec)) as f64;
        let (ours, theirs) = (Spread::of(&our_rates), Spread::of(&their_rates));
        Ok(Pairs {
            rival: self.name.to_owned(),
            turn,
            shape: shape.to_string(),
            batch,
            load: load_average(),
            pairs: ratios.len(),
            rival_first_seconds: warmed.first_seconds,
            gflops: flop * ours.median / 1e9,
            rival_gflops: flop * theirs.median / 1e9,
            ours,
            theirs,
            ratio: Spread::of(&ratios),
        })
    }
}

/// The load average of the last minute on Linux.
fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
