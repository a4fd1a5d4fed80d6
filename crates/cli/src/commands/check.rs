//! `lwflow check`: everything that a fit does before it works, and a little of the work to see how long it will take.
//! Invariant: nothing is written (but the note of a passed self-test), and what a fit would refuse is refused with the
//! same words and the same status.

mod pieces;
mod prior_draws;
mod prior_simulations;
mod run_time;
mod text;
mod training;

use super::{fit, fit_settings, open_engine};
use crate::exit::{CommandError, Status};
use crate::inference::inference;
use crate::progress::{Console, interrupted, print, print_raw};
use crate::simulation::simulation;
use crate::source;
use crate::task::{Task, likelihood_of};
use clap::Args;
use lwflow_engine::{DeviceChoice, Engine};
use lwflow_host::fit::prepare;
use lwflow_host::outer::Support;
use lwflow_host::rounds::RoundsSettings;
use prior_draws::{MAX_TIME, PriorDraws, try_prior_draws};
use prior_simulations::{PriorSimulations, try_prior_simulations};
use run_time::{RunTime, time_run};
use serde::Serialize;
use std::path::PathBuf;
use training::{TrainingTime, time_training};

/// Arguments of `lwflow check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Task file.
    task: PathBuf,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// auto, cpu, gpu, software, an index or part of a name (see `lwflow devices`).
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = super::device)]
    device: DeviceChoice,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

/// What was found out about a task that is usable.
#[derive(Debug, Serialize)]
struct CheckReport {
    task: PathBuf,
    source: &'static str,
    device: String,
    parameters: Vec<ParameterRow>,
    /// Of a task with points.
    points: Option<Points>,
    /// Of a task whose likelihood is evaluated.
    prior_draws: Option<PriorDraws>,
    rounds: Option<RoundsSettings>,
    /// Of a task with a simulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    simulations: Option<PriorSimulations>,
    /// Of a task with a likelihood.
    training: Option<TrainingTime>,
    /// Of a task that goes in rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunTime>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ParameterRow {
    name: String,
    /// Kind of the prior, if the task gives one.
    prior: Option<&'static str>,
    lower: Option<f64>,
    upper: Option<f64>,
    periodic: bool,
}

/// What points are worth.
#[derive(Debug, Serialize)]
struct Points {
    n: usize,
    n_weighted: usize,
    n_context: usize,
    /// Kish's effective sample size.
    ess: f64,
    /// That of a Markov chain with its autocorrelation.
    autocorrelation_ess: Option<f64>,
    largest_share: f64,
    log_z: Option<f64>,
    log_z_sd: Option<f64>,
}

pub(super) fn run_check(args: &CheckArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.json);
    let task = Task::read(&args.task)?;
    fit::check_counts(&task)?;
    let mut report = match (&task.rounds, &task.likelihood) {
        (Some(settings), _) => {
            let engine = open_engine(&args.device, console)?;
            check_rounds(&task, settings, &engine, args.seed)?
        }
        (None, Some(_)) => check_points(&task, &args.device, args.seed, console)?,
        (None, None) => CheckReport::of_simulator(&task),
    };
    if task.simulator.is_some() {
        check_simulator(&task, &mut report, args, console)?;
    }
    if interrupted() {
        return Ok(Status::Interrupted);
    }
    if args.json {
        print_raw(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        print(&text::text(&report))?;
    }
    Ok(Status::Success)
}

impl CheckReport {
    /// That of a task without a likelihood, before anything was tried.
    fn of_simulator(task: &Task) -> Self {
        Self {
            task: task.file.clone(),
            source: "simulator",
            device: String::new(),
            parameters: Vec::new(),
            points: None,
            prior_draws: None,
            rounds: None,
            simulations: None,
            training: None,
            run: None,
            notes: Vec::new(),
        }
    }
}

