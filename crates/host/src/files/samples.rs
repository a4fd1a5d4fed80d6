//! Sample tables: theta with log densities and weights, written and read as .npz, .csv or .parquet.
//! Invariant: what is written reads back bit for bit; a file appears whole under its name or not at all.

use std::io::Write;
use std::path::Path;

use super::error::{FileError, Place};
use super::fields::{CONTEXT_PREFIX, ColumnChoice, Field, Fields};
use super::npz::NpzFile;
use super::sample_writer::SampleWriter;
use super::whole::folder_of;
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
    /// Their names, `[context_dim]`, or empty where they are numbered; columns of .csv and .parquet alone.
    pub context_names: Vec<String>,
    /// Derived quantities, `[n, M]`; read from .npz alone, where they do not stand among the parameters.
    pub derived: Vec<f64>,
    /// Their names, `[M]`.
    pub derived_names: Vec<String>,
    /// LaTeX labels of the parameters, `[dim]` or empty; not in .csv, read from .npz alone.
    pub labels: Vec<String>,
    /// Lower and upper bound of the parameters, `[dim]` or empty, `None` where it is open; not in .csv, read from .npz alone.
    pub bounds: Vec<(Option<f64>, Option<f64>)>,
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
    /// Arrays and columns of the file that the reader did not take; not written.
    pub left_out: Vec<String>,
    /// Remarks of the reader for people; not written.
    pub notes: Vec<String>,
}

