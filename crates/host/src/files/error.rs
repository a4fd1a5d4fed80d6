//! What can be wrong with a file, as typed fields.
//! Every message says what was read, what was found, what was expected and where: file, row (counted from 0),
//! line of a text file (counted from 1), field, and the theta of the row where it is known.

use std::fmt;
use std::path::PathBuf;

/// Where in a file a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Row of the data, counted from 0, header and comments not counted.
    pub row: usize,
    /// Line of a text file, counted from 1; `None` for binary formats.
    pub line: Option<u64>,
    /// The column or array, for example `log_likelihood` or `theta[2] (x2)`.
    pub field: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: row {}", self.path.display(), self.row)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ", field `{}`", self.field)
    }
}

/// Error of reading or writing pairs, chains and sample tables.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: `open`, `read`, `write`, ...
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The extension names no known format.
    #[error("{}: unknown file type `{got}`, expected .npz, .csv or .parquet", path.display())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
        /// Its extension, without the dot.
        got: String,
    },
    /// No bytes or no rows.
    #[error("{}: the file is empty: {what}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The file breaks the rules of its format: truncated, overwritten, or of another format.
    #[error("{}: damaged or not a {format} file: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The file keeps to its format, but uses a part of it that is not read here.
    #[error("{}: {what} is not supported, expected {expected}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The part.
        what: String,
        /// What can be read.
        expected: &'static str,
    },
    /// A needed array or column is not there.
    #[error("{}: no array or column {wanted}; found {}{}", path.display(), list(found), did_you_mean(nearest))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The name, or the names of which one is needed.
        wanted: String,
        /// The names in the file.
        found: Vec<String>,
        /// The name in the file most like the wanted one.
        nearest: Option<String>,
    },
    /// Several arrays say different things about the weights.
    #[error("{}: found {} together: keep one of them, it is not clear which holds the weights", path.display(), list(found))]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The competing names.
        found: Vec<String>,
    },
    /// A name occurs twice, or is empty.
    #[error("{}: bad column name `{name}`: {reason}", path.display())]
    BadName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An array is not of a type that can be read as numbers.
    #[error("{}: `{field}` has type {got}, expected {expected}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The array or column.
        field: String,
        /// Its type as the file states it.
        got: String,
        /// The accepted types.
        expected: &'static str,
    },
    /// An array has the wrong shape or length.
    #[error("{}: `{field}` has shape {got:?}, expected {expected}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The array or column.
        field: String,
        /// Its shape as the file states it.
        got: Vec<u64>,
        /// The needed shape in words.
        expected: String,
    },
    /// A cell of a text file is not a number, or a parquet cell is null.
    #[error("{at}: `{text}` is not a number")]
    NotANumber {
        /// Where.
        at: Place,
        /// The cell.
        text: String,
    },
    /// A row of a text file has the wrong number of cells.
    #[error("{}: line {line} has {got} columns, expected {expected}", path.display())]
    WrongWidth {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// Cells in that line.
        got: usize,
        /// Cells in the first line.
        expected: String,
    },
    /// A number that means nothing here, such as NaN, +inf or a negative weight.
    #[error("{at}: got {value}, expected {expected}; theta = {}", show_theta(theta))]
    BadValue {
        /// Where.
        at: Place,
        /// The number.
        value: f64,
        /// The allowed numbers.
        expected: &'static str,
        /// The row's parameters, `[dim]`.
        theta: Vec<f64>,
    },
    /// A cell of a table of data that means nothing, such as NaN.
    #[error("{at}: got {value}, expected {expected}")]
    BadCell {
        /// Where.
        at: Place,
        /// The number.
        value: f64,
        /// The allowed numbers.
        expected: &'static str,
    },
    /// No row carries weight.
    #[error("{}: every one of the {n} rows has weight zero ({field} is {value} everywhere), expected at least one row with weight", path.display())]
    AllWeightsZero {
        /// The file.
        path: PathBuf,
        /// Number of rows.
        n: usize,
        /// The array that gives the weights.
        field: &'static str,
        /// Its value in every row: `0` or `-inf`.
        value: &'static str,
    },
    /// No chain files under the given root.
    #[error("{}: no chain found: looked for {}", root.display(), list(looked_for))]
    NoChain {
        /// The root as given.
        root: PathBuf,
        /// File names that were tried.
        looked_for: Vec<String>,
    },
    /// A folder holds more than one chain.
    #[error("{}: holds chains of {} roots, {}; expected one, or one of these after the folder", folder.display(), roots.len(), list(roots))]
    SeveralChains {
        /// The folder as given.
        folder: PathBuf,
        /// The roots found in it.
        roots: Vec<String>,
    },
    /// A setting is outside of its range.
    #[error("setting `{name}`: got {got}, expected {expected}")]
    BadSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// The allowed values.
        expected: &'static str,
    },
    /// A table handed over for writing contradicts itself.
    #[error("table to write: {what} has {got} values, expected {expected}")]
    BadTable {
        /// The part of the table.
        what: String,
        /// Its length.
        got: usize,
        /// The needed length.
        expected: usize,
    },
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut text = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}

fn show_theta(theta: &[f64]) -> String {
    const SHOWN: usize = 8;
    let mut text = theta.iter().take(SHOWN).map(f64::to_string).collect::<Vec<_>>().join(", ");
    if theta.len() > SHOWN {
        text.push_str(&format!(", ... {} in all", theta.len()));
    }
    format!("[{text}]")
}
