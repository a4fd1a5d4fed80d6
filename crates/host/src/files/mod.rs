//! Files in and out: pairs with weights, chains of other tools, sample tables.
//! Invariant: a reader returns checked numbers (finite, or -inf where that is legal) or a [`FileError`] that names
//! file, row and field; it neither panics nor allocates by a length that the file merely claims.

mod autocorrelation;
mod chain_files;
mod chain_parameters;
mod chains;
mod csv_file;
mod dead_birth;
mod error;
mod export;
mod fields;
mod nested;
mod npz;
mod pairs;
mod parquet_file;
mod ranges;
mod sample_writer;
mod sampler_arrays;
mod samples;
mod table;
mod text;
mod weighted_points;
mod whole;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub use autocorrelation::autocorrelation_ess;
pub use chains::{
    ChainFormat, ChainReport, ChainSamples, ChainSettings, SingleChainReport, chain_format, read_chains,
};
pub use error::{FileError, Place};
pub use export::{ExportFormat, ExportReport, PosteriorDraws, export_files, write_export};
pub use fields::{ColumnChoice, RESERVED_NAMES};
pub use nested::{NestedReport, NestedWeights, nested_weights};
pub use pairs::{Evidence, LogPrior, LogZ, WeightKind, WeightedPairs, read_pairs};
pub use ranges::{Range, ranges_file, read_ranges};
pub use sample_writer::SampleWriter;
pub use samples::{SampleTable, check_output, read_samples, read_theta, write_samples};
pub use table::{NumberTable, read_table};
pub(crate) use whole::WholeFile;
pub use whole::remove_temporaries;

/// The table formats, chosen by the file's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Npz,
    Csv,
    Parquet,
}

impl Format {
    /// # Errors
    /// [`FileError::UnknownExtension`].
    pub(crate) fn of(path: &Path) -> Result<Self, FileError> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        match extension.as_str() {
            "npz" => Ok(Self::Npz),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(FileError::UnknownExtension { path: path.into(), got: extension }),
        }
    }
}

/// Opens a file for reading and returns its length in bytes, the bound of every later allocation.
pub(crate) fn open(path: &Path) -> Result<(File, u64), FileError> {
    let io = |action| move |source| FileError::Io { path: path.into(), action, source };
    let file = File::open(path).map_err(io("open"))?;
    let metadata = file.metadata().map_err(io("read"))?;
    if metadata.is_dir() {
        return Err(io("read")(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    if metadata.len() == 0 {
        return Err(FileError::Empty { path: path.into(), what: "it holds no bytes" });
    }
    Ok((file, metadata.len()))
}

/// Runs a decoder of another library on untrusted bytes: a panic in it becomes [`FileError::Damaged`].
/// The parquet decoder asserts in a few places what a damaged file can break; this needs `panic = "unwind"`.
pub(crate) fn guard<T>(
    path: &Path,
    format: &'static str,
    decode: impl FnOnce() -> Result<T, FileError>,
) -> Result<T, FileError> {
    // The closures own or rebuild all state they touch, so nothing half-changed outlives the unwinding.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        let reason = "its bytes contradict each other".to_owned();
        Err(FileError::Damaged { path: path.into(), format, reason })
    })
}

/// The found name most like the wanted one, if any is similar at all.
pub(crate) fn nearest(wanted: &str, found: &[String]) -> Option<String> {
    found
        .iter()
        .map(|name| (strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.clone())
}
