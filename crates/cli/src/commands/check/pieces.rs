//! How draws are tried: in ever larger pieces, until the last one tells how fast a run would be.
//! Invariant: it ends soon, unless one draw per worker takes long.

use crate::progress::interrupted;
use lwflow_host::HostError;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Draws that are made unless they take too long.
pub(super) const WANTED_DRAWS: usize = 256;
/// A piece that takes so long tells the speed of a run, whose pieces do as well.
const LONG_PIECE: Duration = Duration::from_millis(250);

/// Lets `make` do draws `0..most` from pieces of `first` on; none is begun after `limit`. Returns how many were made, and how
/// many per second in the last piece, which is the largest.
///
/// # Errors
/// Those of `make`.
pub(super) fn try_pieces(
    first: usize,
    most: usize,
    limit: Duration,
    mut make: impl FnMut(Range<usize>) -> Result<(), HostError>,
) -> Result<(usize, f64), HostError> {
    let mut piece = first.clamp(1, most);
    let (start, mut done) = (Instant::now(), 0);
    loop {
        let rows = done..(done + piece).min(most);
        let clock = Instant::now();
        make(rows.clone())?;
        let took = clock.elapsed();
        done = rows.end;
        // A piece of something slow stays small; one of something fast becomes large, as in a run.
        if took < LONG_PIECE {
            piece *= 2;
        }
        let enough = done >= WANTED_DRAWS && took > LONG_PIECE;
        // A last piece that is cut short would not tell the speed.
        if enough || done + piece > most || start.elapsed() > limit || interrupted() {
            return Ok((done, rows.len() as f64 / took.as_secs_f64().max(1e-9)));
        }
    }
}
