//! Tests of the readers and writers: known answers, refusals with their place, round trips, and damaged bytes.

mod chains;
mod damage;
mod damaged_chains;
mod export;
mod pairs;
mod refusals;
mod round_trip;
mod samplers;
mod table;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::npz::NpzOut;
use super::{ColumnChoice, FileError, SampleTable, write_samples};

/// A folder that goes away with the test.
pub(super) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn put(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Chain files in the root of the project.
pub(super) fn chain_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chains").join(name)
}

pub(super) fn all() -> ColumnChoice {
    ColumnChoice::default()
}

pub(super) fn named(names: &[&str]) -> ColumnChoice {
    ColumnChoice { parameters: Some(names.iter().map(|s| s.to_string()).collect()), context: None }
}

/// An .npz of f64 arrays.
pub(super) fn npz(arrays: &[(&str, &[u64], &[f64])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = NpzOut::new(Cursor::new(&mut bytes));
    for (name, shape, data) in arrays {
        out.array(name, shape, data.iter().copied().map(Ok)).unwrap();
    }
    out.finish().unwrap();
    bytes
}

/// A zip with one stored or deflated member, contents as given.
pub(super) fn zip_of(members: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    use std::io::Write;
    let mut bytes = Vec::new();
    let mut out = zip::ZipWriter::new(Cursor::new(&mut bytes));
    for (name, contents) in members {
        let options = zip::write::FileOptions::default().compression_method(method);
        out.start_file(*name, options).unwrap();
        out.write_all(contents).unwrap();
    }
    out.finish().unwrap();
    drop(out);
    bytes
}

/// The bytes of an .npy file, version 1.
pub(super) fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub(super) fn npy_array(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    npy(&format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"), data)
}

pub(super) fn write(path: &Path, table: &SampleTable) -> Result<(), FileError> {
    let mut stdout = Vec::new();
    write_samples(path, table, &mut stdout)?;
    assert!(stdout.is_empty(), "nothing may go to the standard output when a file is named");
    Ok(())
}
