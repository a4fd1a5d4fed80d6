//! `lwflow sample` and `lwflow log-prob`: tables out of a model file, written whole under their name or not at all.

use super::{LogProbArgs, SampleArgs, open_engine};
use crate::exit::{CommandError, Status};
use crate::progress::Console;
use lwflow_host::files::{ColumnChoice, FileError, SampleTable, check_output, read_theta, write_samples};
use lwflow_host::model_file::read_model;
use std::path::Path;

pub(super) fn run_sample(args: &SampleArgs) -> Result<Status, CommandError> {
    let console = Console { quiet: args.out == Path::new("-") };
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
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    let samples = posterior.sample(&mut executor, args.n, &args.context, args.seed)?;
    let mut table = SampleTable::new(posterior.names.clone(), samples.theta)?;
    table.log_prob = Some(samples.log_prob);
    write_table(&args.out, &table)?;
    console.remark(format!("{} samples written to {}", args.n, args.out.display()));
    Ok(Status::Success)
}

/// Writes a table to a file or to stdout. A reader of stdout that has seen enough (`head`) is no error.
fn write_table(out: &Path, table: &SampleTable) -> Result<(), CommandError> {
    match write_samples(out, table, &mut std::io::stdout().lock()) {
        Err(FileError::Io { source, .. })
            if out == Path::new("-") && source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        written => Ok(written?),
    }
}

pub(super) fn run_log_prob(args: &LogProbArgs) -> Result<Status, CommandError> {
    let console = Console { quiet: args.out == Path::new("-") };
    let posterior = read_model(&args.model)?;
    let choice = ColumnChoice { parameters: Some(posterior.names.clone()), context: None };
    check_output(&args.out)?;
    let mut table = read_theta(&args.input, &choice)?;
    let (got, expected) = (table.context_dim, posterior.spec().context_dim);
    if got != expected {
        let message = format!(
            "{}: holds {got} context values per row, the model takes {expected}",
            args.input.display()
        );
        return Err(CommandError::new(Status::Input, message));
    }
    let engine = open_engine(&args.device, console)?;
    let mut executor = engine.flow(posterior.spec())?;
    table.log_prob = Some(posterior.log_prob(&mut executor, &table.theta, &table.context)?);
    write_table(&args.out, &table)?;
    console.remark(format!("log_prob of {} rows written to {}", table.n, args.out.display()));
    Ok(Status::Success)
}
