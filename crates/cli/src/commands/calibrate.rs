//! `lwflow calibrate`: whether a conditional model's posteriors are what they claim, from pairs that trained nothing, and whether
//! an observation looks as its own posterior predicts. Invariant: everything follows from model, pairs or task, and seed.

use super::observations::{check_context, observations, same_parameters, warn_of_novel};
use super::open_engine;
use crate::calibration::{Calibration, FILES, Prediction, checksum};
use crate::exit::{CommandError, Status};
use crate::out_folder::OutFolder;
use crate::progress::{Bar, Console, go_on, print};
use crate::simulation::{Simulation, simulation};
use crate::task::{Likelihood, Task};
use crate::wgsl_file::of;
use clap::Args;
use lwflow_engine::{DeviceChoice, FlowExecutor};
use lwflow_host::diagnostics::calibration::{
    MIN_PAIRS, calibration_report, posterior_ranks, predictive_check, quantities,
};
use lwflow_host::files::{ColumnChoice, SampleTable, read_samples, read_table};
use lwflow_host::model_file::read_model;
use lwflow_host::posterior::Posterior;
use lwflow_host::prior::transform_rows;
use lwflow_host::rng::{CounterField, derived_seed};
use lwflow_host::simulator::{Simulated, simulate_rows};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Adjusted p-value below which a test fails.
const ALPHA: f64 = 0.01;
/// Fewest draws of a posterior whose ranks say much.
const MIN_DRAWS: u64 = 20;
/// Predictions for an observation of X values: so many for each value that one alone can fail its test, between these limits.
const PREDICTIONS: (usize, usize, usize) = (400, 1000, 20_000);
/// Most observations that are predicted.
const MAX_OBSERVATIONS: usize = 100;

/// Arguments of `lwflow calibrate`.
#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// Model file of a conditional model.
    model: PathBuf,
    /// Pairs (theta, x) that trained nothing, theta drawn from the prior of the training, as `lwflow simulate` writes them.
    #[arg(long = "in", value_name = "FILE", required_unless_present = "task", conflicts_with = "task")]
    input: Option<PathBuf>,
    /// Task file with a section [simulator]: simulates fresh pairs in place of reading them, and predictions of an observation.
    #[arg(long, value_name = "TASK.toml", requires = "n")]
    task: Option<PathBuf>,
    /// Number of pairs to simulate.
    #[arg(short, requires = "task", value_parser = clap::value_parser!(u64).range(50..=10_000_000))]
    n: Option<u64>,
    /// Observations, each a row of X values, for the predictive check: a file, or values separated by commas. If not given, the
    /// data of [likelihood], if they are X values.
    #[arg(long, value_name = "FILE", requires = "task", allow_hyphen_values = true)]
    context: Option<String>,
    /// Posterior draws for each pair.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(MIN_DRAWS..=10_000_000))]
    draws: u64,
    /// Folder for calibration.json, the figures and the page; made if it does not exist.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device.
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = super::device)]
    device: DeviceChoice,
    /// Replace an earlier calibration in the folder.
    #[arg(long)]
    force: bool,
    /// No progress and no remarks.
    #[arg(long)]
    quiet: bool,
}

/// Pairs, and where they come from.
struct Pairs {
    theta: Vec<f64>,
    x: Vec<f64>,
    from: String,
}

