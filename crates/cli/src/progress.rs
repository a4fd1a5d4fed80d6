//! Progress bars on stderr with rate and remaining time, and the wish to stop. Silent when stderr is no terminal or
//! when asked to be quiet; the first Ctrl-C asks for an orderly end, the second ends the program at once.

use crate::exit::{CommandError, Status};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Installs the Ctrl-C handler.
///
/// # Errors
/// If the system refuses.
pub fn catch_interrupts() -> Result<(), CommandError> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(Status::Interrupted as i32);
        }
    })
    .map_err(|e| CommandError::new(Status::Other, format!("cannot catch Ctrl-C: {e}")))
}

/// Whether the user asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Writes results to stdout. A reader that has seen enough (`head`) is no error.
///
/// # Errors
/// [`Status::Other`] with what the system said.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::new(Status::Other, format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Where remarks and progress go.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// No progress, no remarks.
    pub quiet: bool,
}

impl Console {
    /// A remark on stderr.
    pub fn remark(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A bar over `n` points.
    pub fn bar(&self, what: &str, n: u64) -> Bar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::new(n);
        let template = "{msg:24} {bar:28} {percent:>3} %  {per_sec} points  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Bar(Some(bar))
    }
}

/// A bar, or nothing.
#[derive(Debug)]
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// Shows `done` of `total` and says whether to go on.
    pub fn update(&self, done: u64, total: u64) -> ControlFlow<()> {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
