//! What a conditional model is asked about: the observations of a command line, whether they fit the model, and how new they are.
//! Invariant: an observation that does not fit is named with its place before anything is drawn.

use crate::exit::{CommandError, Status};
use crate::progress::Console;
use crate::report::write_file;
use crate::task::Task;
use lwflow_host::files::read_table;
use lwflow_host::novelty::NoveltyScore;
use lwflow_host::posterior::Posterior;
use lwflow_model::ModelError;
use std::path::Path;

/// What a conditional model is asked about.
pub(super) struct Observations {
    /// `[n, C]`.
    pub values: Vec<f64>,
    /// How many; one, the empty one, of a model without context.
    pub n: usize,
    /// Names of the values, `[C]`, where a file has them.
    pub names: Vec<String>,
}

/// The observations of `--context`, for a model.
pub(super) fn observations(
    text: &str,
    model: &Path,
    posterior: &Posterior,
) -> Result<Observations, CommandError> {
    let found =
        read_observations("--context", text, posterior.spec().context_dim, (model, "the model takes"))?;
    match posterior.spec().check_context(&found.values) {
        Ok(()) => Ok(found),
        Err(ModelError::Count { row, got, most }) => {
            let expected = format!("expected a whole number from 0 to {most}");
            let message = format!(
                "--context, observation {}: its first value, the number of elements, is {got}, {expected}",
                row + 1
            );
            Err(CommandError::new(Status::Input, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// The observations that `option` gives, of `expected` values each: numbers, or a file of them. `whose` is the file that wants
/// so many, and how it does.
pub(super) fn read_observations(
    option: &str,
    text: &str,
    expected: usize,
    whose: (&Path, &str),
) -> Result<Observations, CommandError> {
    let numbers: Result<Vec<f64>, _> =
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::parse).collect();
    let (found, got) = match numbers {
        Ok(values) => {
            if let Some(x) = values.iter().find(|x: &&f64| !x.is_finite()) {
                let message = format!("{option} holds {x}, expected finite numbers");
                return Err(CommandError::new(Status::Usage, message));
            }
            let got = values.len();
            (Observations { values, n: 1, names: Vec::new() }, got)
        }
        Err(error) if !Path::new(text).exists() => {
            let message =
                format!("{option} {text}: neither numbers separated by commas ({error}) nor a file");
            return Err(CommandError::new(Status::Usage, message));
        }
        Err(_) => {
            let table = read_table(Path::new(text))?;
            let (n, got, names) = (table.n_rows, table.n_columns, table.names);
            (Observations { values: table.values, n, names }, got)
        }
    };
    if got != expected {
        let (file, takes) = (whose.0.display(), whose.1);
        let message = format!("{file}: {option} has {got} values, {takes} {expected}");
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(found)
}

/// Checks the contexts of a table, `[n, C]`.
pub(super) fn check_context(file: &Path, posterior: &Posterior, context: &[f64]) -> Result<(), CommandError> {
    let of_file = |error| CommandError::new(Status::Input, format!("{}: {error}", file.display()));
    posterior.spec().check_context(context).map_err(of_file)
}

/// Refuses a task with other parameters than the model's.
pub(super) fn same_parameters(task: &Task, posterior: &Posterior) -> Result<(), CommandError> {
    let names: Vec<String> = task.parameters.iter().map(|p| p.name.clone()).collect();
    if names == posterior.names {
        return Ok(());
    }
    let (got, expected) = (names.join(", "), posterior.names.join(", "));
    let message = format!("{}: its parameters are {got}, those of the model {expected}", task.file.display());
    Err(CommandError::new(Status::Input, message))
}

/// Names observations far from the training's, of which a flow only extrapolates.
pub(super) fn warn_of_novel(posterior: &Posterior, scores: &[NoveltyScore], console: Console) {
    let named: Vec<(String, NoveltyScore)> =
        scores.iter().enumerate().map(|(k, score)| (format!("observation {}", k + 1), *score)).collect();
    warn(posterior, &named, "observations", console);
}

/// Names rows of a table whose contexts, `[n, C]`, lie far from the training's. Equal ones that follow each other, as those of draws
/// beside their observation do, are named together.
pub(super) fn warn_of_novel_rows(
    posterior: &Posterior,
    scores: &[NoveltyScore],
    contexts: &[f64],
    console: Console,
) {
    let rows: Vec<&[f64]> = contexts.chunks_exact(posterior.spec().context_dim.max(1)).collect();
    let mut named = Vec::new();
    let mut start = 0;
    for equal in rows.chunk_by(|a, b| a == b) {
        let end = start + equal.len();
        let Some(score) = scores.get(start) else { break };
        let name =
            if equal.len() == 1 { format!("row {end}") } else { format!("rows {} to {end}", start + 1) };
        named.push((name, *score));
        start = end;
    }
    warn(posterior, &named, "contexts", console);
}

fn warn(posterior: &Posterior, named: &[(String, NoveltyScore)], what: &str, console: Console) {
    const SHOWN: usize = 5;
    let Some(novelty) = &posterior.novelty else { return };
    let (n, largest) = (novelty.n(), novelty.largest());
    let novel: Vec<_> = named.iter().filter(|(_, score)| score.is_novel()).collect();
    for (name, NoveltyScore { distance, tail }) in novel.iter().take(SHOWN) {
        let words = if *tail == 0.0 {
            format!(
                "farther out than all {n} of the training (distance {distance:.1}, theirs at most {largest:.1})"
            )
        } else {
            format!(
                "farther out than all but {:.2} % of the {n} of the training (distance {distance:.1})",
                100.0 * tail
            )
        };
        console.remark(format!("{name}: {words}: its posterior is an extrapolation"));
    }
    if novel.len() > SHOWN {
        console.remark(format!("and {} more of {} {what}", novel.len() - SHOWN, named.len()));
    }
}

/// Number of the observation or row, distance, tail; `what` is numbered, from 1.
pub(super) fn write_novelty(file: &Path, what: &str, scores: &[NoveltyScore]) -> Result<(), CommandError> {
    if scores.is_empty() {
        let message =
            format!("{}: the model does not know the contexts that it was trained on", file.display());
        return Err(CommandError::new(Status::Input, message));
    }
    let mut text = format!("{what},distance,tail\n");
    for (k, score) in scores.iter().enumerate() {
        text.push_str(&format!("{},{},{}\n", k + 1, score.distance, score.tail));
    }
    write_file(file, text.as_bytes())
}
