//! Draws of a posterior on their way into a file, piece by piece: memory does not grow with their number, and Ctrl-C
//! leaves a complete file of those drawn so far.

use crate::exit::CommandError;
use crate::progress::Bar;
use lwflow_engine::FlowExecutor;
use lwflow_host::files::{FileError, SampleTable, SampleWriter};
use lwflow_host::posterior::{Posterior, Samples};
use std::ops::ControlFlow;
use std::path::Path;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draws<'a> {
    /// How many for each context.
    pub n_each: usize,
    /// Contexts `[K, C]`; none of a model without context, which has one, the empty one.
    pub contexts: &'a [f64],
    /// Names of the context's values, `[C]`, where each draw is written beside its context.
    pub names: Option<&'a [String]>,
    /// Seed.
    pub seed: u64,
}

/// Draws and writes to `out` until all is done or the user asks to stop. Returns the number of rows written and the first
/// of them, at most `keep`.
///
/// # Errors
/// [`CommandError`] of the engine or of the file.
pub fn write_draws(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    draws: Draws<'_>,
    out: &Path,
    keep: usize,
    bar: &Bar,
) -> Result<(usize, SampleTable), CommandError> {
    let c = posterior.spec().context_dim;
    let total = draws.n_each.saturating_mul(draws.contexts.len().checked_div(c).unwrap_or(1));
    let table = |first: usize, samples: Samples| -> Result<SampleTable, FileError> {
        let mut table = SampleTable::new(posterior.names.clone(), samples.theta)?;
        if let Some(names) = draws.names {
            table.context_dim = c;
            table.context_names = names.to_vec();
            let rows = (first..first + table.n).map(|row| row / draws.n_each);
            table.context = rows.flat_map(|k| draws.contexts[k * c..][..c].iter().copied()).collect();
        }
        table.log_prob = Some(samples.log_prob);
        Ok(table)
    };
    let d = posterior.dim();
    let mut kept = Samples { theta: Vec::new(), log_prob: Vec::new() };
    let mut stdout = std::io::stdout().lock();
    let none = table(0, kept.clone())?;
    let mut writer = SampleWriter::create(out, &none, &mut stdout)?;
    let (mut n, mut failed) = (0, None);
    posterior.sample_many(executor, draws.n_each, draws.contexts, draws.seed, |piece| {
        let wanted = keep.saturating_sub(n).min(piece.log_prob.len());
        kept.theta.extend_from_slice(&piece.theta[..wanted * d]);
        kept.log_prob.extend_from_slice(&piece.log_prob[..wanted]);
        let first = n;
        n += piece.log_prob.len();
        match table(first, piece).and_then(|piece| writer.append(&piece)) {
            Ok(()) => bar.update(n, total),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    let written = failed.map_or(Ok(()), Err).and_then(|()| writer.finish());
    forgive_closed_pipe(out, written.map(|_| ()))?;
    Ok((n, table(0, kept)?))
}

/// A reader of stdout that has seen enough (`head`) is no error.
pub fn forgive_closed_pipe(out: &Path, written: Result<(), FileError>) -> Result<(), FileError> {
    match written {
        Err(FileError::Io { source, .. })
            if out == Path::new("-") && source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        written => written,
    }
}
