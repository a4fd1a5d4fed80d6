//! The subcommands. Each reads its input completely before it writes anything, and writes files atomically.

use crate::demo::{DemoArgs, demo};
use crate::exit::{CommandError, Status};
use crate::progress::{Console, catch_interrupts, interrupted, print};
use crate::report;
use crate::source;
use crate::task::{self, Task};
use clap::{Args, Parser, Subcommand};
use lwflow_engine::{DeviceChoice, DeviceKind, Engine, EngineSettings, list_devices};
use lwflow_host::files::{ColumnChoice, FileError, SampleTable, check_output, read_theta, write_samples};
use lwflow_host::fit::{BaseSettings, Components, FitSettings, fit};
use lwflow_host::model_file::{Precision, read_model};
use lwflow_host::train::{ControlVariate, RateCourse, StopReason, TrainSettings};
use lwflow_model::{Activation, Covariance, FlowSettings, Mixing};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const STATUSES: &str = "Exit status: 0 success; 1 unexpected error; 2 wrong command line; 3 wrong input file; \
4 no usable device; 5 failed fit or missed bound; 130 interrupted (what there was is written).";

/// Likelihood-weighted normalizing flows on any GPU.
#[derive(Debug, Parser)]
#[command(name = "lwflow", version, after_help = STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fit a flow to the weighted pairs that a task file describes.
    #[command(after_help = "Example: lwflow fit examples/gauss3/TASK.toml --out runs/gauss3")]
    Fit(FitArgs),
    /// Draw samples from a trained model: columns or arrays theta and log_prob.
    #[command(
        after_help = "Example: lwflow sample runs/gauss3/model.safetensors -n 10000 --out samples.parquet"
    )]
    Sample(SampleArgs),
    /// Evaluate the model's log density at the theta of a table: theta and log_prob, other columns are not copied.
    #[command(after_help = "Example: lwflow log-prob model.safetensors --in points.csv --out -")]
    LogProb(LogProbArgs),
    /// List the devices with their limits and the state of their self-test.
    Devices(DevicesArgs),
    /// Fit all known 2-D and 3-D targets with both bases and a real nested-sampling run, and check every bound.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
struct FitArgs {
    /// Task file.
    task: PathBuf,
    /// Folder for the results; made if it does not exist.
    #[arg(long)]
    out: PathBuf,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// auto, software, an index or part of a name (see `lwflow devices`).
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = device)]
    device: DeviceChoice,
    /// No progress and no remarks.
    #[arg(long)]
    quiet: bool,
    /// Overwrite the results of an earlier fit.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct SampleArgs {
    /// Model file.
    model: PathBuf,
    /// Number of samples.
    #[arg(short, long)]
    n: usize,
    /// .npz, .csv or .parquet; - for CSV on stdout.
    #[arg(long)]
    out: PathBuf,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device.
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = device)]
    device: DeviceChoice,
    /// Context values, separated by commas, for a conditional model.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    context: Vec<f64>,
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
}

#[derive(Debug, Args)]
struct DevicesArgs {
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    /// Run every self-test now.
    #[arg(long)]
    test: bool,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LWFLOW_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let result = catch_interrupts().and_then(|()| match cli.command {
        Command::Fit(args) => run_fit(&args),
        Command::Sample(args) => run_sample(&args),
        Command::LogProb(args) => run_log_prob(&args),
        Command::Devices(args) => run_devices(&args),
        Command::Demo(args) => demo(&args),
    });
    match result {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            eprintln!("lwflow: error: {error}");
            ExitCode::from(error.status as u8)
        }
    }
}

/// A device as the user names it; the empty text of an unset variable is `auto`.
fn device(text: &str) -> Result<DeviceChoice, lwflow_engine::EngineError> {
    if text.trim().is_empty() { Ok(DeviceChoice::Auto) } else { text.parse() }
}

/// Opens the device and makes sure that it computes right.
///
/// # Errors
/// [`Status::Device`].
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

