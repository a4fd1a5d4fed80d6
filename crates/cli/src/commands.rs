//! The subcommands. Each reads its input completely before it writes anything, and writes files atomically.

mod calibrate;
mod check;
mod devices;
mod doctor;
mod export;
mod fit;
mod init;
mod manual;
mod observations;
mod refine;
mod report;
mod rounds;
mod simulate;
mod table;
mod truncated;

pub use fit::fit_settings;

use crate::demo::{DemoArgs, demo};
use crate::exit::CommandError;
use crate::progress::{Console, Log, catch_interrupts};
use crate::task::{MAX_SIMULATIONS, Objective};
use clap::{Args, Parser, Subcommand};
use lwflow_engine::{DeviceChoice, DeviceKind, Engine, EngineSettings};
use std::path::PathBuf;
use std::process::ExitCode;

const EPILOGUE: &str = "Examples:
  lwflow init
  lwflow check TASK.toml
  lwflow fit TASK.toml --out runs/first
  lwflow sample runs/first/model.safetensors -n 10000 --out samples.parquet

Exit status: 0 success; 1 unexpected error; 2 wrong command line; 3 wrong input file; \
4 no usable device; 5 failed fit or missed bound; 6 contract not met; 130 interrupted (what there was is written).";

/// Most samples of one call: their count in bytes still has meaning on every system.
const MAX_SAMPLES: u64 = 1_000_000_000_000;

/// Likelihood-weighted normalizing flows on any GPU.
#[derive(Debug, Parser)]
#[command(name = "lwflow", version, after_help = EPILOGUE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented task file, from weighted points or for a likelihood of your own.
    #[command(after_help = "Examples:
  lwflow init --pairs pairs.csv
  lwflow init --chain chains/run --out fits/run.toml --parameters omega_m,sigma_8
  lwflow init --command python3 likelihood.py
  lwflow init")]
    Init(init::InitArgs),
    /// Check a task without running it: files, prior, likelihood at draws from the prior, and how long a fit takes.
    #[command(
        after_help = "Exit status: as that of `lwflow fit` where it refuses the task; nothing is written.

Examples:
  lwflow check TASK.toml
  lwflow check examples/galaxies/TASK.toml --device cpu --json"
    )]
    Check(check::CheckArgs),
    /// Fit a flow to the weighted pairs, or from the prior and the likelihood, that a task file describes.
    #[command(after_help = "Examples:
  lwflow fit examples/gauss3/TASK.toml --out runs/gauss3
  lwflow fit TASK.toml --out runs/first --max-evaluations 100000
  lwflow fit TASK.toml --objective truncated --observation observed.csv --out runs/observed
  lwflow fit TASK.toml --out runs/first --resume")]
    Fit(FitArgs),
    /// Simulate data: parameters from the prior of a task, or given ones, and what its simulator draws for each.
    #[command(after_help = "Examples:
  lwflow simulate TASK.toml -n 10000 --out pairs.npz
  lwflow simulate TASK.toml --theta posterior.csv --out predicted.csv --seed 1")]
    Simulate(simulate::SimulateArgs),
    /// Weight the draws of a conditional model for one observation by the true likelihood, and train further where needed.
    #[command(after_help = "Examples:
  lwflow refine runs/npe/model.safetensors --task TASK.toml --context observed.csv --out runs/refined
  lwflow refine model.safetensors --task TASK.toml --context 0.1,-0.3 --max-evaluations 100000 --out runs/refined")]
    Refine(refine::RefineArgs),
    /// Draw samples from a trained model: columns or arrays theta and log_prob.
    #[command(after_help = "Examples:
  lwflow sample runs/gauss3/model.safetensors -n 10000 --out samples.parquet
  lwflow sample model.safetensors -n 1000 --context 0.5,-1 --out - | head
  lwflow sample model.safetensors -n 1000 --context observations.csv --novelty novelty.csv --out draws.npz")]
    Sample(SampleArgs),
    /// Add the model's log density log_prob to a table; its parameters, context and weights are kept.
    #[command(after_help = "Examples:
  lwflow log-prob model.safetensors --in points.csv --out -
  lwflow log-prob model.safetensors --in draws.csv --context 0.5,-1 --out densities.csv
  lwflow log-prob model.safetensors --in points.parquet --out points.parquet")]
    LogProb(LogProbArgs),
    /// Test a conditional model on pairs that trained nothing: ranks of the truth, expected coverage, TARP, predictions.
    #[command(
        after_help = "Exit status: 0 if no test fails at 0.01, adjusted for their number (Holm), 6 if one does.

