//! Time to quality: how long a fit takes from raw pairs to a given forward KL, lwflow's own and those of other libraries.
//! Invariant: all see the same pairs and are judged on the same exact draws; judging is never part of the time.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lwflow_engine::Engine;
use lwflow_host::diagnostics::forward_kl;
use lwflow_host::fit::{BaseSettings, Components, FitInput, FitSettings, fit};
use lwflow_host::outer::Support;
use lwflow_host::rng::sobol_blocks;
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_host::weights::normalised_weights;
use lwflow_model::{Covariance, FlowSettings};
use npyz::npz::NpzWriter;
use serde::{Deserialize, Serialize};

use crate::problem::array;
use crate::worker::Worker;

/// Pairs of every fit, as in the demo.
pub const N_PAIRS: usize = 131_072;
/// Exact draws of every judgement.
pub const N_EXACT: usize = 50_000;
/// The libraries with their kinds of flow, as `peers/quality.py` knows them.
pub const LIBRARIES: &str = "normflows-realnvp,normflows-nsf,zuko-nsf,flowjax-nsf";

/// Forward KL, in nats, that a fit has to reach.
///
/// # Errors
/// For a target that has none.
pub fn bound(target: Target) -> Result<f64> {
    match target {
        Target::Gauss1 | Target::Gauss2 | Target::Gauss3 => Ok(0.003),
        Target::Circle8 | Target::TwoMoonsS => Ok(0.005),
        _ => bail!(
            "{target}: no time to quality is defined; expected gauss1 to gauss3, circle8 or two_moons_s"
        ),
    }
}

/// Settings of a race.
#[derive(Debug)]
pub struct Race<'a> {
    /// Folder for the pairs.
    pub out: &'a Path,
    /// Seconds of training after which a library has missed.
    pub limit: f64,
    /// Visits that lwflow's fits are given.
    pub visits: &'a [usize],
    /// Points per step of lwflow's fits.
    pub fit_batch: &'a [usize],
}

/// One fit, or all of lwflow's seeds with one setting.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The target.
    pub target: String,
    /// Who fitted.
    pub who: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The quality to reach, nats.
    pub bound: f64,
    /// Forward KL at the end, nats, by seed; NaN (null in JSON) for a fit that is not finite.
    pub kl: Vec<f64>,
    /// Standard error of the last forward KL.
    pub kl_se: f64,
    /// Seconds by seed; until the bound was reached, or all that were spent.
    pub seconds: Vec<f64>,
    /// Of these, seconds of the first step: compilation.
    pub first_seconds: Option<f64>,
    /// Steps by seed.
    pub steps: Vec<usize>,
    /// Whether every seed reached the bound.
    pub reached: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[f64], digits: usize| {
            values.iter().map(|v| format!("{v:.digits$}")).collect::<Vec<_>>().join(" / ")
        };
        write!(f, "{:<12} {:<34} {:>22} s", self.target, self.who, list(&self.seconds, 2))?;
        let first = self.first_seconds.map_or_else(String::new, |s| format!(", first step {s:.1} s"));
        write!(f, "  KL {} (bound {}, se {:.4}{first})", list(&self.kl, 4), self.bound, self.kl_se)?;
        f.write_str(if self.reached { "" } else { "  NOT REACHED" })
    }
}

#[derive(Serialize)]
#[serde(tag = "do", rename = "fit")]
struct Command<'a> {
    library: &'a str,
    file: &'a Path,
    bound: f64,
    limit: f64,
    seed: u64,
}

#[derive(Deserialize)]
struct Fitted {
    /// None where the density of the fit is not finite at an exact draw.
    kl: Option<f64>,
    kl_se: Option<f64>,
    seconds: f64,
    first_seconds: f64,
    steps: usize,
    reached: bool,
}

/// Prior draws of a target with their likelihood as the weight, as `lwflow fit` draws them.
fn pairs(target: Target, seed: u64) -> FitInput {
    let d = target.dim();
    let points = sobol_blocks(seed, N_PAIRS, d);
    let theta: Vec<f64> = points.points.chunks_exact(d).flat_map(|u| target.prior_sample(u)).collect();
    let support = |(lower, upper)| Support { lower, upper, ..Support::default() };
    FitInput {
        names: target.parameter_names(),
        labels: target.parameter_labels(),
        supports: target.supports().into_iter().map(support).collect(),
        context: Vec::new(),
        log_weights: theta.chunks_exact(d).map(|t| target.log_likelihood(t)).collect(),
        log_proposal: Some(theta.chunks_exact(d).map(|t| target.log_prior(t)).collect()),
        blocks: Some(points.blocks),
        effective: None,
        theta,
    }
}

