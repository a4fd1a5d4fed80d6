//! Progress bars on stderr with rate and remaining time, and the wish to stop. Silent when stderr is no terminal or
//! when asked to be quiet; the first Ctrl-C asks for an orderly end, the second ends the program at once.

use crate::exit::{CommandError, Status};
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use lwflow_host::files::remove_temporaries;
use lwflow_host::fit::{FitProgress, Stage};
use lwflow_host::likelihood::kill_commands;
use std::borrow::Cow;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// Columns from which on a bar has room for itself and its rate.
const MIN_BAR: usize = 100;
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

/// A line on stderr, broken as by [`print()`].
pub fn eprint_line(text: &str) {
    eprintln!("{}", fold(text, columns(&Term::stderr())));
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
            eprint_line(&text.to_string());
        }
    }

    /// A bar for work on `what`, counted in `unit`.
    pub fn bar(&self, what: impl Into<String>, unit: &str) -> Bar {
        let what = what.into();
        if self.quiet || !std::io::stderr().is_terminal() {
            return Bar { bar: None, what, stage: Cell::new(None) };
        }
        let bar = ProgressBar::new(0);
        set_unit(&bar, unit);
        bar.set_message(what.clone());
        Bar { bar: Some(bar), what, stage: Cell::new(None) }
    }
}

fn set_unit(bar: &ProgressBar, unit: &str) {
    let template = match columns(&Term::stderr()) {
        Some(columns) if columns < MIN_BAR => "{wide_msg} {percent:>3} %  {eta} left".to_owned(),
        _ => format!("{{msg:28}} {{bar:28}} {{percent:>3}} %  {{per_sec}} {unit}  {{eta}} left"),
    };
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
}

/// A bar, or nothing.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    what: String,
    stage: Cell<Option<Stage>>,
}

impl Bar {
    /// Shows `done` of `total` and says whether to go on.
    pub fn update(&self, done: usize, total: usize) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
        go_on()
    }

    /// Begins a stage, from its own start.
    pub fn begin(&self, what: &str, unit: &str) {
        if let Some(bar) = &self.bar {
            bar.reset();
            set_unit(bar, unit);
            bar.set_message(what.to_owned());
        }
    }

    /// A remark above the bar.
    pub fn remark(&self, console: Console, text: impl std::fmt::Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| console.remark(text)),
            None => console.remark(text),
        }
    }

    /// Shows how far a fit is, every stage from its own start, and says whether to go on.
    pub fn update_fit(&self, progress: FitProgress) -> ControlFlow<()> {
        if self.bar.is_some() && self.stage.replace(Some(progress.stage)) != Some(progress.stage) {
            let (stage, unit) = match progress.stage {
                Stage::Mixture => ("mixture by EM", "steps"),
                Stage::Starts => ("trying starts", "points"),
                Stage::Training => ("training", "points"),
            };
            let colon = if self.what.is_empty() { "" } else { ": " };
            self.begin(&format!("{}{colon}{stage}", self.what), unit);
        }
        self.update(progress.done, progress.total)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
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
