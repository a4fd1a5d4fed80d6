//! Scripts of the references, asked for one line of JSON.
//! Invariant: a script has one core, so that several may run beside each other.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs a script on one core and reads its answer, a line of JSON, null if there is none.
///
/// # Errors
/// If it cannot be started or fails.
pub fn answer(command: &mut Command) -> Result<Value> {
    command.env("OMP_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.stderr(Stdio::inherit()).output().context("cannot start Python")?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    if output.stdout.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&output.stdout)?) }
}
