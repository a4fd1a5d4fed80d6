//! The folder that results go into. Invariant: one run at a time writes there, and no results of an earlier one are lost.

use crate::exit::{CommandError, Status};
use crate::report;
use std::fs::{File, TryLockError};
use std::path::Path;

/// A folder that no other run writes into for as long as this lives; the system takes the lock away with the program.
#[derive(Debug)]
pub struct OutFolder {
    _lock: Option<File>,
}

impl OutFolder {
    /// Makes the folder, and finds out before an hour of training, not after it, that it cannot be written to.
    ///
    /// # Errors
    /// [`Status::Input`] if the system refuses, another run is at work there, or, unless `replace`, if it holds results.
    pub fn claim(out: &Path, replace: bool) -> Result<Self, CommandError> {
        let refused = |e: std::io::Error| {
            CommandError::new(Status::Input, format!("{}: cannot write there: {e}", out.display()))
        };
        std::fs::create_dir_all(out).and_then(|()| probe(out)).map_err(refused)?;
        let lock = match lockable(out).map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => Some(file),
            Ok((Err(TryLockError::WouldBlock), _)) => {
                let message = format!(
                    "{}: in use by another run; wait for its end or choose another folder",
                    out.display()
                );
                return Err(CommandError::new(Status::Input, message));
            }
            // A file system without locks: two runs at once are then the user's to avoid.
            Ok((Err(TryLockError::Error(_)), _)) | Err(_) => None,
        };
        // Another run may have ended between an earlier look and the lock.
        refuse_results(out, replace)?;
        Ok(Self { _lock: lock })
    }
}

/// What the lock is on: the folder itself, so that nothing is left in it; on Windows, where folders have no locks, a file.
fn lockable(out: &Path) -> std::io::Result<File> {
    if cfg!(unix) {
        return File::open(out);
    }
    File::options().write(true).create(true).truncate(false).open(out.join(".lwflow-lock"))
}

/// Refuses a folder that holds files with the names of results, unless they may be replaced.
///
/// # Errors
/// [`Status::Input`] naming the files.
pub fn refuse_results(out: &Path, replace: bool) -> Result<(), CommandError> {
    let found: Vec<&str> = report::FILES.into_iter().filter(|name| out.join(name).exists()).collect();
    if replace || found.is_empty() {
        return Ok(());
    }
    let whose = if found.contains(&report::MODEL_FILE) {
        "holds the results of an earlier fit"
    } else {
        "holds files with the names of results"
    };
    let message = format!("{}: {whose} ({}); use --force to replace them", out.display(), found.join(", "));
    Err(CommandError::new(Status::Input, message))
}

fn probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(".lwflow-probe");
    std::fs::write(&path, b"")?;
    std::fs::remove_file(path)
}
