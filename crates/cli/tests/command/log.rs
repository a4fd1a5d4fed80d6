//! What `fit` says on stderr: a JSON object a line for programs, and nothing but that.

use crate::harness::{has_device, lwflow, workplace};
use serde_json::Value;

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn json_lines_tell_stages_and_rounds() {
    let folder = workplace();
    let text =
        "fn log_likelihood(theta: array<f32, D>) -> f32 { return normal_log_pdf(theta[0], 0.5, 0.1); }";
    std::fs::write(folder.path().join("l.wgsl"), text).unwrap();
    let task = "[likelihood]\nwgsl = \"l.wgsl\"\n[rounds]\ntarget_ess = 300\nn_scan = 8192\n\
                [parameters.a]\nprior = \"uniform\"\nlower = 0\nupper = 1\n\
                [flow]\nn_layers = 2\nhidden = [8, 8]\n[training]\nmax_visits = 20000\nbatch_size = 128\n";
    std::fs::write(folder.path().join("ROUNDS.toml"), task).unwrap();
    let run = lwflow(folder.path(), "fit ROUNDS.toml --out r --device cpu --log json").expect(0, &[]);
    let all = events(&run.err);
    assert!(of_kind(&all, "remark").iter().any(|e| e["text"].as_str().unwrap().starts_with("device: ")));
    let stages: Vec<&str> = of_kind(&all, "stage").iter().map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(stages[0], "prior");
    assert!(stages.iter().any(|stage| stage.starts_with("round 1: training (beta ")), "{stages:?}");
    let rounds = of_kind(&all, "round");
    assert!(!rounds.is_empty() && rounds[0]["round"] == 1, "{rounds:?}");
    assert!(rounds.iter().all(|e| e["log_z"].is_f64() && e["n_evaluations"].as_u64() > Some(8192)));
    assert!(of_kind(&all, "error").is_empty());
}

#[test]
fn an_error_is_an_event_too_even_when_quiet() {
    let folder = workplace();
    for flags in ["--log json", "--log json --quiet"] {
        let run = lwflow(folder.path(), &format!("fit nowhere.toml --out r {flags}")).expect(3, &[]);
        let all = events(&run.err);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0]["event"] == "error" && all[0]["status"] == 3);
        assert!(all[0]["text"].as_str().unwrap().contains("nowhere.toml"));
    }
}

#[test]
fn a_quiet_fit_says_nothing() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    for log in ["text", "json"] {
        let run =
            lwflow(folder.path(), &format!("fit TASK.toml --out {log} --quiet --log {log}")).expect(0, &[]);
        assert_eq!(run.err, "");
    }
}
