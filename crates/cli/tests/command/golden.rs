//! Files of every earlier format version load and give the numbers that were recorded when they were new (tests/data/golden).

use crate::harness::{lwflow, on_cores};
use lwflow_host::files::{ColumnChoice, WeightKind, read_pairs, read_samples};
use lwflow_host::model_file::{FORMAT_VERSION, read_model};
use lwflow_model::LayerSpec;
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

/// The text entry of a model file begins with its version.
fn version_of(model: &Path) -> u32 {
    let bytes = std::fs::read(model).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let (_, rest) = text.split_once(r#"\"format_version\":"#).unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn every_version_has_a_folder() {
    for version in 1..=FORMAT_VERSION {
        assert_eq!(version_of(&golden(&format!("v{version}")).join("model.safetensors")), version);
    }
}

/// Holds a model against the densities that its own program gave, in log_prob.csv, and draws from it.
fn check(version: &str, parameters: &[&str], context: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (model, points) = (golden(version).join("model.safetensors"), golden(version).join("log_prob.csv"));
    let names = parameters.iter().map(|name| (*name).to_owned()).collect();
    let choice = ColumnChoice { parameters: Some(names), context: None };
    let recorded = read_samples(&points, &choice).unwrap();
    let line = format!("log-prob {} --in {} --out again.csv", model.display(), points.display());
    on_cores(folder.path(), &line).expect(0, &[&format!("{} rows", recorded.n)]);
    let again = read_samples(&folder.path().join("again.csv"), &choice).unwrap();
    assert_eq!((&again.theta, &again.context), (&recorded.theta, &recorded.context));
    let (then, now) = (recorded.log_prob.unwrap(), again.log_prob.unwrap());
    assert!(then.len() >= 30, "{version} has {} points", then.len());
    for (row, (now, then)) in now.iter().zip(&then).enumerate() {
        assert!((now - then).abs() < TOLERANCE * (1.0 + 0.01 * then.abs()), "row {row}: {now}, was {then}");
    }
    let line = format!("sample {} -n 50 --out draws.csv{context}", model.display());
    on_cores(folder.path(), &line).expect(0, &["50 samples"]);
    let draws = read_samples(&folder.path().join("draws.csv"), &choice).unwrap();
    assert!(draws.n == 50 && draws.log_prob.unwrap().iter().all(|q| q.is_finite()));
}

#[test]
fn version_2_is_read_with_its_evidence() {
    check("v2", &["a", "b", "c"], "");
    let evidence = read_model(&golden("v2").join("model.safetensors")).unwrap().evidence.unwrap();
    // As its program printed it.
    assert!((evidence.log_z + 3.8119).abs() < 1e-4 && (evidence.sd - 0.0218).abs() < 1e-4, "{evidence:?}");
}

#[test]
fn version_3_is_read_with_its_splines_and_novelty() {
    check("v3", &["level", "slope"], " --context 0.5,0.2,1.0");
    let model = read_model(&golden("v3").join("model.safetensors")).unwrap();
    assert!(model.spec().layers.iter().all(|layer| matches!(layer, LayerSpec::SplineCoupling(_))));
    // An observation far from all simulations is named.
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "sample {} -n 50 --out draws.csv --context 0.5,-20,30",
        golden("v3").join("model.safetensors").display()
    );
    on_cores(folder.path(), &line).expect(0, &["farther"]);
}

#[test]
fn version_4_is_read_with_its_context_network() {
    check("v4", &["level", "spread"], " --context 2,0.5,0.2,0,0");
    let model = read_model(&golden("v4").join("model.safetensors")).unwrap();
    assert!(model.spec().context_network.is_some() && model.novelty.is_some());
}
