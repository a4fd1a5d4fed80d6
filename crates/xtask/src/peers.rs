//! Makes the Python environments of `cargo xtask bench --peers` and `--examples`, in the target folder and nowhere else.
//! Invariant: a stamp beside it holds the requirements it was made from, written last; anything else is made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::tools::{display, in_path, workspace_root};

/// The folder of the Python scripts and of their requirements.
pub fn scripts() -> PathBuf {
    workspace_root().join("benches").join("peers")
}

/// The folder for the environment, the rows and what the contestants exchange.
pub fn folder() -> PathBuf {
    workspace_root().join("target").join("peers")
}

/// The Python of an environment with the packages of the peers, made now if there is none.
///
/// # Errors
/// When Python is missing or pip fails.
pub fn environment() -> anyhow::Result<PathBuf> {
    let mut requirements = vec![scripts().join("requirements.txt")];
    // torch.compile for NVIDIA GPUs needs some packages more.
    if in_path("nvidia-smi").is_some() {
        requirements.push(scripts().join("requirements-cuda.txt"));
    }
    python_with(&requirements, &folder(), "2 GB from PyPI, 5 GB on disk")
}

/// The Python of an environment with the packages of benches/references, made now if there is none.
///
/// # Errors
/// When Python is missing or pip fails.
pub fn references() -> anyhow::Result<PathBuf> {
    let requirements = workspace_root().join("benches").join("references").join("requirements.txt");
    python_with(&[requirements], &workspace_root().join("target").join("references"), "200 MB from PyPI")
}

/// The Python of an environment in `folder` with the pinned packages of `requirements`, made now if there is none.
fn python_with(requirements: &[PathBuf], folder: &Path, size: &str) -> anyhow::Result<PathBuf> {
    let texts: Result<Vec<_>, _> = requirements.iter().map(fs::read_to_string).collect();
    let wanted = texts.with_context(|| format!("cannot read {requirements:?}"))?.concat();
    let venv = folder.join("venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = folder.join("installed.txt");
    if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    // Until the stamp is written again the environment is not complete.
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("{}", stamp.display()))?;
    }
    let base = ["python3", "python"].into_iter().find_map(in_path);
    let base = base.context("no python3 in PATH: this needs Python 3.11 or later with the module venv")?;
    eprintln!("xtask: making a Python environment in {} ({size})", venv.display());
    run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&venv))?;
    for file in requirements {
        // --no-deps: what is in the file and nothing else; torch names far more than it loads.
        let options = ["-m", "pip", "install", "--no-deps", "--no-cache-dir", "--quiet", "--requirement"];
        run(Command::new(&python).args(options).arg(file))?;
    }
    fs::write(&stamp, wanted).with_context(|| format!("{}", stamp.display()))?;
    Ok(python)
}

/// The command on two cores where `taskset` is at hand, so that no contestant has more than another.
pub fn on_two_cores(command: Command) -> Command {
    let Some(taskset) = in_path("taskset") else { return command };
    let mut wrapped = Command::new(taskset);
    wrapped.args(["--cpu-list", "0,1"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
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
    fn the_scripts_and_both_requirements_are_there() {
        for name in ["worker.py", "requirements.txt", "requirements-cuda.txt"] {
            assert!(scripts().join(name).is_file(), "{name}");
        }
    }

    #[test]
    fn the_wrapped_command_is_the_same_command() {
        let mut command = Command::new("cargo");
        command.args(["run", "--bin", "peers"]).env("A", "1").env_remove("B");
        let wrapped = on_two_cores(command);
        let words: Vec<_> = wrapped.get_args().collect();
        let tail = words.len() - 3;
        assert_eq!(words[tail..], ["run", "--bin", "peers"]);
        assert!(wrapped.get_envs().any(|(name, value)| name == "A" && value == Some("1".as_ref())));
        assert!(wrapped.get_envs().any(|(name, value)| name == "B" && value.is_none()));
    }

    #[test]
    #[cfg(unix)]
    fn a_failing_command_is_named() {
        assert!(run(&mut Command::new("true")).is_ok());
        let why = run(Command::new("false").arg("argument")).unwrap_err().to_string();
        assert!(why.contains("false argument"), "{why}");
    }
}