pub(super) fn run_calibrate(args: &CalibrateArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.quiet);
    let (posterior, model_checksum) = (read_model(&args.model)?, checksum(&args.model)?);
    let (d, width) = (posterior.dim(), posterior.spec().context_dim);
    let input = |message: String| CommandError::new(Status::Input, message);
    if width == 0 {
        let message =
            "takes no context: it is the posterior of one observation, and calibration is about many";
        return Err(input(format!("{}: {message}", args.model.display())));
    }
    let task = args.task.as_deref().map(Task::read).transpose()?;
    let to_predict = match &task {
        Some(task) => observed(args, task, &posterior, console)?,
        None => Vec::new(),
    };
    let given = match &args.input {
        Some(file) => Some(pairs_of(file, &posterior)?),
        None => None,
    };
    let _folder = match &args.out {
        Some(out) => {
            if let Some(name) = FILES.iter().find(|name| !args.force && out.join(name).exists()) {
                let message = "holds an earlier calibration";
                return Err(input(format!(
                    "{}: {message} ({name}); use --force to replace it",
                    out.display()
                )));
            }
            Some(OutFolder::claim(out, true)?)
        }
        None => None,
    };
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    // Other streams than those of `lwflow simulate` under the same seed, which may have made the training's pairs.
    let seed = derived_seed(args.seed, "calibrate", 0);
    let mut simulation = match &task {
        Some(task) => Some(simulation(task, seed, || Ok(engine.clone()))?),
        None => None,
    };
    let pairs = match (given, &mut simulation, &task) {
        (Some(pairs), ..) => Some(pairs),
        (None, Some(simulation), Some(task)) => {
            fits(simulation, &posterior, task)?;
            fresh_pairs(args, task, simulation, seed, console)?
        }
        _ => None,
    };
    let ended = || {
        eprintln!("interrupted: nothing was written");
        Ok(Status::Interrupted)
    };
    let Some(pairs) = pairs else { return ended() };
    let n_pairs = pairs.theta.len() / d;
    if n_pairs < MIN_PAIRS {
        return Err(input(format!("{}: {n_pairs} pairs, expected at least {MIN_PAIRS}", pairs.from)));
    }
    let n_draws = usize::try_from(args.draws).map_err(|e| CommandError::new(Status::Usage, e))?;
    let bar = console.bar("drawing posteriors", "pairs");
    let ranks = posterior_ranks(&posterior, &mut executor, &pairs.theta, &pairs.x, n_draws, seed, |done| {
        bar.update(done, n_pairs)
    })?;
    drop(bar);
    let Some(ranks) = ranks else { return ended() };
    let report = calibration_report(&quantities(&posterior.names), &ranks, n_draws, ALPHA)?;
    let mut predictions = Vec::new();
    if let (Some(task), Some(simulation)) = (&task, &mut simulation) {
        for (k, observed) in to_predict.iter().enumerate() {
            let seed = derived_seed(seed, "calibrate/predictions", k as u64);
            match predict(&posterior, &mut executor, (task, simulation), observed, seed, console)? {
                Some(prediction) => predictions.push(prediction),
                None => return ended(),
            }
        }
    }
    let mut calibration = Calibration {
        lwflow: env!("CARGO_PKG_VERSION").to_owned(),
        model: args.model.display().to_string(),
        model_checksum,
        pairs: pairs.from,
        seed: args.seed,
        device: engine.info().to_string(),
        labels: posterior.labels.clone(),
        passed: false,
        failures: Vec::new(),
        ranks: report,
        predictions,
    };
    calibration.judge();
    if let Some(out) = &args.out {
        calibration.write(out, console)?;
        console.remark(format!("calibration written to {}", out.display()));
    }
    print(&calibration.text())?;
    Ok(calibration.status())
}

/// Reads pairs whose rows count alike.
fn pairs_of(file: &Path, posterior: &Posterior) -> Result<Pairs, CommandError> {
    let choice = ColumnChoice { parameters: Some(posterior.names.clone()), context: None };
    let table: SampleTable = read_samples(file, &choice)?;
    let input = |message: String| CommandError::new(Status::Input, format!("{}: {message}", file.display()));
    let (got, expected) = (table.context_dim, posterior.spec().context_dim);
    if got != expected {
        return Err(input(format!("holds {got} context values per row, the model takes {expected}")));
    }
    check_context(file, posterior, &table.context)?;
    let uneven = |weights: &Option<Vec<f64>>| {
        weights.as_ref().is_some_and(|w| w.windows(2).any(|pair| pair[0] != pair[1]))
    };
    if uneven(&table.weight) || uneven(&table.log_weight) {
        let message =
            "its rows have unequal weights, expected draws from the prior and data simulated for each";
        return Err(input(message.to_owned()));
    }
    Ok(Pairs { theta: table.theta, x: table.context, from: file.display().to_string() })
}

/// Whether the task's parameters and data are those of the model.
fn fits(simulation: &Simulation, posterior: &Posterior, task: &Task) -> Result<(), CommandError> {
    let file = task.file.display();
    let input = |message: String| Err(CommandError::new(Status::Input, format!("{file}: {message}")));
    same_parameters(task, posterior)?;
    let (got, expected) = (simulation.observed.len(), posterior.spec().context_dim);
    if got != expected {
        return input(format!("its simulator gives {got} values, the model takes {expected}"));
    }
    Ok(())
}