/// Tries the simulator and adds what was found.
fn check_simulator(
    task: &Task,
    report: &mut CheckReport,
    args: &CheckArgs,
    console: Console,
) -> Result<(), CommandError> {
    // The device has been told of if there is a likelihood.
    let console = if report.device.is_empty() { console } else { Console::text(true) };
    let engine = open_engine(&args.device, console)?;
    let mut simulation = simulation(task, args.seed, || Ok(engine.clone()))?;
    let tried = try_prior_simulations(&mut simulation, args.seed, MAX_TIME);
    report.simulations = Some(tried.map_err(|error| crate::wgsl_file::of(&task.file, error))?);
    report.device = engine.info().to_string();
    report.parameters = parameters(task, &simulation.names, &simulation.prior.supports());
    Ok(())
}

fn check_rounds(
    task: &Task,
    settings: &RoundsSettings,
    engine: &Engine,
    seed: u64,
) -> Result<CheckReport, CommandError> {
    let mut inference = inference(task, settings.clone(), engine)?;
    let draws = try_prior_draws(&*inference.prior, &mut *inference.likelihood, seed, MAX_TIME)
        .map_err(|error| fit::of_task(task, error.into()))?;
    let shape = (inference.prior.dim(), 0);
    let training = time_training(engine, task, shape, task.training.max_visits, None, seed)?;
    let run = time_run(task, settings, shape.0, draws.evaluations_per_second, &training, seed)?;
    Ok(CheckReport {
        task: task.file.clone(),
        source: likelihood_of(task)?.key(),
        device: engine.info().to_string(),
        parameters: parameters(task, &inference.names, &inference.prior.supports()),
        points: None,
        prior_draws: Some(draws),
        rounds: Some(settings.clone()),
        simulations: None,
        training: Some(training),
        run: Some(run),
        notes: Vec::new(),
    })
}

fn check_points(
    task: &Task,
    device: &DeviceChoice,
    seed: u64,
    console: Console,
) -> Result<CheckReport, CommandError> {
    // As in a fit, a wrong file is told before a device is opened.
    let source = source::load(task, seed)?;
    let engine = open_engine(device, console)?;
    let input = &source.input;
    let mut task = task.clone();
    if !input.context.is_empty() {
        task.use_context();
    }
    let (task, settings) = (&task, fit_settings(&task));
    let prepared = prepare(input, None, settings.flow.context_network.as_ref())
        .and_then(|prepared| prepared.check_effective(input).map(|()| prepared))
        .map_err(|error| fit::of_task(task, error.into()))?;
    let visits = settings.training.visits(&prepared.data);
    let shape = (input.names.len(), prepared.context.0.len());
    let training = time_training(&engine, task, shape, visits, Some(input), seed)?;
    Ok(CheckReport {
        task: task.file.clone(),
        source: likelihood_of(task)?.key(),
        device: engine.info().to_string(),
        parameters: parameters(task, &input.names, &input.supports),
        points: Some(Points {
            n: source.weights.n,
            n_weighted: source.weights.n_positive,
            n_context: shape.1,
            ess: source.weights.ess,
            autocorrelation_ess: source.autocorrelation_ess,
            largest_share: source.weights.largest_share,
            log_z: source.evidence.log_z,
            log_z_sd: source.evidence.log_z_sd,
        }),
        prior_draws: None,
        rounds: None,
        simulations: None,
        training: Some(training),
        run: None,
        notes: source.notes.iter().chain(&prepared.notes).cloned().collect(),
    })
}

fn parameters(task: &Task, names: &[String], supports: &[Support]) -> Vec<ParameterRow> {
    let row = |(name, support): (&String, &Support)| ParameterRow {
        name: name.clone(),
        prior: task.parameters.iter().find(|p| p.name == *name).and_then(|p| Some(p.prior?.name())),
        lower: support.lower,
        upper: support.upper,
        periodic: support.periodic,
    };
    names.iter().zip(supports).map(row).collect()
}
