//! Files of every earlier format version load and give the numbers that were recorded when they were new (tests/data/golden).

use crate::harness::lwflow;
use lwflow_host::files::{ColumnChoice, WeightKind, read_pairs, read_samples};
use std::path::{Path, PathBuf};

/// Allowed difference of log q in nats between 32-bit layers and the recorded NumPy values.
const TOLERANCE: f64 = 1e-4;

pub fn golden(version: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden")).join(version)
}

#[test]
fn version_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (model, samples) = (golden("v1").join("model.safetensors"), golden("v1").join("samples.npz"));
    let line =
        format!("log-prob {} --in {} --out again.npz --device cpu", model.display(), samples.display());
    lwflow(folder.path(), &line).expect(0, &["490 rows"]);
    let again = read_samples(&folder.path().join("again.npz"), &ColumnChoice::default()).unwrap();
    let text = std::fs::read_to_string(golden("v1").join("log_prob.txt")).unwrap();
    let recorded: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let now = again.log_prob.unwrap();
    assert_eq!((recorded.len(), now.len()), (490, 490));
    for (row, (now, recorded)) in now.iter().zip(&recorded).enumerate() {
        assert!(
            (now - recorded).abs() < TOLERANCE * (1.0 + 0.01 * now.abs()),
            "row {row}: {now}, was {recorded}"
        );
    }
    // The samples: every array is there and fits the others.
    let table = read_samples(&samples, &ColumnChoice::default()).unwrap();
    assert_eq!((&table.names.join(" ")[..], &table.derived_names.join(" ")[..]), ("a b c", "sum"));
    let [l, p, q, w] = [&table.log_likelihood, &table.log_prior, &table.log_prob, &table.log_weight]
        .map(|vector| vector.as_ref().unwrap());
    for row in 0..table.n {
        let theta = &table.theta[row * 3..][..3];
        assert!((table.derived[row] - theta[0] - theta[1]).abs() < 1e-6, "row {row}");
        assert!((l[row] + p[row] - q[row] - w[row]).abs() < 1e-9, "row {row}");
    }
    assert!(table.left_out.is_empty(), "{:?}", table.left_out);
    // `again` has kept derived quantities, and what it says twice is told by the reader of pairs.
    assert_eq!(again.derived, table.derived);
    let error = read_pairs(&samples, &ColumnChoice::default(), None).unwrap_err().to_string();
    assert!(error.contains("keep one of them"), "{error}");
    let exported = folder.path().join("pairs.npz");
    lwflow(folder.path(), &format!("export {} --to npz --out pairs.npz", golden("v1").display()))
        .expect(0, &[]);
    let pairs = read_pairs(&exported, &ColumnChoice::default(), None).unwrap();
    assert_eq!((pairs.kind, &pairs.log_weights), (WeightKind::LogWeight, w));
}
