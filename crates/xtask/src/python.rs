//! Makes Python environments with pinned packages, in the target folder and nowhere else.
//! Invariant: a stamp beside each holds the requirements it was made from, written last; anything else is made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::tools::{display, forget_package, in_path, workspace_root};

/// An environment in `folder` with what `requirements` list.
pub struct Environment<'a> {
    /// Where it lies.
    pub folder: PathBuf,
    /// Files for `pip install --requirement`, in this order.
    pub requirements: Vec<PathBuf>,
    /// More options of pip.
    pub options: &'a [&'a str],
    /// What it costs, for people.
    pub cost: &'a str,
}

impl Environment<'_> {
    /// Its Python, made now if there is none.
    ///
    /// # Errors
    /// When Python is missing or pip fails.
    pub fn make(&self) -> anyhow::Result<PathBuf> {
        let texts: Result<Vec<_>, _> = self.requirements.iter().map(fs::read_to_string).collect();
        let wanted = texts.with_context(|| format!("cannot read {:?}", self.requirements))?.concat();
        let venv = self.folder.join("venv");
        let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let stamp = self.folder.join("installed.txt");
        if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
            return Ok(python);
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("{}", self.folder.display()))?;
        // Until the stamp is written again the environment is not complete.
        if stamp.exists() {
            fs::remove_file(&stamp).with_context(|| format!("{}", stamp.display()))?;
        }
        let base =
            system_python().context("no python3 in PATH: it must be 3.11 or later, with the module venv")?;
        eprintln!("xtask: making a Python environment in {} ({})", venv.display(), self.cost);
        run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&venv))?;
        for file in &self.requirements {
            let mut command = Command::new(&python);
            command.args(["-m", "pip", "install", "--no-cache-dir", "--quiet"]);
            run(command.args(self.options).arg("--requirement").arg(file))?;
        }
        fs::write(&stamp, wanted).with_context(|| format!("{}", stamp.display()))?;
        Ok(python)
    }
}

/// The system's Python.
pub fn system_python() -> Option<PathBuf> {
    ["python3", "python"].into_iter().find_map(in_path)
}

/// Whether that Python can make environments: Debian keeps ensurepip in a package of its own.
pub fn can_make_environments() -> bool {
    let works = |python: PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    system_python().is_some_and(works)
}

/// GetDist, anesthetic and ArviZ, which the tests of `lwflow export` read back with.
///
/// # Errors
/// As [`Environment::make`].
pub fn readers() -> anyhow::Result<PathBuf> {
    let environment = Environment {
        folder: workspace_root().join("target").join("readers"),
        requirements: vec![readers_requirements()],
        options: &["--disable-pip-version-check", "--retries", "1"],
        cost: "150 MB from PyPI, 500 MB on disk",
    };
    environment.make()
}

/// What the Python package is built and tested with.
///
/// # Errors
/// As [`Environment::make`].
pub fn package() -> anyhow::Result<PathBuf> {
    let environment = Environment {
        folder: package_target(),
        requirements: vec![package_source().join("tests").join("requirements.txt")],
        options: &["--disable-pip-version-check", "--retries", "1"],
        cost: "450 MB on disk",
    };
    environment.make()
}

/// The folder of the Python package.
pub fn package_source() -> PathBuf {
    workspace_root().join("crates").join("python")
}

fn package_target() -> PathBuf {
    workspace_root().join("target").join("python")
}

/// Builds the wheel with what the tests have built, and puts it into the environment of `python`.
///
/// # Errors
/// When maturin or pip fails, or does not leave one wheel.
pub fn install_package(python: &Path) -> anyhow::Result<()> {
    let wheels = package_target().join("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels).with_context(|| format!("{}", wheels.display()))?;
    }
    let mut build = Command::new(python);
    forget_package(&mut build);
    // The wheel stays on this machine: nothing is asked of its system libraries, and nothing is compressed.
    build
        .args([
            "-m",
            "maturin",
            "build",
            "--locked",
            "--strip",
            "--auditwheel",
            "skip",
            "--compression-method",
            "stored",
            "--interpreter",
        ])
        .arg(python);
    build.arg("--manifest-path").arg(package_source().join("Cargo.toml")).arg("--out").arg(&wheels);
    run(&mut build)?;
    let found: Vec<_> = fs::read_dir(&wheels)?.collect::<Result<_, _>>()?;
    let [wheel] = &found[..] else {
        bail!("{} holds {} files, expected one wheel", wheels.display(), found.len())
    };
    let mut install = Command::new(python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]);
    run(install.arg("--force-reinstall").arg(wheel.path()))
}

fn readers_requirements() -> PathBuf {
    workspace_root().join(Path::new("crates/cli/tests/command/readers.txt"))
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("xtask: {}", display(command));
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {}", display(command)))?;
    if !status.success() {
        bail!("`{}`: {status}", display(command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readers_are_pinned() {
        let text = fs::read_to_string(readers_requirements()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("==")), "{lines:?}");
    }

    #[test]
    fn the_package_is_tested_with_pinned_packages() {
        let text = fs::read_to_string(package_source().join("tests").join("requirements.txt")).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("==")), "{lines:?}");
    }

    #[test]
    #[cfg(unix)]
    fn a_failing_command_is_named() {
        assert!(run(&mut Command::new("true")).is_ok());
        let why = run(Command::new("false").arg("argument")).unwrap_err().to_string();
        assert!(why.contains("false argument"), "{why}");
    }
}
