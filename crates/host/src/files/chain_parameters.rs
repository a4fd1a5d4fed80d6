//! Names and labels of the parameters of a chain, and which of its columns are kept.
//! Invariant: there are as many names as parameter columns, no name is empty, and none occurs twice.

use std::ops::Range;
use std::path::Path;

use super::chain_files::Located;
use super::chains::ChainSettings;
use super::error::FileError;
use super::fields::{first_duplicate, left_out_note, missing};
use super::text::TextTable;

/// The parameters kept: their names and their columns, counted from the first parameter.
pub(super) struct Parameters {
    pub(super) names: Vec<String>,
    /// LaTeX without dollar signs; the name where the file gives none.
    pub(super) labels: Vec<String>,
    pub(super) columns: Vec<usize>,
    pub(super) notes: Vec<String>,
}

/// Names from the .paramnames file, else from the header words, else p1, p2, ...
pub(super) fn parameters(
    located: &Located,
    header: &[String],
    width: usize,
    settings: &ChainSettings,
) -> Result<Parameters, FileError> {
    let mut notes = Vec::new();
    let path = &located.paramnames();
    let mut labels = None;
    let (all, derived): (Vec<String>, Vec<bool>) = if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::Io {
            path: path.clone(),
            action: "read",
            source,
        })?;
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        labels = Some(lines().map(label).collect::<Vec<String>>());
        let words = lines().filter_map(|line| line.split_whitespace().next());
        words.map(|word| (word.trim_end_matches('*').to_owned(), word.ends_with('*'))).unzip()
    } else if header.len() == width {
        // Cobaya lists its priors and chi2 among the columns.
        let computed = |name: &String| name.starts_with("minuslogprior") || name.starts_with("chi2");
        header.iter().map(|name| (name.clone(), computed(name))).unzip()
    } else {
        notes.push(format!("no {}: parameters are named p1 to p{width}", path.display()));
        (1..=width).map(|i| (format!("p{i}"), false)).unzip()
    };
    select(path, &located.files[0], width, Listed { all, labels, derived }, settings, notes)
}

/// All parameters that a file names.
pub(super) struct Listed {
    pub(super) all: Vec<String>,
    /// LaTeX; `None` where the names must do.
    pub(super) labels: Option<Vec<String>>,
    pub(super) derived: Vec<bool>,
}

/// Chooses from the parameters that the file `path` names for the `width` columns of `table`.
pub(super) fn select(
    path: &Path,
    table: &Path,
    width: usize,
    listed: Listed,
    settings: &ChainSettings,
    mut notes: Vec<String>,
) -> Result<Parameters, FileError> {
    let Listed { all, labels, derived } = listed;
    if all.len() != width {
        let expected = format!("{width} names, one for each parameter column of {}", table.display());
        let (field, got) = ("parameter names".to_owned(), vec![all.len() as u64]);
        return Err(FileError::WrongShape { path: path.into(), field, got, expected });
    }
    let bad = all.iter().find(|name| name.is_empty()).map(|name| (name, "it is empty"));
    if let Some((name, reason)) = bad.or(first_duplicate(&all).map(|name| (name, "it occurs more than once")))
    {
        return Err(FileError::BadName { path: path.into(), name: name.clone(), reason });
    }
    let columns: Vec<usize> = match &settings.parameters {
        Some(names) => {
            if let Some(name) = first_duplicate(names) {
                let reason = "asked for more than once";
                return Err(FileError::BadName { path: path.into(), name: name.clone(), reason });
            }
            let find = |name: &String| {
                let at = all.iter().position(|n| n == name);
                at.ok_or_else(|| missing(path, &format!("`{name}`"), name, all.clone()))
            };
            let columns: Vec<usize> = names.iter().map(find).collect::<Result<_, _>>()?;
            let left_out =
                (0..width).filter(|i| !derived[*i] && !columns.contains(i)).map(|i| all[i].as_str());
            notes.extend(left_out_note(left_out));
            columns
        }
        None => {
            let out: Vec<&str> =
                all.iter().zip(&derived).filter(|(_, d)| **d).map(|(n, _)| n.as_str()).collect();
            if !out.is_empty() {
                notes.push(format!("derived parameters left out: {}", out.join(", ")));
            }
            (0..width).filter(|i| !derived[*i]).collect()
        }
    };
    if columns.is_empty() {
        return Err(missing(path, "that is a parameter and not derived", "", all));
    }
    let pick = |from: &[String]| columns.iter().map(|i| from[*i].clone()).collect::<Vec<String>>();
    Ok(Parameters { names: pick(&all), labels: pick(labels.as_ref().unwrap_or(&all)), columns, notes })
}

/// The label in a line of a .paramnames file: what follows the name, up to a comment. GetDist also reads `!` for `\`.
fn label(line: &str) -> String {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let label = rest.split('#').next().unwrap_or_default().trim().trim_matches('$').replace('!', "\\");
    if label.is_empty() { name.trim_end_matches('*').to_owned() } else { label }
}

/// Refuses a row whose kept parameters are not finite; `all` are the columns of all parameters.
pub(super) fn check_theta(
    table: &TextTable,
    row: usize,
    all: Range<usize>,
    p: &Parameters,
) -> Result<(), FileError> {
    let values = &table.row(row)[all.clone()];
    match p.columns.iter().position(|column| !values[*column].is_finite()) {
        None => Ok(()),
        Some(at) => {
            let field = format!("theta[{at}] ({})", p.names[at]);
            Err(table.bad_value(row, field, values[p.columns[at]], "a finite number", all))
        }
    }
}