fn run_fit(args: &FitArgs) -> Result<Status, CommandError> {
    let start = Instant::now();
    let console = Console { quiet: args.quiet };
    let task = Task::read(&args.task)?;
    refuse_results(&args.out, args.force)?;
    let source = source::load(&task, args.seed)?;
    prepare_folder(&args.out)?;
    source.notes.iter().for_each(|note| console.remark(note));
    let engine = open_engine(&args.device, console)?;
    let settings = fit_settings(&task);
    let bar = console.bar("training", settings.training.max_visits as u64);
    let (posterior, report) =
        fit(&engine, &source.input, &settings, args.seed, |p| bar.update(p.done as u64, p.total as u64))
            .map_err(|error| of_task(&task, error.into()))?;
    drop(bar);
    report.notes.iter().for_each(|note| console.remark(note));
    let stopped = report.training.stop == StopReason::Interrupted;
    if stopped {
        console.remark("interrupted: writing the best parameters so far");
    }
    let run = report::Run {
        task: &task,
        source: &source,
        posterior: &posterior,
        report: &report,
        seed: args.seed,
        device: engine.info().to_string(),
        seconds: start.elapsed().as_secs_f64(),
    };
    report::write(&args.out, &run, &engine, precision(&task), console)?;
    Ok(if stopped || interrupted() { Status::Interrupted } else { Status::Success })
}

/// A complaint about the points or the settings, with the file that they come from.
fn of_task(task: &Task, error: CommandError) -> CommandError {
    if error.status != Status::Input {
        return error;
    }
    let file = match &task.likelihood {
        task::Likelihood::Target { .. } => &task.file,
        task::Likelihood::Pairs { path } => path,
        task::Likelihood::Chain { root, .. } => root,
    };
    CommandError::new(error.status, format!("{}: {}", file.display(), error.message))
}

/// Refuses a folder that holds results unless `force`.
fn refuse_results(out: &Path, force: bool) -> Result<(), CommandError> {
    let model = out.join(report::MODEL_FILE);
    if model.exists() && !force {
        let message =
            format!("{}: holds the results of an earlier fit; use --force to overwrite them", out.display());
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(())
}

/// Makes the folder.
fn prepare_folder(out: &Path) -> Result<(), CommandError> {
    std::fs::create_dir_all(out)
        .and_then(|()| tempfile_probe(out))
        .map_err(|e| CommandError::new(Status::Input, format!("{}: cannot write there: {e}", out.display())))
}

/// Finds out before an hour of training, not after it, that a folder cannot be written to.
fn tempfile_probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(".lwflow-probe");
    std::fs::write(&path, b"")?;
    std::fs::remove_file(path)
}

fn precision(task: &Task) -> Precision {
    match task.output.precision {
        task::Precision::F32 => Precision::F32,
        task::Precision::F16 => Precision::F16,
    }
}

/// The host's settings of a task.
pub fn fit_settings(task: &Task) -> FitSettings {
    let (flow, base, training) = (&task.flow, &task.base, &task.training);
    FitSettings {
        flow: FlowSettings {
            n_layers: flow.n_layers,
            hidden: flow.hidden.clone(),
            activation: match flow.activation {
                task::Activation::Relu => Activation::Relu,
                task::Activation::Silu => Activation::Silu,
                task::Activation::Tanh => Activation::Tanh,
            },
            s_max: flow.s_max,
            mixing: match flow.mixing {
                task::Mixing::Alternate => Mixing::Alternate,
                task::Mixing::Permute => Mixing::Permute,
            },
        },
        base: match base.kind {
            task::BaseKind::Gaussian => BaseSettings::Gaussian,
            task::BaseKind::Mixture => BaseSettings::Mixture {
                components: match base.components {
                    task::Components::Fixed(k) => Components::Fixed(k),
                    task::Components::Auto { max } => Components::Auto { max },
                },
                covariance: match base.covariance {
                    task::Covariance::Full => Covariance::Full,
                    task::Covariance::Diagonal => Covariance::Diagonal,
                },
                trainable: base.trainable,
            },
        },
        training: TrainSettings {
            batch_size: training.batch_size,
            max_visits: training.max_visits,
            learning_rate: training.learning_rate,
            schedule: match training.schedule {
                task::Schedule::Cosine => RateCourse::Cosine,
                task::Schedule::Plateau => RateCourse::Plateau,
                task::Schedule::Constant => RateCourse::Constant,
            },
            clip_norm: training.clip_norm,
            validation_share: training.validation_share,
            patience: training.patience,
            control_variate: match training.control_variate {
                task::ControlVariate::Auto => ControlVariate::Auto,
                task::ControlVariate::On => ControlVariate::On,
                task::ControlVariate::Off => ControlVariate::Off,
            },
            ..TrainSettings::default()
        },
    }
}

