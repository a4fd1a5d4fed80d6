//! Turns a task with a prior and a likelihood into what rounds need, and says what makes a run the run it is.
//! Everything that can be wrong with a task is found here, before any evaluation.

use crate::exit::{CommandError, Status};
use crate::task::{Likelihood as LikelihoodSection, Task, likelihood_of, prior_of};
use crate::wgsl_file::{of, parameters, source};
use lwflow_engine::{Engine, WgslProgram};
use lwflow_host::files::read_table;
use lwflow_host::likelihood::{CommandLikelihood, Likelihood, Observation, WgslLikelihood};
use lwflow_host::posterior::Posterior;
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
    /// A flow that is taken for the posterior to begin with.
    pub start: Option<Posterior>,
}

/// What `task` asks for; `settings` are its own, as the command line changed them.
///
/// # Errors
/// [`CommandError`] naming file and key of what is wrong.
pub fn inference(task: &Task, settings: RoundsSettings, engine: &Engine) -> Result<Inference, CommandError> {
    let section = likelihood_of(task)?;
    let likelihood: Box<dyn Likelihood> = match section {
        LikelihoodSection::Target { name, .. } => {
            let target = *name;
            return Ok(Inference {
                names: target.parameter_names(),
                labels: target.parameter_labels(),
                prior: Box::new(target),
                likelihood: Box::new(target),
                settings,
                target: Some(target),
                start: None,
            });
        }
        LikelihoodSection::Wgsl { path, data, derived } => {
            let program = WgslProgram::new(&source(task, "likelihood", path, data.as_deref())?)?;
            let likelihood = WgslLikelihood::new(engine, &program, &parameters(task)?, derived.clone());
            Box::new(likelihood.map_err(|e| of(&task.file, e))?)
        }
        LikelihoodSection::Command { command, folder, settings, data, observation } => {
            let (dim, settings) = (task.parameters.len(), settings.clone());
            let values = data.as_deref().map(one_row).transpose()?;
            let told = match (&values, observation) {
                (Some(values), _) => Observation::Values(values),
                (None, Some(path)) => Observation::File(path),
                (None, None) => Observation::Own,
            };
            let started = CommandLikelihood::start(command, dim, folder, settings, told);
            Box::new(started.map_err(|e| of(&task.file, e))?)
        }
        LikelihoodSection::Pairs { .. } | LikelihoodSection::Chain { .. } => {
            let message = format!(
                "{}: `likelihood.{}` holds points; rounds need a likelihood that can be evaluated",
                task.file.display(),
                section.key()
            );
            return Err(CommandError::new(Status::Input, message));
        }
    };
    let labels = task.parameters.iter().map(|p| p.label.clone().unwrap_or_else(|| p.name.clone()));
    Ok(Inference {
        names: task.parameters.iter().map(|p| p.name.clone()).collect(),
        labels: labels.collect(),
        prior: Box::new(prior_of(task)?),
        likelihood,
        settings,
        target: None,
        start: None,
    })
}

/// The values of an observation, `[X]`, from a table of one row.
fn one_row(path: &Path) -> Result<Vec<f64>, CommandError> {
    let table = read_table(path)?;
    if table.n_rows == 1 {
        return Ok(table.values);
    }
    let message = format!(
        "{}: {} rows, expected one: a command is handed the values of one observation after every theta",
        path.display(),
        table.n_rows
    );
    Err(CommandError::new(Status::Input, message))
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
    // How long a run may take does not change what it finds: a resumed one may be given more time.
    let settings = RoundsSettings { max_time: None, ..inference.settings.clone() };
    let mut identity = Identity::from([
        ("lwflow".into(), env!("CARGO_PKG_VERSION").into()),
        ("seed".into(), seed.to_string()),
        ("device".into(), engine.info().to_string()),
        ("settings".into(), serde_json::to_string(&settings)?),
    ]);
    if let Some(start) = &inference.start {
        let bytes: Vec<u8> = start.flow.params().iter().flat_map(|p| p.to_le_bytes()).collect();
        identity
            .insert("the flow to begin with (checksum)".into(), format!("{:08x}", crc32fast::hash(&bytes)));
    }
    let mut files: Vec<&Path> = vec![&task.file];
    match &task.likelihood {
        Some(LikelihoodSection::Wgsl { path, data, .. }) => {
            files.push(path);
            files.extend(data.as_deref());
        }
        Some(LikelihoodSection::Command { data, .. }) => files.extend(data.as_deref()),
        _ => {}
    }
    for file in files {
        let bytes = std::fs::read(file)
            .map_err(|e| CommandError::new(Status::Input, format!("{}: cannot read: {e}", file.display())))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        identity
            .insert(format!("the content of {name} (checksum)"), format!("{:08x}", crc32fast::hash(&bytes)));
    }
    Ok(identity)
}
