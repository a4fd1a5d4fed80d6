//! Ctrl-C during a fit: the command ends with status 130 and what there was is written and can be used.

#![cfg(unix)]

use crate::harness::{command, has_device, lwflow, task, workplace};
use std::io::{BufRead, BufReader, Read};
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
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("device: ") {
        let mut line = String::new();
        assert!(err.read_line(&mut line).unwrap() > 0, "ended before it trained: {said}");
        said.push_str(&line);
    }
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
