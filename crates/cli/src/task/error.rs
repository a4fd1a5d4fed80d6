//! What can be wrong with a task file. Every message names the file and, where there is one, the line and the key, and
//! says what would have been right.

use std::path::PathBuf;

/// Where in a task file something stands; prints as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The task file.
    pub file: PathBuf,
    /// Line, counted from one.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A task file that cannot be used. Keys are named in full, as in `training.batch_size`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The file cannot be read.
    #[error("{}: cannot read the task file: {source}", file.display())]
    Read {
        /// The task file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// Where the parser gave up.
        place: Place,
        /// What the parser said.
        message: String,
    },
    /// A key or section that does not exist.
    #[error("{place}: unknown key `{key}`{}; valid here: {}", did_you_mean(nearest.as_deref()), valid.join(", "))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The unknown key.
        key: String,
        /// The valid key nearest in spelling, or the same key of another section.
        nearest: Option<String>,
        /// All keys of the section.
        valid: &'static [&'static str],
    },
    /// A word that is none of the choices of its key.
    #[error("{place}: `{key}` is \"{got}\"{}; valid values: {}", did_you_mean(nearest.as_deref()), valid.join(", "))]
    UnknownValue {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// The word found.
        got: String,
        /// The valid word nearest in spelling.
        nearest: Option<String>,
        /// All valid words.
        valid: &'static [&'static str],
    },
    /// A value of the wrong type.
    #[error("{place}: `{key}` is {got}, expected {expected}")]
    WrongType {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// Type and text of the value found.
        got: String,
        /// The type that is expected.
        expected: &'static str,
    },
    /// A value of the right type that makes no sense.
    #[error("{place}: `{key}` is {got}, expected {expected}")]
    OutOfRange {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// The value found.
        got: String,
        /// The values that make sense.
        expected: String,
    },
    /// A key or section that has to be given.
    #[error("{place}: `{key}` is missing: {expected}")]
    Missing {
        /// The section in which it is missing (line 1 if there is no such section).
        place: Place,
        /// The missing key or section.
        key: String,
        /// What to give.
        expected: &'static str,
    },
    /// Two entries that contradict each other.
    #[error("{place}: `{key}` cannot stand beside {other}: {reason}")]
    Conflict {
        /// Where the first stands.
        place: Place,
        /// The key.
        key: String,
        /// The other entry.
        other: String,
        /// Why.
        reason: &'static str,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |word| format!(", did you mean `{word}`?"))
}

/// The candidate nearest to `word`: an edit distance of at most a third of its length, at least two, is near.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(2);
    let near = candidates
        .iter()
        .map(|&c| (strsim::osa_distance(&word, c), c))
        .min_by_key(|&(distance, _)| distance)?;
    (near.0 <= limit && near.0 < near.1.chars().count()).then_some(near.1)
}
