//! `lwflow sample` and `lwflow log-prob`: tables out of a model file, written whole under their name or not at all.

use super::{LogProbArgs, SampleArgs, open_engine};
use crate::draws::{Draws, forgive_closed_pipe, write_draws};
use crate::exit::{CommandError, Status};
use crate::progress::{Console, interrupted};
use lwflow_host::files::{ColumnChoice, SampleTable, check_output, read_samples, write_samples};
use lwflow_host::model_file::read_model;
use std::path::Path;

pub(super) fn run_sample(args: &SampleArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.out == Path::new("-"));
    let posterior = read_model(&args.model)?;
    check_output(&args.out)?;
    if let Some(x) = args.context.iter().find(|x| !x.is_finite()) {
        return Err(CommandError::new(
            Status::Usage,
            format!("--context holds {x}, expected finite numbers"),
        ));
    }
    let (got, expected) = (args.context.len(), posterior.spec().context_dim);
    if got != expected {
        let message =
            format!("{}: --context has {got} values, the model takes {expected}", args.model.display());
        return Err(CommandError::new(Status::Input, message));
    }
    let n = usize::try_from(args.n).map_err(|_| {
        CommandError::new(Status::Usage, format!("-n {}: more than this system can count", args.n))
    })?;
    let replaced = replaces(&args.out);
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let bar = console.bar("sampling", "samples");
    let draws = Draws { n, context: &args.context, seed: args.seed };
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
