//! JSON for `arviz.from_json`: group `posterior` of one chain, `sample_stats` with lp, and the labels and ranges as attributes.
//! ArviZ knows no weights: weighted draws are resampled, no more of them than their effective size.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use super::{PosteriorDraws, write_whole};
use crate::files::FileError;
use crate::rounds::equal_weight;

/// Returns the number of rows, and of distinct ones among them if the draws were resampled.
pub(super) fn write(
    path: &Path,
    draws: &PosteriorDraws,
    seed: u64,
) -> Result<(usize, Option<usize>), FileError> {
    let t = &draws.table;
    draws.check_names(path, &["chain", "draw"], |_| Ok(()))?;
    let rows = match &t.log_weight {
        None => (0..t.n).collect(),
        Some(log_weights) => equal_weight(log_weights, usize::MAX, seed),
    };
    let distinct = rows.iter().collect::<HashSet<_>>().len();
    let n_distinct = t.log_weight.is_some().then_some(distinct);
    let mut columns: Vec<Vec<f64>> = vec![Vec::with_capacity(rows.len()); t.dim + t.derived_names.len()];
    for &row in &rows {
        columns.iter_mut().zip(draws.row(row)).for_each(|(column, value)| column.push(value));
    }
    let log_posterior = draws.log_posterior();
    let lp: Vec<f64> = rows.iter().map(|row| log_posterior[*row]).collect();
    let sampling = match n_distinct {
        None => "independent draws of equal weight".to_owned(),
        Some(distinct) => format!(
            "{} draws, {distinct} of them distinct, resampled from {} weighted ones (systematic, seed {seed})",
            rows.len(),
            t.n
        ),
    };
    let attributes = serde_json::json!({
        "inference_library": "lwflow",
        "inference_library_version": env!("CARGO_PKG_VERSION"),
        "sampling": sampling,
        "labels": draws.labels,
        "ranges": draws.ranges(),
    });
    write_whole(path, |out| {
        out.write_all(b"{\"posterior\": {")?;
        for (i, (name, column)) in draws.names().zip(&columns).enumerate() {
            write!(out, "{}{}: ", if i == 0 { "" } else { ", " }, serde_json::to_string(name)?)?;
            write_chain(out, column)?;
        }
        out.write_all(b"}, \"sample_stats\": {\"lp\": ")?;
        write_chain(out, &lp)?;
        writeln!(out, "}}, \"posterior_attrs\": {attributes}}}")
    })?;
    Ok((rows.len(), n_distinct))
}

/// One chain as `[[...]]`; a derived quantity that is not a number is Python's NaN.
fn write_chain(out: &mut impl Write, values: &[f64]) -> std::io::Result<()> {
    out.write_all(b"[[")?;
    for (i, value) in values.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        match value {
            v if v.is_nan() => write!(out, "{comma}NaN")?,
            v if v.is_infinite() => write!(out, "{comma}{}Infinity", if *v < 0.0 { "-" } else { "" })?,
            v => write!(out, "{comma}{v:?}")?,
        }
    }
    out.write_all(b"]]")
}
