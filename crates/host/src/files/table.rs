//! Observed data: a plain table of numbers for a likelihood that reads it. Invariant: every cell is finite, and the columns
//! stand in the order of the file.

use std::path::Path;

use super::Format;
use super::csv_file::{CsvFile, line_at};
use super::error::{FileError, Place};
use super::fields::{Columns, PANDAS_INDEX, first_duplicate};
use super::npz::NpzFile;
use super::parquet_file::ParquetFile;

/// Name of the array of an .npz file that holds several.
const ARRAY: &str = "data";

/// A table of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberTable {
    /// Names of the columns, `[n_columns]`; the array's with an index for .npz.
    pub names: Vec<String>,
    /// Number of rows, at least one.
    pub n_rows: usize,
    /// Number of columns, at least one.
    pub n_columns: usize,
    /// Cells, `[n_rows, n_columns]`.
    pub values: Vec<f64>,
}

/// Reads all columns of a .csv (with a header) or .parquet file, or the array of an .npz file: its only one, or `data`, of
/// shape `[n]` or `[n, columns]`.
///
/// # Errors
/// Any [`FileError`] of reading; [`FileError::BadCell`] for a cell that is not finite.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("obs.csv");
/// std::fs::write(&path, "time,value\n0.5,1\n1.5,-2\n")?;
/// let table = lwflow_host::files::read_table(&path)?;
/// assert_eq!((table.n_rows, table.n_columns, table.values), (2, 2, vec![0.5, 1.0, 1.5, -2.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_table(path: &Path) -> Result<NumberTable, FileError> {
    match Format::of(path)? {
        Format::Npz => from_npz(path),
        Format::Csv => {
            let file = CsvFile::open(path)?;
            let names = file.names().to_vec();
            let all: Vec<usize> = (0..names.len()).collect();
            from_columns(path, names, file.read(&all)?)
        }
        Format::Parquet => {
            let file = ParquetFile::open(path)?;
            let found = file.names().iter().enumerate().filter(|(_, name)| !name.starts_with(PANDAS_INDEX));
            let (indices, names): (Vec<usize>, Vec<String>) =
                found.map(|(index, name)| (index, name.clone())).unzip();
            from_columns(path, names, file.read(&indices)?)
        }
    }
}

fn from_columns(path: &Path, names: Vec<String>, columns: Columns) -> Result<NumberTable, FileError> {
    if let Some(twice) = first_duplicate(&names) {
        let reason = "it occurs more than once";
        return Err(FileError::BadName { path: path.into(), name: twice.clone(), reason });
    }
    let n_rows = columns.data.first().map_or(0, Vec::len);
    let n_columns = names.len();
    let values = (0..n_rows).flat_map(|row| columns.data.iter().map(move |column| column[row])).collect();
    checked(path, NumberTable { names, n_rows, n_columns, values }, columns.offsets.as_deref())
}

fn from_npz(path: &Path) -> Result<NumberTable, FileError> {
    let mut file = NpzFile::open(path)?;
    let found = file.names().to_vec();
    let name = if let [only] = &found[..] { only.clone() } else { ARRAY.to_owned() };
    let Some(array) = file.array(&name)? else {
        let wanted = format!("`{ARRAY}`, which is read where there is more than one");
        return Err(FileError::Missing { path: path.into(), wanted, found, nearest: None });
    };
    let (n_rows, n_columns) = match array.shape[..] {
        [n] => (n as usize, 1),
        [n, columns] if columns > 0 => (n as usize, columns as usize),
        _ => {
            let expected = "[n] or [n, columns] with columns > 0".to_owned();
            return Err(FileError::WrongShape { path: path.into(), field: name, got: array.shape, expected });
        }
    };
    let names = (0..n_columns).map(|column| format!("{name}[{column}]")).collect();
    checked(path, NumberTable { names, n_rows, n_columns, values: array.data }, None)
}

fn checked(path: &Path, table: NumberTable, offsets: Option<&[u64]>) -> Result<NumberTable, FileError> {
    if table.n_rows == 0 {
        return Err(FileError::Empty { path: path.into(), what: "it has no rows" });
    }
    match table.values.iter().position(|v| !v.is_finite()) {
        None => Ok(table),
        Some(at) => {
            let (row, column) = (at / table.n_columns, at % table.n_columns);
            let line = offsets.and_then(|offsets| line_at(path, *offsets.get(row)?));
            let at_place = Place { path: path.into(), row, line, field: table.names[column].clone() };
            Err(FileError::BadCell { at: at_place, value: table.values[at], expected: "a finite number" })
        }
    }
}
