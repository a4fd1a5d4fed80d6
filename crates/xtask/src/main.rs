//! The commands people and CI run: `cargo xtask demo`, `test`, `bench` and `setup`.
//! This crate depends on nothing of the project, so that it is built in seconds and can install what the rest needs.
#![allow(clippy::print_stdout, reason = "printing is what a command is for")]

mod adapter;
mod checks;
mod counts;
mod long;
mod packages;
mod peers;
mod python;
mod setup;
mod tools;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use adapter::{Found, Need};
use checks::Pythons;
use long::Long;
use setup::{MissingDriver, ensure_driver};
use tools::{all_lanes, cargo, replace_with, warn_without_linker, workspace_root};

const EXIT_NO_DRIVER: u8 = 3;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything there is to do in this repository."
)]
#[command(
    after_help = "On Linux, demo, test, bench and setup need Mesa's software Vulkan driver. When it is missing they \
install it with the system's package manager, as root or with sudo: after a question on a terminal, without one \
given --yes or CI=true. Where that is not possible they print the command to type.\n\n\
Exit status: 0 all well, 1 a check failed, 2 wrong usage, 3 no driver; demo and bench pass on that of the program."
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The main job: fits the example problem and writes its samples, report and figures
    Demo(DemoArgs),
    /// Every check and test; the last line counts them
    ///
    /// Formatting, clippy, documentation, all tests, and a tiny run of the bench, every one of them even after a failure.
    /// Tests that need a GPU or the software driver are skipped and counted when there is none;
    /// LWFLOW_REQUIRE_ADAPTER=1 makes that a failure. Export is read back by GetDist, anesthetic and ArviZ in an environment in
    /// target/readers (python3 with venv, 150 MB from PyPI), and the wheel of the Python package is tested with NumPy, dynesty and
    /// nautilus in target/python (450 MB); without a network they are skipped, in CI (CI=true) a failure.
    ///
    /// --long adds what takes minutes: every reader is fuzzed from its corpus in fuzz/corpus (docs/fuzzing.md; a C++ compiler),
    /// runs are killed a hundred times, and the report is opened in a browser (Chromium). What these need is installed on the
    /// same terms as the driver, and missing it is a failure, as is a missing network.
    Test(TestArgs),
    /// Samples per second of every kernel and pass; --peers: beside other frameworks; --scaling: how time and memory grow, and what
    /// flows gain that are trained together;
    /// --examples and --sbibm: what posteriors reach
    Bench(BenchArgs),
    /// Only installs the software driver
    Setup(DriverArgs),
}

#[derive(Args)]
struct DriverArgs {
    /// Install a missing driver without asking
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args)]
struct TestArgs {
    #[command(flatten)]
    driver: DriverArgs,
    /// Also what takes minutes: fuzzing, many kills, a browser
    #[arg(long)]
    long: bool,
    /// Seconds for each fuzz target
    #[arg(long, value_name = "N", default_value_t = 600, requires = "long")]
    fuzz_seconds: u32,
}

#[derive(Args)]
struct DemoArgs {
    #[command(flatten)]
    driver: DriverArgs,
    /// Directory for the results [default: target/demo in the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of a single run
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds of several runs, one after the other
    #[arg(long, value_name = "N,N,..", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Device to run on: software, auto, or a name or number that `lwflow devices` lists
    #[arg(long, default_value = demo_device(), env = "LWFLOW_DEVICE")]
    device: String,
    /// Passed on to `lwflow demo`
    #[arg(last = true)]
    rest: Vec<OsString>,
}

