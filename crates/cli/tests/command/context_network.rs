//! Context networks as a process: sets of varying size through every command that takes an observation, pairs with context, and
//! what is refused.

use crate::harness::{csv_rows as rows, on_cores as run};

/// n of 0 to 4 measurements of a with noise 1.
const WGSL: &str = "
fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    var x: array<f32, X>;
    let n = min(u32(5.0 * uniform01(stream)), 4u);
    x[0] = f32(n);
    for (var k = 0u; k < n; k++) { x[k + 1u] = theta[0] + normal(stream); }
    return x;
}
";
const LIKELIHOOD: &str = "
fn log_likelihood(theta: array<f32, D>) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < u32(data(0u, 0u)); k++) {
        let z = data(0u, k + 1u) - theta[0];
        sum -= 0.5 * z * z;
    }
    return sum;
}
";
const SIMULATOR: &str =
    "[simulator]\nwgsl = \"sets.wgsl\"\nobserved = [\"count\", \"u1\", \"u2\", \"u3\", \"u4\"]\n";
const REST: &str = "[parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\n\
     [flow]\nn_layers = 2\nhidden = [16]\n\
     [training]\nmax_visits = 60000\n[output]\nfigures = false\nn_samples = 100\n";
const SET: &str =
    "[context_network]\nkind = \"set\"\ncounted = true\nphi = [16, 8]\nhidden = [16]\nn_features = 4\n";

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sets.wgsl", WGSL);
    write("TASK.toml", &format!("{SIMULATOR}{SET}{REST}"));
    folder
}

#[test]
fn sets_go_through_every_command() {
    let folder = workplace();
    let at = folder.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    run(at, "simulate TASK.toml -n 4000 --out pairs.npz").expect(0, &[]);
    let pairs = format!("[likelihood]\npairs = \"pairs.npz\"\n{SET}{REST}");
    write("PAIRS.toml", &pairs);
    run(at, "check PAIRS.toml").expect(0, &["5 context values per row", "parameters"]);
    run(at, "fit PAIRS.toml --out run").expect(0, &[]);
    // Rows of other lengths, each beside its draws; the posterior of n values is normal(sum / (n + 1), 1 / (n + 1)).
    write("seen.csv", "count,u1,u2,u3,u4\n0,7,7,7,7\n1,0.9,0,0,0\n4,-0.5,-0.1,0.3,-0.9\n");
    run(at, "sample run/model.safetensors -n 3000 --context seen.csv --novelty novelty.csv --out draws.csv")
        .expect(0, &[]);
    let draws = rows(at, "draws.csv");
    for (k, (mean, variance)) in [(0.0, 1.0), (0.45, 0.5), (-0.24, 0.2f64)].into_iter().enumerate() {
        let of: Vec<f64> = draws[3000 * k..3000 * (k + 1)].iter().map(|row| row[0]).collect();
        let got = of.iter().sum::<f64>() / 3000.0;
        let sd = (of.iter().map(|x| (x - got).powi(2)).sum::<f64>() / 3000.0).sqrt();
        let exact = variance.sqrt();
        // After so short a training.
        let is_close = (got - mean).abs() < 0.35 * exact && (sd / exact - 1.0).abs() < 0.2;
        assert!(is_close, "set {k}: {got} +- {sd}, expected {mean} +- {exact}");
    }
    assert!(rows(at, "novelty.csv").iter().all(|row| row[2] > 0.001));
    // Order and padding change nothing, what is present does.
    let table = "a,context_count,context_u1,context_u2,context_u3,context_u4\n";
    write("points.csv", &format!("{table}0.3,2,0.5,-1,0,0\n0.3,2,-1,0.5,88,-9\n0.3,3,-1,0.5,0,0\n"));
    run(at, "log-prob run/model.safetensors --in points.csv --out densities.csv").expect(0, &[]);
    let log_prob: Vec<f64> = rows(at, "densities.csv").iter().map(|row| row[6]).collect();
    assert!((log_prob[0] - log_prob[1]).abs() < 1e-4 && (log_prob[0] - log_prob[2]).abs() > 1e-3);
    // Calibration draws for many sets; a short training may or may not pass.
    run(at, "simulate TASK.toml -n 60 --seed 9 --out fresh.csv").expect(0, &[]);
    let calibrated = run(at, "calibrate run/model.safetensors --in fresh.csv --draws 100");
    assert!(calibrated.out.contains("60 pairs, 100 draws"), "{}", calibrated.err);
    // Counts that are none.
    run(at, "sample run/model.safetensors -n 3 --context 5,1,1,1,1 --out no.csv").expect(
        3,
        &["--context, observation 1", "the number of elements, is 5, expected a whole number from 0 to 4"],
    );
    let weighted = table.replace('\n', ",weight\n");
    write("bad.csv", &format!("{weighted}0.3,2,0.5,-1,0,0,1\n0.4,1.5,-1,0.5,0,0,1\n"));
    let words = ["bad.csv: context, row 1", "is 1.5, expected a whole number from 0 to 4"];
    run(at, "log-prob run/model.safetensors --in bad.csv --out no.csv").expect(3, &words);
    run(at, "calibrate run/model.safetensors --in bad.csv").expect(3, &words);
    write("BAD.toml", &pairs.replace("pairs.npz", "bad.csv"));
    run(at, "fit BAD.toml --out no").expect(3, &words);
    assert!(!at.join("no.csv").exists());
}