/// Exact draws, the same for everybody.
fn exact(target: Target) -> Result<Vec<f64>> {
    target.sample(N_EXACT, 1_000_003).with_context(|| format!("{target}: no exact draws"))
}

impl Race<'_> {
    /// lwflow's own fit with the demo's settings, but for fewer visits: every setting from the cheapest on, until one
    /// reaches the bound for all seeds.
    ///
    /// # Errors
    /// Those of the fit.
    pub fn ours(&self, engine: &Engine, target: Target, seeds: &[u64]) -> Result<Vec<Row>> {
        let (bound, exact) = (bound(target)?, exact(target)?);
        let log_p = target.log_prob_rows(&exact)?;
        let mut settings: Vec<(usize, usize)> =
            self.visits.iter().flat_map(|&v| self.fit_batch.iter().map(move |&b| (v, b))).collect();
        settings.sort_unstable();
        let mut rows = Vec::new();
        for (max_visits, batch_size) in settings {
            let fit_settings = FitSettings {
                flow: FlowSettings::default(),
                base: BaseSettings::Mixture {
                    components: Components::Fixed(target.n_components_demo()),
                    covariance: Covariance::Full,
                    trainable: true,
                },
                training: TrainSettings { max_visits, batch_size, ..TrainSettings::default() },
                ..FitSettings::default()
            };
            let mut row = Row {
                target: target.name(),
                who: format!("lwflow, {max_visits} visits by {batch_size}"),
                seeds: Vec::new(),
                bound,
                kl: Vec::new(),
                kl_se: 0.0,
                seconds: Vec::new(),
                first_seconds: None,
                steps: Vec::new(),
                reached: true,
            };
            for &seed in seeds {
                let input = pairs(target, seed);
                let begin = Instant::now();
                let (posterior, report) =
                    fit(engine, &input, &fit_settings, seed, |_| ControlFlow::Continue(()))?;
                row.seconds.push(begin.elapsed().as_secs_f64());
                row.seeds.push(seed);
                row.steps.push(report.training.steps);
                let mut executor = engine.flow(posterior.spec())?;
                let kl = forward_kl(&log_p, &posterior.log_prob(&mut executor, &exact, &[])?)?;
                row.kl.push(kl.value);
                row.kl_se = kl.se;
                if kl.value > bound {
                    row.reached = false;
                    break;
                }
            }
            let reached = row.reached;
            rows.push(row);
            if reached {
                break;
            }
        }
        Ok(rows)
    }

    /// The fit of another library.
    ///
    /// # Errors
    /// Those of the worker.
    pub fn theirs(&self, worker: &mut Worker, library: &str, target: Target, seed: u64) -> Result<Row> {
        let bound = bound(target)?;
        let file = self.write(target, seed)?.canonicalize()?;
        let fitted: Fitted = worker.ask(&Command { library, file: &file, bound, limit: self.limit, seed })?;
        Ok(Row {
            target: target.name(),
            who: library.to_owned(),
            seeds: vec![seed],
            bound,
            kl: vec![fitted.kl.unwrap_or(f64::NAN)],
            kl_se: fitted.kl_se.unwrap_or(f64::NAN),
            seconds: vec![fitted.seconds],
            first_seconds: Some(fitted.first_seconds),
            steps: vec![fitted.steps],
            reached: fitted.reached,
        })
    }

    /// Pairs with normalised weights, and the exact draws with their log density.
    fn write(&self, target: Target, seed: u64) -> Result<PathBuf> {
        let (input, exact, d) = (pairs(target, seed), exact(target)?, target.dim());
        let path = self.out.join("pairs.npz");
        let mut npz = NpzWriter::new(BufWriter::new(File::create(&path)?));
        array(&mut npz, "theta", &[N_PAIRS, d], &input.theta)?;
        array(&mut npz, "weights", &[N_PAIRS], &normalised_weights(&input.log_weights, &input.theta)?)?;
        array(&mut npz, "exact_log_prob", &[N_EXACT], &target.log_prob_rows(&exact)?)?;
        array(&mut npz, "exact", &[N_EXACT, d], &exact)?;
        npz.zip_writer().finish()?.flush()?;
        Ok(path)
    }
}
