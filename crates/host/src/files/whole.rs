//! Files that appear whole under their name or not at all: written beside their place, synced, renamed.
//! Invariant: every unfinished one is on one list, so that a program that must end at once can remove them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what writes in progress have left so far, for a program that ends without finishing them.
pub fn remove_temporaries() {
    for path in unfinished().drain(..) {
        let _ = std::fs::remove_file(path);
    }
}

/// A file under way to `path`.
pub(crate) struct WholeFile {
    temporary: NamedTempFile,
    _listed: Listed,
    path: PathBuf,
}

/// An entry of the list.
struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.0);
    }
}

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl WholeFile {
    /// # Errors
    /// What the system says.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // The umask still applies; the default of temporary files would keep others from reading the result.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.prefix(".lwflow-").tempfile_in(folder_of(path))?;
        unfinished().push(temporary.path().into());
        let listed = Listed(temporary.path().into());
        Ok(Self { temporary, _listed: listed, path: path.into() })
    }

    /// A handle to write with.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.temporary.as_file().try_clone()
    }

    /// Gives the file its name; all handles must have been flushed.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|e| e.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_files_are_listed_until_they_are_finished_or_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let listed = || unfinished().iter().filter(|p| p.starts_with(folder.path())).count();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let (first, second) = (WholeFile::create(&one).unwrap(), WholeFile::create(&two).unwrap());
        assert_eq!((listed(), names(), one.exists()), (2, 2, false));
        first.finish().unwrap();
        assert_eq!((listed(), names(), one.exists()), (1, 2, true));
        drop(second);
        assert_eq!((listed(), names(), two.exists()), (0, 1, false));
    }
}
