//! Columns of a .csv file with a header row.
//! Cells may be padded with blanks; a leading `#` before the header is dropped. Each row keeps its offset in bytes, so
//! that a later refusal can name its line.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::error::{FileError, Place};
use super::fields::Columns;
use super::open;

const FORMAT: &str = "CSV";

/// A .csv file whose header has been read.
pub(crate) struct CsvFile {
    path: PathBuf,
    names: Vec<String>,
    reader: csv::Reader<File>,
}

impl CsvFile {
    /// # Errors
    /// [`FileError::Io`], [`FileError::Empty`], or [`FileError::Damaged`] where the first line holds no names.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let (file, _) = open(path)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|e| csv_error(path, e))?;
        let mut names: Vec<String> = header.iter().map(str::to_owned).collect();
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('#').trim_start().to_owned();
        }
        if names.iter().all(String::is_empty) {
            return Err(FileError::Empty { path: path.into(), what: "it has no header" });
        }
        if names.iter().all(|name| name.parse::<f64>().is_ok()) {
            let reason = "the first line holds numbers, expected the column names".to_owned();
            return Err(FileError::Damaged { path: path.into(), format: FORMAT, reason });
        }
        Ok(Self { path: path.into(), names, reader })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the columns of the given indices, in that order.
    ///
    /// # Errors
    /// [`FileError::NotANumber`], [`FileError::WrongWidth`], [`FileError::Damaged`].
    pub(crate) fn read(mut self, indices: &[usize]) -> Result<Columns, FileError> {
        let mut data = vec![Vec::new(); indices.len()];
        let mut offsets = Vec::new();
        let mut record = csv::StringRecord::new();
        while self.reader.read_record(&mut record).map_err(|e| csv_error(&self.path, e))? {
            let offset = record.position().map_or(0, csv::Position::byte);
            for (column, index) in data.iter_mut().zip(indices) {
                let text = record.get(*index).unwrap_or_default();
                let value = text.parse::<f64>().map_err(|_| {
                    let field = self.names[*index].clone();
                    let line = line_at(&self.path, offset);
                    let at = Place { path: self.path.clone(), row: offsets.len(), line, field };
                    FileError::NotANumber { at, text: text.chars().take(80).collect() }
                })?;
                column.push(value);
            }
            offsets.push(offset);
        }
        Ok(Columns { data, offsets: Some(offsets) })
    }
}

/// Line, counted from 1, of the first text at or after a byte. The file is read again for it, as only refusals need
/// lines; the reader's own count is that before the blank lines it skips.
pub(crate) fn line_at(path: &Path, byte: u64) -> Option<u64> {
    let (file, _) = open(path).ok()?;
    let mut line = 1;
    for (at, read) in BufReader::new(file).bytes().enumerate() {
        let read = read.ok()?;
        if at as u64 >= byte && !matches!(read, b'\n' | b'\r') {
            break;
        }
        line += u64::from(read == b'\n');
    }
    Some(line)
}

fn csv_error(path: &Path, error: csv::Error) -> FileError {
    let damaged = |reason| FileError::Damaged { path: path.into(), format: FORMAT, reason };
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => FileError::Io { path: path.into(), action: "read", source },
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => FileError::WrongWidth {
            path: path.into(),
            line: pos.and_then(|p| line_at(path, p.byte())).unwrap_or(0),
            got: usize::try_from(len).unwrap_or(usize::MAX),
            expected: expected_len.to_string(),
        },
        _ => damaged(text),
    }
}

/// Writes named columns: a header, then one line per row; numbers in the shortest form that reads back unchanged.
/// Errors are [`FileError::Io`] with the path as the name of the sink.
pub(crate) struct CsvOut<'a> {
    path: PathBuf,
    writer: csv::Writer<Box<dyn Write + 'a>>,
}

impl<'a> CsvOut<'a> {
    pub(crate) fn new(sink: Box<dyn Write + 'a>, path: &Path, names: &[String]) -> Result<Self, FileError> {
        let mut writer = csv::Writer::from_writer(sink);
        writer.write_record(names).map_err(|e| write_error(path, e))?;
        Ok(Self { path: path.into(), writer })
    }

    /// Adds `n` rows.
    pub(crate) fn rows(
        &mut self,
        n: usize,
        width: usize,
        value: impl Fn(usize, usize) -> f64, // (row, column)
    ) -> Result<(), FileError> {
        for row in 0..n {
            // Debug of f64 is shortest round-trip with exponents for very large and small numbers.
            let cells = (0..width).map(|column| format!("{:?}", value(row, column)));
            self.writer.write_record(cells).map_err(|e| write_error(&self.path, e))?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), FileError> {
        self.writer.flush().map_err(|e| write_error(&self.path, e.into()))
    }
}

fn write_error(path: &Path, error: csv::Error) -> FileError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => FileError::Io { path: path.into(), action: "write", source },
        _ => FileError::Damaged { path: path.into(), format: FORMAT, reason: "unequal rows".to_owned() },
    }
}
