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

/// The tasks of sbibm likewise (benches/references/sbibm.py); their file, relative to examples/sbibm, and the allowed error.
const SBIBM: &[(&str, &str, f64)] = &[
    ("gaussian_linear", "gaussian_linear/gaussian_linear.wgsl", 1e-4),
    ("gaussian_linear_uniform", "gaussian_linear/gaussian_linear.wgsl", 1e-4),
    ("slcp", "../slcp/slcp.wgsl", 2e-3),
    ("slcp_distractors", "slcp_distractors/slcp_distractors.wgsl", 2e-3),
    ("bernoulli_glm", "bernoulli_glm/bernoulli_glm.wgsl", 1e-3),
    ("bernoulli_glm_raw", "bernoulli_glm_raw/bernoulli_glm_raw.wgsl", 1e-3),
    ("gaussian_mixture", "gaussian_mixture/gaussian_mixture.wgsl", 1e-4),
    ("two_moons", "../two_moons/two_moons.wgsl", 5e-4),
    ("sir", "sir/sir.wgsl", 5e-3),
    ("lotka_volterra", "lotka_volterra/lotka_volterra.wgsl", 5e-3),
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

/// A likelihood and what it must be: the file, its data, the name of its points, the allowed error in f32.
struct Row {
    wgsl: PathBuf,
    data: Option<PathBuf>,
    points: serde_json::Value,
    /// Relative error of the f64 evaluator: literals have ten digits, and steps of an equation err.
    audit: f64,
    tolerance: f64,
}

fn points(file: &str, n_rows: usize) -> serde_json::Value {
    let text = std::fs::read_to_string(root().join("benches/references/results").join(file)).unwrap();
    let points: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(points.as_object().unwrap().len(), n_rows);
    points
}

#[test]
fn likelihoods_of_the_examples_are_those_of_their_references() {
    let points = points("points.json", EXAMPLES.len());
    compare(EXAMPLES.iter().map(|(name, data, tolerance)| {
        let folder = root().join("examples").join(name);
        Row {
            wgsl: folder.join(format!("{name}.wgsl")),
            data: data.map(|file| folder.join(file)),
            points: points[*name].clone(),
            audit: 1e-6,
            tolerance: *tolerance,
        }
    }));
}

#[test]
fn likelihoods_of_sbibm_are_those_of_their_references() {
    let points = points("sbibm_points.json", SBIBM.len());
    compare(SBIBM.iter().map(|(name, wgsl, tolerance)| {
        let folder = root().join("examples/sbibm");
        let task = std::fs::read_to_string(folder.join(name).join("TASK.toml")).unwrap();
        assert!(task.contains(wgsl.rsplit('/').next().unwrap()), "{name}");
        Row {
            wgsl: folder.join(wgsl),
            data: Some(folder.join(name).join("observation_1.csv")),
            points: points[*name].clone(),
            audit: if ["sir", "lotka_volterra"].contains(name) { 1e-4 } else { 1e-6 },
            tolerance: *tolerance,
        }
    }));
}

fn compare(rows: impl Iterator<Item = Row>) {
    let cores = EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() };
    let engines: Vec<Engine> =
        [Engine::new(&cores).unwrap()].into_iter().chain(lwflow_tests::engine()).collect();
    for row in rows {
        let name = row.wgsl.file_stem().unwrap().to_str().unwrap();
        let rows = |key: &str| row.points[key].as_array().unwrap();
        let theta: Vec<f64> =
            rows("theta").iter().flat_map(|r| r.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect();
        let expected: Vec<f64> =
            rows("log_likelihood").iter().map(|v| v.as_f64().unwrap_or(f64::NEG_INFINITY)).collect();
        let dim = theta.len() / expected.len();
        let text = std::fs::read_to_string(&row.wgsl).unwrap();
        let data = row.data.as_deref().map(data);
        let source = WgslSource {
            file: format!("{name}.wgsl"),
            dim,
            // A file that also simulates has as many values as its observation; the bernoulli tasks derive the paper's theta.
            n_observed: data.as_ref().filter(|_| text.contains("fn simulate(")).map_or(0, |d| d.n_columns),
            n_derived: if text.contains("fn derived(") { dim } else { 0 },
            text,
            data,
        };
        let program = WgslProgram::new(&source).unwrap_or_else(|e| panic!("{e}"));
        let (audit, _) = program.audit(&theta, Duration::from_secs(60)).unwrap().unwrap();
        for (i, (got, e)) in audit.iter().zip(&expected).enumerate() {
            let allowed = row.audit * (1.0 + e.abs());
            assert!(got == e || (got - e).abs() <= allowed, "{name} in f64, row {i}: {got}, expected {e}");
        }
        let narrow: Vec<f32> = theta.iter().map(|v| *v as f32).collect();
        for engine in &engines {
            let (got, _) = engine.likelihood(&program).unwrap().evaluate(&narrow).unwrap();
            // The second half of the points are of the posterior; the first may be anywhere in the prior.
            for (i, (got, e)) in got.iter().zip(&expected).enumerate() {
                let allowed = if i < expected.len() / 2 { 1e-3 * (1.0 + e.abs()) } else { row.tolerance };
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
