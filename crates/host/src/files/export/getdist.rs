//! GetDist's text chains: `root.paramnames` (name and label, derived ones with a star), `root.ranges`, `root.properties.ini`
//! (independent draws, no burn-in) and `root_1.txt` (weight, -log posterior, parameters, derived quantities).

use std::io::Write;
use std::path::PathBuf;

use super::{PosteriorDraws, write_whole};
use crate::files::FileError;

/// The chain last: with it the export is complete.
pub(super) const ENDINGS: [&str; 4] = [".paramnames", ".ranges", ".properties.ini", "_1.txt"];

/// Returns the number of rows; those of weight zero are left out.
pub(super) fn write(files: &[PathBuf], draws: &PosteriorDraws) -> Result<usize, FileError> {
    let [paramnames, ranges, properties, chain] = files else {
        let what = "files of a GetDist chain".to_owned();
        return Err(FileError::BadTable { what, got: files.len(), expected: ENDINGS.len() });
    };
    draws.check_names(paramnames, &[], |name| {
        if name.contains(char::is_whitespace) {
            Err("GetDist ends a name at a blank")
        } else if name.contains(['*', '?', '#']) {
            Err("GetDist gives `*`, `?` and `#` a meaning of their own")
        } else {
            Ok(())
        }
    })?;
    write_whole(paramnames, |out| {
        for (name, label) in draws.table.names.iter().zip(&draws.labels) {
            writeln!(out, "{name} {}", label.replace(['\n', '\r'], " "))?;
        }
        draws.table.derived_names.iter().try_for_each(|name| writeln!(out, "{name}* {name}"))
    })?;
    write_whole(ranges, |out| draws.ranges().iter().try_for_each(|line| writeln!(out, "{line}")))?;
    write_whole(properties, |out| out.write_all(b"sampler = uncorrelated\nburn_removed = T\n"))?;
    let (weights, log_posterior) = (draws.weights(), draws.log_posterior());
    let rows: Vec<usize> = (0..weights.len()).filter(|row| weights[*row] > 0.0).collect();
    write_whole(chain, |out| {
        for &row in &rows {
            write!(out, "{:?} {:?}", weights[row], -log_posterior[row])?;
            draws.row(row).try_for_each(|value| write!(out, " {value:?}"))?;
            writeln!(out)?;
        }
        Ok(())
    })?;
    Ok(rows.len())
}
