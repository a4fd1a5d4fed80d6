//! Simulators as a process: pairs that repeat, the flow they train, predictions, and everything that is refused.

use crate::harness::{Run, command, csv_rows as rows, on_cores as run};

/// x_k = theta_k + normal(0, 0.5); the simulation fails beyond theta_0 = 2.5 and is wrong below theta_1 = -3.
const WGSL: &str = "
fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    var x = array<f32, X>(theta[0] + 0.5 * normal(stream), theta[1] + 0.5 * normal(stream));
    if theta[0] > 2.5 { x[0] = sqrt(-theta[0]); x[1] = x[0]; }
    if theta[1] < -3.0 { x[1] = sqrt(theta[1]); }
    return x;
}
";
const SIMULATOR: &str = "[simulator]\nwgsl = \"twice.wgsl\"\nobserved = [\"u\", \"v\"]\n";
const PARAMETERS: &str = "[parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\n\
     [parameters.b]\nprior = \"truncated_normal\"\nmean = 0\nsd = 1\nlower = -2.9\n";
const FLOW: &str = "[flow]\nn_layers = 4\nhidden = [16, 16]\n[base]\nkind = \"gaussian\"\n\
     [training]\nmax_visits = 200000\n[output]\nfigures = false\n";

fn workplace(task: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("twice.wgsl"), WGSL).unwrap();
    std::fs::write(folder.path().join("TASK.toml"), task).unwrap();
    folder
}

#[test]
fn pairs_train_a_flow_for_any_observation() {
    let folder = workplace(&format!("{SIMULATOR}{PARAMETERS}"));
    let at = folder.path();
    let pairs = format!("[likelihood]\npairs = \"pairs.npz\"\n{PARAMETERS}{FLOW}");
    std::fs::write(at.join("PAIRS.toml"), pairs).unwrap();
    let words = ["simulations failed (NaN alone)", "simulations written to pairs.npz"];
    run(at, "simulate TASK.toml -n 20000 --out pairs.npz").expect(0, &words);
    run(at, "fit PAIRS.toml --out run").expect(0, &[]);
    for (context, a, b) in [("1.0,-0.5", 0.8, -0.4), ("-1.2,0.9", -0.96, 0.72)] {
        let arguments = format!("sample run/model.safetensors -n 4000 --context={context} --out s.csv");
        run(at, &arguments).expect(0, &[]);
        let rows = rows(at, "s.csv");
        for (j, exact) in [a, b].into_iter().enumerate() {
            let mean = rows.iter().map(|row| row[j]).sum::<f64>() / 4000.0;
            let sd = (rows.iter().map(|row| (row[j] - mean).powi(2)).sum::<f64>() / 4000.0).sqrt();
            let is_close = (mean - exact).abs() < 0.1 && (sd / 0.2f64.sqrt() - 1.0).abs() < 0.15;
            assert!(is_close, "parameter {j}: {mean} +- {sd}, expected {exact} +- 0.447");
        }
    }
}

#[test]
fn simulations_repeat_and_given_parameters_keep_their_weights() {
    let folder = workplace(&format!("{SIMULATOR}{PARAMETERS}"));
    let at = folder.path();
    run(at, "simulate TASK.toml -n 3000 --seed 4 --out all.csv")
        .expect(0, &["device: ", "written to all.csv"]);
    run(at, "simulate TASK.toml -n 500 --seed 4 --out some.csv --quiet").expect(0, &[]);
    let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    let (all, some) = (read("all.csv"), read("some.csv"));
    assert!(all.starts_with("a,b,context_u,context_v,weight\n") && all.starts_with(&some), "{all:.100}");
    let n = some.lines().count() - 1;
    assert!(n < 500 && n > 485, "{n} of 500 succeed, 0.6 % fail");
    run(at, "simulate TASK.toml -n 500 --seed 5 --out other.csv").expect(0, &["written to other.csv"]);
    assert_ne!(read("other.csv"), some);
    std::fs::write(at.join("theta.csv"), "b,log_weight,a\n1,-2.5,0.5\n0,-1,3\n-1,-3,0.25\n").unwrap();
    run(at, "simulate TASK.toml --theta theta.csv --out given.csv").expect(0, &["1 of 3 simulations failed"]);
    let given = rows(at, "given.csv");
    let kept: Vec<[f64; 3]> = given.iter().map(|row| [row[0], row[1], row[4]]).collect();
    assert_eq!(kept, [[0.5, 1.0, -2.5], [0.25, -1.0, -3.0]]);
    assert!(read("given.csv").starts_with("a,b,context_u,context_v,log_weight\n"));
    assert!(given.iter().all(|row| (row[2] - row[0]).abs() < 3.0 && (row[3] - row[1]).abs() < 3.0));
    run(at, "simulate TASK.toml -n 3 --out -").expect(0, &["a,b,context_u,context_v,weight\n"]);
}

