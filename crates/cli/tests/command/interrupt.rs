//! Ctrl-C in every long work: the command ends with status 130, and what there was is written and can be used.

#![cfg(unix)]

use crate::harness::{command, fitted, has_device, lwflow, task, workplace};
use lwflow_host::files::{ColumnChoice, SampleTable, read_samples, write_samples};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn interrupted_fit_writes_a_usable_model() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let text = task("pairs.csv", "kind = \"gaussian\"", "max_visits = 1e12", "n_samples = 50");
    std::fs::write(folder.path().join("long.toml"), text).unwrap();
    let mut child = command(folder.path())
        .args(["fit", "long.toml", "--out", "run"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut err, mut said) = until_device(&mut child);
    // Training is under way or about to begin; either must end in order.
    std::thread::sleep(Duration::from_millis(700));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    err.read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted: writing the best parameters so far"), "{said}");
    let text = std::fs::read_to_string(folder.path().join("run/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metrics["fit"]["training"]["stop"], "interrupted");
    lwflow(folder.path(), "sample run/model.safetensors -n 5 --out -").expect(0, &["a,b,log_prob"]);
}

/// What a child says on its standard error, of which lines up to the device that it runs on have been read.
fn until_device(child: &mut Child) -> (impl Read + use<>, String) {
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("device: ") {
        let mut line = String::new();
        assert!(err.read_line(&mut line).unwrap() > 0, "ended before it worked: {said}");
        said.push_str(&line);
    }
    (err, said)
}

#[test]
fn interrupted_log_prob_writes_the_rows_that_are_done() {
    if !has_device() {
        return;
    }
    const N: usize = 6_000_000;
    let folder = tempfile::tempdir().unwrap();
    let theta: Vec<f64> = (0..2 * N).map(|i| (i % 1000) as f64 / 1000.0).collect();
    let table = SampleTable::new(vec!["a".into(), "b".into()], theta).unwrap();
    let place = |name: &str| folder.path().join(name);
    write_samples(&place("in.npz"), &table, &mut std::io::sink()).unwrap();
    let model = fitted().0.join("run/model.safetensors").display().to_string();
    for out in ["out.npz", "in.npz"] {
        let mut child = command(folder.path())
            .args(["log-prob", &model, "--in", "in.npz", "--out", out])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut err, mut said) = until_device(&mut child);
        std::thread::sleep(Duration::from_millis(200));
        interrupt(&child);
        err.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
        let found = read_samples(&place(out), &ColumnChoice::default()).unwrap();
        if out == "in.npz" {
            assert!(said.contains("interrupted: in.npz stays as it was"), "{said}");
            assert!(found.n == N && found.log_prob.is_none());
            continue;
        }
        let words = format!("interrupted: log_prob of {} of {N} rows written to out.npz", found.n);
        assert!(said.contains(&words), "{said}");
        assert_eq!((found.n < N, found.log_prob.map(|v| v.len())), (true, Some(found.n)));
        assert_eq!(found.theta, table.theta[..2 * found.n]);
    }
}

fn interrupt(child: &Child) {
    // The process may have ended by itself before a second signal.
    let _ =
        Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

fn temporaries(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".lwflow-")).count()
}

/// Starts a long sampling and returns once it writes; a child that ends before is a failure, not a wait without end.
fn sampling(folder: &Path, out: &str) -> Child {
    let model = fitted().0.join("run/model.safetensors").display().to_string();
    let mut child = command(folder)
        .args(["sample", &model, "-n", "1000000000", "--out", out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while temporaries(folder) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the sampling ended before it wrote anything");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn interrupted_sampling_writes_whole_files() {
    if !has_device() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for out in ["s.npz", "s.csv", "s.parquet"] {
        let child = sampling(folder.path(), out);
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        let table = read_samples(&folder.path().join(out), &ColumnChoice::default()).unwrap();
        assert!(said.contains(&format!("interrupted: {} of 1000000000 samples", table.n)), "{said}");
        assert_eq!(table.log_prob.map(|v| v.len()), Some(table.n));
    }
}

#[test]
fn the_second_interrupt_ends_at_once_and_leaves_no_temporaries() {
    if !has_device() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = sampling(folder.path(), "s.csv");
    interrupt(&child);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(temporaries(folder.path()), 0);
}

#[test]
fn interrupted_demo_ends_without_the_unfinished_row() {
    if !has_device() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path())
        .args(["demo", "--only", "rings2,chain", "--seeds", "0,1", "--device", "software"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    assert!(said.starts_with("target"), "{said}");
    interrupt(&child);
    out.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    let remarks = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}{remarks}");
    assert_eq!(remarks.matches("interrupted: writing what there is").count(), 1, "{remarks}");
    assert!(!said.contains("rings2") && !said.contains("PolyChord"), "{said}");
    let text = std::fs::read_to_string(folder.path().join("demo/demo.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (numbers["rows"].as_array().unwrap().len(), numbers["missed"].as_array().unwrap().len()),
        (0, 0)
    );
}