#[test]
fn both_objectives_train_a_network() {
    let folder = workplace();
    let at = folder.path();
    let likelihood = "[likelihood]\nwgsl = \"sets.wgsl\"\ndata = \"seen.csv\"\n";
    let short = REST.replace("60000", "20000");
    std::fs::write(at.join("sets.wgsl"), format!("{WGSL}{LIKELIHOOD}")).unwrap();
    std::fs::write(at.join("seen.csv"), "count,u1,u2,u3,u4\n2,0.9,0.1,0,0\n").unwrap();
    std::fs::write(at.join("TASK.toml"), format!("{SIMULATOR}{SET}{likelihood}{short}")).unwrap();
    run(at, "fit TASK.toml --objective likelihood --simulations 500 --out run").expect(0, &[]);
    let metrics = std::fs::read_to_string(at.join("run/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(metrics["task"]["flow"]["context_network"]["set"]["phi"], serde_json::json!([16, 8]));
    assert_eq!(metrics["amortised"]["n_evaluations"], 32_000);
    run(at, "sample run/model.safetensors -n 10 --context seen.csv --out draws.csv").expect(0, &[]);
    assert_eq!(rows(at, "draws.csv").len(), 10);
    // The same task in rounds, which have one observation and no network.
    run(at, "fit TASK.toml --objective rounds --out rounds").expect(0, &[]);
}

#[test]
fn networks_without_context_and_of_other_shapes_are_refused() {
    let folder = workplace();
    let at = folder.path();
    let refuse = |task: &str, words: &[&str]| {
        std::fs::write(at.join("OTHER.toml"), task).unwrap();
        run(at, "fit OTHER.toml --out no").expect(3, words);
    };
    refuse(
        &format!("[likelihood]\ntarget = \"gauss1\"\n{SET}"),
        &["OTHER.toml:3: `context_network` cannot stand beside `likelihood.target`"],
    );
    std::fs::write(at.join("bare.csv"), "a,weight\n0.1,1\n0.2,1\n").unwrap();
    refuse(
        &format!("[likelihood]\npairs = \"bare.csv\"\n{SET}{REST}"),
        &["OTHER.toml: [context_network] makes features of the context, and the pairs have none"],
    );
    let odd =
        (0..50).fold("a,context_u,context_v,weight\n".to_owned(), |text, i| text + &format!("0.{i},1,2,1\n"));
    std::fs::write(at.join("odd.csv"), odd).unwrap();
    refuse(
        &format!("[likelihood]\npairs = \"odd.csv\"\n{SET}element = 2\n{REST}"),
        &[
            "odd.csv",
            "context_network.element is 2, expected a divisor of the 1 context values after the count",
        ],
    );
}
