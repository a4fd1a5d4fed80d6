//! Dead and live points with birth contours, of PolyChord and of MultiNest (the files that anesthetic reads).
//! Invariant: zero likelihoods and points that are not above their birth contour are left out, counted and told; many of
//! the latter mean that the columns are others than thought, and a birth contour that no point left behind means that
//! points are missing; both are refused.

use super::chain_files::Located;
use super::chain_parameters::{Parameters, check_theta, parameters};
use super::chains::{ChainFormat, ChainReport, ChainSamples, ChainSettings, pairs};
use super::error::FileError;
use super::nested::{NestedReport, nested_weights};
use super::pairs::{Evidence, WeightKind};
use super::text::TextTable;

/// Samplers write this or less for a log L of zero likelihood, and as the birth contour of draws of the whole prior.
const LOG_ZERO: f64 = -1e29;
/// A larger share of points below their own birth contour means that the columns are others than thought.
const MAX_BELOW_BIRTH: f64 = 0.1;
const COLUMNS: &str = "parameters, log L, birth log L";
/// What MultiNest writes after them, by the number of columns.
const AFTER: [&str; 3] = ["", ", cluster", ", log weight, cluster"];

pub(super) fn read_dead_birth(
    located: &Located,
    settings: &ChainSettings,
) -> Result<ChainSamples, FileError> {
    let mut p: Option<(Parameters, usize)> = None;
    let (mut theta, mut log_l, mut birth, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut n_dropped, mut n_zero) = (0, 0);
    let (mut contours, mut births) = (Vec::new(), Vec::new()); // of all rows; births with file and row
    for (file, path) in located.files.iter().enumerate() {
        let table = TextTable::read(path)?;
        // MultiNest's columns after the birth contour: log weight and cluster of dead points, cluster of live ones.
        let n_after = if located.format == ChainFormat::MultiNest { 2 - file.min(1) } else { 0 };
        table.check_width(3 + n_after, &format!("at least {}: {COLUMNS}{}", 3 + n_after, AFTER[n_after]))?;
        let found = table.width - 2 - n_after;
        let (p, end) = match &mut p {
            Some(known) => known,
            None => {
                let header = table.header.get(..found).unwrap_or_default();
                p.insert((parameters(located, header, found, settings)?, found))
            }
        };
        let end = *end;
        if found != end {
            let expected = format!("{} after {}", end + 2 + n_after, located.files[0].display());
            let (path, line) = (path.clone(), table.lines[0]);
            return Err(FileError::WrongWidth { path, line, got: table.width, expected });
        }
        for row in 0..table.n {
            let values = table.row(row);
            for (value, field) in [(values[end], "log L"), (values[end + 1], "birth log L")] {
                if value.is_nan() || value == f64::INFINITY {
                    let expected = "a finite number or -inf";
                    return Err(table.bad_value(row, field.to_owned(), value, expected, 0..end));
                }
            }
            check_theta(&table, row, 0..end, p)?;
            let zero = |v: f64| if v <= LOG_ZERO { f64::NEG_INFINITY } else { v };
            let (l, b) = (zero(values[end]), zero(values[end + 1]));
            contours.push(l);
            births.push((b, file, row, table.lines[row]));
            if l > b {
                log_l.push(l);
                birth.push(b);
                theta.extend(p.columns.iter().map(|column| values[*column]));
            } else if l == f64::NEG_INFINITY {
                n_zero += 1;
            } else {
                n_dropped += 1;
            }
        }
        counts.push(table.n);
    }
    let n_read: usize = counts.iter().sum();
    if log_l.is_empty() || n_dropped as f64 > MAX_BELOW_BIRTH * n_read as f64 {
        let reason = format!(
            "{} of {n_read} points are not above their birth contour; expected the columns theta..., log L, birth log L",
            n_read - log_l.len()
        );
        return Err(FileError::Damaged { path: located.files[0].clone(), format: "dead-birth", reason });
    }
    refuse_missing_points(located, contours, &births)?;
    let Some((mut p, _)) = p else {
        return Err(FileError::NoChain { root: located.root.clone(), looked_for: Vec::new() });
    };
    let mut notes = std::mem::take(&mut p.notes);
    if n_dropped > 0 {
        notes.push(format!(
            "{n_dropped} of {n_read} points are not above their birth contour and were left out"
        ));
    }
    if n_zero > 0 {
        let text = "points of zero likelihood were left out; log Z is relative to the prior without them";
        notes.push(format!("{n_zero} {text}"));
    }
    if counts.len() == 1 {
        notes.push("no live points were read: the run may miss its last part".to_owned());
    }
    let nested = nested_weights(&log_l, &birth)?;
    let mut pairs = pairs(p, theta, nested.log_weights, WeightKind::NestedSampling, notes);
    pairs.evidence = Evidence::Known(nested.log_z);
    pairs.log_likelihood = Some(log_l);
    let report = ChainReport {
        format: located.format,
        root: located.root.clone(),
        files: located.files.clone(),
        kish_ess: pairs.ess(),
        autocorrelation_ess: None,
        chains: Vec::new(),
        nested: Some(NestedReport {
            n_dead: counts[0],
            n_live: counts.get(1).copied().unwrap_or(0),
            n_dropped: n_dropped + n_zero,
            n_live_largest: nested.n_live.iter().copied().max().unwrap_or(0),
            log_z: nested.log_z,
            information: nested.information,
        }),
    };
    Ok(ChainSamples { pairs, report, blocks: None })
}

/// Refuses births (contour, file, row, line) at a contour where no point died: every point of a run is born of the whole
/// prior, at a contour below all points, or at the log L of another one.
fn refuse_missing_points(
    located: &Located,
    mut contours: Vec<f64>,
    births: &[(f64, usize, usize, u64)],
) -> Result<(), FileError> {
    contours.retain(|l| l.is_finite());
    contours.sort_by(f64::total_cmp);
    // Writers may round the two columns differently.
    let slack = |b: f64| 1e-9 * b.abs();
    let is_known = |b: f64| {
        let near = contours.partition_point(|&l| l < b - slack(b));
        near == 0 || contours.get(near).is_some_and(|&l| l <= b + slack(b))
    };
    let mut unknown = births.iter().filter(|(b, ..)| b.is_finite() && !is_known(*b));
    let Some((b, file, row, line)) = unknown.next() else { return Ok(()) };
    let reason = format!(
        "row {row} (line {line}): birth log L {b} is the log L of no point, and so in {} of {} rows: points are missing",
        1 + unknown.count(),
        births.len()
    );
    Err(FileError::Damaged { path: located.files[*file].clone(), format: "complete dead-birth", reason })
}
