//! Arrays of an .npz file (a zip of .npy members), read as f64 in C order and written as little-endian f64.
//! Invariant: the claimed shape must agree with the claimed size of the member, that size with what its compressed bytes
//! can hold, and those with the size of the file, before anything is reserved. The zip's checksum is always verified.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use npyz::npz::{NpzArchive, NpzWriter};
use npyz::{DType, Deserialize, NpyFile, NpyHeader, Order, TypeChar, WriterBuilder};
use zip::CompressionMethod;

use super::error::FileError;
use super::{guard, open};

const FORMAT: &str = "npz";
/// A header of a plain array is under 200 bytes; numpy pads it to a multiple of 64.
const MAX_HEADER: usize = 16 * 1024;
/// The header is a Python literal read by a recursive parser; a plain array needs two levels.
const MAX_NESTING: usize = 8;
/// Deflate cannot expand by more than this factor (1032 to 1 for a run of equal bytes).
const MAX_DEFLATE_RATIO: u64 = 1040;
/// Longest name of a parameter, in characters.
const MAX_NAME: u64 = 1024;

/// An array in C order.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<f64>,
}

/// An open .npz file.
pub(crate) struct NpzFile {
    path: PathBuf,
    file_len: u64,
    names: Vec<String>,
    archive: NpzArchive<BufReader<File>>,
}

