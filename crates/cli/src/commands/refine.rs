//! `lwflow refine`: neural importance sampling. A conditional model's posterior of one observation draws, the task's own
//! likelihood and prior weight, and rounds go on from there where the draws are not worth enough.

use super::fit::rounds_settings;
use super::observations::{observations, same_parameters, warn_of_novel};
use super::rounds::run_rounds;
use super::{RunArgs, open_engine};
use crate::exit::{CommandError, Status};
use crate::inference::inference;
use crate::out_folder::{OutFolder, refuse_results};
use crate::report::write_file;
use crate::task::{Likelihood, Task, likelihood_of};
use clap::Args;
use lwflow_host::model_file::read_model;
use std::path::PathBuf;

/// The observation, in the folder of results: the data of a likelihood in WGSL or of a command that has data; any other command
/// finds it in the file that its environment names.
pub const OBSERVATION_FILE: &str = "observation.csv";

/// Arguments of `lwflow refine`.
#[derive(Debug, Args)]
pub struct RefineArgs {
    /// Model file of a conditional flow.
    model: PathBuf,
    /// Task file with the prior and the likelihood. A likelihood in WGSL, or a command with `data`, gets the observation as its
    /// data, one row; any other command finds it in the .csv file that the environment variable LWFLOW_OBSERVATION names.
    #[arg(long)]
    task: PathBuf,
    /// The observation: values separated by commas, or a table (.npz, .csv, .parquet).
    #[arg(long, allow_hyphen_values = true, value_name = "VALUES|FILE")]
    context: String,
    /// Row of the table, from 1, where it has several.
    #[arg(long, value_name = "ROW")]
    observation: Option<usize>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

pub(super) fn run_refine(args: &RefineArgs) -> Result<Status, CommandError> {
    let console = args.run.console();
    let posterior = read_model(&args.model)?;
    let input = |message: String| CommandError::new(Status::Input, message);
    if posterior.spec().context_dim == 0 {
        let message =
            "the model has no context: it is of one observation, for which `lwflow fit` runs rounds";
        return Err(input(format!("{}: {message}", args.model.display())));
    }
    let mut task = Task::read(&args.task)?;
    same_parameters(&task, &posterior)?;
    let found = observations(&args.context, &args.model, &posterior)?;
    let row = match args.observation {
        None if found.n == 1 => 0,
        Some(row) if (1..=found.n).contains(&row) => row - 1,
        other => {
            let got = other.map_or("no --observation".to_owned(), |row| format!("--observation {row}"));
            return Err(input(format!("{}: {got}, expected a row from 1 to {}", args.context, found.n)));
        }
    };
    let c = posterior.spec().context_dim;
    let observation = &found.values[row * c..][..c];
    let replace = args.run.force || args.run.resume;
    refuse_results(&args.run.out, replace)?;
    let Some(settings) = rounds_settings(&task, &args.run)? else {
        let key = likelihood_of(&task)?.key();
        let message = format!("`likelihood.{key}` cannot be evaluated; refining needs one that can");
        return Err(input(format!("{}: {message}", args.task.display())));
    };
    let _folder = OutFolder::claim(&args.run.out, replace)?;
    let told = match &mut task.likelihood {
        Some(Likelihood::Wgsl { data, .. } | Likelihood::Command { data: data @ Some(_), .. }) => Some(data),
        Some(Likelihood::Command { observation, .. }) => Some(observation),
        _ => None,
    };
    if let Some(told) = told {
        let file = args.run.out.join(OBSERVATION_FILE);
        let header = (1..=c).map(|i| found.names.get(i - 1).cloned().unwrap_or_else(|| format!("x{i}")));
        let values = observation.iter().map(f64::to_string);
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        write_file(&file, (line(header.collect()) + &line(values.collect())).as_bytes())?;
        *told = Some(file);
    }
    let scores = posterior.novelty_scores(observation)?.unwrap_or_default();
    warn_of_novel(&posterior, &scores, console);
    let engine = open_engine(&args.run.device, console)?;
    let mut inference = inference(&task, settings, &engine)?;
    inference.start = Some(posterior.given(observation)?);
    run_rounds(&args.run, &task, &engine, inference, console)
}
