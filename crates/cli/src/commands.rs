//! The subcommands. Each reads its input completely before it writes anything, and writes files atomically.

mod export;
mod fit;
mod rounds;
mod table;

pub use fit::fit_settings;

use crate::demo::{DemoArgs, demo};
use crate::exit::{CommandError, Status};
use crate::progress::{Console, catch_interrupts, print};
use clap::{Args, Parser, Subcommand};
use lwflow_engine::{DeviceChoice, DeviceKind, Engine, EngineSettings, list_devices};
use std::path::PathBuf;
use std::process::ExitCode;

const STATUSES: &str = "Exit status: 0 success; 1 unexpected error; 2 wrong command line; 3 wrong input file; \
4 no usable device; 5 failed fit or missed bound; 6 contract not met; 130 interrupted (what there was is written).";

/// Most samples of one call: their count in bytes still has meaning on every system.
const MAX_SAMPLES: u64 = 1_000_000_000_000;

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
    /// Add the model's log density log_prob to a table; its parameters, context and weights are kept.
    #[command(after_help = "Example: lwflow log-prob model.safetensors --in points.csv --out -")]
    LogProb(LogProbArgs),
    /// Write the draws of a fit for GetDist, anesthetic or ArviZ, or as a table with weights.
    #[command(after_help = "Example: lwflow export runs/gauss3 --to getdist --out chains/gauss3")]
    Export(ExportArgs),
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
    /// auto, cpu, gpu, software, an index or part of a name (see `lwflow devices`).
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = device)]
    device: DeviceChoice,
    /// No progress and no remarks.
    #[arg(long)]
    quiet: bool,
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

#[derive(Debug, Args)]
struct DevicesArgs {
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    /// Run every self-test now.
    #[arg(long)]
    test: bool,
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
    let result = catch_interrupts().and_then(|()| match cli.command {
        Command::Fit(args) => fit::run_fit(&args),
        Command::Sample(args) => table::run_sample(&args),
        Command::LogProb(args) => table::run_log_prob(&args),
        Command::Export(args) => export::run_export(&args),
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
                    "limits": info.adapter,
                    "self_test": state,
                })
            })
            .collect();
        print(&(serde_json::to_string_pretty(&list)? + "\n"))?;
    } else {
        for (info, state) in &rows {
            let index = info.index.map(|i| format!("{i}: ")).unwrap_or_default();
            let limits = info.adapter.as_ref().map_or_else(String::new, |a| {
                format!(
                    "buffers up to {} MiB, uniforms {} KiB, workgroup memory {} KiB; ",
                    a.max_storage_bytes >> 20,
                    a.max_uniform_bytes >> 10,
                    a.max_workgroup_bytes >> 10
                )
            });
            print(&format!("{index}{info}\n    {limits}self-test: {state}\n"))?;
        }
    }
    if devices.iter().all(|d| d.kind == DeviceKind::Cpu) {
        Console { quiet: args.json }.remark(
            "no Vulkan, Metal or DX12 device; on Linux `cargo xtask setup` installs a software driver",
        );
    }
    Ok(if failed { Status::Device } else { Status::Success })
}
