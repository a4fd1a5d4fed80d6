//! `lwflow sample` and `lwflow log-prob`: tables out of a model file, written whole under their name or not at all.

use super::observations::{
    Observations, check_context, observations, warn_of_novel, warn_of_novel_rows, write_novelty,
};
use super::{LogProbArgs, SampleArgs, open_engine};
use crate::draws::{Draws, forgive_closed_pipe, write_draws};
use crate::exit::{CommandError, Status};
use crate::progress::{Console, interrupted};
use lwflow_host::files::{ColumnChoice, SampleTable, check_output, read_samples, write_samples};
use lwflow_host::model_file::read_model;
use lwflow_host::posterior::Posterior;
use std::path::Path;

pub(super) fn run_sample(args: &SampleArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.out == Path::new("-"));
    let posterior = read_model(&args.model)?;
    check_output(&args.out)?;
    let observations = observations(args.context.as_deref().unwrap_or_default(), &args.model, &posterior)?;
    let scores = posterior.novelty_scores(&observations.values)?.unwrap_or_default();
    warn_of_novel(&posterior, &scores, Console::default());
    if let Some(file) = &args.novelty {
        write_novelty(file, "observation", &scores)?;
    }
    let too_many =
        || CommandError::new(Status::Usage, format!("-n {}: more than this system can count", args.n));
    let each = usize::try_from(args.n).map_err(|_| too_many())?;
    let n = each.checked_mul(observations.n).ok_or_else(too_many)?;
    let replaced = replaces(&args.out);
    let (posterior, contexts) = given_one(posterior, &observations)?;
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let bar = console.bar("sampling", "samples");
    let names = (observations.n > 1).then_some(&observations.names[..]);
    let draws = Draws { n_each: each, contexts, names, seed: args.seed };
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

/// The posterior, and the contexts that it takes: of one observation for all rows it is a flow without context, whose context
/// is worked in once and not for every row.
fn given_one(posterior: Posterior, one: &Observations) -> Result<(Posterior, &[f64]), CommandError> {
    if one.n == 1 && posterior.spec().context_dim > 0 {
        return Ok((posterior.given(&one.values)?, &[]));
    }
    Ok((posterior, &one.values))
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
    let one = contexts_of(args, &posterior, &mut table)?;
    // Where the table goes to stdout, what is said of its rows still goes to stderr.
    let scores = match &one {
        Some(one) => {
            let scores = posterior.novelty_scores(&one.values)?.unwrap_or_default();
            warn_of_novel(&posterior, &scores, Console::default());
            scores
        }
        None => {
            let scores = posterior.novelty_scores(&table.context)?.unwrap_or_default();
            warn_of_novel_rows(&posterior, &scores, &table.context, Console::default());
            scores
        }
    };
    refuse_loss(args, &table)?;
    if let Some(file) = &args.novelty {
        write_novelty(file, if one.is_some() { "observation" } else { "row" }, &scores)?;
    }
    let replaced = replaces(&args.out);
    let (posterior, contexts) = match &one {
        Some(one) => given_one(posterior, one)?,
        None => (posterior, &table.context[..]),
    };
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let bar = console.bar("log densities", "points");
    let mut log_prob = Vec::with_capacity(table.n);
    posterior.log_prob_pieces(&mut executor, &table.theta, contexts, |piece| {
        log_prob.extend_from_slice(piece);
        bar.update(log_prob.len(), table.n)
    })?;
    drop(bar);
    let (done, n) = (log_prob.len(), table.n);
    let stopped = interrupted() && done < n;
    if stopped && is_same(&args.input, &args.out) {
        console.interruption(format!("{} stays as it was", args.out.display()));
        return Ok(Status::Interrupted);
    }
    table.log_prob = Some(log_prob);
    table.truncate(done);
    let mut stdout = std::io::stdout().lock();
    forgive_closed_pipe(&args.out, write_samples(&args.out, &table, &mut stdout))?;
    if stopped {
        console.interruption(format!("log_prob of {done} of {n} rows written to {}", args.out.display()));
        return Ok(Status::Interrupted);
    }
    console.remark(format!("log_prob of {} rows written to {}{replaced}", table.n, args.out.display()));
    if !table.left_out.is_empty() {
        console.remark(format!("left out: {}", table.left_out.join(", ")));
    }
    Ok(Status::Success)
}

/// Sees to it that every row of the table has its context: the table's own, or that of `--context` for this row. Returns the one
/// observation of `--context` that is for all rows, which then is not among the columns.
fn contexts_of(
    args: &LogProbArgs,
    posterior: &Posterior,
    table: &mut SampleTable,
) -> Result<Option<Observations>, CommandError> {
    let input = |message: String| Err(CommandError::new(Status::Input, message));
    let (file, expected) = (args.input.display(), posterior.spec().context_dim);
    let Some(text) = &args.context else {
        if table.context_dim != expected {
            let message = format!(
                "{file}: holds {} context values per row, the model takes {expected}{}",
                table.context_dim,
                if table.context_dim == 0 { "; --context gives them" } else { "" }
            );
            return input(message);
        }
        check_context(&args.input, posterior, &table.context)?;
        return Ok(None);
    };
    if table.context_dim > 0 {
        let message = "holds a context for every row, and --context gives another; keep one of them";
        return input(format!("{file}: {message}"));
    }
    let found = observations(text, &args.model, posterior)?;
    if found.n == 1 {
        return Ok(Some(found));
    }
    if found.n != table.n {
        let message = format!(
            "{text}: {} observations for the {} rows of {file}; expected one for all rows, or one for each",
            found.n, table.n
        );
        return input(message);
    }
    (table.context, table.context_dim, table.context_names) = (found.values, expected, found.names);
    Ok(None)
}

/// Whether both name one file.
fn is_same(input: &Path, out: &Path) -> bool {
    matches!((input.canonicalize(), out.canonicalize()), (Ok(input), Ok(out)) if input == out)
}

/// Refuses to write over the table that was read where that would lose columns of it.
fn refuse_loss(args: &LogProbArgs, table: &SampleTable) -> Result<(), CommandError> {
    if is_same(&args.input, &args.out) && !table.left_out.is_empty() {
        let message = format!(
            "{}: also holds {}, which would be lost; write to another file",
            args.out.display(),
            table.left_out.join(", ")
        );
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(())
}
