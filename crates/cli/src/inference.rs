//! Turns a task with a prior and a likelihood into what rounds need, and says what makes a run the run it is.
//! Everything that can be wrong with a task is found here, before any evaluation.

use crate::exit::{CommandError, Status};
use crate::task::{Likelihood as LikelihoodSection, Task};
use lwflow_engine::Engine;
use lwflow_host::likelihood::Likelihood;
use lwflow_host::prior::Prior;
use lwflow_host::rounds::{Identity, RoundsSettings};
use lwflow_host::targets::Target;
use std::path::Path;

/// A prior, a likelihood and what is to be reached.
#[derive(Debug)]
pub struct Inference {
    /// Names of the parameters, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels, `[D]`.
    pub labels: Vec<String>,
    /// The prior.
    pub prior: Box<dyn Prior>,
    /// The likelihood.
    pub likelihood: Box<dyn Likelihood>,
    /// How rounds run, and the contract.
    pub settings: RoundsSettings,
    /// The target, where it is known.
    pub target: Option<Target>,
    /// Remarks for people.
    pub notes: Vec<String>,
}

/// What `task` asks for; `settings` are its own, as the command line changed them.
///
/// # Errors
/// [`CommandError`] naming file and key of what is wrong.
pub fn inference(task: &Task, settings: RoundsSettings, engine: &Engine) -> Result<Inference, CommandError> {
    let _ = engine;
    match &task.likelihood {
        LikelihoodSection::Target { name, .. } => {
            let target: Target = name.parse()?;
            Ok(Inference {
                names: target.parameter_names(),
                labels: target.parameter_labels(),
                prior: Box::new(target),
                likelihood: Box::new(target),
                settings,
                target: Some(target),
                notes: Vec::new(),
            })
        }
        _ => Err(CommandError::new(
            Status::Input,
            format!("{}: rounds need a likelihood that can be evaluated", task.file.display()),
        )),
    }
}

/// What two calls must agree on to be one run.
///
/// # Errors
/// [`CommandError`] if a file of the task cannot be read.
pub fn identity(
    task: &Task,
    inference: &Inference,
    seed: u64,
    engine: &Engine,
) -> Result<Identity, CommandError> {
    let mut identity = Identity::from([
        ("lwflow".into(), env!("CARGO_PKG_VERSION").into()),
        ("seed".into(), seed.to_string()),
        ("device".into(), engine.info().to_string()),
        ("settings".into(), serde_json::to_string(&inference.settings)?),
    ]);
    let files: Vec<&Path> = vec![&task.file];
    for file in files {
        let bytes = std::fs::read(file)
            .map_err(|e| CommandError::new(Status::Input, format!("{}: cannot read: {e}", file.display())))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        identity
            .insert(format!("the content of {name} (checksum)"), format!("{:08x}", crc32fast::hash(&bytes)));
    }
    Ok(identity)
}
