//! Points, priors and names at the edge of what makes sense: each gives the right result or a clear error. Fits from points
//! and rounds alike, on the cores.

use crate::harness::{Run, lwflow};
use std::fmt::Write;
use std::path::Path;
use tempfile::TempDir;

/// Evenly scattered numbers in (0, 1).
fn scattered(i: usize, j: usize) -> f64 {
    // Additive recurrences of the square roots of primes.
    let root = [2.0_f64, 3.0, 5.0, 7.0][j % 4].sqrt();
    (0.5 + root * (1 + j / 4) as f64 * i as f64).fract()
}

/// A folder with `task.toml` of a small fit of `rows` under `header`; `sections` are added to the task.
fn of_points(header: &str, rows: impl Iterator<Item = Vec<f64>>, sections: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("{header}\n");
    for row in rows {
        let cells: Vec<String> = row.iter().map(f64::to_string).collect();
        let _ = writeln!(text, "{}", cells.join(","));
    }
    std::fs::write(folder.path().join("points.csv"), text).unwrap();
    let task = format!(
        "[likelihood]\npairs = \"points.csv\"\n{sections}\n[flow]\nn_layers = 2\nhidden = [8, 8]\n\
         [training]\nbatch_size = 128\nmax_visits = 4000\n[output]\nn_samples = 300\n"
    );
    std::fs::write(folder.path().join("task.toml"), task).unwrap();
    folder
}

/// A folder with `task.toml` of small rounds: the body of log L in WGSL, and the parameters.
fn of_likelihood(body: &str, parameters: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("fn log_likelihood(theta: array<f32, D>) -> f32 {{ {body} }}\n");
    std::fs::write(folder.path().join("l.wgsl"), text).unwrap();
    let task = format!(
        "[likelihood]\nwgsl = \"l.wgsl\"\n{parameters}\n[flow]\nn_layers = 2\nhidden = [8, 8]\n[base]\nn_components = 1\n\
         [training]\nmax_visits = 4000\n[output]\nn_samples = 300\nfigures = false\n\
         [rounds]\ntarget_ess = 300\nmax_evaluations = 6000\nn_scan = 1000\nn_round = 1000\n"
    );
    std::fs::write(folder.path().join("task.toml"), task).unwrap();
    folder
}

fn uniform(name: &str, lower: f64, upper: f64) -> String {
    format!("[parameters.{name}]\nprior = \"uniform\"\nlower = {lower:?}\nupper = {upper:?}\n")
}

