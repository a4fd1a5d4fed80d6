//! Columns of a .parquet file: flat numeric columns only, read chunk by chunk without arrow.
//! Invariant: bytes asked for must lie in the file, and a page may not claim more unpacked bytes than the rows of its
//! row group can fill, before the decoder reserves them. Nulls are refused.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{DataType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescriptor, Type};

use super::error::{FileError, Place};
use super::fields::Columns;
use super::{guard, open};

const FORMAT: &str = "parquet";
/// Rows decoded at once.
const BATCH: usize = 1 << 16;
/// Rows of a row group when writing.
const ROW_GROUP: usize = 1 << 20;
/// Unpacked bytes that a row may take in a page, levels included; a plain double takes 8.
const BYTES_PER_ROW: u64 = 16;
/// Room for what does not grow with the rows.
const PAGE_ROOM: u64 = 1 << 16;

/// A .parquet file whose footer has been read.
pub(crate) struct ParquetFile {
    path: PathBuf,
    names: Vec<String>,
    metadata: Arc<ParquetMetaData>,
    source: Arc<File>,
    file_len: u64,
}

impl ParquetFile {
    /// # Errors
    /// [`FileError::Io`], [`FileError::Empty`], [`FileError::Damaged`].
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let (file, file_len) = open(path)?;
        guard(path, FORMAT, || {
            let clone = file.try_clone();
            let source =
                clone.map_err(|source| FileError::Io { path: path.into(), action: "open", source })?;
            let reader = SerializedFileReader::new(Checked { file, file_len, page_limit: None })
                .map_err(|e| damaged(path, e))?;
            let metadata = Arc::new(reader.metadata().clone());
            let columns = metadata.file_metadata().schema_descr().columns();
            let names = columns.iter().map(|column| column.path().string()).collect();
            Ok(Self { path: path.into(), names, metadata, source: Arc::new(source), file_len })
        })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the columns of the given indices, in that order.
    ///
    /// # Errors
    /// [`FileError::WrongType`], [`FileError::NotANumber`] for nulls, [`FileError::Damaged`].
    pub(crate) fn read(&self, indices: &[usize]) -> Result<Columns, FileError> {
        let data = indices.iter().map(|index| guard(&self.path, FORMAT, || self.read_column(*index)));
        Ok(Columns { data: data.collect::<Result<_, _>>()?, offsets: None })
    }

    fn read_column(&self, index: usize) -> Result<Vec<f64>, FileError> {
        let descriptor = self.metadata.file_metadata().schema_descr().column(index);
        let unsigned = self.check_type(&descriptor, &self.names[index])?;
        let mut values = Vec::new();
        for group in self.metadata.row_groups() {
            let rows = usize::try_from(group.num_rows()).map_err(|_| {
                damaged(&self.path, format_args!("a row group claims {} rows", group.num_rows()))
            })?;
            let page_limit = (rows as u64).saturating_mul(BYTES_PER_ROW).saturating_add(PAGE_ROOM);
            let file = self.source.try_clone();
            let file =
                file.map_err(|e| FileError::Io { path: self.path.clone(), action: "read", source: e })?;
            let source = Checked { file, file_len: self.file_len, page_limit: Some(page_limit) };
            let chunk = group.column(index);
            match chunk.compression() {
                Compression::UNCOMPRESSED
                | Compression::SNAPPY
                | Compression::GZIP(_)
                | Compression::ZSTD(_) => {}
                other => {
                    let what = format!("column `{}`: compression {other}", self.names[index]);
                    let expected = "none, snappy, gzip or zstd";
                    return Err(FileError::Unsupported { path: self.path.clone(), what, expected });
                }
            }
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            if start < 0 || chunk.compressed_size() < 0 {
                let name = &self.names[index];
                let reason =
                    format!("column `{name}` starts at byte {start}, {} bytes long", chunk.compressed_size());
                return Err(damaged(&self.path, reason));
            }
            let pages = SerializedPageReader::new(Arc::new(source), chunk, rows, None)
                .map_err(|e| damaged(&self.path, e))?;
            let start = values.len();
            let reader = get_column_reader(Arc::clone(&descriptor), Box::new(pages));
            match reader {
                ColumnReader::DoubleColumnReader(r) => self.read_chunk(r, index, &mut values, |v| v),
                ColumnReader::FloatColumnReader(r) => self.read_chunk(r, index, &mut values, f64::from),
                ColumnReader::Int32ColumnReader(r) if unsigned => {
                    self.read_chunk(r, index, &mut values, |v| f64::from(v.cast_unsigned()))
                }
                ColumnReader::Int32ColumnReader(r) => self.read_chunk(r, index, &mut values, f64::from),
                ColumnReader::Int64ColumnReader(r) if unsigned => {
                    self.read_chunk(r, index, &mut values, |v| v.cast_unsigned() as f64)
                }
                ColumnReader::Int64ColumnReader(r) => self.read_chunk(r, index, &mut values, |v| v as f64),
                _ => Err(self.wrong_type(&descriptor, &self.names[index])),
            }?;
            let got = values.len() - start;
            if got != rows {
                let name = &self.names[index];
                let reason = format!("column `{name}` has {got} values in a row group of {rows} rows");
                return Err(damaged(&self.path, reason));
            }
        }
        Ok(values)
    }

