//! Rounds as a process: results and exit statuses, contracts that are missed, runs that are killed and resumed.

use crate::harness::{Run, command};
use std::path::Path;
use std::time::Duration;

/// Two narrow modes under a uniform prior, in WGSL; Z = 1 / 64 but for 1e-5 beyond the bounds. So far from the modes, it makes
/// no difference that the second parameter is periodic.
const WGSL: &str = "
fn log_likelihood(theta: array<f32, D>) -> f32 {
    let a = normal_log_pdf(theta[0], -2.0, 0.3) + normal_log_pdf(theta[1], 1.0, 0.3);
    let b = normal_log_pdf(theta[0], 2.0, 0.3) + normal_log_pdf(theta[1], -1.0, 0.3);
    return log_add(a, b) - log(2.0);
}
fn derived(theta: array<f32, D>) -> array<f32, 1> {
    return array<f32, 1>(theta[0] + theta[1]);
}
";

fn task(folder: &Path, rounds: &str) {
    std::fs::write(folder.join("two.wgsl"), WGSL).unwrap();
    let text = format!(
        "[likelihood]\nwgsl = \"two.wgsl\"\nderived = [\"sum\"]\n\
         [parameters.a]\nprior = \"uniform\"\nlower = -4.0\nupper = 4.0\n\
         [parameters.b]\nprior = \"uniform\"\nlower = -4.0\nupper = 4.0\nperiodic = true\n\
         [flow]\nn_layers = 4\nhidden = [16, 16]\n[training]\nmax_visits = 40000\n[output]\nfigures = false\n\
         [rounds]\n{rounds}\n"
    );
    std::fs::write(folder.join("TASK.toml"), text).unwrap();
}

fn fit(folder: &Path, more: &str) -> Run {
    let mut command = command(folder);
    command.args("fit TASK.toml --device cpu".split_whitespace()).args(more.split_whitespace());
    Run::from(command.output().unwrap())
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_contract_is_met_or_missed_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    task(at, "target_ess = 1000\nmax_evaluations = 20000");
    fit(at, "--out met").expect(0, &["verdict: contract met", "log Z", "modes: 2 found", "64-bit audit"]);
    let verdict = json(&at.join("met/verdict.json"));
    assert_eq!(verdict["met"], true);
    let log_z = verdict["evidence"]["flow"]["log_z"].as_f64().unwrap();
    let sd = verdict["evidence"]["flow"]["sd"].as_f64().unwrap();
    assert!((log_z + 64f64.ln()).abs() < 5.0 * sd + 1e-3, "log Z {log_z} +- {sd}");
    for name in ["model.safetensors", "samples.npz", "equal_weight.npz", "metrics.json", "rounds.csv"] {
        assert!(at.join("met").join(name).exists(), "{name}");
    }
    // The same folder is not written over, and a missed contract has its own status and leaves its results.
    fit(at, "--out met").expect(3, &["--force"]);
    fit(at, "--out missed --target-ess 1e6")
        .expect(6, &["verdict: contract NOT met", "the contract asks for 1000000"]);
    assert!(at.join("missed/samples.npz").exists());
    fit(at, "--out x --max-k-hat 0").expect(2, &["max_k_hat = 0, expected a number above 0, at most 0.7"]);
    fit(at, "--out x --resume").expect(3, &["no run to resume"]);
    fit(at, "--out met --resume --seed 9").expect(3, &["begun with seed 0, now it is 9"]);
}

/// When to kill, in milliseconds after the start, up to `longest`: `n` times, or as often as `LWFLOW_KILLS` says.
fn moments(n: u64, longest: u64) -> Vec<u64> {
    let n = std::env::var("LWFLOW_KILLS").ok().map_or(n, |n| n.parse().unwrap());
    // The golden ratio scatters them evenly; a run gets further with each.
    (1..=n)
        .map(|i| 20 + (longest as f64 * (0.618_034 * i as f64).fract() * i as f64 / n as f64) as u64)
        .collect()
}

/// A run that is killed at several moments and resumed ends with the bytes of one that was left alone.
#[test]
fn a_killed_run_is_resumed_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    task(at, "target_ess = 1500\nmax_evaluations = 20000\nn_round = 500");
    fit(at, "--out whole").expect(0, &["verdict"]);
    let mut n_killed = 0;
    for milliseconds in moments(7, 900) {
        let mut command = command(at);
        let more = if at.join("killed/run/run.json").exists() { "--resume" } else { "--force" };
        command.args(["fit", "TASK.toml", "--device", "cpu", "--out", "killed", "--quiet", more]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        n_killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(n_killed >= 3, "only {n_killed} runs were killed before their end");
    fit(at, "--out killed --resume").expect(0, &["going on after"]);
    for name in ["model.safetensors", "samples.npz", "equal_weight.npz"] {
        let [whole, killed] = ["whole", "killed"].map(|run| std::fs::read(at.join(run).join(name)).unwrap());
        assert!(whole == killed, "{name} differs");
    }
}

/// A scan of which only sums and the best draws are kept: its figures, its file, and the same bytes after it was killed.
#[test]
fn a_deep_scan_is_told_kept_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    task(at, "target_ess = 1000\nmax_evaluations = 1500000\nn_scan = 1000000\nn_round = 2000");
    fit(at, "--out whole")
        .expect(0, &["verdict: contract met", "deep scan of 901120 draws on the device", "draws per second"]);
    let metrics = json(&at.join("whole/metrics.json"));
    let rounds = &metrics["rounds"];
    assert_eq!(rounds["n_scan"], 1_000_000);
    assert_eq!(rounds["deep_scan"]["n_kept"], 50_000);
    let scan = &rounds["evidence"]["scan"];
    assert_eq!(scan["n"], 1_000_000);
    let (log_z, sd) = (scan["log_z"].as_f64().unwrap(), scan["sd"].as_f64().unwrap());
    assert!(sd < 2e-3 && (log_z + 64f64.ln()).abs() < 5.0 * sd + 2e-5, "log Z {log_z} +- {sd}");
    let limit = rounds["coverage"]["prior_mass_limit"].as_f64().unwrap();
    assert!(limit < 3.1e-6, "{limit}");
    for milliseconds in moments(4, 500) {
        let mut command = command(at);
        let more = if at.join("killed/run/run.json").exists() { "--resume" } else { "--force" };
        command.args(["fit", "TASK.toml", "--device", "cpu", "--out", "killed", "--quiet", more]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fit(at, "--out killed --resume").expect(0, &["going on after"]);
    for name in ["model.safetensors", "samples.npz", "equal_weight.npz", "run/scan.deep"] {
        let [whole, killed] = ["whole", "killed"].map(|run| std::fs::read(at.join(run).join(name)).unwrap());
        assert!(whole == killed, "{name} differs");
    }
    let path = at.join("killed/run/scan.deep");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    fit(at, "--out killed --resume").expect(3, &["scan.deep: damaged"]);
}
