//! Writes a sample table piece by piece, so that memory does not grow with its rows.
//! Invariant: what is written reads back bit for bit; the file appears whole under its name, with the rows appended by
//! then, or not at all.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Format;
use super::csv_file::CsvOut;
use super::error::FileError;
use super::npz::NpzOut;
use super::parquet_file::ParquetOut;
use super::samples::{SampleTable, io_error};
use super::whole::{WholeFile, folder_of};

/// A sample table that is being written; dropped before [`SampleWriter::finish`] it leaves no file.
pub struct SampleWriter<'a> {
    path: PathBuf,
    /// Column names of every piece.
    columns: Vec<String>,
    names: Vec<String>,
    derived_names: Vec<String>,
    labels: Vec<String>,
    bounds: Vec<(Option<f64>, Option<f64>)>,
    n: usize,
    sink: Sink<'a>,
}

enum Sink<'a> {
    Csv(CsvOut<'a>, Option<WholeFile>),
    Parquet(ParquetOut<BufWriter<File>>, WholeFile),
    /// An array of an .npz follows the one before it, so each waits in a file of its own.
    Npz(Vec<Waiting>, WholeFile),
}

/// An array of which the first axis, the rows, is not yet known.
struct Waiting {
    name: String,
    width: Option<u64>,
    values: BufWriter<File>,
}

impl<'a> SampleWriter<'a> {
    /// Begins a table with the parameters, the context and the vectors that `like` has; its rows are not written. The
    /// extension gives the format, and the path `-` is CSV on `stdout`.
    ///
    /// # Errors
    /// [`FileError::UnknownExtension`], [`FileError::Io`].
    pub fn create(path: &Path, like: &SampleTable, stdout: &'a mut dyn Write) -> Result<Self, FileError> {
        let columns = like.column_names();
        let io = |e| io_error(path, "write", e);
        let create = || -> Result<_, FileError> {
            let file = WholeFile::create(path).map_err(|e| io_error(path, "create", e))?;
            Ok((BufWriter::new(file.handle().map_err(io)?), file))
        };
        let sink = if path == Path::new("-") {
            Sink::Csv(CsvOut::new(Box::new(stdout), path, &columns)?, None)
        } else {
            match Format::of(path)? {
                Format::Csv => {
                    let (out, file) = create()?;
                    Sink::Csv(CsvOut::new(Box::new(out), path, &columns)?, Some(file))
                }
                Format::Parquet => {
                    let (out, file) = create()?;
                    let snappy = parquet::basic::Compression::SNAPPY;
                    let out = ParquetOut::new(out, &columns, about_parameters(like), snappy);
                    Sink::Parquet(out.map_err(|e| io(std::io::Error::other(e)))?, file)
                }
                Format::Npz => {
                    let file = WholeFile::create(path).map_err(|e| io_error(path, "create", e))?;
                    let n_derived = like.derived_names.len();
                    let matrices =
                        [("theta", like.dim), ("context", like.context_dim), ("derived", n_derived)];
                    let matrices = matrices.into_iter().filter(|(_, width)| *width > 0);
                    let matrices = matrices.map(|(name, width)| (name, Some(width as u64)));
                    let waiting =
                        matrices.chain(like.vectors().map(|(name, _)| (name, None))).map(|(name, width)| {
                            let values = BufWriter::new(tempfile::tempfile_in(folder_of(path))?);
                            Ok(Waiting { name: name.to_owned(), width, values })
                        });
                    Sink::Npz(waiting.collect::<Result<_, _>>().map_err(io)?, file)
                }
            }
        };
        let (names, derived_names) = (like.names.clone(), like.derived_names.clone());
        let (labels, bounds) = (like.labels.clone(), like.bounds.clone());
        Ok(Self { path: path.into(), columns, names, derived_names, labels, bounds, n: 0, sink })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`FileError::BadTable`] or [`FileError::BadValue`] for rows that could not be read back or have other columns,
    /// [`FileError::Io`].
    pub fn append(&mut self, piece: &SampleTable) -> Result<(), FileError> {
        piece.check_lengths()?;
        piece.check_values(&self.path, self.n)?;
        let columns = piece.column_names();
        if columns != self.columns {
            let what = format!("columns ({} after {})", columns.join(", "), self.columns.join(", "));
            return Err(FileError::BadTable { what, got: columns.len(), expected: self.columns.len() });
        }
        let vectors: Vec<&[f64]> = piece.vectors().map(|(_, values)| values).collect();
        let (dim, n_derived) = (piece.dim, piece.derived_names.len());
        let at_derived = dim + piece.context_dim;
        let width = at_derived + n_derived;
        let value = |row: usize, column: usize| {
            if column < dim {
                piece.theta[row * dim + column]
            } else if column < at_derived {
                piece.context[row * piece.context_dim + column - dim]
            } else if column < width {
                piece.derived[row * n_derived + column - at_derived]
            } else {
                vectors[column - width][row]
            }
        };
        let io = |e| io_error(&self.path, "write", e);
        match &mut self.sink {
            Sink::Csv(out, _) => out.rows(piece.n, columns.len(), value)?,
            Sink::Parquet(out, _) => {
                out.rows(piece.n, value).map_err(|e| io(std::io::Error::other(e)))?;
            }
            Sink::Npz(waiting, _) => {
                let matrices = [&piece.theta[..], &piece.context[..], &piece.derived[..]];
                let arrays = matrices.into_iter().filter(|values| !values.is_empty()).chain(vectors);
                for (array, values) in waiting.iter_mut().zip(arrays) {
                    for v in values {
                        array.values.write_all(&v.to_ne_bytes()).map_err(io)?;
                    }
                }
            }
        }
        self.n += piece.n;
        Ok(())
    }

