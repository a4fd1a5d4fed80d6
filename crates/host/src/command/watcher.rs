//! Ends a child whose parent was killed. Most children end with their input, but one that hangs does not read it.
//! Invariant: a watcher acts only if this program ends without having told it that the child is gone.

use std::io::Write;
use std::process::{Child, Command, Stdio};

/// Reads a word, and kills the group if there is none.
const SCRIPT: &str = r#"read -r word || kill -s KILL -- "-$1""#;

/// A shell that waits for the end of its input.
#[derive(Debug)]
pub(super) struct Watcher(Child);

impl Watcher {
    /// One of the process group `group`; none where there is no shell.
    pub(super) fn of(group: u32) -> Option<Self> {
        if !cfg!(unix) {
            return None;
        }
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "lwflow-watcher", &group.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C at a terminal is not for it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().ok().map(Self)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Without this word it would kill a group of that number, which may be another's by then.
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.write_all(b"done\n");
        }
        let _ = self.0.wait();
    }
}
