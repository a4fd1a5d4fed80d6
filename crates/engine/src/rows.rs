//! Between the host's sample-major rows and the device's padded feature-major arrays, with the checks on the way.
//! Invariant: whatever reaches the device is finite and padded with zeros.

use std::ops::Range;

use crate::EngineError;

/// Checks a `[n, width]` array and returns n.
pub(crate) fn count<T>(what: &'static str, values: &[T], width: usize) -> Result<usize, EngineError> {
    if width > 0 && values.len().is_multiple_of(width) {
        return Ok(values.len() / width);
    }
    Err(EngineError::Length { what, got: values.len(), expected: format!("a multiple of {width}") })
}

/// Checks that `values` is a finite `[n, width]` array.
pub(crate) fn check(what: &'static str, values: &[f32], n: usize, width: usize) -> Result<(), EngineError> {
    if values.len() != n * width {
        return Err(EngineError::Length {
            what,
            got: values.len(),
            expected: format!("{} ({n} rows of {width})", n * width),
        });
    }
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(EngineError::NonFinite {
            what,
            row: at / width.max(1),
            column: at % width.max(1),
            value: values[at],
        }),
    }
}

/// Checks a `[n]` array of logarithms, where -inf is legal.
pub(crate) fn check_log(what: &'static str, values: &[f32], n: usize) -> Result<(), EngineError> {
    if values.len() != n {
        return Err(EngineError::Length {
            what,
            got: values.len(),
            expected: format!("{n} (one per sample)"),
        });
    }
    match values.iter().position(|v| v.is_nan() || *v == f32::INFINITY) {
        None => Ok(()),
        Some(row) => Err(EngineError::NonFinite { what, row, column: 0, value: values[row] }),
    }
}

/// Transposes sample-major rows `[n, width]` of several flows into feature-major `[width, n_padded]`, each flow's from the
/// next multiple of `flow_padded` on, zero where there is no sample.
pub(crate) fn to_features<'a>(
    flows: impl Iterator<Item = &'a [f32]>,
    width: usize,
    n_padded: usize,
    flow_padded: usize,
    out: &mut Vec<f32>,
) {
    out.clear();
    out.resize(width * n_padded, 0.0);
    for (f, rows) in flows.enumerate() {
        for (i, row) in rows.chunks_exact(width.max(1)).enumerate() {
            for (j, &value) in row.iter().enumerate() {
                out[j * n_padded + f * flow_padded + i] = value;
            }
        }
    }
}

/// Appends some samples of feature-major `[width, n_padded]` to sample-major rows.
pub(crate) fn append_rows(
    features: &[f32],
    width: usize,
    n_padded: usize,
    samples: Range<usize>,
    out: &mut Vec<f32>,
) {
    out.reserve(samples.len() * width);
    for i in samples {
        out.extend((0..width).map(|j| features[j * n_padded + i]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let rows: Vec<f32> = (0..15).map(|v| v as f32).collect();
        let mut features = Vec::new();
        let flows = [&rows[..], &rows[3..6]];
        to_features(flows.into_iter(), 3, 16, 8, &mut features);
        assert_eq!(&features[..8], &[0.0, 3.0, 6.0, 9.0, 12.0, 0.0, 0.0, 0.0]);
        assert_eq!(&features[8..18], &[3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 4.0]);
        let mut back = Vec::new();
        append_rows(&features, 3, 16, 0..5, &mut back);
        assert_eq!(back, rows);
        append_rows(&features, 3, 16, 8..9, &mut back);
        assert_eq!(back[15..], rows[3..6]);
    }

    #[test]
    fn errors_name_the_place() {
        let error = check("theta", &[0.0, 1.0, 2.0, f32::NAN], 2, 2).unwrap_err();
        assert_eq!(error.to_string(), "theta: value NaN at row 1, column 1; expected a finite number");
        assert!(check("theta", &[0.0], 1, 2).unwrap_err().is_recoverable());
        assert!(count("theta", &[0.0; 3], 2).is_err());
    }
}
