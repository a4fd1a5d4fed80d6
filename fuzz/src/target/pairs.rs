//! Tables: pairs, samples, observed data. The first byte chooses the format.

use std::io::{Cursor, Write};

use lwflow_host::files::{ColumnChoice, WeightedPairs, read_pairs, read_samples, read_table, read_theta};

use super::scratch;

/// First bytes of an .npy file.
const NPY: &[u8] = b"\x93NUMPY";
/// Names of the members that are made of .npy files, in order.
const MEMBERS: [&str; 4] = ["theta.npy", "log_likelihood.npy", "names.npy", "log_proposal.npy"];

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 4 {
        0 => survive("csv", bytes),
        1 => survive("npz", bytes),
        2 => survive("parquet", bytes),
        // The checksums of a zip stop nearly all damage, so .npy files are also packed anew.
        _ => survive("npz", &packed(bytes)),
    }
}

/// An .npz of the .npy files in `bytes`.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(NPY)).collect();
    let mut packed = Vec::new();
    let mut out = zip::ZipWriter::new(Cursor::new(&mut packed));
    for (i, (start, name)) in starts.iter().zip(MEMBERS).enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(bytes.len());
        let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        out.start_file(name, options).unwrap();
        out.write_all(&bytes[*start..end]).unwrap();
    }
    out.finish().unwrap();
    drop(out);
    packed
}

fn survive(extension: &str, bytes: &[u8]) {
    let path = scratch::put(&format!("table.{extension}"), bytes);
    let all = ColumnChoice::default();
    let named = ColumnChoice { parameters: Some(vec!["a".into(), "b".into()]), context: None };
    for choice in [&all, &named] {
        if let Ok(pairs) = read_pairs(&path, choice, None) {
            check(&pairs);
        }
        for table in [read_samples(&path, choice), read_theta(&path, choice)].into_iter().flatten() {
            assert_eq!(table.theta.len(), table.n * table.dim);
            assert!(table.theta.iter().all(|v| v.is_finite()));
        }
    }
    if let Ok(table) = read_table(&path) {
        assert_eq!(table.values.len(), table.n_rows * table.n_columns);
        assert!(table.values.iter().all(|v| v.is_finite()));
    }
}

/// What readers of weighted points promise.
pub fn check(pairs: &WeightedPairs) {
    assert_eq!(pairs.theta.len(), pairs.n * pairs.dim);
    assert_eq!(pairs.log_weights.len(), pairs.n);
    assert!(pairs.theta.iter().all(|v| v.is_finite()));
    assert!(pairs.log_weights.iter().all(|v| v.is_finite() || *v == f64::NEG_INFINITY));
    assert!(pairs.log_weights.iter().any(|v| v.is_finite()));
    assert!(!pairs.ess().is_nan(), "the effective size is NaN");
    if let Some(log_z) = pairs.log_z() {
        assert!(!log_z.log_z.is_nan() && !log_z.sd.is_nan(), "{log_z:?}");
    }
}