/// Independent draws from the prior, and data for each; `None` if the user asked to stop.
fn fresh_pairs(
    args: &CalibrateArgs,
    task: &Task,
    simulation: &mut Simulation,
    seed: u64,
    console: Console,
) -> Result<Option<Pairs>, CommandError> {
    let n = usize::try_from(args.n.unwrap_or(0)).map_err(|e| CommandError::new(Status::Usage, e))?;
    let dim = simulation.prior.dim();
    let mut u = vec![0.0; n * dim];
    CounterField::new(seed, "calibrate/prior", dim).fill_uniform(0, &mut u);
    let theta = transform_rows(&*simulation.prior, &u);
    let from = format!("{}: simulated", task.file.display());
    let bar = console.bar("simulating pairs", "simulations");
    let Some(kept) = simulate(task, simulation, &theta, &bar)? else { return Ok(None) };
    drop(bar);
    let m = kept.rows.len();
    if m < n {
        console.remark(format!("{} of {n} simulations failed (NaN alone) and are left out", n - m));
    }
    Ok(Some(Pairs { theta: kept.theta, x: kept.x, from }))
}

/// Data of `theta`, `[n, D]`, those left out that failed; `None` if the user asked to stop.
fn simulate(
    task: &Task,
    simulation: &mut Simulation,
    theta: &[f64],
    bar: &Bar,
) -> Result<Option<Simulated>, CommandError> {
    let dim = simulation.names.len();
    let n = theta.len() / dim;
    let given = |rows: Range<usize>| theta[rows.start * dim..rows.end * dim].to_vec();
    let kept = simulate_rows(&mut *simulation.simulator, 0..n, given, |done| bar.update(done, n));
    let kept = kept.map_err(|error| of(&task.file, error))?;
    Ok((kept.done == n).then_some(kept))
}

/// The observations `[X]` each: what the user gave, or the data of the task's likelihood where they are X values.
fn observed(
    args: &CalibrateArgs,
    task: &Task,
    posterior: &Posterior,
    console: Console,
) -> Result<Vec<Vec<f64>>, CommandError> {
    let width = posterior.spec().context_dim;
    let values = match (&args.context, &task.likelihood) {
        (Some(text), _) => observations(text, &args.model, posterior)?.values,
        (None, Some(Likelihood::Wgsl { data: Some(data), .. })) => {
            let table = read_table(data)?;
            let (file, got) = (data.display(), table.values.len());
            if got != width {
                let words = "are not an observation of";
                console.remark(format!(
                    "{file}: {got} values {words} {width}; without --context no prediction is checked"
                ));
                return Ok(Vec::new());
            }
            table.values
        }
        (None, _) => return Ok(Vec::new()),
    };
    let got = values.len() / width;
    if got > MAX_OBSERVATIONS {
        let message = format!("--context has {got} observations, expected at most {MAX_OBSERVATIONS}");
        return Err(CommandError::new(Status::Input, message));
    }
    if let Some(scores) = posterior.novelty_scores(&values)? {
        warn_of_novel(posterior, &scores, console);
    }
    Ok(values.chunks_exact(width).map(<[f64]>::to_vec).collect())
}

/// Draws the posterior of `observed`, `[X]`, simulates data for each draw and compares; `None` if the user asked to stop.
fn predict(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    (task, simulation): (&Task, &mut Simulation),
    observed: &[f64],
    seed: u64,
    console: Console,
) -> Result<Option<Prediction>, CommandError> {
    let (each, least, most) = PREDICTIONS;
    let n = (each * (observed.len() + 1)).clamp(least, most);
    let mut theta = Vec::new();
    posterior.sample_pieces(executor, n, observed, seed, |mut piece| {
        theta.append(&mut piece.theta);
        go_on()
    })?;
    if theta.len() < n * posterior.dim() || go_on().is_break() {
        return Ok(None);
    }
    let bar = console.bar("simulating predictions", "simulations");
    let Some(kept) = simulate(task, simulation, &theta, &bar)? else { return Ok(None) };
    drop(bar);
    let check = predictive_check(observed, &kept.x)?;
    let (names, n_failed) = (simulation.observed.clone(), n - kept.rows.len());
    Ok(Some(Prediction { names, observed: observed.to_vec(), n_failed, check }))
}
