//! WGSL files of a task, which may hold a likelihood, a simulator or both, and the parameters as such a file sees them.
//! Invariant: both get the same constants and, if both name the same file, the same data unless each names its own.

use crate::exit::{CommandError, Status};
use crate::task::{Likelihood, SimulatorSource, Task, prior_of};
use lwflow_engine::{WgslData, WgslSource};
use lwflow_host::HostError;
use lwflow_host::files::read_table;
use lwflow_host::likelihood::WgslParameter;
use std::path::Path;

/// The file `path` of a section of the task, with its data.
///
/// # Errors
/// [`CommandError`] if one of the two cannot be read.
pub fn source(
    task: &Task,
    section: &str,
    path: &Path,
    data: Option<&Path>,
) -> Result<WgslSource, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let message =
            format!("{}: `{section}.wgsl`: {}: cannot read: {e}", task.file.display(), path.display());
        CommandError::new(Status::Input, message)
    })?;
    let of_likelihood = match &task.likelihood {
        Some(Likelihood::Wgsl { path, data, derived }) => Some((path, data, derived.len())),
        _ => None,
    };
    let of_simulator = match &task.simulator {
        Some(simulator) => match &simulator.source {
            SimulatorSource::Wgsl { path, data } => Some((path, data, simulator.observed.len())),
            SimulatorSource::Command { .. } => None,
        },
        None => None,
    };
    let others = [of_likelihood, of_simulator].into_iter().flatten().filter(|(file, ..)| *file == path);
    let data = data.or_else(|| others.filter_map(|(_, data, _)| data.as_deref()).next());
    let data = data.map(read_table).transpose()?;
    Ok(WgslSource {
        file: path.display().to_string(),
        text,
        dim: task.parameters.len(),
        n_derived: of_likelihood.map_or(0, |(_, _, n)| n),
        n_observed: of_simulator.map_or(0, |(_, _, n)| n),
        data: data.map(|table| WgslData { values: table.values, n_columns: table.n_columns }),
    })
}

/// The parameters of a task as a WGSL file sees them.
///
/// # Errors
/// [`CommandError`] for a task without priors.
pub fn parameters(task: &Task) -> Result<Vec<WgslParameter>, CommandError> {
    let names: Vec<String> = task.parameters.iter().map(|p| p.name.clone()).collect();
    let offsets: Vec<f64> = task.parameters.iter().map(|p| p.offset.unwrap_or(0.0)).collect();
    Ok(WgslParameter::of_prior(&prior_of(task)?, &names, &offsets)?)
}

/// An error with the file whose fault it is.
pub fn of(file: &Path, error: HostError) -> CommandError {
    let error = CommandError::from(error);
    CommandError::new(error.status, format!("{}: {}", file.display(), error.message))
}