#[derive(Args)]
struct BenchArgs {
    #[command(flatten)]
    driver: DriverArgs,
    /// Device to measure: software, cpu, gpu, auto, or a name or number that `lwflow devices` lists [default: software,
    /// for examples cpu]
    #[arg(long, env = "LWFLOW_DEVICE")]
    device: Option<String>,
    /// The smallest sizes, to see that it runs: the numbers mean nothing
    #[arg(long, conflicts_with = "peers")]
    tiny: bool,
    /// Compare with PyTorch, JAX, normflows, zuko and flowjax instead
    ///
    /// Makes a Python environment in target/peers with the pinned packages of benches/peers (python3 with venv, 2 GB from
    /// PyPI, 5 GB on disk). All take turns on the same cores; a result that differs from the definition's is a failure.
    #[arg(long)]
    peers: bool,
    /// Measure how time and memory grow with samples, layers, weights and flows instead
    #[arg(long, conflicts_with = "peers")]
    scaling: bool,
    /// Run the examples that go in rounds with seeds 0 to 4 instead, and hold them against their truths
    ///
    /// Makes a Python environment in target/references with the pinned packages of benches/references, for C2ST.
    #[arg(long, conflicts_with_all = ["peers", "scaling", "tiny"])]
    examples: bool,
    /// Run the ten tasks of sbibm instead, beside the published figures; takes every option after it, see --sbibm --help
    ///
    /// As --examples, with the wheel of sbibm from PyPI for observations and reference posteriors. Needs hours for all.
    #[arg(
        long,
        value_name = "OPTIONS",
        num_args = 0..,
        allow_hyphen_values = true,
        conflicts_with_all = ["peers", "scaling", "tiny", "examples"]
    )]
    sbibm: Option<Vec<OsString>>,
    /// Passed on to the bench program
    #[arg(last = true)]
    rest: Vec<OsString>,
}

/// The kernels on a software adapter; macOS has none, and no machine without a GPU.
const fn default_device() -> &'static str {
    if cfg!(target_os = "macos") { "gpu" } else { "software" }
}

/// The same for the demo, but where there is the driver of a GPU alone, nobody is asked to install another.
fn demo_device() -> &'static str {
    let found = || Found::on_this_machine().1;
    if cfg!(target_os = "linux") && needs_no_other_driver(&found()) { "gpu" } else { default_device() }
}

fn needs_no_other_driver(found: &Found) -> bool {
    found.missing(Need::Any).is_none() && found.missing(Need::Software).is_some()
}

/// The driver that a device choice needs; the cores need none, and `auto` makes do with them.
fn need_of(device: &str) -> Option<Need> {
    match device.to_ascii_lowercase().as_str() {
        "auto" | "cpu" => None,
        "software" => Some(Need::Software),
        _ => Some(Need::Any),
    }
}

