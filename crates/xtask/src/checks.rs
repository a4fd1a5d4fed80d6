//! `cargo xtask test`: every check, in one profile, all of them even after a failure, and one line of sums at the end.
//! The order puts the quick ones first; clippy and doc share the metadata builds, test and bench the real ones.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::counts::TestCounts;
use crate::long::{self, Long};
use crate::setup::MissingDriver;
use crate::tools::{LANES_VARIABLE, cargo, display, missing_component, workspace_root};

/// How one step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not so.
    Failed,
    /// Not tried, and that is no fault.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

/// The steps taken so far, and the tests counted in them.
#[derive(Default)]
struct Summary {
    steps: Vec<(&'static str, Outcome, Duration)>,
    counts: TestCounts,
}

impl Summary {
    /// Takes one step. A failure that no failing test accounts for counts as one, so that the last line never says
    /// "0 failed" after a failure.
    fn step(&mut self, name: &'static str, run: impl FnOnce(&mut TestCounts) -> anyhow::Result<Outcome>) {
        let (start, failed_before) = (Instant::now(), self.counts.failed());
        let outcome = run(&mut self.counts).unwrap_or_else(|why| {
            eprintln!("xtask: {why:#}");
            Outcome::Failed
        });
        match outcome {
            Outcome::Failed if self.counts.failed() == failed_before => self.counts.add_failure(),
            Outcome::Skipped => self.counts.add_skip(),
            Outcome::Failed | Outcome::Passed => {}
        }
        self.steps.push((name, outcome, start.elapsed()));
    }

    fn is_success(&self) -> bool {
        self.counts.failed() == 0 && self.steps.iter().all(|(_, outcome, _)| *outcome != Outcome::Failed)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome, took) in &self.steps {
            writeln!(f, "{name:<11}{outcome:<9}{:>7.1} s", took.as_secs_f64())?;
        }
        write!(f, "{}", self.counts)
    }
}

/// The Python environments of the tests.
pub struct Pythons {
    /// The one that reads exports back, or why there is none.
    pub readers: anyhow::Result<PathBuf>,
    /// The one that the Python package is tested in, or why there is none.
    pub package: anyhow::Result<PathBuf>,
    /// The wheel of sbibm, or why it is not there.
    pub wheel: anyhow::Result<PathBuf>,
    /// Whether the absence of one is a failure.
    pub required: bool,
}

