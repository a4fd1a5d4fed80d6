//! Rounds of simulations for one observation as a process: what is written, what is told, and what is refused.

use crate::harness::on_cores as run;
use serde_json::Value;
use std::path::Path;

/// x_k = theta_k + normal(0, 0.1), far narrower than the prior; the simulation fails beyond theta_0 = 12.
const WGSL: &str = "
fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    var x = array<f32, X>(theta[0] + 0.1 * normal(stream), theta[1] + 0.1 * normal(stream));
    if theta[0] > 12.0 { x[0] = sqrt(-theta[0]); x[1] = x[0]; }
    return x;
}
";
const TASK: &str = "[simulator]\nwgsl = \"wide.wgsl\"\nobserved = [\"u\", \"v\"]\nsimulations = 900\nrounds = 3\n\
     [parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 10\n[parameters.b]\nprior = \"normal\"\nmean = 0\nsd = 10\n\
     [flow]\nn_layers = 2\nhidden = [8, 8]\n[training]\nmax_visits = 20000\n[output]\nn_samples = 500\n";

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wide.wgsl"), WGSL).unwrap();
    std::fs::write(folder.path().join("TASK.toml"), TASK).unwrap();
    std::fs::write(folder.path().join("x.csv"), "u,v\n3,-2\n").unwrap();
    folder
}

