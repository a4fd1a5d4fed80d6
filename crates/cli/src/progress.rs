//! What goes to stderr while work goes on, and the wish to stop: a live display on a terminal, plain lines elsewhere, JSON lines
//! for pipelines, nothing when asked to be quiet. The first Ctrl-C asks for an orderly end, the second ends the program at once.

use crate::exit::{CommandError, Status};
use console::Term;
use lwflow_host::files::remove_temporaries;
use lwflow_host::likelihood::kill_commands;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

mod display;
mod rate;
mod state;

pub use display::Bar;

/// Columns below which no breaking of lines helps.
const MIN_FOLD: usize = 20;

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
        } else if std::io::stderr().is_terminal() {
            eprintln!("\nending in order; Ctrl-C again ends at once");
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

/// Writes to stdout what people read: on a terminal, lines that are too long for it break between words.
///
/// # Errors
/// As [`print_raw`].
pub fn print(text: &str) -> Result<(), CommandError> {
    print_raw(&fold(text, columns(&Term::stdout())))
}

/// Writes to stdout what programs read. A reader that has seen enough (`head`) is no error.
///
/// # Errors
/// [`Status::Other`] with what the system said.
pub fn print_raw(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::new(Status::Other, format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// The width of a terminal; `None` if it is none.
fn columns(term: &Term) -> Option<usize> {
    term.size_checked().map(|(_, columns)| columns.into())
}

/// `text` with its long lines broken between words, the rest of a line further in than its beginning. Words stay whole, so
/// that a path can be copied.
fn fold(text: &str, columns: Option<usize>) -> Cow<'_, str> {
    let Some(columns) = columns.filter(|columns| *columns >= MIN_FOLD) else { return text.into() };
    let line = |line: &str| {
        let indent = " ".repeat(line.len() - line.trim_start_matches(' ').len() + 2);
        let options = textwrap::Options::new(columns).subsequent_indent(&indent).break_words(false);
        textwrap::fill(line, options.word_splitter(textwrap::WordSplitter::NoHyphenation))
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n").into()
}

/// A line of text on stderr.
fn say(text: &str) {
    eprintln!("{}", fold(text, columns(&Term::stderr())));
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
            Log::Text => say(&text.to_string()),
            Log::Json => self.event("remark", json!({ "text": text.to_string() })),
        }
    }

    /// What an interruption left undone, on stderr, also when it is to be quiet: a result must not pass for a whole one.
    pub fn interruption(&self, text: impl std::fmt::Display) {
        Self { quiet: false, ..*self }.remark(format!("interrupted: {text}"));
    }

    /// The error that ends the command, on stderr, also when it is to be quiet.
    pub fn error(&self, error: &CommandError) {
        match self.log {
            Log::Text => say(&format!("lwflow: error: {error}")),
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

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn long_lines_break_between_words_and_keep_their_indent() {
        let text = "short\n  a line that is longer than its terminal/and/ends/in/a/path\n";
        let folded = "short\n  a line that is longer\n    than its\n    terminal/and/ends/in/a/path\n";
        assert_eq!(fold(text, Some(24)), folded);
        assert_eq!(fold(text, None), text);
        assert_eq!(fold(text, Some(200)), text);
        assert_eq!(fold("K  1  beta    2", Some(40)), "K  1  beta    2");
        // Width counts, not bytes.
        assert_eq!(fold("Größe λ und Öl, zwanzig", Some(23)), "Größe λ und Öl, zwanzig");
    }
}