/// Makes sure of the driver that a device choice needs.
fn ensure_driver_of(device: &str, yes: bool) -> Result<(), MissingDriver> {
    need_of(device).map_or(Ok(()), |need| ensure_driver(need, yes))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("xtask: {why:#}");
            ExitCode::from(if why.is::<MissingDriver>() { EXIT_NO_DRIVER } else { 1 })
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    match task {
        Task::Setup(args) => setup::setup(args.yes)?,
        Task::Test(args) => {
            warn_without_linker();
            let yes = args.driver.yes;
            let driver = ensure_driver_of(default_device(), yes);
            let require = packages::is_on(std::env::var("LWFLOW_REQUIRE_ADAPTER").ok().as_deref());
            // Otherwise only CI may fail for want of a network.
            let required = args.long || packages::is_on(std::env::var("CI").ok().as_deref());
            let there = setup::ensure_python(yes);
            let pythons = move || {
                let environment = |make: fn() -> anyhow::Result<PathBuf>| {
                    there.clone().map_err(anyhow::Error::msg).and_then(|()| make())
                };
                let readers = environment(python::readers);
                let wheel = match &readers {
                    Ok(python) => peers::sbibm_wheel(python),
                    Err(_) => Err(anyhow::anyhow!("there is no Python to fetch it with")),
                };
                Pythons { readers, package: environment(python::package), wheel, required }
            };
            let long = args.long.then(|| Long::prepare(yes, args.fuzz_seconds));
            return Ok(if checks::run(driver, require, default_device(), pythons, long) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Task::Demo(args) => {
            warn_without_linker();
            ensure_driver_of(&args.device, args.driver.yes)?;
            let mut command = cargo("run");
            command
                .args(["--release", "--package", "lwflow-cli", "--bin", "lwflow", "--"])
                .args(args.for_lwflow());
            replace_with(&mut command)?;
        }
        Task::Bench(args) => {
            warn_without_linker();
            ensure_driver_of(args.device(), args.driver.yes)?;
            let python = if args.peers {
                Some(peers::environment()?)
            } else if args.runs_lwflow() {
                Some(peers::references()?)
            } else {
                None
            };
            let wheel = match &python {
                Some(python) if args.sbibm.is_some() => Some(peers::sbibm_wheel(python)?),
                _ => None,
            };
            if args.runs_lwflow() {
                let mut build = cargo("build");
                python::run(build.args(["--release", "--package", "lwflow-cli", "--bin", "lwflow"]))?;
            }
            let paired = args.peers;
            let mut command = cargo("run");
            command
                .args(["--release", "--package", "lwflow-benches", "--bin", args.program(), "--"])
                .args(args.for_bench(python, wheel));
            all_lanes(&mut command);
            replace_with(&mut if paired { peers::on_two_cores(command) } else { command })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl DemoArgs {
    /// The arguments of `lwflow`.
    fn for_lwflow(self) -> Vec<OsString> {
        let out = self.out.unwrap_or_else(|| workspace_root().join("target").join("demo"));
        let mut args: Vec<OsString> =
            vec!["demo".into(), "--out".into(), out.into(), "--device".into(), self.device.into()];
        if let Some(seed) = self.seed {
            args.extend(["--seed".into(), seed.to_string().into()]);
        }
        if !self.seeds.is_empty() {
            let seeds: Vec<_> = self.seeds.iter().map(u64::to_string).collect();
            args.extend(["--seeds".into(), seeds.join(",").into()]);
        }
        args.extend(self.rest);
        args
    }
}

impl BenchArgs {
    /// The device that was asked for, or the one for what is measured.
    fn device(&self) -> &str {
        let default = if self.runs_lwflow() { "cpu" } else { default_device() };
        self.device.as_deref().unwrap_or(default)
    }

    /// Whether the program runs the command `lwflow`.
    fn runs_lwflow(&self) -> bool {
        self.examples || self.sbibm.is_some()
    }

    /// The program of the benches package.
    fn program(&self) -> &'static str {
        match (self.peers, self.scaling, self.examples, self.sbibm.is_some()) {
            (true, ..) => "peers",
            (_, true, ..) => "scaling",
            (_, _, true, _) => "example_runs",
            (.., true) => "sbibm",
            _ => "bench",
        }
    }

    /// The arguments of that program; `python` is that of the environment, `wheel` that of sbibm, where it needs them.
    fn for_bench(self, python: Option<PathBuf>, wheel: Option<PathBuf>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--device".into(), self.device().into()];
        if self.tiny {
            args.push("--tiny".into());
        }
        if let Some(python) = python {
            args.extend(["--python".into(), python.into()]);
        }
        if let Some(wheel) = wheel {
            args.extend(["--wheel".into(), wheel.into()]);
        }
        if self.peers {
            args.extend([
                "--scripts".into(),
                peers::scripts().into(),
                "--out".into(),
                peers::folder().into(),
            ]);
        }
        args.extend(self.sbibm.unwrap_or_default());
        args.extend(self.rest);
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Task {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).unwrap()
    }

    #[test]
    fn demo_passes_its_choices_on() {
        let Task::Demo(args) = parse("xtask demo --yes --seeds 0,1,2 --out here --device gpu -- --quick -x")
        else {
            panic!("not a demo");
        };
        assert!(args.driver.yes);
        assert_eq!(need_of(&args.device), Some(Need::Any));
        assert_eq!((need_of("cpu"), need_of("auto")), (None, None));
        assert_eq!(
            args.for_lwflow(),
            ["demo", "--out", "here", "--device", "gpu", "--seeds", "0,1,2", "--quick", "-x"]
        );

        let Task::Demo(args) = parse("xtask demo --seed 7") else { panic!("not a demo") };
        assert!(!args.driver.yes);
        let words = args.for_lwflow();
        assert_eq!(words[3..], ["--device", demo_device(), "--seed", "7"]);
        assert!(PathBuf::from(&words[2]).ends_with("target/demo"));
    }

    #[test]
    fn a_gpu_alone_is_enough_for_the_demo() {
        let there = || Some(PathBuf::from("there"));
        let none = Found::default();
        let gpu = Found { loader: there(), any: there(), software: None };
        let both = Found { software: there(), ..gpu.clone() };
        assert_eq!([&none, &gpu, &both].map(needs_no_other_driver), [false, true, false]);
    }

    #[test]
    fn bench_passes_its_choices_on() {
        let Task::Bench(args) = parse("xtask bench --device software --tiny -- --filter linear") else {
            panic!("not a bench");
        };
        assert_eq!(need_of(args.device()), Some(Need::Software));
        assert_eq!(args.program(), "bench");
        assert_eq!(args.for_bench(None, None), ["--device", "software", "--tiny", "--filter", "linear"]);

        let Task::Bench(args) = parse("xtask bench --peers -- --parts like") else { panic!("not a bench") };
        assert_eq!(args.program(), "peers");
        let words = args.for_bench(Some("py".into()), None);
        assert_eq!(words[2..4], ["--python", "py"]);
        assert_eq!(words[words.len() - 2..], ["--parts", "like"]);
        assert!(PathBuf::from(&words[5]).join("worker.py").is_file());

        let Task::Bench(args) = parse("xtask bench --examples -- --seeds 0") else { panic!("not a bench") };
        assert_eq!(args.program(), "example_runs");
        let words = args.for_bench(Some("py".into()), None);
        assert_eq!(words, ["--device", "cpu", "--python", "py", "--seeds", "0"]);

        let line = "xtask bench --yes --sbibm --task slcp --refine --seed 1 --help";
        let Task::Bench(args) = parse(line) else { panic!("not a bench") };
        assert!(args.driver.yes);
        assert_eq!((args.program(), need_of(args.device())), ("sbibm", None));
        let words = args.for_bench(Some("py".into()), Some("sbibm.whl".into()));
        assert_eq!(words[..6], ["--device", "cpu", "--python", "py", "--wheel", "sbibm.whl"]);
        assert_eq!(words[6..], ["--task", "slcp", "--refine", "--seed", "1", "--help"]);
        assert!(Cli::try_parse_from(["xtask", "bench", "--peers", "--sbibm"]).is_err());

        let Task::Bench(args) = parse("xtask bench --scaling --tiny") else { panic!("not a bench") };
        assert_eq!(args.program(), "scaling");
        assert!(Cli::try_parse_from(["xtask", "bench", "--scaling", "--peers"]).is_err());
    }

    #[test]
    fn test_fuzzes_for_ten_minutes_if_at_all() {
        let Task::Test(args) = parse("xtask test --long --yes") else { panic!("not a test") };
        assert_eq!((args.long, args.fuzz_seconds, args.driver.yes), (true, 600, true));
        let Task::Test(args) = parse("xtask test") else { panic!("not a test") };
        assert!(!args.long);
        assert!(Cli::try_parse_from(["xtask", "test", "--fuzz-seconds", "5"]).is_err());
    }

    #[test]
    fn seed_and_seeds_exclude_each_other() {
        assert!(Cli::try_parse_from(["xtask", "demo", "--seed", "1", "--seeds", "2"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "demo", "--seed", "minus one"]).is_err());
        assert!(Cli::try_parse_from(["xtask"]).is_err());
    }
}