Examples:
  lwflow calibrate model.safetensors --in fresh.npz --out runs/calibration
  lwflow calibrate model.safetensors --task TASK.toml -n 1000 --context 61,37,22,14,8"
    )]
    Calibrate(calibrate::CalibrateArgs),
    /// Write the draws of a fit for GetDist, anesthetic or ArviZ, or as a table with weights.
    #[command(after_help = "Examples:
  lwflow export runs/gauss3 --to getdist --out chains/gauss3
  lwflow export runs/gauss3 --to arviz --out gauss3.json")]
    Export(ExportArgs),
    /// Write the page of a fit: verdict, corner plot, weights, course of the training, modes, and how it was made.
    #[command(after_help = "Examples:
  lwflow report runs/gauss3
  lwflow report runs/first runs/second --out both.html")]
    Report(report::ReportArgs),
    /// List the devices with their limits and the state of their self-test.
    #[command(after_help = "Examples:
  lwflow devices
  lwflow devices --test --json")]
    Devices(devices::DevicesArgs),
    /// Find out why there is no usable GPU, and what helps.
    #[command(after_help = "Exit status: 0 if the device passes its self-test, 4 if not.

Examples:
  lwflow doctor
  lwflow doctor --device gpu")]
    Doctor(doctor::DoctorArgs),
    /// Fit all known 2-D and 3-D targets with both bases and a real nested-sampling run, and check every bound.
    #[command(after_help = "Examples:
  lwflow demo --device cpu --out demo
  lwflow demo --seeds 0,1,2 --only gauss2,chain")]
    Demo(DemoArgs),
    /// Print the completions of a shell.
    #[command(after_help = "Examples:
  lwflow completions bash > ~/.local/share/bash-completion/completions/lwflow
  lwflow completions zsh > ~/.zfunc/_lwflow
  lwflow completions fish > ~/.config/fish/completions/lwflow.fish")]
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write it and one for every command into a folder.
    #[command(after_help = "Examples:
  lwflow man | man -l -
  lwflow man --out ~/.local/share/man/man1")]
    Man(manual::ManArgs),
}

#[derive(Debug, Args)]
struct FitArgs {
    /// Task file.
    task: PathBuf,
    /// Simulations of a task with a simulator (overrides the task file).
    #[arg(long, value_name = "N", value_parser = simulations)]
    simulations: Option<usize>,
    /// What a task with a simulator learns (overrides the task file).
    #[arg(long, value_enum)]
    objective: Option<Objective>,
    /// The one observation of the objective truncated: values separated by commas, or a table (.npz, .csv, .parquet) with one
    /// row (overrides the task file).
    #[arg(long, allow_hyphen_values = true, value_name = "VALUES|FILE")]
    observation: Option<String>,
    /// Replicas of a fit of points, trained on bootstrap weights beside it: error bars of its answers (overrides the task file).
    #[arg(long, value_name = "N", value_parser = replicas)]
    replicas: Option<usize>,
    #[command(flatten)]
    run: RunArgs,
}

fn replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n != 1 && n <= crate::task::MAX_REPLICAS => Ok(n),
        _ => Err(format!("expected 0, or 2 to {}, whose spread is the error", crate::task::MAX_REPLICAS)),
    }
}

/// How a run goes and what it must reach.
#[derive(Debug, Args)]
struct RunArgs {
    /// Folder for the results; made if it does not exist.
    #[arg(long)]
    out: PathBuf,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// auto, cpu, gpu, software, an index or part of a name (see `lwflow devices`).
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = device)]
    device: DeviceChoice,
    /// No progress and no remarks.
    #[arg(long)]
    quiet: bool,
    /// Progress and remarks as text, or a JSON object a line (docs/log.md).
    #[arg(long, value_enum, default_value_t)]
    log: Log,
    /// Replace the results of an earlier fit.
    #[arg(long)]
    force: bool,
    /// Go on with the rounds that an earlier call began in the same folder.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Effective size that fresh draws must reach (rounds; overrides the task file).
    #[arg(long, value_name = "N")]
    target_ess: Option<f64>,
    /// Largest Pareto k-hat with which an effective size counts (rounds).
    #[arg(long, value_name = "K")]
    max_k_hat: Option<f64>,
    /// Largest standard error of log Z (rounds).
    #[arg(long, value_name = "SD")]
    max_log_z_sd: Option<f64>,
    /// Most likelihood evaluations, everything counted (rounds).
    #[arg(long, value_name = "N")]
    max_evaluations: Option<usize>,
    /// Most seconds (rounds).
    #[arg(long, value_name = "SECONDS")]
    max_time: Option<f64>,
}

impl RunArgs {
    fn console(&self) -> Console {
        Console { quiet: self.quiet, log: self.log }
    }
}