#[test]
fn what_is_wrong_is_told_and_what_was_simulated_is_kept() {
    let folder = workplace(&format!("{SIMULATOR}{PARAMETERS}"));
    let at = folder.path();
    std::fs::write(at.join("theta.csv"), "a,b\n0,0\n0,-3.5\n0,1\n").unwrap();
    let text = "TASK.toml: simulation 1: x[1] is NaN (theta = [0.0, -3.5]), expected finite numbers";
    run(at, "simulate TASK.toml --theta theta.csv --out x.csv")
        .expect(3, &[text, "(1 simulations written to x.csv)"]);
    assert_eq!(rows(at, "x.csv").len(), 1);
    std::fs::write(at.join("theta.csv"), "a,b\n3,0\n").unwrap();
    run(at, "simulate TASK.toml --theta theta.csv --out none.csv").expect(3, &["all 1 simulations failed"]);
    assert!(!at.join("none.csv").exists());
    run(at, "simulate TASK.toml --out x.csv").expect(2, &["-n <N>"]);
    run(at, "simulate TASK.toml -n 5 --theta theta.csv --out x.csv").expect(2, &["cannot be used with"]);
    run(at, "simulate TASK.toml -n 5 --out x.txt").expect(3, &["x.txt"]);
    run(at, "fit TASK.toml --out run --objective likelihood")
        .expect(3, &["\"likelihood\" needs a likelihood that can be evaluated"]);
    run(at, "fit TASK.toml --out run --simulations 0").expect(2, &["a whole number from 1"]);
    std::fs::write(at.join("twice.wgsl"), WGSL.replace("Random>)", "Random>, n: u32)")).unwrap();
    let text = "twice.wgsl:2:1: function `simulate` is declared as";
    run(at, "simulate TASK.toml -n 5 --out x.csv")
        .expect(3, &[text, "expected `fn simulate(theta: array<f32, 2>"]);
    std::fs::remove_file(at.join("twice.wgsl")).unwrap();
    run(at, "check TASK.toml").expect(3, &["`simulator.wgsl`", "cannot read"]);
    std::fs::write(at.join("TASK.toml"), "[likelihood]\ntarget = \"gauss1\"\n").unwrap();
    run(at, "simulate TASK.toml -n 5 --out x.csv")
        .expect(3, &["`simulator` is missing: a section [simulator]"]);
}

#[test]
fn check_tries_a_simulator() {
    let folder = workplace(&format!("{SIMULATOR}{PARAMETERS}"));
    let at = folder.path();
    let words =
        ["usable", "simulator: ", " of them failed", "  u from -", "  v from -", "simulations per second"];
    run(at, "check TASK.toml").expect(0, &words);
    let out = run(at, "check TASK.toml --json").expect(0, &[]).out;
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let figure = |name: &str| report["simulations"][name].as_f64().unwrap();
    let (n, failed) = (figure("n"), figure("n_failed"));
    assert!(n >= 256.0 && (failed / n - 0.0062).abs() < 0.01, "{failed} of {n}");
    let u = &report["simulations"]["observed"][0];
    assert_eq!(u["name"], "u");
    assert!(u["median"].as_f64().unwrap().abs() < 0.1 && u["largest"].as_f64().unwrap() > 1.5, "{u}");
    assert_eq!(report["source"], "simulator");
    assert!(report["training"].is_null());
}

/// A simulator in shell, by the CSV protocol: seed, number, first parameter.
#[cfg(unix)]
#[test]
fn a_command_simulates_too() {
    let script = "while IFS=, read -r n first; do i=0; while [ $i -lt $n ]; do IFS=, read -r a b; \
                  echo \"$LWFLOW_SEED,$((first + i)),$a\"; i=$((i + 1)); done; done";
    let task = format!(
        "[simulator]\ncommand = [\"sh\", \"-c\", '''{script}''']\nprotocol = \"csv\"\nworkers = 2\n\
         n_observed = 3\n{PARAMETERS}"
    );
    let folder = workplace(&task);
    let at = folder.path();
    run(at, "simulate TASK.toml -n 200 --seed 11 --out x.csv").expect(0, &["200 simulations written"]);
    for (i, row) in rows(at, "x.csv").iter().enumerate() {
        assert_eq!(row[2..], [11.0, i as f64, row[0], 1.0]);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_simulation_leaves_what_it_has() {
    let folder = workplace(&format!("{SIMULATOR}{PARAMETERS}"));
    let at = folder.path();
    let mut child = command(at);
    child
        .env("LWFLOW_DEVICE", "cpu")
        .args("simulate TASK.toml -n 10000000000 --out x.csv".split_whitespace())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null());
    let child = child.spawn().unwrap();
    let has_begun =
        || std::fs::read_dir(at).unwrap().any(|e| e.unwrap().metadata().is_ok_and(|m| m.len() > 100_000));
    while !has_begun() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let words = ["interrupted: ", " of 10000000000 simulations written to x.csv"];
    Run::from(child.wait_with_output().unwrap()).expect(130, &words);
    assert!(rows(at, "x.csv").len() > 1000);
}
