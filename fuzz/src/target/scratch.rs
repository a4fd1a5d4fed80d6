//! A folder for the files of one input. Invariant: every thread has its own, in memory where the system has such a place.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = in_memory().or_else(|_| tempfile::tempdir()).unwrap();
}

fn in_memory() -> io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm")
}

/// The folder of this thread.
pub fn folder() -> PathBuf {
    FOLDER.with(|folder| folder.path().to_owned())
}

/// Writes a file into it, in place of an older one.
pub fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Removes a file or folder if it is there.
pub fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