impl SampleTable {
    /// Keeps the first `n` rows.
    pub fn truncate(&mut self, n: usize) {
        self.n = self.n.min(n);
        self.theta.truncate(self.n * self.dim);
        self.context.truncate(self.n * self.context_dim);
        self.derived.truncate(self.n * self.derived_names.len());
        let columns = [
            &mut self.log_prob,
            &mut self.log_weight,
            &mut self.weight,
            &mut self.log_likelihood,
            &mut self.log_prior,
            &mut self.log_proposal,
        ];
        columns.into_iter().flatten().for_each(|column| column.truncate(self.n));
    }

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
    pub(super) fn vectors(&self) -> impl Iterator<Item = (&'static str, &[f64])> {
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

    pub(super) fn check_lengths(&self) -> Result<(), FileError> {
        let bad = |what: &str, got, expected| FileError::BadTable { what: what.to_owned(), got, expected };
        if self.dim == 0 {
            return Err(bad("names (at least one parameter)", 0, 1));
        }
        if self.names.len() != self.dim {
            return Err(bad("names", self.names.len(), self.dim));
        }
        if !self.context_names.is_empty() && self.context_names.len() != self.context_dim {
            return Err(bad("context_names", self.context_names.len(), self.context_dim));
        }
        let matrices = [
            ("theta", &self.theta, self.dim),
            ("context", &self.context, self.context_dim),
            ("derived", &self.derived, self.derived_names.len()),
        ];
        for (what, values, width) in matrices {
            if Some(values.len()) != self.n.checked_mul(width) {
                return Err(bad(what, values.len(), self.n.saturating_mul(width)));
            }
        }
        for (what, got) in [("labels", self.labels.len()), ("bounds", self.bounds.len())] {
            if got != 0 && got != self.dim {
                return Err(bad(what, got, self.dim));
            }
        }
        match self.vectors().find(|(_, values)| values.len() != self.n) {
            Some((name, values)) => Err(bad(name, values.len(), self.n)),
            None => Ok(()),
        }
    }

    /// The same rules as when reading: theta and context finite, no NaN and no +inf anywhere. The first row is row
    /// `first` of the file.
    pub(super) fn check_values(&self, path: &Path, first: usize) -> Result<(), FileError> {
        let refuse = |row: usize, field: String, value, expected| {
            let at = Place { path: path.into(), row: first + row, line: None, field };
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
    pub(super) fn column_names(&self) -> Vec<String> {
        let context = (0..self.context_dim).map(|i| match self.context_names.get(i) {
            Some(name) => format!("{CONTEXT_PREFIX}{name}"),
            None => format!("{CONTEXT_PREFIX}{i}"),
        });
        let vectors = self.vectors().map(|(name, _)| name.to_owned());
        self.names
            .iter()
            .cloned()
            .chain(context)
            .chain(self.derived_names.iter().cloned())
            .chain(vectors)
            .collect()
    }

    fn from_fields(mut fields: Fields) -> Self {
        Self {
            left_out: fields.unread().chain(&fields.unselected).cloned().collect(),
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
            context_names: plain_names(&fields.context_names),
            notes: fields.notes,
            ..Self::default()
        }
    }
}

/// Names of context columns without what marks them as such; none unless all are marked, and none that are numbers.
fn plain_names(columns: &[String]) -> Vec<String> {
    let plain = columns.iter().map(|name| name.strip_prefix(CONTEXT_PREFIX).map(str::to_owned));
    let plain: Vec<String> = plain.collect::<Option<_>>().unwrap_or_default();
    let numbered = plain.iter().enumerate().all(|(i, name)| *name == i.to_string());
    if numbered { Vec::new() } else { plain }
}

/// Reads a sample table with all vectors that it holds.
///
/// # Errors
/// Any [`FileError`] of reading; NaN, +inf, non-finite theta and negative weights are refused with their row.
pub fn read_samples(path: &Path, choice: &ColumnChoice) -> Result<SampleTable, FileError> {
    let mut table = Fields::read(path, choice, &Field::ALL).map(SampleTable::from_fields)?;
    if Format::of(path)? == Format::Npz {
        read_annotations(path, &mut table)?;
    }
    Ok(table)
}

/// Reads from an .npz what neither theta nor a vector is, if it is of our making: derived quantities with names, labels,
/// ranges.
fn read_annotations(path: &Path, table: &mut SampleTable) -> Result<(), FileError> {
    let mut file = NpzFile::open(path)?;
    let found = |name: &str| table.left_out.iter().any(|n| n == name);
    let (derived, labels) = (found("derived") && found("derived_names"), found("labels"));
    let ranges = found("ranges");
    if derived && let Some(array) = file.array("derived")? {
        let m = match array.shape[..] {
            [n, m] if n as usize == table.n && m > 0 => m as usize,
            _ => {
                let (field, expected) = ("derived".to_owned(), format!("[{}, M] with M > 0", table.n));
                return Err(FileError::WrongShape { path: path.into(), field, got: array.shape, expected });
            }
        };
        table.derived = array.data;
        table.derived_names = file.strings("derived_names", m)?.unwrap_or_default();
        table.left_out.retain(|name| name != "derived" && name != "derived_names");
    }
    // Labels of another kind or number are not these.
    if labels && let Ok(Some(labels)) = file.strings("labels", table.dim) {
        table.labels = labels;
        table.left_out.retain(|name| name != "labels");
    }
    if ranges
        && let Ok(Some(array)) = file.array("ranges")
        && array.shape == [table.dim as u64, 2]
        && array.data.as_chunks().0.iter().all(|[lower, upper]| lower < upper)
    {
        let side = |bound: f64| Some(bound).filter(|b| b.is_finite());
        table.bounds =
            array.data.as_chunks().0.iter().map(|[lower, upper]| (side(*lower), side(*upper))).collect();
        table.left_out.retain(|name| name != "ranges");
    }
    Ok(())
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
    check_folder(path).map(|_| ())
}

/// The folder of a file that is to be written.
///
/// # Errors
/// [`FileError::Io`] if it does not exist.
pub(super) fn check_folder(path: &Path) -> Result<&Path, FileError> {
    let folder = folder_of(path);
    match std::fs::metadata(folder) {
        Ok(m) if m.is_dir() => Ok(folder),
        Ok(_) => Err(io_error(
            path,
            "create",
            std::io::Error::other(format!("{} is not a folder", folder.display())),
        )),
        Err(_) => {
            let message = format!("the folder {} does not exist", folder.display());
            Err(io_error(path, "create", std::io::Error::new(std::io::ErrorKind::NotFound, message)))
        }
    }
}

/// Writes a sample table; the extension gives the format, and the path `-` is CSV on `stdout`.
///
/// # Errors
/// [`FileError::BadTable`] or [`FileError::BadValue`] for a table that could not be read back,
/// [`FileError::UnknownExtension`], [`FileError::Io`].
pub fn write_samples(path: &Path, table: &SampleTable, stdout: &mut dyn Write) -> Result<(), FileError> {
    let mut writer = SampleWriter::create(path, table, stdout)?;
    writer.append(table)?;
    writer.finish()?;
    Ok(())
}

pub(super) fn io_error(path: &Path, action: &'static str, source: std::io::Error) -> FileError {
    FileError::Io { path: path.into(), action, source }
}
