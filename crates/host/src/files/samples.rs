//! Sample tables: theta with log densities and weights, written and read as .npz, .csv or .parquet.
//! Invariant: what is written reads back bit for bit; a file appears whole under its name or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::csv_file::write_csv;
use super::error::{FileError, Place};
use super::fields::{ColumnChoice, Field, Fields};
use super::npz::NpzOut;
use super::parquet_file::write_parquet;
use super::{Format, RESERVED_NAMES};

/// Draws of a posterior with what is known of each. Flat arrays are row-major.
///
/// In an .npz: arrays `theta [n, dim]`, `context [n, context_dim]`, `names [dim]` (text) and the vectors under their
/// field names. In .csv and .parquet: one column per parameter, `context_*` columns, and the vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleTable {
    /// Parameter names, `[dim]`.
    pub names: Vec<String>,
    /// Parameters, `[n, dim]`.
    pub theta: Vec<f64>,
    /// Number of rows.
    pub n: usize,
    /// Number of parameters.
    pub dim: usize,
    /// Context, `[n, context_dim]`; empty without context.
    pub context: Vec<f64>,
    /// Number of context values per row.
    pub context_dim: usize,
    /// Log density of the model in nats, `[n]`; -inf outside of its support.
    pub log_prob: Option<Vec<f64>>,
    /// Unnormalised log weight in nats, `[n]`.
    pub log_weight: Option<Vec<f64>>,
    /// Weight, `[n]`, >= 0.
    pub weight: Option<Vec<f64>>,
    /// Log likelihood in nats, `[n]`.
    pub log_likelihood: Option<Vec<f64>>,
    /// Log prior density in nats, `[n]`.
    pub log_prior: Option<Vec<f64>>,
    /// Log density of what the row was drawn from, in nats, `[n]`.
    pub log_proposal: Option<Vec<f64>>,
    /// Remarks of the reader for people; not written.
    pub notes: Vec<String>,
}

impl SampleTable {
    /// A table of `theta [n, dim]` alone, `dim = names.len()`.
    ///
    /// # Errors
    /// [`FileError::BadTable`] if `theta` is not a whole number of rows.
    pub fn new(names: Vec<String>, theta: Vec<f64>) -> Result<Self, FileError> {
        let dim = names.len();
        let n = theta.len().checked_div(dim).unwrap_or(0);
        let table = Self { names, theta, n, dim, ..Self::default() };
        table.check_lengths()?;
        Ok(table)
    }

    /// The vectors that are there, with their field names.
    fn vectors(&self) -> impl Iterator<Item = (&'static str, &[f64])> {
        let all = [
            &self.log_likelihood,
            &self.log_weight,
            &self.weight,
            &self.log_prior,
            &self.log_proposal,
            &self.log_prob,
        ];
        RESERVED_NAMES.into_iter().zip(all).filter_map(|(name, v)| v.as_deref().map(|v| (name, v)))
    }

    fn check_lengths(&self) -> Result<(), FileError> {
        let bad = |what: &str, got, expected| FileError::BadTable { what: what.to_owned(), got, expected };
        if self.dim == 0 {
            return Err(bad("names (at least one parameter)", 0, 1));
        }
        if self.names.len() != self.dim {
            return Err(bad("names", self.names.len(), self.dim));
        }
        let matrices = [("theta", &self.theta, self.dim), ("context", &self.context, self.context_dim)];
        for (what, values, width) in matrices {
            if Some(values.len()) != self.n.checked_mul(width) {
                return Err(bad(what, values.len(), self.n.saturating_mul(width)));
            }
        }
        match self.vectors().find(|(_, values)| values.len() != self.n) {
            Some((name, values)) => Err(bad(name, values.len(), self.n)),
            None => Ok(()),
        }
    }

    /// The same rules as when reading: theta and context finite, no NaN and no +inf anywhere.
    fn check_values(&self, path: &Path) -> Result<(), FileError> {
        let refuse = |row: usize, field: String, value, expected| {
            let at = Place { path: path.into(), row, line: None, field };
            let theta = self.theta[row * self.dim..(row + 1) * self.dim].to_vec();
            Err(FileError::BadValue { at, value, expected, theta })
        };
        for (what, values, width) in
            [("theta", &self.theta, self.dim), ("context", &self.context, self.context_dim)]
        {
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                return refuse(i / width, format!("{what}[{}]", i % width), values[i], "a finite number");
            }
        }
        for (name, values) in self.vectors() {
            if let Some(row) = values.iter().position(|v| v.is_nan() || *v == f64::INFINITY) {
                return refuse(row, name.to_owned(), values[row], "a finite number or -inf");
            }
        }
        Ok(())
    }

    /// Column names of the .csv and .parquet forms.
    fn column_names(&self) -> Vec<String> {
        let context = (0..self.context_dim).map(|i| format!("context_{i}"));
        let vectors = self.vectors().map(|(name, _)| name.to_owned());
        self.names.iter().cloned().chain(context).chain(vectors).collect()
    }

    fn from_fields(mut fields: Fields) -> Self {
        Self {
            log_prob: fields.take(Field::LogProb),
            log_weight: fields.take(Field::LogWeight),
            weight: fields.take(Field::Weight),
            log_likelihood: fields.take(Field::LogLikelihood),
            log_prior: fields.take(Field::LogPrior),
            log_proposal: fields.take(Field::LogProposal),
            names: fields.names,
            theta: fields.theta,
            n: fields.n,
            dim: fields.dim,
            context: fields.context,
            context_dim: fields.context_dim,
            notes: fields.notes,
        }
    }
}