#[derive(Debug, Args)]
struct SampleArgs {
    /// Model file.
    model: PathBuf,
    /// Number of samples.
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(..=MAX_SAMPLES))]
    n: u64,
    /// .npz, .csv or .parquet; - for CSV on stdout.
    #[arg(long)]
    out: PathBuf,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device.
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = device)]
    device: DeviceChoice,
    /// For a conditional model: context values separated by commas, or a table (.npz, .csv, .parquet) with a row for every
    /// observation, each of which gets -n samples; of several, with their context beside them.
    #[arg(long, allow_hyphen_values = true, value_name = "VALUES|FILE")]
    context: Option<String>,
    /// Write how new each observation is to a .csv: observation, distance, tail (share of the training's observations that
    /// lie as far out).
    #[arg(long, requires = "context", value_name = "FILE")]
    novelty: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LogProbArgs {
    /// Model file.
    model: PathBuf,
    /// .npz (theta, optional context), .csv or .parquet (one column per parameter).
    #[arg(long = "in")]
    input: PathBuf,
    /// .npz, .csv or .parquet; - for CSV on stdout.
    #[arg(long)]
    out: PathBuf,
    /// Device.
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = device)]
    device: DeviceChoice,
    /// For a conditional model and points without context: context values separated by commas, or a table (.npz, .csv, .parquet)
    /// with one row for all points or a row for each of them.
    #[arg(long, allow_hyphen_values = true, value_name = "VALUES|FILE")]
    context: Option<String>,
    /// Write how new the observation, or the context of each row, is to a .csv: its number, distance, tail (share of the
    /// training's observations that lie as far out).
    #[arg(long, value_name = "FILE")]
    novelty: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Folder that `lwflow fit` has written.
    folder: PathBuf,
    /// Program or kind of table.
    #[arg(long, value_enum)]
    to: export::To,
    /// getdist: root of the chain; anesthetic: .csv; arviz: .json; else .npz, .csv or .parquet.
    #[arg(long)]
    out: PathBuf,
    /// Seed of the resampling (arviz).
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// Where there is no display, Mesa's device-select layer greets every program with "XDG_RUNTIME_DIR is invalid" on
/// stderr. Only the environment silences it, which a running program cannot change safely: it starts itself anew, once.
#[cfg(target_os = "linux")]
fn silence_device_select() {
    use std::os::unix::process::CommandExt;
    const SILENT: &str = "NODEVICE_SELECT";
    let of_users = ["XDG_RUNTIME_DIR", "MESA_VK_DEVICE_SELECT", "DRI_PRIME", SILENT];
    if of_users.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // Returns only where it failed; then the line stays.
        let _ = std::process::Command::new(program).arg0(name).args(arguments).env(SILENT, "1").exec();
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    #[cfg(target_os = "linux")]
    silence_device_select();
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LWFLOW_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let console = match &cli.command {
        Command::Fit(args) => args.run.console(),
        Command::Refine(args) => args.run.console(),
        _ => Console::text(false),
    };
    let result = catch_interrupts().and_then(|()| match cli.command {
        Command::Fit(args) => fit::run_fit(&args),
        Command::Refine(args) => refine::run_refine(&args),
        Command::Init(args) => init::run_init(&args),
        Command::Check(args) => check::run_check(&args),
        Command::Simulate(args) => simulate::run_simulate(&args),
        Command::Sample(args) => table::run_sample(&args),
        Command::LogProb(args) => table::run_log_prob(&args),
        Command::Calibrate(args) => calibrate::run_calibrate(&args),
        Command::Export(args) => export::run_export(&args),
        Command::Report(args) => report::run_report(&args),
        Command::Devices(args) => devices::run_devices(&args),
        Command::Doctor(args) => doctor::run_doctor(&args),
        Command::Demo(args) => demo(&args),
        Command::Completions(args) => manual::run_completions(&args),
        Command::Man(args) => manual::run_man(&args),
    });
    match result {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            console.error(&error);
            ExitCode::from(error.status as u8)
        }
    }
}

/// A device as the user names it; the empty text of an unset variable is `auto`.
pub(crate) fn device(text: &str) -> Result<DeviceChoice, lwflow_engine::EngineError> {
    if text.trim().is_empty() { Ok(DeviceChoice::Auto) } else { text.parse() }
}

/// A number of simulations.
fn simulations(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MAX_SIMULATIONS).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {MAX_SIMULATIONS}")),
    }
}

/// Opens the device and makes sure that it computes right.
///
/// # Errors
/// [`crate::exit::Status::Device`].
pub fn open_engine(device: &DeviceChoice, console: Console) -> Result<Engine, CommandError> {
    let engine = Engine::new(&EngineSettings { device: device.clone(), ..EngineSettings::default() })?;
    if engine.info().kind == DeviceKind::Software {
        console
            .remark(format!("device: {}; its kernels compile at first use, for some seconds", engine.info()));
    } else {
        console.remark(format!("device: {}", engine.info()));
    }
    engine.ensure_tested()?;
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// A command line of an example, without what the shell itself takes from it.
    fn arguments(example: &str) -> Vec<&str> {
        example.split_whitespace().take_while(|word| !matches!(*word, "|" | ">")).collect()
    }

    #[test]
    fn every_command_has_examples_and_they_are_understood() {
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            let name = command.get_name();
            let help =
                command.get_after_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  lwflow ")).collect();
            assert!(!examples.is_empty(), "{name}: {help}");
            for example in examples {
                let parsed = Cli::try_parse_from(arguments(example));
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                assert_eq!(arguments(example)[1], name, "an example of another command");
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