    /// Gives the file its name. Returns the number of rows.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(self) -> Result<usize, FileError> {
        let io = |e| io_error(&self.path, "write", e);
        let file = match self.sink {
            Sink::Csv(out, file) => {
                out.finish()?;
                file
            }
            Sink::Parquet(out, file) => {
                out.finish().map_err(|e| io(std::io::Error::other(e)))?;
                Some(file)
            }
            Sink::Npz(waiting, file) => {
                let mut out = BufWriter::new(file.handle().map_err(io)?);
                let mut npz = NpzOut::new(&mut out);
                for (i, array) in waiting.into_iter().enumerate() {
                    let shape: Vec<u64> = [self.n as u64].into_iter().chain(array.width).collect();
                    let values = values_of(array.values).map_err(io)?;
                    npz.array(&array.name, &shape, values).map_err(io)?;
                    if i == 0 {
                        npz.strings("names", &self.names).map_err(io)?;
                        for (name, text) in [("derived_names", &self.derived_names), ("labels", &self.labels)]
                        {
                            if !text.is_empty() {
                                npz.strings(name, text).map_err(io)?;
                            }
                        }
                        if !self.bounds.is_empty() {
                            let ends = self.bounds.iter().flat_map(|(lower, upper)| {
                                [lower.unwrap_or(f64::NEG_INFINITY), upper.unwrap_or(f64::INFINITY)]
                            });
                            npz.array("ranges", &[self.bounds.len() as u64, 2], ends.map(Ok)).map_err(io)?;
                        }
                    }
                }
                npz.finish().map_err(io)?;
                out.flush().map_err(io)?;
                Some(file)
            }
        };
        file.map_or(Ok(()), WholeFile::finish).map_err(io)?;
        Ok(self.n)
    }
}

/// What the metadata of a .parquet say of the parameters: JSON with their labels and ranges by name, `null` for an open side.
fn about_parameters(table: &SampleTable) -> Option<String> {
    let named = |values: Vec<serde_json::Value>| -> serde_json::Value {
        table.names.iter().cloned().zip(values).collect::<serde_json::Map<_, _>>().into()
    };
    let mut about = serde_json::Map::new();
    if !table.labels.is_empty() {
        about.insert("labels".to_owned(), named(table.labels.iter().cloned().map(Into::into).collect()));
    }
    if !table.bounds.is_empty() {
        let ranges = table.bounds.iter().map(|(lower, upper)| serde_json::json!([lower, upper]));
        about.insert("ranges".to_owned(), named(ranges.collect()));
    }
    (!about.is_empty()).then(|| serde_json::Value::Object(about).to_string())
}

/// The numbers of a file, from its start.
fn values_of(file: BufWriter<File>) -> std::io::Result<impl Iterator<Item = std::io::Result<f64>>> {
    let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let n = file.stream_position()? / size_of::<f64>() as u64;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    Ok((0..n).map(move |_| {
        let mut bytes = [0; size_of::<f64>()];
        reader.read_exact(&mut bytes)?;
        Ok(f64::from_ne_bytes(bytes))
    }))
}
