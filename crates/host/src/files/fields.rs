//! The one picture of a table that all formats are read into: theta `[n, dim]`, context `[n, context_dim]` and the
//! named vectors `[n]`, with the checks on their values. Invariant: after `check_*` every number is legal for its field,
//! and each refusal names file, row, line (text files) and theta.

mod npz;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::csv_file::{CsvFile, line_at};
use super::error::{FileError, Place};
use super::parquet_file::ParquetFile;
use super::sampler_arrays::SamplerArrays;
use super::{Format, nearest};

/// Column names with a meaning of their own: never taken for parameters unless asked for by name.
pub const RESERVED_NAMES: [&str; 6] =
    ["log_likelihood", "log_weight", "weight", "log_prior", "log_proposal", "log_prob"];

/// Columns of .csv and .parquet files that start so are context.
pub(crate) const CONTEXT_PREFIX: &str = "context_";
/// pandas writes a row index that is not a plain range into such a parquet column.
pub(crate) const PANDAS_INDEX: &str = "__index_level_";

/// Which columns of a file to read; `None` leaves the choice to the names in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnChoice {
    /// Parameter names in the wanted order; `None`: all columns that are neither in [`RESERVED_NAMES`] nor context.
    /// For an .npz without an array `names` they name the columns of `theta` and must be as many.
    pub parameters: Option<Vec<String>>,
    /// Context names in the wanted order; `None`: the columns that start with `context_`. Not used for .npz, whose
    /// context is the array `context` or `x`.
    pub context: Option<Vec<String>>,
}

/// A named vector `[n]`; the order is that of [`RESERVED_NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    LogLikelihood,
    LogWeight,
    Weight,
    LogPrior,
    LogProposal,
    LogProb,
}

impl Field {
    pub(crate) const ALL: [Self; 6] = [
        Self::LogLikelihood,
        Self::LogWeight,
        Self::Weight,
        Self::LogPrior,
        Self::LogProposal,
        Self::LogProb,
    ];

    pub(crate) fn name(self) -> &'static str {
        RESERVED_NAMES[self as usize]
    }

    /// The allowed values in words, and the test for them.
    fn rule(self) -> (&'static str, fn(f64) -> bool) {
        match self {
            Self::Weight => ("a finite number >= 0", |v| v.is_finite() && v >= 0.0),
            // A draw cannot come from where its proposal has no density.
            Self::LogProposal => ("a finite number", f64::is_finite),
            _ => ("a finite number or -inf", |v| v.is_finite() || v == f64::NEG_INFINITY),
        }
    }
}

/// Columns as a .csv or .parquet reader returns them.
pub(crate) struct Columns {
    pub(crate) data: Vec<Vec<f64>>,
    /// Byte at which each row starts, text files only.
    pub(crate) offsets: Option<Vec<u64>>,
}

/// Everything read from one file. Flat arrays are row-major.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) path: PathBuf,
    pub(crate) names: Vec<String>,
    pub(crate) theta: Vec<f64>, // [n, dim]
    pub(crate) n: usize,
    pub(crate) dim: usize,
    pub(crate) context_names: Vec<String>,
    pub(crate) context: Vec<f64>, // [n, context_dim]
    pub(crate) context_dim: usize,
    /// The array of an .npz that is the context.
    context_array: Option<&'static str>,
    pub(crate) notes: Vec<String>,
    pub(crate) found: Vec<String>,
    /// Parameters of an .npz that were not asked for.
    pub(crate) unselected: Vec<String>,
    /// The sampler whose arrays an .npz holds in place of ours.
    pub(crate) sampler: Option<SamplerArrays>,
    values: [Option<Vec<f64>>; 6], // each [n], by Field
    offsets: Option<Vec<u64>>,     // [n]
}

impl Fields {
    /// Reads theta, context and those of `wanted` that the file has, and checks all of them.
    ///
    /// # Errors
    /// Any [`FileError`] of reading.
    pub(crate) fn read(path: &Path, choice: &ColumnChoice, wanted: &[Field]) -> Result<Self, FileError> {
        for (name, list) in [("parameters", &choice.parameters), ("context", &choice.context)] {
            if list.as_ref().is_some_and(|l| l.is_empty() && name == "parameters") {
                let expected = "at least one name, or none given at all";
                return Err(FileError::BadSetting { name, got: "an empty list".to_owned(), expected });
            }
            if let Some(twice) = list.as_ref().and_then(|l| first_duplicate(l)) {
                let reason = "asked for more than once";
                return Err(FileError::BadName { path: path.into(), name: twice.clone(), reason });
            }
        }
        let fields = match Format::of(path)? {
            Format::Npz => Self::read_npz(path, choice, wanted)?,
            Format::Csv => {
                let file = CsvFile::open(path)?;
                let names = file.names().to_vec();
                Self::from_columns(path, names, choice, wanted, |indices| file.read(indices))?
            }
            Format::Parquet => {
                let file = ParquetFile::open(path)?;
                let names = file.names().to_vec();
                Self::from_columns(path, names, choice, wanted, |indices| file.read(indices))?
            }
        };
        fields.check_matrix("theta", &fields.theta, &fields.names)?;
        fields.check_matrix("context", &fields.context, &fields.context_names)?;
        for field in wanted {
            fields.check(*field)?;
        }
        Ok(fields)
    }