fn fit(folder: &TempDir) -> Run {
    lwflow(folder.path(), "fit task.toml --out out --device cpu")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// log Z of the fresh draws, and its error.
fn log_z(folder: &TempDir) -> (f64, f64) {
    let verdict = json(&folder.path().join("out/verdict.json"));
    let flow = &verdict["evidence"]["flow"];
    (flow["log_z"].as_f64().unwrap(), flow["sd"].as_f64().unwrap())
}

/// Columns of the samples of a fit.
fn samples(folder: &TempDir) -> (usize, Vec<f64>) {
    let path = folder.path().join("out/samples.npz");
    let table = lwflow_host::files::read_samples(&path, &Default::default()).unwrap();
    assert!(table.theta.iter().all(|x| x.is_finite()));
    (table.dim, table.theta)
}

#[test]
fn names_in_unicode_and_with_blanks_go_all_the_way() {
    let rows = (0..600).map(|i| {
        let (a, b) = (8.0 * scattered(i, 0) - 4.0, 8.0 * scattered(i, 1) - 4.0);
        vec![a, b, -0.5 * (a - 1.0).powi(2) - 0.5 * b * b]
    });
    let folder = of_points("Größe λ,质量 ratio (x),log_likelihood", rows, "");
    let at = folder.path();
    fit(&folder).expect(0, &["results in out"]);
    assert!(at.join("out/corner.png").exists());
    let run = lwflow(at, "sample out/model.safetensors -n 3 --out - --device cpu").expect(0, &[]);
    assert!(run.out.starts_with("Größe λ,质量 ratio (x),log_prob\n"), "{}", run.out);
    for (to, out) in [("csv", "s.csv"), ("parquet", "s.parquet"), ("npz", "s.npz"), ("arviz", "s.json")] {
        lwflow(at, &format!("export out --to {to} --out {out}")).expect(0, &[]);
    }
    lwflow(at, "log-prob out/model.safetensors --in s.parquet --out t.csv --device cpu").expect(0, &[]);
    assert!(std::fs::read_to_string(at.join("t.csv")).unwrap().starts_with("Größe λ,质量 ratio (x),"));
    // A .paramnames file ends a name at its first blank.
    let run = lwflow(at, "export out --to getdist --out g");
    assert!(run.status == 3 && run.err.contains("Größe λ"), "{} {}", run.status, run.err);

    let names = uniform("\"Größe λ\"", -5.0, 5.0) + &uniform("\"a b\"", 0.0, 1.0);
    let rounds = of_likelihood("return -0.5 * square(theta[0]);", &names);
    fit(&rounds).expect(0, &["contract met"]);
}

#[test]
fn one_parameter() {
    let rows = (0..600).map(|i| {
        let a = 8.0 * scattered(i, 0) - 4.0;
        vec![a, -0.5 * (a - 1.0).powi(2)]
    });
    let folder = of_points("a,log_likelihood", rows, "");
    fit(&folder).expect(0, &["log Z = "]);
    let (dim, theta) = samples(&folder);
    let mean = theta.iter().sum::<f64>() / theta.len() as f64;
    assert!(dim == 1 && (mean - 1.0).abs() < 0.25, "mean {mean}");

    let rounds = of_likelihood("return -0.5 * square(theta[0] - 1.0);", &uniform("a", -5.0, 5.0));
    fit(&rounds).expect(0, &["contract met", "modes: 1 found"]);
    let (z, sd) = log_z(&rounds);
    let truth = (2.0 * std::f64::consts::PI).sqrt().ln() - 10f64.ln();
    assert!((z - truth).abs() < 5.0 * sd + 1e-3, "log Z {z} +- {sd}, truth {truth}");
}

#[test]
fn sixty_four_parameters() {
    const D: usize = 64;
    let header = (0..D).map(|j| format!("p{j}")).collect::<Vec<_>>().join(",");
    let wide = |i: usize, j: usize| 2.0 * scattered(i, j) - 1.0;
    let rows = (0..900).map(|i| {
        let theta: Vec<f64> = (0..D).map(|j| wide(i, j)).collect();
        let log_weight = -0.5 * theta.iter().take(4).map(|x| x * x).sum::<f64>() - 1.0;
        theta.into_iter().chain([log_weight]).collect()
    });
    let folder = of_points(&format!("{header},log_weight"), rows, "[base]\nkind = \"gaussian\"");
    fit(&folder).expect(0, &["results in out"]);
    let (dim, _) = samples(&folder);
    assert_eq!(dim, D);
    assert!(folder.path().join("out/corner.png").exists());

    // Unit normals under a normal prior of as many parameters: log Z = -32 log 1.25 with a likelihood of variance 4.
    let parameters: String =
        (0..D).map(|j| format!("[parameters.p{j}]\nprior = \"normal\"\nmean = 0.0\nsd = 1.0\n")).collect();
    let body = "var s = 0.0; for (var i = 0; i < 64; i++) { s -= 0.125 * square(theta[i]); } return s;";
    let rounds = of_likelihood(body, &parameters);
    let run = fit(&rounds);
    assert!([0, 6].contains(&run.status), "{}", run.err);
    let verdict = json(&rounds.path().join("out/verdict.json"));
    assert_eq!(verdict["met"], run.status == 0);
    if run.status == 0 {
        let (z, sd) = log_z(&rounds);
        assert!((z + 32.0 * 1.25f64.ln()).abs() < 5.0 * sd + 1e-3, "log Z {z} +- {sd}");
    }
}

#[test]
fn one_effective_point() {
    let rows = |low: f64| {
        (0..400).map(move |i| vec![scattered(i, 0), scattered(i, 1), if i == 7 { 0.0 } else { low }])
    };
    let folder = of_points("a,b,log_likelihood", rows(f64::NEG_INFINITY), "");
    fit(&folder).expect(3, &["points.csv", "only row 7 carries weight"]);
    let folder = of_points("a,b,log_likelihood", rows(-30.0), "");
    fit(&folder).expect(5, &["1.0 effective", "at least 10"]);
    assert!(!folder.path().join("out/model.safetensors").exists());

    let both = uniform("a", -4.0, 4.0) + &uniform("b", -4.0, 4.0);
    let spike = "return select(minus_infinity(), 0.0, abs(theta[0]) < 0.004);";
    fit(&of_likelihood(spike, &both)).expect(5, &["effective", "at least 10", "--resume"]);
    // A likelihood that falls off leads there, or the verdict says that it did not.
    let narrow = "return -0.5 * square(theta[0] * 1e5) - 0.5 * square(theta[1] * 1e5);";
    fit(&of_likelihood(narrow, &both)).expect(6, &["contract NOT met", "effective size"]);
}

#[test]
fn all_weights_equal() {
    let rows = (0..600).map(|i| vec![scattered(i, 0), scattered(i, 1), -3.5]);
    let bounds = uniform("a", 0.0, 1.0) + &uniform("b", 0.0, 1.0);
    let folder = of_points("a,b,log_likelihood", rows, &bounds);
    fit(&folder).expect(0, &["effective sample size 600", "log Z = -3.5000 +- 0.0000"]);
    let (_, theta) = samples(&folder);
    let mean = theta.iter().sum::<f64>() / theta.len() as f64;
    assert!((mean - 0.5).abs() < 0.08 && theta.iter().all(|x| *x > 0.0 && *x < 1.0), "mean {mean}");

    let both = uniform("a", -4.0, 4.0) + &uniform("b", -4.0, 4.0);
    let rounds = of_likelihood("return -3.5;", &both);
    fit(&rounds).expect(0, &["contract met", "modes: 1 found"]);
    let (z, sd) = log_z(&rounds);
    assert!((z + 3.5).abs() < 5.0 * sd + 1e-3, "log Z {z} +- {sd}");
}

#[test]
fn no_weight_at_all() {
    let rows = (0..400).map(|i| vec![scattered(i, 0), scattered(i, 1), f64::NEG_INFINITY]);
    fit(&of_points("a,b,log_likelihood", rows, ""))
        .expect(3, &["points.csv", "400 rows", "weight zero", "-inf everywhere"]);
    let rounds = of_likelihood("return minus_infinity();", &uniform("a", -4.0, 4.0));
    fit(&rounds).expect(3, &["log L is -inf at all 1000 draws of the scan of the prior", "n_scan"]);
    let rounds = of_likelihood("return sqrt(-1.0 - square(theta[0]));", &uniform("a", -4.0, 4.0));
    fit(&rounds).expect(3, &["NaN", "theta = ["]);
}

#[test]
fn repeated_points_count_once() {
    let point = |i: usize| {
        let (a, b) = (4.0 * scattered(i, 0) - 2.0, 4.0 * scattered(i, 1) - 2.0);
        vec![a, b, -0.1 * (a * a + b * b)]
    };
    let folder = of_points("a,b,log_likelihood", (0..900).map(|i| point(i % 300)), "");
    let run =
        fit(&folder).expect(0, &["600 of 900 rows repeat an earlier point", "the 300 points are worth"]);
    // The error of log Z is that of the distinct points.
    let once = of_points("a,b,log_likelihood", (0..300).map(point), "");
    let said = |run: &Run| run.out.lines().find(|l| l.starts_with("log Z = ")).unwrap().to_owned();
    assert_eq!(said(&run), said(&fit(&once).expect(0, &[])));
    // So few points are no fit, however often they are written down.
    let folder = of_points("a,b,log_likelihood", (0..900).map(|i| point(i % 6)), "");
    fit(&folder).expect(5, &["900 weighted points", "at least 10"]);
}

#[test]
fn constant_columns() {
    let rows = (0..400).map(|i| vec![scattered(i, 0), 7.0, -scattered(i, 1)]);
    let folder = of_points("a,b,log_likelihood", rows, "");
    fit(&folder).expect(3, &["points.csv", "parameter b is the same value (7)", "remove it"]);
    // A parameter that the likelihood does not see keeps its prior.
    let both = uniform("a", -4.0, 4.0) + &uniform("b", 0.0, 1.0);
    let rounds = of_likelihood("return -0.5 * square(theta[0]);", &both);
    fit(&rounds).expect(0, &["contract met", "modes: 1 found"]);
}

#[test]
fn priors_far_from_zero() {
    // 8,400 numbers of 64 bits lie in a thousandth at 1e9: points there are fitted, and come out inside their bounds.
    let rows = (0..900).map(|i| {
        let (a, b) = (8.0 * scattered(i, 0) - 4.0, 8.0 * scattered(i, 1) - 4.0);
        vec![1e9 + 1e-3 * a, b, -0.5 * (a - 1.0).powi(2) - 0.5 * b * b]
    });
    let bounds = "[parameters.a]\nlower = 999999999.995\nupper = 1000000000.005\n[parameters.b]\n";
    let folder = of_points("a,b,log_likelihood", rows, bounds);
    fit(&folder).expect(0, &["results in out"]);
    let (dim, theta) = samples(&folder);
    let a: Vec<f64> = theta.iter().step_by(dim).map(|x| 1e3 * (x - 1e9)).collect();
    let mean = a.iter().sum::<f64>() / a.len() as f64;
    assert!((mean - 1.0).abs() < 0.3 && a.iter().all(|x| x.abs() < 5.0), "mean {mean}");

    // A prior there has too few numbers to be a density, and says what helps.
    let body = "return -0.5 * square(theta[0]);";
    let narrow = "[parameters.a]\nprior = \"uniform\"\nlower = 999999999.999\nupper = 1000000000.001\n";
    fit(&of_likelihood(body, narrow)).expect(3, &["task.toml:4", "parameters.a.prior", "less a constant"]);
    let wide = uniform("a", 999_999_990.0, 1_000_000_010.0);
    fit(&of_likelihood(body, &wide)).expect(3, &["offset"]);
    let rounds = of_likelihood(body, &format!("{wide}offset = 1e9\n"));
    fit(&rounds).expect(0, &["contract met", "modes: 1 found"]);
    let (z, sd) = log_z(&rounds);
    let truth = (2.0 * std::f64::consts::PI).sqrt().ln() - 20f64.ln();
    assert!((z - truth).abs() < 5.0 * sd + 1e-3, "log Z {z} +- {sd}, truth {truth}");
}
