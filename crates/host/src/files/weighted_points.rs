//! Points that a nested sampler has weighted itself: UltraNest's folder, and MultiNest's files without birth contours.
//! Invariant: the weights are the sampler's, scaled to sum to the evidence that it states; without a statement there is none.

use std::path::Path;

use serde::Deserialize;

use super::chain_files::Located;
use super::chain_parameters::{Listed, check_theta, parameters, select};
use super::chains::{ChainFormat, ChainReport, ChainSamples, ChainSettings, pairs};
use super::error::FileError;
use super::pairs::{Evidence, LogZ, WeightKind, log_sum_exp};
use super::text::TextTable;

/// `summary`: MultiNest's `rootstats.dat` or UltraNest's `info/results.json`.
pub(super) fn read_weighted_points(
    located: &Located,
    summary: &Path,
    settings: &ChainSettings,
) -> Result<ChainSamples, FileError> {
    let path = &located.files[0];
    let is_multinest = located.format == ChainFormat::MultiNest;
    let table = if is_multinest { TextTable::read(path)? } else { TextTable::read_with_names(path)? };
    // Columns before the parameters: weight and log L; UltraNest's equally weighted points have neither.
    let weighted = is_multinest || table.header.starts_with(&["weight".to_owned(), "logl".to_owned()]);
    let first = if weighted { 2 } else { 0 };
    table.check_width(first + 1, &format!("at least {}: {}parameters", first + 1, BEFORE[first]))?;
    let width = table.width - first;
    let (mut p, log_z) = if is_multinest {
        (parameters(located, &[], width, settings)?, Some(multinest_log_z(summary)?))
    } else {
        let results = ultranest_results(summary)?;
        let (named_by, all) = match results.paramnames {
            Some(names) => (summary, names),
            None => (path.as_path(), table.header[first..].to_vec()),
        };
        let derived = vec![false; all.len()];
        let listed = Listed { all, labels: None, derived };
        (select(named_by, path, width, listed, settings, Vec::new())?, results.log_z)
    };
    let mut theta = Vec::with_capacity(table.n * p.columns.len());
    let (mut log_weights, mut log_l) = (Vec::with_capacity(table.n), Vec::with_capacity(table.n));
    for row in 0..table.n {
        let values = table.row(row);
        if weighted {
            let (weight, l) = (values[0], if is_multinest { -0.5 * values[1] } else { values[1] });
            if !(weight.is_finite() && weight >= 0.0) {
                let expected = "a finite number >= 0";
                return Err(table.bad_value(row, "weight".to_owned(), weight, expected, first..table.width));
            }
            if l.is_nan() || l == f64::INFINITY {
                let field = if is_multinest { "-2 log L (second column)" } else { "logl" };
                let expected = "a number that makes log L finite or -inf";
                let all = first..table.width;
                return Err(table.bad_value(row, field.to_owned(), values[1], expected, all));
            }
            log_l.push(l);
            log_weights.push(weight.ln());
        } else {
            log_weights.push(0.0);
        }
        check_theta(&table, row, first..table.width, &p)?;
        theta.extend(p.columns.iter().map(|column| values[first + column]));
    }
    let log_sum = log_sum_exp(&log_weights);
    if log_sum == f64::NEG_INFINITY {
        let (path, n) = (path.clone(), table.n);
        return Err(FileError::AllWeightsZero { path, n, field: "weight", value: "0" });
    }
    let mut notes = std::mem::take(&mut p.notes);
    let whose = if is_multinest { "MultiNest" } else { "UltraNest" };
    let weights = if weighted { "weighted points" } else { "equally weighted points" };
    notes.push(format!("{weights} of {whose}, {}", path.display()));
    match log_z {
        Some(LogZ { log_z, .. }) => log_weights.iter_mut().for_each(|lw| *lw += log_z - log_sum),
        None => notes.push(format!("{} states no evidence: log Z is null", summary.display())),
    }
    let mut pairs = pairs(p, theta, log_weights, WeightKind::NestedSampling, notes);
    pairs.evidence = log_z.map_or(Evidence::Unavailable, Evidence::Known);
    pairs.log_likelihood = weighted.then_some(log_l);
    let report = ChainReport {
        format: located.format,
        root: located.root.clone(),
        files: located.files.clone(),
        kish_ess: pairs.ess(),
        autocorrelation_ess: None,
        chains: Vec::new(),
        nested: None,
    };
    Ok(ChainSamples { pairs, report, blocks: None })
}

/// What stands before the parameters, by the number of columns.
const BEFORE: [&str; 3] = ["", "", "weight, log L, "];

fn text_of(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Io {
        path: path.into(),
        action: "read",
        source,
    })
}

/// The evidence in `rootstats.dat`: that of nested sampling, whose weights the points have, before that of importance
/// nested sampling; versions before 3 call it "Global Evidence".
fn multinest_log_z(path: &Path) -> Result<LogZ, FileError> {
    let text = text_of(path)?;
    let names = ["Nested Sampling Global Log-Evidence", "Global Log-Evidence", "Global Evidence"];
    let line = names
        .iter()
        .find_map(|name| text.lines().find_map(|line| line.trim_start().strip_prefix(name)))
        .and_then(|rest| rest.trim_start().strip_prefix(':'))
        .and_then(|rest| rest.split_once("+/-"));
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    let log_z = line.and_then(|(log_z, sd)| Some(LogZ { log_z: number(log_z)?, sd: number(sd)? }));
    log_z.ok_or_else(|| {
        let reason = "no line \"Nested Sampling Global Log-Evidence : NUMBER +/- NUMBER\"".to_owned();
        FileError::Damaged { path: path.into(), format: "MultiNest stats.dat", reason }
    })
}

#[derive(Default)]
struct Results {
    log_z: Option<LogZ>,
    paramnames: Option<Vec<String>>,
}

/// What `info/results.json` says; nothing if there is no such file, as before the end of a run.
fn ultranest_results(path: &Path) -> Result<Results, FileError> {
    #[derive(Deserialize)]
    struct Json {
        logz: Option<f64>,
        logzerr: Option<f64>,
        paramnames: Option<Vec<String>>,
    }
    if !path.is_file() {
        return Ok(Results::default());
    }
    let json: Json = serde_json::from_str(&without_special_numbers(&text_of(path)?)).map_err(|e| {
        FileError::Damaged { path: path.into(), format: "UltraNest results", reason: e.to_string() }
    })?;
    let log_z = json.logz.zip(json.logzerr).map(|(log_z, sd)| LogZ { log_z, sd });
    Ok(Results { log_z, paramnames: json.paramnames })
}

/// JSON as Python writes it has NaN and Infinity, which JSON has not; each becomes null.
fn without_special_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_text = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let special = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word));
        let length = match special {
            Some(word) if !in_text => {
                out.push_str("null");
                word.len()
            }
            // What follows a backslash is part of the text, a quotation mark too.
            _ if in_text && c == '\\' => rest.chars().take(2).map(char::len_utf8).sum(),
            _ => {
                in_text ^= c == '"';
                c.len_utf8()
            }
        };
        if special.is_none() || in_text {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_numbers_become_null_and_text_stays() {
        let text = r#"{"a": [NaN, -Infinity, Infinity, -1], "NaN \"Infinity": "\\", "b": "-Infinity"}"#;
        let value: serde_json::Value = serde_json::from_str(&without_special_numbers(text)).unwrap();
        let same = serde_json::json!({"a": [null, null, null, -1], "NaN \"Infinity": "\\", "b": "-Infinity"});
        assert_eq!(value, same);
    }
}