fn run_sample(args: &SampleArgs) -> Result<Status, CommandError> {
    let console = Console { quiet: args.out == Path::new("-") };
    let posterior = read_model(&args.model)?;
    check_output(&args.out)?;
    if let Some(x) = args.context.iter().find(|x| !x.is_finite()) {
        return Err(CommandError::new(
            Status::Usage,
            format!("--context holds {x}, expected finite numbers"),
        ));
    }
    let (got, expected) = (args.context.len(), posterior.spec().context_dim);
    if got != expected {
        let message =
            format!("{}: --context has {got} values, the model takes {expected}", args.model.display());
        return Err(CommandError::new(Status::Input, message));
    }
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let samples = posterior.sample(&mut executor, args.n, &args.context, args.seed)?;
    let mut table = SampleTable::new(posterior.names.clone(), samples.theta)?;
    table.log_prob = Some(samples.log_prob);
    write_table(&args.out, &table)?;
    console.remark(format!("{} samples written to {}", args.n, args.out.display()));
    Ok(Status::Success)
}

/// Writes a table to a file or to stdout. A reader of stdout that has seen enough (`head`) is no error.
fn write_table(out: &Path, table: &SampleTable) -> Result<(), CommandError> {
    match write_samples(out, table, &mut std::io::stdout().lock()) {
        Err(FileError::Io { source, .. })
            if out == Path::new("-") && source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        written => Ok(written?),
    }
}

fn run_log_prob(args: &LogProbArgs) -> Result<Status, CommandError> {
    let console = Console { quiet: args.out == Path::new("-") };
    let posterior = read_model(&args.model)?;
    let choice = ColumnChoice { parameters: Some(posterior.names.clone()), context: None };
    check_output(&args.out)?;
    let mut table = read_theta(&args.input, &choice)?;
    let (got, expected) = (table.context_dim, posterior.spec().context_dim);
    if got != expected {
        let message = format!(
            "{}: holds {got} context values per row, the model takes {expected}",
            args.input.display()
        );
        return Err(CommandError::new(Status::Input, message));
    }
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    table.log_prob = Some(posterior.log_prob(&mut executor, &table.theta, &table.context)?);
    write_table(&args.out, &table)?;
    console.remark(format!("log_prob of {} rows written to {}", table.n, args.out.display()));
    Ok(Status::Success)
}

fn run_devices(args: &DevicesArgs) -> Result<Status, CommandError> {
    let devices = list_devices();
    let mut rows = Vec::new();
    let mut failed = false;
    for info in &devices {
        let settings = EngineSettings {
            device: info.index.map_or(DeviceChoice::Auto, DeviceChoice::Index),
            ..EngineSettings::default()
        };
        let state = match Engine::new(&settings) {
            Err(error) => {
                failed = true;
                format!("cannot be opened: {error}")
            }
            Ok(engine) if args.test => match engine.self_test() {
                Ok(_) => "passed".to_owned(),
                Err(error) => {
                    failed = true;
                    format!("failed: {error}")
                }
            },
            Ok(engine) if engine.is_tested() => "passed".to_owned(),
            Ok(_) => "not run yet (--test runs it; so does the first fit)".to_owned(),
        };
        rows.push((info, state));
    }
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(info, state)| {
                serde_json::json!({
                    "index": info.index,
                    "name": info.name,
                    "kind": info.kind,
                    "backend": info.backend,
                    "driver": info.driver,
                    "subgroup": info.subgroup,
                    "max_storage_bytes": info.max_storage_bytes,
                    "max_uniform_bytes": info.max_uniform_bytes,
                    "max_workgroup_bytes": info.max_workgroup_bytes,
                    "self_test": state,
                })
            })
            .collect();
        print(&(serde_json::to_string_pretty(&list)? + "\n"))?;
    } else {
        for (info, state) in &rows {
            let index = info.index.map(|i| format!("{i}: ")).unwrap_or_default();
            print(&format!(
                "{index}{info}\n    buffers up to {} MiB, uniforms {} KiB, workgroup memory {} KiB; self-test: {state}\n",
                info.max_storage_bytes >> 20,
                info.max_uniform_bytes >> 10,
                info.max_workgroup_bytes >> 10
            ))?;
        }
    }
    if devices.is_empty() {
        let message =
            "no Vulkan, Metal or DX12 device; on Linux `cargo xtask setup` installs a software driver";
        return Err(CommandError::new(Status::Device, message));
    }
    Ok(if failed { Status::Device } else { Status::Success })
}
