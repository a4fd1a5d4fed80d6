//! The likelihoods of the examples against references in f64 that other programs made (benches/references/points.py): the
//! f64 evaluator to rounding, every device to what f32 allows. Invariant: every example with a WGSL likelihood has a row.

use lwflow_engine::{DeviceChoice, Engine, EngineSettings, WgslData, WgslProgram, WgslSource};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Example, its data, and the allowed error in f32, in nats, at points of the posterior.
const EXAMPLES: &[(&str, Option<&str>, f64)] = &[
    ("rosenbrock10", None, 1e-4),
    ("many_well", None, 1e-4),
    ("gauss12", None, 1e-4),
    ("lotka_volterra", Some("populations.csv"), 2e-3),
    ("galaxies", Some("galaxies.csv"), 1e-3),
    ("two_moons", Some("observation_1.csv"), 5e-4),
    ("slcp", Some("observation_1.csv"), 2e-3),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn data(path: &Path) -> WgslData {
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Vec<f64>> =
        text.lines().skip(1).map(|line| line.split(',').map(|v| v.parse().unwrap()).collect()).collect();
    WgslData { n_columns: rows[0].len(), values: rows.concat() }
}

#[test]
fn likelihoods_of_the_examples_are_those_of_their_references() {
    let text = std::fs::read_to_string(root().join("benches/references/results/points.json")).unwrap();
    let points: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(points.as_object().unwrap().len(), EXAMPLES.len());
    let cores = EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() };
    let engines: Vec<Engine> =
        [Engine::new(&cores).unwrap()].into_iter().chain(lwflow_tests::engine()).collect();
    for (name, data_file, tolerance) in EXAMPLES {
        let rows = |key: &str| points[*name][key].as_array().unwrap();
        let theta: Vec<f64> =
            rows("theta").iter().flat_map(|r| r.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect();
        let expected: Vec<f64> =
            rows("log_likelihood").iter().map(|v| v.as_f64().unwrap_or(f64::NEG_INFINITY)).collect();
        let dim = theta.len() / expected.len();
        let folder = root().join("examples").join(name);
        let source = WgslSource {
            file: format!("{name}.wgsl"),
            text: std::fs::read_to_string(folder.join(format!("{name}.wgsl"))).unwrap(),
            dim,
            data: data_file.map(|file| data(&folder.join(file))),
            ..WgslSource::default()
        };
        let program = WgslProgram::new(&source).unwrap_or_else(|e| panic!("{e}"));
        let (audit, _) = program.audit(&theta, Duration::from_secs(60)).unwrap().unwrap();
        for (i, (got, e)) in audit.iter().zip(&expected).enumerate() {
            // Constants in the file have about ten digits.
            let allowed = 1e-6 * (1.0 + e.abs());
            assert!(got == e || (got - e).abs() <= allowed, "{name} in f64, row {i}: {got}, expected {e}");
        }
        let narrow: Vec<f32> = theta.iter().map(|v| *v as f32).collect();
        for engine in &engines {
            let (got, _) = engine.likelihood(&program).unwrap().evaluate(&narrow).unwrap();
            // The second half of the points are of the posterior; the first may be anywhere in the prior.
            for (i, (got, e)) in got.iter().zip(&expected).enumerate() {
                let allowed = if i < expected.len() / 2 { 1e-3 * (1.0 + e.abs()) } else { *tolerance };
                let got = f64::from(*got);
                assert!(
                    got == *e || (got - e).abs() <= allowed,
                    "{name} on {}, row {i}: {got}, expected {e}",
                    engine.info()
                );
            }
        }
    }
}
