//! What goes to stderr while work goes on, and the wish to stop: a live display on a terminal, plain lines elsewhere, JSON lines
//! for pipelines, nothing when asked to be quiet. The first Ctrl-C asks for an orderly end, the second ends the program at once.

use crate::exit::{CommandError, Status};
use lwflow_host::files::remove_temporaries;
use lwflow_host::likelihood::kill_commands;
use serde_json::{Value, json};
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

mod display;

pub use display::Bar;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Installs the Ctrl-C handler.
///
/// # Errors
/// If the system refuses.
pub fn catch_interrupts() -> Result<(), CommandError> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            remove_temporaries();
            kill_commands();
            std::process::exit(Status::Interrupted as i32);
        }
    })
    .map_err(|e| CommandError::new(Status::Other, format!("cannot catch Ctrl-C: {e}")))
}

/// Whether the user asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// What long work is told: go on, or stop because the user asked for it.
pub fn go_on() -> ControlFlow<()> {
    if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
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

/// How progress and remarks are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    /// A live display on a terminal, plain lines elsewhere.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Where remarks and progress go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Console {
    /// No progress, no remarks.
    pub quiet: bool,
    /// How they are written.
    pub log: Log,
}

impl Console {
    /// One that writes text unless it is to be quiet.
    pub fn text(quiet: bool) -> Self {
        Self { quiet, log: Log::Text }
    }

    /// A remark on stderr.
    pub fn remark(&self, text: impl std::fmt::Display) {
        match self.log {
            _ if self.quiet => {}
            Log::Text => eprintln!("{text}"),
            Log::Json => self.event("remark", json!({ "text": text.to_string() })),
        }
    }

    /// The error that ends the command, on stderr, also when it is to be quiet.
    pub fn error(&self, error: &CommandError) {
        match self.log {
            Log::Text => eprintln!("lwflow: error: {error}"),
            Log::Json => write_event("error", json!({ "text": error.message, "status": error.status as u8 })),
        }
    }

    /// What happened, for pipelines: a line of JSON with the name of the event and its fields; nothing in text.
    fn event(&self, name: &str, fields: Value) {
        if self.log == Log::Json && !self.quiet {
            write_event(name, fields);
        }
    }
}

fn write_event(name: &str, mut fields: Value) {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("event".to_owned(), name.into());
    }
    eprintln!("{fields}");
}
