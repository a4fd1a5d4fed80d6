//! What `cargo xtask bench --peers`, `--examples` and `--sbibm` need: their Python environments, the wheel of sbibm, and two
//! cores for each contestant.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::python::{Environment, run};
use crate::tools::{in_path, workspace_root};

/// The wheel that benches/references/sbibm.txt names.
const SBIBM_WHEEL: &str = "sbibm-1.1.0-py2.py3-none-any.whl";

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
    // --no-deps: what is in the file and nothing else; torch names far more than it loads.
    let options: &[&str] = &["--no-deps"];
    let cost = "2 GB from PyPI, 5 GB on disk";
    Environment { folder: folder(), requirements, options, cost }.make()
}

/// The Python of an environment with the packages of benches/references, made now if there is none.
///
/// # Errors
/// When Python is missing or pip fails.
pub fn references() -> anyhow::Result<PathBuf> {
    let requirements = vec![workspace_root().join("benches").join("references").join("requirements.txt")];
    let folder = workspace_root().join("target").join("references");
    Environment { folder, requirements, options: &["--no-deps"], cost: "200 MB from PyPI" }.make()
}

/// The wheel of sbibm, fetched now with the pip of `python` if it is not there.
///
/// # Errors
/// When pip fails, or brings another file than that of benches/references/sbibm.txt.
pub fn sbibm_wheel(python: &Path) -> anyhow::Result<PathBuf> {
    let wheel = workspace_root().join("target").join("references").join(SBIBM_WHEEL);
    if !wheel.is_file() {
        let requirement = workspace_root().join("benches").join("references").join("sbibm.txt");
        eprintln!("xtask: fetching {SBIBM_WHEEL} (19 MB from PyPI, read and not installed)");
        let mut command = Command::new(python);
        // With --require-hashes a file under this name is the one, and complete.
        command.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest"]);
        run(command.arg(wheel.with_file_name("")).arg("--requirement").arg(requirement))?;
    }
    if !wheel.is_file() {
        bail!("pip did not leave {}", wheel.display());
    }
    Ok(wheel)
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
}