    fn read_chunk<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        index: usize,
        out: &mut Vec<f64>,
        convert: fn(T::T) -> f64,
    ) -> Result<(), FileError> {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        loop {
            values.clear();
            levels.clear();
            let (records, present, _) = reader
                .read_records(BATCH, Some(&mut levels), None, &mut values)
                .map_err(|e| damaged(&self.path, format_args!("column `{}`: {e}", self.names[index])))?;
            if records == 0 {
                return Ok(());
            }
            if present < records {
                // A level below the highest one seen in a flat optional column is a null.
                let row = out.len() + levels.iter().position(|level| *level == 0).unwrap_or(0);
                let field = self.names[index].clone();
                let at = Place { path: self.path.clone(), row, line: None, field };
                return Err(FileError::NotANumber { at, text: "null".to_owned() });
            }
            out.extend(values.drain(..).map(convert));
        }
    }

    /// True if the integers of the column are to be read as unsigned.
    fn check_type(&self, column: &ColumnDescriptor, name: &str) -> Result<bool, FileError> {
        let flat = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        let numeric = matches!(
            column.physical_type(),
            PhysicalType::DOUBLE | PhysicalType::FLOAT | PhysicalType::INT32 | PhysicalType::INT64
        );
        // Dates, times and decimals are integers with another meaning.
        let signed = match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Integer(int)), _) => Some(int.is_signed),
            (Some(_), _) => None,
            (
                None,
                ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64,
            ) => Some(true),
            (
                None,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => Some(false),
            (None, _) => None,
        };
        match signed {
            Some(signed) if flat && numeric => Ok(!signed),
            _ => Err(self.wrong_type(column, name)),
        }
    }

    fn wrong_type(&self, column: &ColumnDescriptor, name: &str) -> FileError {
        let meaning = match (column.logical_type_ref(), column.converted_type()) {
            (Some(logical), _) => format!(" ({logical:?})"),
            (None, ConvertedType::NONE) => String::new(),
            (None, converted) => format!(" ({converted})"),
        };
        let nested = if column.max_rep_level() > 0 || column.max_def_level() > 1 { ", nested" } else { "" };
        FileError::WrongType {
            path: self.path.clone(),
            field: name.to_owned(),
            got: format!("{}{meaning}{nested}", column.physical_type()),
            expected: "a flat column of FLOAT, DOUBLE, INT32 or INT64",
        }
    }
}

/// The file as the decoder sees it, with every claimed length checked before it is used.
struct Checked {
    file: File,
    file_len: u64,
    /// Most unpacked bytes of a page; `None` while the footer is read.
    page_limit: Option<u64>,
}