fn metrics(folder: &Path, out: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(out).join("metrics.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn rounds_end_with_the_posterior_of_their_observation() {
    let folder = workplace();
    let at = folder.path();
    let words = "truncated rounds: 900 simulations; the posterior is that of the one observation alone";
    let said = run(at, "fit TASK.toml --objective truncated --observation x.csv --out r").expect(0, &[words]);
    assert!(said.out.contains("  round 3: 300 simulations"), "{}", said.out);
    let metrics = metrics(at, "r");
    let truncated = &metrics["truncated"];
    assert_eq!((&truncated["observation"][0], &truncated["stop"]), (&3.0.into(), &"all_simulated".into()));
    let figures = |key: &str| -> Vec<f64> {
        truncated["rounds"].as_array().unwrap().iter().map(|row| row[key].as_f64().unwrap()).collect()
    };
    let (mass, failed, pairs) = (figures("prior_mass"), figures("n_failed"), figures("n_pairs"));
    assert_eq!((mass.len(), mass[0]), (3, 1.0));
    assert!(mass[1] < 0.9 && mass[2] < 0.3 * mass[1], "{mass:?}");
    // A ninth of the prior lies beyond 12, and little of the last region.
    assert!((20.0..50.0).contains(&failed[0]) && failed[2] < 0.5 * failed[0], "{failed:?}");
    let succeeded = 900.0 - failed.iter().sum::<f64>();
    assert!(pairs[2] >= 300.0 - failed[2] && pairs[2] < succeeded, "{pairs:?}");
    assert_eq!(metrics["fit"]["n"].as_f64(), Some(pairs[2]));
    // The draws that fit and sample write are those of this posterior, and other observations are new.
    run(at, "export r --to csv --out draws.csv").expect(0, &["500 draws written"]);
    run(at, "sample r/model.safetensors -n 500 --context x.csv --out sampled.csv")
        .expect(0, &["500 samples"]);
    for name in ["draws.csv", "sampled.csv"] {
        let text = std::fs::read_to_string(at.join(name)).unwrap();
        let rows: Vec<Vec<f64>> =
            text.lines().skip(1).map(|line| line.split(',').map(|x| x.parse().unwrap()).collect()).collect();
        assert_eq!(rows.len(), 500, "{name}");
        let mean = |j: usize| rows.iter().map(|row| row[j]).sum::<f64>() / 500.0;
        assert!(
            (mean(0) - 3.0).abs() < 0.5 && (mean(1) + 2.0).abs() < 0.5,
            "{name}: {} {}",
            mean(0),
            mean(1)
        );
    }
    run(at, "sample r/model.safetensors -n 5 --context 30,20 --out - ")
        .expect(0, &["observation 1: farther out than all"]);
    let page = std::fs::read_to_string(at.join("r/report.html")).unwrap();
    for words in ["Rounds of simulations", "The posterior of one observation, by simulations alone"] {
        assert!(page.contains(words), "no `{words}` in the page");
    }
    assert!(at.join("r/corner.png").is_file() && !at.join("r/points.npz").exists());
}

#[test]
fn an_observation_that_no_simulation_looks_like_is_told() {
    let folder = workplace();
    let text = TASK.replace("rounds = 3", "rounds = 2\nobjective = \"truncated\"\nobservation = \"far.csv\"");
    std::fs::write(folder.path().join("TASK.toml"), text).unwrap();
    std::fs::write(folder.path().join("far.csv"), "u,v\n1,-90\n").unwrap();
    let words = [
        "the observation is farther out than all but 0.00 % of the simulations of the first round",
        "round 1: simulating",
    ];
    let said = run(folder.path(), "fit TASK.toml --simulations 100 --out r --log json").expect(0, &words);
    assert!(said.err.lines().any(|line| line.contains("\"event\":\"round\"")), "{}", said.err);
}

#[test]
fn what_rounds_of_simulations_cannot_use_is_refused() {
    let folder = workplace();
    let at = folder.path();
    let refuse = |arguments: &str, status: i32, words: &[&str]| {
        run(at, &format!("fit TASK.toml --out none {arguments}")).expect(status, words);
        assert!(!at.join("none").exists(), "{arguments}");
    };
    let truncated = "--objective truncated";
    refuse(truncated, 3, &["TASK.toml: ", "is for one observation: give it by `simulator.observation` or"]);
    refuse(
        &format!("{truncated} --observation 1,2,3"),
        3,
        &["--observation has 3 values, the simulator gives 2"],
    );
    refuse(&format!("{truncated} --observation 1,nan"), 2, &["--observation holds NaN"]);
    refuse(&format!("{truncated} --observation none.csv"), 2, &["--observation none.csv: neither numbers"]);
    std::fs::write(at.join("two.csv"), "u,v\n3,-2\n4,5\n").unwrap();
    refuse(&format!("{truncated} --observation two.csv"), 3, &["--observation has 2 rows"]);
    std::fs::write(at.join("bad.csv"), "u,v\n3,nan\n").unwrap();
    refuse(&format!("{truncated} --observation bad.csv"), 3, &["bad.csv"]);
    refuse("--observation x.csv", 2, &["--observation is for the objective \"truncated\""]);
    refuse(
        &format!("{truncated} --observation x.csv --simulations 20"),
        3,
        &["simulations = 20 in 3 rounds, expected at least 10 in each round"],
    );
    refuse(&format!("{truncated} --observation x.csv --resume"), 2, &["--resume is for rounds"]);
}

#[test]
fn an_error_in_a_later_round_leaves_the_flow_before_it() {
    let folder = workplace();
    let at = folder.path();
    // No number near the observation, where the first round has no parameters.
    let broken = WGSL.replace(
        "    return x;",
        "    if distance(vec2(theta[0], theta[1]), vec2(3.0, -2.0)) < 0.5 { x[0] = 1.0 / (theta[0] - theta[0]); }\n    return x;",
    );
    std::fs::write(at.join("wide.wgsl"), broken).unwrap();
    let said = run(at, "fit TASK.toml --objective truncated --observation x.csv --out r");
    assert!(![0, 101, 130].contains(&said.status), "{}", said.err);
    assert!(said.err.contains("an error: writing the flow of round "), "{}", said.err);
    assert_eq!(metrics(at, "r")["truncated"]["stop"], "failed");
    run(at, "sample r/model.safetensors -n 100 --context x.csv --out draws.csv").expect(0, &["100 samples"]);
    assert!(std::fs::read_to_string(at.join("r/report.html")).unwrap().contains("A round failed"));
}