/// Runs every check and prints the sums; true when nothing failed. `driver` says how the search for a driver ended and
/// `require_adapter` whether its absence is a failure; `device` is what the bench runs on, `long` what else is asked for.
/// `pythons` makes its environments, mostly by waiting for PyPI, while the first steps run.
pub fn run(
    driver: Result<(), MissingDriver>,
    require_adapter: bool,
    device: &str,
    pythons: impl FnOnce() -> Pythons + Send + 'static,
    long: Option<Long>,
) -> bool {
    let mut summary = Summary::default();
    let no_driver = driver.is_err();
    if let (Err(why), false) = (&driver, require_adapter) {
        println!("SKIP driver: {why}");
    }
    summary.step("driver", |_| driver_outcome(driver, require_adapter));
    let pythons = std::thread::spawn(pythons);
    summary.step("fmt", |_| match missing_component("fmt", "rustfmt") {
        Some(advice) => Err(anyhow::anyhow!(advice)),
        None => status(cargo("fmt").args(["--all", "--check"])),
    });
    summary.step("clippy", |_| match missing_component("clippy", "clippy") {
        Some(advice) => Err(anyhow::anyhow!(advice)),
        None => status(cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"])),
    });
    summary.step("doc", |_| {
        let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
        status(
            cargo("doc")
                .args(["--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", format!("{flags} -D warnings")),
        )
    });
    let failed = || Err(anyhow::anyhow!("making it failed"));
    let Pythons { readers, package, wheel, required } = pythons.join().unwrap_or_else(|_| Pythons {
        readers: failed(),
        package: failed(),
        wheel: failed(),
        required: true,
    });
    let python = readers.as_ref().ok().cloned();
    summary.step("readers", |_| {
        found(readers, required, "exports are not read back")
            .map(|found| found.map_or(Outcome::Skipped, |_| Outcome::Passed))
    });
    // --show-output: libtest hides what a passing test prints, and a skipped test passes as far as libtest knows.
    summary.step("test", |counts| {
        let mut command = cargo("test");
        if let Some(python) = &python {
            command.env("LWFLOW_READERS_PYTHON", python);
        }
        if let Some(long) = &long {
            long.set_variables(&mut command);
        }
        counted(command.args(["--workspace", "--no-fail-fast", "--", "--show-output"]), counts)
    });
    // The engine's tests once more with the other number of lanes that kernels are made for.
    if cfg!(target_os = "linux") {
        summary.step("16 lanes", |counts| {
            if no_driver && !require_adapter {
                return Ok(Outcome::Skipped);
            }
            let mut command = cargo("test");
            command
                .args(["--workspace", "--test", "engine", "--", "--show-output"])
                .env(LANES_VARIABLE, "512");
            counted(&mut command, counts)
        });
    }
    summary.step("python", |counts| match found(package, required, "the Python package is not tested")? {
        Some(python) => python_package(&python, long.as_ref(), counts),
        None => Ok(Outcome::Skipped),
    });
    summary.step("bench", |_| {
        if no_driver && !require_adapter { Ok(Outcome::Skipped) } else { tiny_bench(device) }
    });
    summary.step("sbibm", |_| match (&python, found(wheel, required, "the tasks of sbibm are not tried")?) {
        (Some(python), Some(wheel)) => tiny_sbibm(python, &wheel),
        _ => Ok(Outcome::Skipped),
    });
    if let Some(long) = long {
        summary.step("browser", |_| long.browser_outcome());
        for target in long::TARGETS {
            summary.step(target, |_| long.fuzz(target));
        }
    }
    println!("\n{summary}");
    summary.is_success()
}

fn driver_outcome(driver: Result<(), MissingDriver>, require_adapter: bool) -> anyhow::Result<Outcome> {
    match driver {
        Ok(()) => Ok(Outcome::Passed),
        Err(why) if require_adapter => Err(why.into()),
        Err(_) => Ok(Outcome::Skipped),
    }
}

/// The Python of an environment; `None`, with a line that says why, where there need not be one.
fn found(python: anyhow::Result<PathBuf>, required: bool, without: &str) -> anyhow::Result<Option<PathBuf>> {
    match python {
        Ok(python) => Ok(Some(python)),
        Err(why) if required => Err(why.context(format!("no Python environment: {without}"))),
        Err(why) => {
            println!("xtask: {without}: {why:#}");
            Ok(None)
        }
    }
}

/// Builds the wheel, installs it beside NumPy and the samplers, and runs its tests.
fn python_package(python: &Path, long: Option<&Long>, counts: &mut TestCounts) -> anyhow::Result<Outcome> {
    crate::python::install_package(python)?;
    let mut command = Command::new(python);
    crate::tools::quiet_driver(&mut command);
    if let Some(long) = long {
        long.set_variables(&mut command);
    }
    command.args([
        "-m",
        "pytest",
        "--quiet",
        "-p",
        "no:cacheprovider",
        "--durations=5",
        "--import-mode=prepend",
        // Two at a time: most of them wait for one thread.
        "--numprocesses=2",
        "--dist=loadfile",
    ]);
    counted(command.arg(crate::python::package_source().join("tests")), counts)
}

/// A run of the bench program that is too short to measure anything: it shows that every kernel and pass still runs.
fn tiny_bench(device: &str) -> anyhow::Result<Outcome> {
    // Naming the tests too makes cargo choose the same features as for `cargo test`, so only the program is built.
    let built = status(cargo("build").args(["--workspace", "--tests", "--bin", "bench"]))?;
    if built != Outcome::Passed {
        return Ok(built);
    }
    let mut command = Command::new(built_program("bench")?);
    crate::tools::quiet_driver(&mut command);
    status(command.args(["--device", device, "--tiny"]))
}

/// The smallest run of the ten tasks: it shows that trainings, draws, references and classifier still fit together.
fn tiny_sbibm(python: &Path, wheel: &Path) -> anyhow::Result<Outcome> {
    let built = status(cargo("build").args(["--workspace", "--tests", "--bin", "lwflow", "--bin", "sbibm"]))?;
    if built != Outcome::Passed {
        return Ok(built);
    }
    let out = workspace_root().join("target").join("tiny_sbibm");
    let mut command = Command::new(built_program("sbibm")?);
    command.args(["--task", "two_moons", "--simulations", "300", "--observations", "1", "--fold-seeds", "1"]);
    command.args(["--draws", "500", "--python"]).arg(python).arg("--wheel").arg(wheel).arg("--out").arg(out);
    status(&mut command)
}

/// A program of this workspace that cargo has just built in the development profile.
pub fn built_program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where is xtask itself?")?;
    let dir = own.parent().context("xtask lies in no directory")?;
    // cargo has put the program next to us, unless we are the release build and it is not.
    let dir = if dir.ends_with("release") { dir.with_file_name("debug") } else { dir.to_owned() };
    Ok(dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs a command with its output where ours goes.
pub fn status(command: &mut Command) -> anyhow::Result<Outcome> {
    announce(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", display(command)))?;
    if status.success() {
        return Ok(Outcome::Passed);
    }
    eprintln!("xtask: `{}`: {status}", display(command));
    Ok(Outcome::Failed)
}

/// Runs a command, passes its output on line by line and counts the tests in it.
fn counted(command: &mut Command, counts: &mut TestCounts) -> anyhow::Result<Outcome> {
    announce(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", display(command)))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let shared = Mutex::new(counts);
    let copied = std::thread::scope(|scope| {
        let errors =
            scope.spawn(|| stderr.map_or(Ok(()), |pipe| copy_lines(pipe, std::io::stderr(), &shared)));
        let output = stdout.map_or(Ok(()), |pipe| copy_lines(pipe, std::io::stdout(), &shared));
        let errors = errors.join().unwrap_or_else(|_| Err(std::io::Error::other("the reader panicked")));
        output.and(errors)
    });
    let status = child.wait().with_context(|| format!("cannot wait for {}", display(command)))?;
    copied.with_context(|| format!("cannot read the output of {}", display(command)))?;
    if status.success() {
        return Ok(Outcome::Passed);
    }
    eprintln!("xtask: `{}`: {status}", display(command));
    Ok(Outcome::Failed)
}

/// Copies `from` to `to` line by line, as bytes, and lets `counts` read each line.
fn copy_lines(from: impl Read, mut to: impl Write, counts: &Mutex<&mut TestCounts>) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        let text = String::from_utf8_lossy(&line);
        counts.lock().unwrap_or_else(PoisonError::into_inner).read_line(text.trim_end());
        line.clear();
    }
    Ok(())
}

fn announce(command: &Command) {
    println!("\n==> {}", display(command));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_copied_unchanged_and_counted() {
        let text = b"first \xff line\r\nSKIP a: none\ntest result: ok. 3 passed; 0 failed; 1 ignored;\nlast";
        let mut counts = TestCounts::default();
        let mut copy = Vec::new();
        copy_lines(&text[..], &mut copy, &Mutex::new(&mut counts)).unwrap();
        assert_eq!(copy, text);
        assert_eq!(counts.to_string(), "2 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_failing_step_is_never_zero_failures_and_does_not_stop_the_next() {
        let mut summary = Summary::default();
        summary.step("broken", |_| Err(anyhow::anyhow!("no such program")));
        summary.step("tests", |counts| {
            counts.read_line("test result: FAILED. 4 passed; 2 failed; 0 ignored;");
            Ok(Outcome::Failed)
        });
        summary.step("bench", |_| Ok(Outcome::Skipped));
        assert!(!summary.is_success());
        let text = summary.to_string();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(text.lines().last(), Some("4 passed, 3 failed, 1 skipped"));
    }

    #[test]
    fn all_well_is_success() {
        let mut summary = Summary::default();
        summary.step("tests", |counts| {
            counts.read_line("test result: ok. 4 passed; 0 failed; 0 ignored;");
            Ok(Outcome::Passed)
        });
        assert!(summary.is_success());
        assert!(summary.to_string().ends_with("4 passed, 0 failed, 0 skipped"));
    }

    #[test]
    fn a_missing_driver_fails_only_where_one_is_required() {
        let missing = || Err(MissingDriver("type this".to_owned()));
        assert_eq!(driver_outcome(Ok(()), true).unwrap(), Outcome::Passed);
        assert_eq!(driver_outcome(missing(), false).unwrap(), Outcome::Skipped);
        assert!(driver_outcome(missing(), true).unwrap_err().to_string().contains("type this"));
    }

    #[test]
    fn only_ci_fails_for_want_of_an_environment() {
        let outcome = |python: anyhow::Result<PathBuf>, required| found(python, required, "not tested");
        assert_eq!(outcome(Ok("py".into()), true).unwrap(), Some("py".into()));
        assert_eq!(outcome(Err(anyhow::anyhow!("no network")), false).unwrap(), None);
        let why = format!("{:#}", outcome(Err(anyhow::anyhow!("no network")), true).unwrap_err());
        assert!(why.contains("not tested: no network"), "{why}");
    }

    #[test]
    fn a_command_that_fails_without_tests_counts_none() {
        let mut counts = TestCounts::default();
        assert_eq!(counted(&mut cargo("no-such-subcommand"), &mut counts).unwrap(), Outcome::Failed);
        assert_eq!(counts, TestCounts::default());
    }
}