/// Reads a sample table with all vectors that it holds.
///
/// # Errors
/// Any [`FileError`] of reading; NaN, +inf, non-finite theta and negative weights are refused with their row.
pub fn read_samples(path: &Path, choice: &ColumnChoice) -> Result<SampleTable, FileError> {
    Fields::read(path, choice, &Field::ALL).map(SampleTable::from_fields)
}

/// Reads theta and context only; other columns are not looked at.
///
/// # Errors
/// As [`read_samples`].
pub fn read_theta(path: &Path, choice: &ColumnChoice) -> Result<SampleTable, FileError> {
    Fields::read(path, choice, &[]).map(SampleTable::from_fields)
}

/// Finds out before any work whether `path` can be written as a table: its extension and its folder. `-` is stdout.
///
/// # Errors
/// [`FileError::UnknownExtension`], or [`FileError::Io`] if the folder does not exist.
pub fn check_output(path: &Path) -> Result<(), FileError> {
    if path == Path::new("-") {
        return Ok(());
    }
    Format::of(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(m) if m.is_dir() => Ok(()),
        Ok(_) => Err(io_error(path, std::io::Error::other(format!("{} is not a folder", folder.display())))),
        Err(_) => {
            let message = format!("the folder {} does not exist", folder.display());
            Err(io_error(path, std::io::Error::new(std::io::ErrorKind::NotFound, message)))
        }
    }
}

/// Writes a sample table; the extension gives the format, and the path `-` is CSV on `stdout`.
///
/// # Errors
/// [`FileError::BadTable`] or [`FileError::BadValue`] for a table that could not be read back,
/// [`FileError::UnknownExtension`], [`FileError::Io`].
pub fn write_samples(path: &Path, table: &SampleTable, stdout: &mut dyn Write) -> Result<(), FileError> {
    table.check_lengths()?;
    table.check_values(path)?;
    let names = table.column_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let vectors: Vec<&[f64]> = table.vectors().map(|(_, values)| values).collect();
    let width = table.dim + table.context_dim;
    let value = |row: usize, column: usize| {
        if column < table.dim {
            table.theta[row * table.dim + column]
        } else if column < width {
            table.context[row * table.context_dim + column - table.dim]
        } else {
            vectors[column - width][row]
        }
    };
    if path == Path::new("-") {
        return write_csv(stdout, path, &names, table.n, value);
    }
    match Format::of(path)? {
        Format::Csv => write_whole(path, |file| {
            write_csv(file, path, &names, table.n, value) //
        }),
        Format::Parquet => write_whole(path, |file| {
            let snappy = parquet::basic::Compression::SNAPPY;
            let written = write_parquet(file, &names, table.n, value, snappy);
            written.map_err(|e| io_error(path, std::io::Error::other(e)))
        }),
        Format::Npz => write_whole(path, |file| write_npz(file, table).map_err(|e| io_error(path, e))),
    }
}

fn write_npz(file: &mut BufWriter<File>, table: &SampleTable) -> std::io::Result<()> {
    let n = table.n as u64;
    let mut out = NpzOut::new(file);
    out.array("theta", &[n, table.dim as u64], &table.theta)?;
    out.strings("names", &table.names)?;
    if table.context_dim > 0 {
        out.array("context", &[n, table.context_dim as u64], &table.context)?;
    }
    for (name, values) in table.vectors() {
        out.array(name, &[n], values)?;
    }
    out.finish()
}

fn io_error(path: &Path, source: std::io::Error) -> FileError {
    FileError::Io { path: path.into(), action: "write", source }
}

/// Writes beside the target, syncs, and renames: readers never see half a file.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask still applies; the default of temporary files would keep others from reading the result.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let io = |source| io_error(path, source);
    let temporary = builder.prefix(".lwflow-").tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::new(temporary.as_file().try_clone().map_err(io)?);
    write(&mut out)?;
    out.into_inner().map_err(|e| io(e.into_error()))?.sync_all().map_err(io)?;
    temporary.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}
