//! `lwflow sample` and `lwflow log-prob`: tables out of a model file, written whole under their name or not at all.

use super::{LogProbArgs, SampleArgs, open_engine};
use crate::draws::{Draws, forgive_closed_pipe, write_draws};
use crate::exit::{CommandError, Status};
use crate::progress::{Console, interrupted};
use crate::report::write_file;
use crate::task::Task;
use lwflow_host::files::{ColumnChoice, SampleTable, check_output, read_samples, read_table, write_samples};
use lwflow_host::model_file::read_model;
use lwflow_host::novelty::{NOVEL_TAIL, NoveltyScore};
use lwflow_host::posterior::Posterior;
use lwflow_model::ModelError;
use std::path::Path;

pub(super) fn run_sample(args: &SampleArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.out == Path::new("-"));
    let posterior = read_model(&args.model)?;
    check_output(&args.out)?;
    let observations = observations(args.context.as_deref().unwrap_or_default(), &args.model, &posterior)?;
    let scores = posterior.novelty_scores(&observations.values)?.unwrap_or_default();
    warn_of_novel(&posterior, &scores, Console::default());
    if let Some(file) = &args.novelty {
        write_novelty(file, &scores)?;
    }
    let too_many =
        || CommandError::new(Status::Usage, format!("-n {}: more than this system can count", args.n));
    let each = usize::try_from(args.n).map_err(|_| too_many())?;
    let n = each.checked_mul(observations.n).ok_or_else(too_many)?;
    let replaced = replaces(&args.out);
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let bar = console.bar("sampling", "samples");
    let names = observations.beside.then_some(&observations.names[..]);
    let draws = Draws { n_each: each, contexts: &observations.values, names, seed: args.seed };
    let (written, _) = write_draws(&posterior, &mut executor, draws, &args.out, 0, &bar)?;
    drop(bar);
    let out = args.out.display();
    if interrupted() {
        eprintln!("interrupted: {written} of {n} samples written to {out}{replaced}");
        return Ok(Status::Interrupted);
    }
    console.remark(format!("{n} samples written to {out}{replaced}"));
    Ok(Status::Success)
}

/// What a conditional model is asked about.
pub(super) struct Observations {
    /// `[n, C]`.
    pub values: Vec<f64>,
    /// How many; one, the empty one, of a model without context.
    pub n: usize,
    /// Names of the values, `[C]`, where a file has them.
    pub names: Vec<String>,
    /// Whether each draw is written beside its observation.
    beside: bool,
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
            (Observations { values, n: 1, names: Vec::new(), beside: false }, got)
        }
        Err(error) if !Path::new(text).exists() => {
            let message =
                format!("{option} {text}: neither numbers separated by commas ({error}) nor a file");
            return Err(CommandError::new(Status::Usage, message));
        }
        Err(_) => {
            let table = read_table(Path::new(text))?;
            let (n, got, names) = (table.n_rows, table.n_columns, table.names);
            (Observations { values: table.values, n, names, beside: true }, got)
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
    const SHOWN: usize = 5;
    let Some(novelty) = &posterior.novelty else { return };
    let novel: Vec<usize> = (0..scores.len()).filter(|&k| scores[k].is_novel()).collect();
    for &k in novel.iter().take(SHOWN) {
        let NoveltyScore { distance, tail } = scores[k];
        let (n, largest) = (novelty.n(), novelty.largest());
        let words = if tail == 0.0 {
            format!(
                "farther out than all {n} of the training (distance {distance:.1}, theirs at most {largest:.1})"
            )
        } else {
            format!(
                "farther out than all but {:.2} % of the {n} of the training (distance {distance:.1})",
                100.0 * tail
            )
        };
        console.remark(format!("observation {}: {words}: its posterior is an extrapolation", k + 1));
    }
    if novel.len() > SHOWN {
        console.remark(format!("and {} more of {} observations", novel.len() - SHOWN, scores.len()));
    }
}

/// observation, distance, tail.
fn write_novelty(file: &Path, scores: &[NoveltyScore]) -> Result<(), CommandError> {
    if scores.is_empty() {
        let message =
            format!("{}: the model does not know the contexts that it was trained on", file.display());
        return Err(CommandError::new(Status::Input, message));
    }
    let mut text = String::from("observation,distance,tail\n");
    for (k, score) in scores.iter().enumerate() {
        text.push_str(&format!("{},{},{}\n", k + 1, score.distance, score.tail));
    }
    write_file(file, text.as_bytes())
}

/// Says that a file was there before.
pub(super) fn replaces(out: &Path) -> &'static str {
    if out.exists() { ", replacing the earlier file" } else { "" }
}

pub(super) fn run_log_prob(args: &LogProbArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.out == Path::new("-"));
    let posterior = read_model(&args.model)?;
    let choice = ColumnChoice { parameters: Some(posterior.names.clone()), context: None };
    check_output(&args.out)?;
    let mut table = read_samples(&args.input, &choice)?;
    let (got, expected) = (table.context_dim, posterior.spec().context_dim);
    if got != expected {
        let message = format!(
            "{}: holds {got} context values per row, the model takes {expected}",
            args.input.display()
        );
        return Err(CommandError::new(Status::Input, message));
    }
    check_context(&args.input, &posterior, &table.context)?;
    if let Some(scores) = posterior.novelty_scores(&table.context)? {
        let novel = scores.iter().filter(|s| s.is_novel()).count();
        if novel > 0 {
            console.remark(format!(
                "{novel} of {} rows have a context farther out than all but {} % of the training's: extrapolations",
                table.n,
                100.0 * NOVEL_TAIL
            ));
        }
    }
    refuse_loss(args, &table)?;
    let replaced = replaces(&args.out);
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let bar = console.bar("log densities", "points");
    let mut log_prob = Vec::with_capacity(table.n);
    posterior.log_prob_pieces(&mut executor, &table.theta, &table.context, |piece| {
        log_prob.extend_from_slice(piece);
        bar.update(log_prob.len(), table.n)
    })?;
    drop(bar);
    if interrupted() && log_prob.len() < table.n {
        eprintln!("interrupted: nothing was written to {}", args.out.display());
        return Ok(Status::Interrupted);
    }
    table.log_prob = Some(log_prob);
    let mut stdout = std::io::stdout().lock();
    forgive_closed_pipe(&args.out, write_samples(&args.out, &table, &mut stdout))?;
    console.remark(format!("log_prob of {} rows written to {}{replaced}", table.n, args.out.display()));
    if !table.left_out.is_empty() {
        console.remark(format!("left out: {}", table.left_out.join(", ")));
    }
    Ok(Status::Success)
}

/// Refuses to write over the table that was read where that would lose columns of it.
fn refuse_loss(args: &LogProbArgs, table: &SampleTable) -> Result<(), CommandError> {
    let same = match (args.input.canonicalize(), args.out.canonicalize()) {
        (Ok(input), Ok(out)) => input == out,
        _ => false,
    };
    if same && !table.left_out.is_empty() {
        let message = format!(
            "{}: also holds {}, which would be lost; write to another file",
            args.out.display(),
            table.left_out.join(", ")
        );
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(())
}