impl Length for Checked {
    fn len(&self) -> u64 {
        self.file_len
    }
}

impl ChunkReader for Checked {
    type T = BufReader<File>;

    /// Called at the start of every page header.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        let mut reader = BufReader::new(file);
        if let Some(limit) = self.page_limit {
            let mut head = Vec::with_capacity(32);
            reader.by_ref().take(32).read_to_end(&mut head)?;
            if let Some(size) = unpacked_size(&head)
                && size > limit
            {
                let text = format!("a page claims {size} unpacked bytes, its rows can fill at most {limit}");
                return Err(ParquetError::General(text));
            }
            reader.seek(SeekFrom::Start(start))?;
        }
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.file_len) {
            let text = format!("{length} bytes are claimed at byte {start} of a file of {}", self.file_len);
            return Err(ParquetError::EOF(text));
        }
        self.file.get_bytes(start, length)
    }
}

/// The field `uncompressed_page_size` of a page header, which is a Thrift compact struct that starts with the fields
/// 1: type, 2: uncompressed_page_size, both i32 (Parquet format, PageHeader). `None` if the bytes start otherwise; the
/// decoder then refuses them, as both fields are required.
fn unpacked_size(head: &[u8]) -> Option<u64> {
    const NEXT_FIELD_I32: u8 = 0x15;
    let mut bytes = head.iter().copied();
    let mut field = || -> Option<u64> {
        if bytes.next()? != NEXT_FIELD_I32 {
            return None;
        }
        let (mut value, mut shift) = (0_u64, 0_u32);
        loop {
            let byte = bytes.next()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value >> 1); // zigzag of a non-negative number
            }
            shift += 7;
        }
    };
    field()?;
    field()
}

fn damaged(path: &Path, reason: impl ToString) -> FileError {
    FileError::Damaged { path: path.into(), format: FORMAT, reason: reason.to_string() }
}

/// Key of what the metadata of a file say of its parameters.
const ABOUT: &str = "lwflow";

/// Writes named columns of doubles without nulls. Errors are the writer's own.
pub(crate) struct ParquetOut<W: Write + Send> {
    writer: SerializedFileWriter<W>,
}

impl<W: Write + Send> ParquetOut<W> {
    /// `about` goes into the file's key-value metadata.
    pub(crate) fn new(
        sink: W,
        names: &[String],
        about: Option<String>,
        compression: Compression,
    ) -> Result<Self, ParquetError> {
        let field = |name: &String| -> Result<Arc<Type>, ParquetError> {
            let column = Type::primitive_type_builder(name, PhysicalType::DOUBLE);
            Ok(Arc::new(column.with_repetition(Repetition::REQUIRED).build()?))
        };
        let fields = names.iter().map(field).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(Type::group_type_builder("samples").with_fields(fields).build()?);
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(false)
            .set_key_value_metadata(about.map(|about| vec![KeyValue::new(ABOUT.to_owned(), about)]));
        Ok(Self { writer: SerializedFileWriter::new(sink, schema, Arc::new(properties.build()))? })
    }

    /// Adds `n` rows.
    pub(crate) fn rows(
        &mut self,
        n: usize,
        value: impl Fn(usize, usize) -> f64, // (row, column)
    ) -> Result<(), ParquetError> {
        let mut buffer = Vec::new();
        for start in (0..n).step_by(ROW_GROUP) {
            let rows = start..n.min(start + ROW_GROUP);
            let mut group = self.writer.next_row_group()?;
            let mut column = 0;
            while let Some(mut out) = group.next_column()? {
                buffer.clear();
                buffer.extend(rows.clone().map(|row| value(row, column)));
                out.typed::<DoubleType>().write_batch(&buffer, None, None)?;
                out.close()?;
                column += 1;
            }
            group.close()?;
        }
        Ok(())
    }

    /// Writes the footer.
    pub(crate) fn finish(self) -> Result<(), ParquetError> {
        self.writer.close()?;
        Ok(())
    }
}