    pub(crate) fn get(&self, field: Field) -> Option<&[f64]> {
        self.values[field as usize].as_deref()
    }

    pub(crate) fn take(&mut self, field: Field) -> Option<Vec<f64>> {
        self.values[field as usize].take()
    }

    /// The parameters of one row, `[dim]`.
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.theta[row * self.dim..(row + 1) * self.dim]
    }

    /// The name of a field in the file.
    pub(crate) fn array_name(&self, field: Field) -> &'static str {
        match (self.sampler, field) {
            (Some(s), Field::LogLikelihood) => s.log_likelihood,
            (Some(s), Field::LogWeight) => s.log_weight,
            (_, field) => field.name(),
        }
    }

    /// Arrays and columns of the file that were not read.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &String> {
        let npz = Format::of(&self.path).is_ok_and(|format| format == Format::Npz);
        let theta = self.sampler.map_or("theta", |s| s.theta);
        let read = move |name: &String| {
            (npz && [Some(theta), Some("names"), self.context_array].contains(&Some(name.as_str())))
                || (!npz && (self.names.contains(name) || self.context_names.contains(name)))
                || Field::ALL
                    .iter()
                    .any(|field| self.array_name(*field) == name && self.get(*field).is_some())
        };
        self.found.iter().filter(move |name| !read(name))
    }

    pub(crate) fn bad_value(&self, row: usize, field: &str, value: f64, expected: &'static str) -> FileError {
        let line = self.offsets.as_ref().and_then(|offsets| line_at(&self.path, *offsets.get(row)?));
        let at = Place { path: self.path.clone(), row, line, field: field.to_owned() };
        FileError::BadValue { at, value, expected, theta: self.row(row).to_vec() }
    }

    fn check_matrix(&self, what: &str, values: &[f64], names: &[String]) -> Result<(), FileError> {
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (row, column) = (at / names.len(), at % names.len());
                let field = format!("{what}[{column}] ({})", names[column]);
                Err(self.bad_value(row, &field, values[at], "a finite number"))
            }
        }
    }

    fn check(&self, field: Field) -> Result<(), FileError> {
        let (expected, allowed) = field.rule();
        let Some(values) = self.get(field) else { return Ok(()) };
        match values.iter().position(|v| !allowed(*v)) {
            None => Ok(()),
            Some(row) => Err(self.bad_value(row, self.array_name(field), values[row], expected)),
        }
    }

    /// Keeps only the named parameters, in that order.
    fn select(&mut self, names: &[String]) -> Result<(), FileError> {
        let indices = find_all(&self.path, &self.names, names)?;
        let left_out = self.names.iter().filter(|name| !names.contains(name));
        self.notes.extend(left_out_note(left_out.map(String::as_str)));
        let rows = self.theta.chunks_exact(self.dim);
        self.theta = rows.flat_map(|row| indices.iter().map(move |i| row[*i])).collect();
        self.dim = indices.len();
        self.unselected = std::mem::replace(&mut self.names, names.to_vec());
        self.unselected.retain(|name| !names.contains(name));
        Ok(())
    }

    fn from_columns(
        path: &Path,
        found: Vec<String>,
        choice: &ColumnChoice,
        wanted: &[Field],
        read: impl FnOnce(&[usize]) -> Result<Columns, FileError>,
    ) -> Result<Self, FileError> {
        let mut notes = Vec::new();
        let (parameters, context) = assign_columns(path, &found, choice, &mut notes)?;
        let mut indices: Vec<usize> = parameters.iter().chain(&context).copied().collect();
        let mut present = Vec::new();
        for field in wanted {
            if let Some(at) = found.iter().position(|name| name == field.name())
                && !indices.contains(&at)
            {
                present.push((*field, at));
            }
        }
        indices.extend(present.iter().map(|(_, at)| *at));

        let Columns { mut data, offsets } = read(&indices)?;
        let n = data.first().map_or(0, Vec::len);
        if n == 0 {
            return Err(FileError::Empty { path: path.into(), what: "it has a header but no rows" });
        }
        let mut values: [Option<Vec<f64>>; 6] = Default::default();
        for (field, _) in present.iter().rev() {
            values[*field as usize] = data.pop();
        }
        let name = |list: &[usize]| list.iter().map(|i| found[*i].clone()).collect::<Vec<_>>();
        Ok(Self {
            path: path.into(),
            names: name(&parameters),
            theta: interleave(&data[..parameters.len()], n),
            n,
            dim: parameters.len(),
            context_names: name(&context),
            context: interleave(&data[parameters.len()..], n),
            context_dim: context.len(),
            context_array: None,
            notes,
            values,
            offsets,
            found,
            unselected: Vec::new(),
            sampler: None,
        })
    }
}