impl NpzFile {
    /// # Errors
    /// [`FileError::Io`], [`FileError::Empty`], [`FileError::Damaged`].
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let (file, file_len) = open(path)?;
        guard(path, FORMAT, || {
            let archive = NpzArchive::new(BufReader::new(file)).map_err(|e| damaged(path, e))?;
            let mut names: Vec<String> = archive.array_names().map(str::to_owned).collect();
            names.sort();
            Ok(Self { path: path.into(), file_len, names, archive })
        })
    }

    /// Names of the arrays, sorted.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads an array of floats or integers; `None` if there is no such array.
    ///
    /// # Errors
    /// [`FileError::WrongType`], [`FileError::WrongShape`], [`FileError::Damaged`].
    pub(crate) fn array(&mut self, name: &str) -> Result<Option<Array>, FileError> {
        let path = self.path.clone();
        guard(&path, FORMAT, || self.array_unguarded(name))
    }

    fn array_unguarded(&mut self, name: &str) -> Result<Option<Array>, FileError> {
        let path = &self.path.clone();
        let Some((header, mut member, reserve)) = self.member(name)? else { return Ok(None) };
        let dtype = header.dtype();
        let wrong_type = || FileError::WrongType {
            path: path.clone(),
            field: name.to_owned(),
            got: dtype.descr(),
            expected: "float32, float64 or an integer type",
        };
        let DType::Plain(ty) = &dtype else { return Err(wrong_type()) };
        let (shape, order) = (header.shape().to_vec(), header.order());
        let data = match (ty.type_char(), ty.size_field()) {
            (TypeChar::Float, 8) => read_numbers::<f64>(header, &mut member, reserve, |v| v),
            (TypeChar::Float, 4) => read_numbers::<f32>(header, &mut member, reserve, f64::from),
            (TypeChar::Int, 8) => read_numbers::<i64>(header, &mut member, reserve, |v| v as f64),
            (TypeChar::Int, 4) => read_numbers::<i32>(header, &mut member, reserve, f64::from),
            (TypeChar::Int, 2) => read_numbers::<i16>(header, &mut member, reserve, f64::from),
            (TypeChar::Int, 1) => read_numbers::<i8>(header, &mut member, reserve, f64::from),
            (TypeChar::Uint, 8) => read_numbers::<u64>(header, &mut member, reserve, |v| v as f64),
            (TypeChar::Uint, 4) => read_numbers::<u32>(header, &mut member, reserve, f64::from),
            (TypeChar::Uint, 2) => read_numbers::<u16>(header, &mut member, reserve, f64::from),
            (TypeChar::Uint, 1) => read_numbers::<u8>(header, &mut member, reserve, f64::from),
            _ => return Err(wrong_type()),
        };
        let data = data.map_err(|e| damaged(path, format_args!("array `{name}`: {e}")))?;
        let data = match (order, &shape[..]) {
            (Order::Fortran, [rows, columns]) => transpose(&data, *rows as usize, *columns as usize),
            (Order::Fortran, more) if more.len() > 2 => {
                return Err(FileError::WrongShape {
                    path: path.clone(),
                    field: name.to_owned(),
                    got: shape,
                    expected: "one or two axes".to_owned(),
                });
            }
            _ => data,
        };
        Ok(Some(Array { shape, data }))
    }

    /// Reads an array `[n]` of text (numpy types `U` and `S`); `None` if there is no such array.
    ///
    /// # Errors
    /// [`FileError::WrongType`], [`FileError::WrongShape`], [`FileError::Damaged`], [`FileError::BadName`].
    pub(crate) fn strings(&mut self, name: &str, n: usize) -> Result<Option<Vec<String>>, FileError> {
        let path = self.path.clone();
        guard(&path, FORMAT, || {
            let Some((header, mut member, _)) = self.member(name)? else { return Ok(None) };
            let text_type = match header.dtype() {
                DType::Plain(ty) => {
                    matches!(ty.type_char(), TypeChar::UnicodeStr | TypeChar::ByteStr)
                        && ty.size_field() <= MAX_NAME
                }
                _ => false,
            };
            let field = name.to_owned();
            if !text_type {
                let expected = "text (U or S) of at most 1024 characters";
                let got = header.dtype().descr();
                return Err(FileError::WrongType { path: path.clone(), field, got, expected });
            }
            if header.shape() != [n as u64] {
                let (got, expected) = (header.shape().to_vec(), format!("[{n}]"));
                return Err(FileError::WrongShape { path: path.clone(), field, got, expected });
            }
            let names: Vec<String> = read_all(header, &mut member, n, |s: String| s)
                .map_err(|e| damaged(&path, format_args!("array `{name}`: {e}")))?;
            let bad = names.iter().find(|s| s.is_empty()).map(|s| (s, "it is empty"));
            let twice = super::fields::first_duplicate(&names).map(|s| (s, "it occurs more than once"));
            match bad.or(twice) {
                Some((bad, reason)) => {
                    Err(FileError::BadName { path: path.clone(), name: bad.clone(), reason })
                }
                None => Ok(Some(names)),
            }
        })
    }

    /// Opens a member, reads its header and checks every claimed size. Returns the header, a reader of exactly the
    /// data, and the number of elements that may be reserved at once.
    #[allow(clippy::type_complexity)] // one private caller pattern; a named type would only repeat the line above
    fn member(&mut self, name: &str) -> Result<Option<(NpyHeader, impl Read + '_, usize)>, FileError> {
        let path = self.path.as_path();
        let damaged = |reason: String| damaged(path, format_args!("array `{name}`: {reason}"));
        let member = match self.archive.zip_archive().by_name(&format!("{name}.npy")) {
            Ok(member) => member,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(e) => return Err(damaged(e.to_string())),
        };
        let (size, compressed) = (member.size(), member.compressed_size());
        if compressed > self.file_len {
            return Err(damaged(format!("claims {compressed} bytes, the file has {}", self.file_len)));
        }
        let possible = match member.compression() {
            CompressionMethod::Stored => compressed,
            CompressionMethod::Deflated => compressed.saturating_mul(MAX_DEFLATE_RATIO),
            other => return Err(damaged(format!("is packed with {other}, expected Stored or Deflated"))),
        };
        if size > possible {
            return Err(damaged(format!(
                "claims {size} bytes, its {compressed} packed bytes cannot hold them"
            )));
        }
        let mut member = BufReader::new(member);
        let text = read_header_bytes(&mut member).map_err(|e| damaged(e.to_string()))?;
        let header = NpyHeader::from_reader(Cursor::new(&text)).map_err(|e| damaged(e.to_string()))?;
        let elements = header.shape().iter().try_fold(1_u64, |n, axis| n.checked_mul(*axis));
        // None: an array of Python objects (pickled); the type check of the caller names it.
        let item = header.dtype().num_bytes().unwrap_or(0) as u64;
        let held = size.saturating_sub(text.len() as u64);
        if let Some(bytes) = elements.map(|n| n.checked_mul(item))
            && item > 0
            && bytes != Some(held)
        {
            let (shape, ty) = (header.shape().to_vec(), header.dtype().descr());
            return Err(damaged(format!("has shape {shape:?} of {ty}, but {held} bytes of data")));
        }
        let Some(elements) = elements else {
            return Err(damaged(format!("has impossible shape {:?}", header.shape())));
        };
        let reserve = elements.min(self.file_len) as usize;
        Ok(Some((header, member, reserve)))
    }
}

