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
    /// How many.
    pub n: usize,
    /// Context `[C]`.
    pub context: &'a [f64],
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
    let table = |samples: Samples| -> Result<SampleTable, FileError> {
        let mut table = SampleTable::new(posterior.names.clone(), samples.theta)?;
        table.log_prob = Some(samples.log_prob);
        Ok(table)
    };
    let d = posterior.dim();
    let mut kept = Samples { theta: Vec::new(), log_prob: Vec::new() };
    let mut stdout = std::io::stdout().lock();
    let none = table(kept.clone())?;
    let mut writer = SampleWriter::create(out, &none, &mut stdout)?;
    let (mut n, mut failed) = (0, None);
    posterior.sample_pieces(executor, draws.n, draws.context, draws.seed, |piece| {
        let wanted = keep.saturating_sub(n).min(piece.log_prob.len());
        kept.theta.extend_from_slice(&piece.theta[..wanted * d]);
        kept.log_prob.extend_from_slice(&piece.log_prob[..wanted]);
        n += piece.log_prob.len();
        match table(piece).and_then(|piece| writer.append(&piece)) {
            Ok(()) => bar.update(n, draws.n),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    let written = failed.map_or(Ok(()), Err).and_then(|()| writer.finish());
    forgive_closed_pipe(out, written.map(|_| ()))?;
    Ok((n, table(kept)?))
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