/// Which columns are parameters and which are context.
fn assign_columns(
    path: &Path,
    found: &[String],
    choice: &ColumnChoice,
    notes: &mut Vec<String>,
) -> Result<(Vec<usize>, Vec<usize>), FileError> {
    if let Some(twice) = first_duplicate(found) {
        let reason = "it occurs more than once";
        return Err(FileError::BadName { path: path.into(), name: twice.clone(), reason });
    }
    let context = match &choice.context {
        Some(names) => find_all(path, found, names)?,
        None => {
            let mut context: Vec<usize> =
                (0..found.len()).filter(|i| found[*i].starts_with(CONTEXT_PREFIX)).collect();
            // Numbered columns count by number, so that a shuffled file does not swap them in silence.
            let number = |i: &usize| found[*i][CONTEXT_PREFIX.len()..].parse::<usize>().ok();
            if context.iter().all(|i| number(i).is_some()) {
                context.sort_by_key(number);
            }
            if let Some(names) = &choice.parameters {
                context.retain(|i| !names.contains(&found[*i]));
            }
            context
        }
    };
    let parameters = match &choice.parameters {
        Some(names) => {
            let parameters = find_all(path, found, names)?;
            let free = |i: usize, name: &str| {
                let other = RESERVED_NAMES.contains(&name) || name.starts_with(PANDAS_INDEX);
                !other && !context.contains(&i) && !parameters.contains(&i)
            };
            let left_out =
                found.iter().enumerate().filter(|(i, name)| free(*i, name)).map(|(_, name)| name.as_str());
            notes.extend(left_out_note(left_out));
            parameters
        }
        None => {
            let mut parameters = Vec::new();
            for (i, name) in found.iter().enumerate() {
                let reserved = RESERVED_NAMES.contains(&name.as_str()) || name.starts_with(CONTEXT_PREFIX);
                if name.starts_with(PANDAS_INDEX) {
                    notes.push(format!("column `{name}` is a row index and was left out"));
                } else if name.is_empty() || name.starts_with("Unnamed: ") {
                    let reason = "a column without a name, perhaps a row index: write the table without it, or \
                                  name the parameters";
                    return Err(FileError::BadName { path: path.into(), name: name.clone(), reason });
                } else if !reserved && !context.contains(&i) {
                    parameters.push(i);
                }
            }
            parameters
        }
    };
    if parameters.is_empty() {
        let wanted = "that could be a parameter (all are reserved names or context)".to_owned();
        return Err(FileError::Missing { path: path.into(), wanted, found: found.to_vec(), nearest: None });
    }
    if let Some(both) = context.iter().find(|i| parameters.contains(i)) {
        let reason = "asked for as parameter and as context";
        return Err(FileError::BadName { path: path.into(), name: found[*both].clone(), reason });
    }
    Ok((parameters, context))
}

/// What is said of columns that could be parameters and were not asked for.
pub(crate) fn left_out_note<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    (!names.is_empty()).then(|| format!("not asked for and left out: {}", names.join(", ")))
}

fn find_all(path: &Path, found: &[String], names: &[String]) -> Result<Vec<usize>, FileError> {
    let at = |name: &String| found.iter().position(|f| f == name);
    let find = |name| at(name).ok_or_else(|| missing(path, &format!("`{name}`"), name, found.to_vec()));
    names.iter().map(find).collect()
}

/// [`FileError::Missing`] with the name most like `like`.
pub(crate) fn missing(path: &Path, wanted: &str, like: &str, found: Vec<String>) -> FileError {
    let nearest = nearest(like, &found);
    FileError::Missing { path: path.into(), wanted: wanted.to_owned(), found, nearest }
}

pub(crate) fn first_duplicate(names: &[String]) -> Option<&String> {
    let mut seen = std::collections::HashSet::new();
    names.iter().find(|name| !name.is_empty() && !seen.insert(name.as_str()))
}

/// Columns `[n]` each to one row-major `[n, columns]`.
fn interleave(columns: &[Vec<f64>], n: usize) -> Vec<f64> {
    let mut rows = Vec::with_capacity(n * columns.len());
    for row in 0..n {
        rows.extend(columns.iter().map(|column| column[row]));
    }
    rows
}