/// The raw bytes of an .npy header, magic included, if its length and nesting are those of a plain array.
fn read_header_bytes(member: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let invalid = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    let mut bytes = vec![0; 8];
    member.read_exact(&mut bytes)?;
    let width = if bytes[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    member.read_exact(&mut length[..width])?;
    bytes.extend_from_slice(&length[..width]);
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(invalid(format!("its header claims {length} bytes, at most {MAX_HEADER} make sense")));
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    member.read_exact(&mut bytes[start..])?;
    if bytes[start..].iter().filter(|b| matches!(b, b'(' | b'[' | b'{')).count() > MAX_NESTING {
        return Err(invalid("its header is not that of a plain array".to_owned()));
    }
    Ok(bytes)
}

fn read_numbers<T: Deserialize>(
    header: NpyHeader,
    member: &mut impl Read,
    reserve: usize,
    convert: fn(T) -> f64,
) -> std::io::Result<Vec<f64>> {
    read_all(header, member, reserve, convert)
}

fn read_all<T: Deserialize, U>(
    header: NpyHeader,
    member: &mut impl Read,
    reserve: usize,
    convert: fn(T) -> U,
) -> std::io::Result<Vec<U>> {
    let invalid = |e: String| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
    let mut values = Vec::with_capacity(reserve);
    let numbers =
        NpyFile::with_header(header, &mut *member).data::<T>().map_err(|e| invalid(e.to_string()))?;
    for value in numbers {
        values.push(convert(value?));
    }
    // Reading on to the end makes the zip reader compare its checksum.
    if member.read(&mut [0])? != 0 {
        return Err(invalid("bytes are left over after the data".to_owned()));
    }
    Ok(values)
}

/// Column-major `[rows, columns]` to row-major.
fn transpose(data: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(data.len());
    for row in 0..rows {
        out.extend((0..columns).map(|column| data[column * rows + row]));
    }
    out
}

fn damaged(path: &Path, reason: impl ToString) -> FileError {
    FileError::Damaged { path: path.into(), format: FORMAT, reason: reason.to_string() }
}

/// Writes arrays one by one; the same arrays always give the same bytes.
pub(crate) struct NpzOut<W: Write + Seek> {
    writer: NpzWriter<W>,
}

impl<W: Write + Seek> NpzOut<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { writer: NpzWriter::new(sink) }
    }

    /// Stored, not packed: mantissas do not compress. The fixed default date keeps the bytes reproducible.
    fn options(bytes: u64) -> zip::write::FileOptions {
        zip::write::FileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(bytes >= u64::from(u32::MAX) - MAX_HEADER as u64)
    }

    /// Adds an array of the given shape, row-major.
    pub(crate) fn array(
        &mut self,
        name: &str,
        shape: &[u64],
        data: impl IntoIterator<Item = std::io::Result<f64>>,
    ) -> std::io::Result<()> {
        let ty = "<f8".parse().map_err(std::io::Error::other)?;
        let bytes = shape.iter().product::<u64>() * size_of::<f64>() as u64;
        let mut out =
            self.writer.array(name, Self::options(bytes))?.dtype(DType::Plain(ty)).shape(shape).begin_nd()?;
        for value in data {
            out.push(&value?)?;
        }
        out.finish()
    }

    /// Adds an array `[n]` of text.
    pub(crate) fn strings(&mut self, name: &str, text: &[String]) -> std::io::Result<()> {
        let width = text.iter().map(|s| s.chars().count()).max().unwrap_or(0).max(1);
        let ty = format!("<U{width}").parse().map_err(std::io::Error::other)?;
        let mut out = self
            .writer
            .array::<str>(name, Self::options((4 * width * text.len()) as u64))?
            .dtype(DType::Plain(ty))
            .shape(&[text.len() as u64])
            .begin_nd()?;
        for s in text {
            out.push(s.as_str())?;
        }
        out.finish()
    }

    /// Ends the archive and returns the sink.
    pub(crate) fn finish(mut self) -> std::io::Result<()> {
        self.writer.zip_writer().finish().map_err(std::io::Error::other)?;
        Ok(())
    }
}
