//! What the command refuses, with which status and in which words: file, row, field, and what would have been right.
//! A refused fit leaves no folder behind.

use crate::harness::{command, fitted, has_device, lwflow, points, task, workplace};
use std::fs;

#[test]
fn usage_is_status_2() {
    let folder = workplace();
    lwflow(folder.path(), "").expect(2, &["Usage", "fit", "sample", "log-prob", "devices"]);
    lwflow(folder.path(), "fit TASK.toml").expect(2, &["--out"]);
    lwflow(folder.path(), "fit TASK.toml --out run --sede 3").expect(2, &["--seed"]);
    lwflow(folder.path(), "sample m.safetensors -n many --out -").expect(2, &["many"]);
    lwflow(folder.path(), "--help").expect(0, &["Exit status", "130"]);
}

#[test]
fn wrong_task_is_status_3_and_named() {
    let folder = workplace();
    let good = fs::read_to_string(folder.path().join("TASK.toml")).unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        ("n_layers", "n_layer", &["bad.toml:13", "flow.n_layer", "did you mean `flow.n_layers`"]),
        ("[training]", "[trainig]", &["trainig", "training"]),
        ("\"gaussian\"", "\"gausian\"", &["base.kind", "did you mean", "gaussian"]),
        ("pairs.csv", "missing.csv", &["missing.csv", "cannot open"]),
        ("pairs.csv", "pairs.txt", &["likelihood.pairs", ".npz, .csv or .parquet"]),
        ("[parameters.b]", "[parameters.c]", &["`c`"]),
        ("n_layers = 2", "n_layers = -2", &["flow.n_layers", "-2"]),
        ("upper = 5", "upper = -6", &["parameters.a.upper", "lower"]),
        ("n_layers = 2", "n_layers = ", &["bad.toml:13", "not valid TOML"]),
    ];
    for (from, to, words) in cases {
        assert!(good.contains(from), "{from}");
        fs::write(folder.path().join("bad.toml"), good.replacen(from, to, 1)).unwrap();
        lwflow(folder.path(), "fit bad.toml --out run").expect(3, words);
    }
    lwflow(folder.path(), "fit nowhere.toml --out run").expect(3, &["nowhere.toml", "cannot read"]);
    assert!(!folder.path().join("run").exists(), "a refused task left a folder");
}

#[test]
fn replicas_and_trained_components_are_for_points() {
    let folder = workplace();
    for (more, word) in [
        ("[training]\nreplicas = 4\n", "replicas are for weighted points"),
        ("[base]\nn_components = \"trained\"\n", "for fits of points"),
    ] {
        let text = format!("[likelihood]\ntarget = \"gauss1\"\n[rounds]\ntarget_ess = 100\n{more}");
        fs::write(folder.path().join("rounds.toml"), text).unwrap();
        lwflow(folder.path(), "fit rounds.toml --out run").expect(3, &["rounds.toml", word]);
    }
    let text = "[likelihood]\ntarget = \"gauss1\"\n[training]\nreplicas = 1\n";
    fs::write(folder.path().join("one.toml"), text).unwrap();
    lwflow(folder.path(), "fit one.toml --out run")
        .expect(3, &["one.toml:4", "training.replicas", "2 to 256"]);
}

#[test]
fn wrong_row_is_status_3_and_named() {
    let folder = workplace();
    let good = points("log_likelihood", 60);
    let cases: &[(&str, &[&str])] = &[
        ("1,0.5,nan", &["pairs.csv", "row 3", "line 5", "log_likelihood", "NaN", "theta = [1, 0.5]"]),
        ("1,0.5,inf", &["row 3", "log_likelihood", "inf"]),
        ("nan,0.5,-1", &["row 3", "theta[0] (a)"]),
        ("1,0.5", &["line 5", "2 columns"]),
        ("1,half,-1", &["row 3", "half", "not a number"]),
    ];
    for (row, words) in cases {
        let mut lines: Vec<&str> = good.lines().collect();
        lines.insert(4, row);
        fs::write(folder.path().join("pairs.csv"), lines.join("\n")).unwrap();
        lwflow(folder.path(), "fit TASK.toml --out run").expect(3, words);
    }
    fs::write(folder.path().join("pairs.csv"), "a,b,log_likelihood\n1,0.5,-inf\n2,0.5,-inf\n").unwrap();
    lwflow(folder.path(), "fit TASK.toml --out run").expect(3, &["pairs.csv", "weight zero", "2 rows"]);
    fs::write(folder.path().join("pairs.csv"), "a,b,log_likelihod\n1,0.5,-1\n").unwrap();
    lwflow(folder.path(), "fit TASK.toml --out run").expect(3, &["log_likelihod", "did you mean"]);
    fs::write(folder.path().join("pairs.csv"), "").unwrap();
    lwflow(folder.path(), "fit TASK.toml --out run").expect(3, &["pairs.csv", "empty"]);
    assert!(!folder.path().join("run").exists(), "a refused file left a folder");
}

#[test]
fn point_outside_its_support_names_file_and_row() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let mut text = points("log_likelihood", 60);
    text.push_str("1,1.0,-1\n");
    fs::write(folder.path().join("pairs.csv"), text).unwrap();
    lwflow(folder.path(), "fit TASK.toml --out run").expect(3, &["pairs.csv", "row 60", "b = 1", "(0, 1)"]);
    // A constant parameter has no density; the rounding of its mean is no spread.
    let text: String = points("log_likelihood", 60)
        .lines()
        .map(|l| {
            l.splitn(3, ',').enumerate().map(|(i, c)| if i == 1 && c != "b" { "0.1" } else { c }).collect()
        })
        .map(|cells: Vec<&str>| cells.join(",") + "\n")
        .collect();
    fs::write(folder.path().join("pairs.csv"), text).unwrap();
    lwflow(folder.path(), "fit TASK.toml --out run")
        .expect(3, &["pairs.csv", "parameter b", "same value (0.1"]);
}

#[test]
fn unknown_device_is_status_4() {
    let folder = workplace();
    lwflow(folder.path(), "fit TASK.toml --out run --device nonsense").expect(4, &["nonsense", "no device"]);
    lwflow(folder.path(), "fit TASK.toml --out run --device 99").expect(4, &["99"]);
    // An empty variable is an unset one: the next thing that is wrong is the model.
    let arguments = ["sample", "none.safetensors", "-n", "1", "--out", "-"];
    let output = command(folder.path()).args(arguments).env("LWFLOW_DEVICE", "").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn failed_fit_is_status_5() {
    use lwflow_cli::exit::{CommandError, Status};
    let error = lwflow_host::HostError::NonFinite { step: 40, skipped: 20, loss: f64::NAN };
    let error = CommandError::from(error);
    assert_eq!((error.status, Status::Fit as i32), (Status::Fit, 5));
    assert!(error.message.contains("step 40") && error.message.contains("learning_rate"), "{error}");
}

#[test]
fn earlier_results_and_places_that_are_no_folder_are_refused() {
    let folder = workplace();
    fs::create_dir(folder.path().join("old")).unwrap();
    fs::write(folder.path().join("old/model.safetensors"), b"x").unwrap();
    lwflow(folder.path(), "fit TASK.toml --out old").expect(3, &["old", "earlier fit", "--force"]);
    assert_eq!(fs::read(folder.path().join("old/model.safetensors")).unwrap(), b"x");
    // The files of somebody else bear the same names.
    fs::create_dir(folder.path().join("theirs")).unwrap();
    fs::write(folder.path().join("theirs/metrics.json"), b"y").unwrap();
    lwflow(folder.path(), "fit TASK.toml --out theirs").expect(3, &["theirs", "(metrics.json)", "--force"]);
    assert_eq!(fs::read_dir(folder.path().join("theirs")).unwrap().count(), 1);
    lwflow(folder.path(), "fit TASK.toml --out pairs.csv").expect(3, &["pairs.csv", "cannot write"]);
    lwflow(folder.path(), "fit TASK.toml --out pairs.csv/run").expect(3, &["pairs.csv/run", "cannot write"]);
}

#[test]
fn counts_that_nothing_holds_are_refused() {
    let folder = workplace();
    lwflow(folder.path(), "sample m.safetensors -n 9999999999999999 --out s.csv")
        .expect(2, &["9999999999999999"]);
    let good = fs::read_to_string(folder.path().join("TASK.toml")).unwrap();
    let many = good.replace("n_samples = 400", "n_samples = 1e15");
    fs::write(folder.path().join("many.toml"), many).unwrap();
    lwflow(folder.path(), "fit many.toml --out run").expect(3, &["many.toml", "output.n_samples", "at most"]);
    let text = "[likelihood]\ntarget = \"gauss2\"\nn_draws = 1e15\n";
    fs::write(folder.path().join("draws.toml"), text).unwrap();
    lwflow(folder.path(), "fit draws.toml --out run")
        .expect(3, &["draws.toml", "likelihood.n_draws", "at most"]);
    assert!(!folder.path().join("run").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_status_1() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let model = fitted().0.join("run/model.safetensors");
    let output = command(folder.path())
        .args(["sample", &model.display().to_string(), "-n", "20000", "--out", "-"])
        .stdout(fs::File::create("/dev/full").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("-: cannot write"), "{said}");
}

/// Mesa's layer speaks where the variable is not set; the command must not let it.
#[cfg(target_os = "linux")]
#[test]
fn only_lwflow_speaks() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let mut command = command(folder.path());
    for name in ["NODEVICE_SELECT", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY"] {
        command.env_remove(name);
    }
    let output = command.arg("devices").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("XDG_RUNTIME_DIR"), "{said}");
}

#[test]
fn sample_and_log_prob_refuse_before_they_work() {
    let folder = workplace();
    let say = |arguments: &str, words: &[&str]| {
        lwflow(folder.path(), arguments).expect(3, words);
    };
    say("sample none.safetensors -n 3 --out -", &["none.safetensors", "cannot read"]);
    say("sample pairs.csv -n 3 --out -", &["pairs.csv", "not a usable model file"]);
    if !has_device() {
        return;
    }
    let model = fitted().0.join("run/model.safetensors").display().to_string();
    say(&format!("sample {model} -n 3 --out x.txt"), &["x.txt", ".npz, .csv or .parquet"]);
    say(&format!("sample {model} -n 3 --out nowhere/x.csv"), &["nowhere", "does not exist"]);
    say(&format!("sample {model} -n 3 --out x.csv --context 1,2"), &["--context has 2 values", "takes 0"]);
    fs::write(folder.path().join("one.csv"), "a\n1\n").unwrap();
    say(&format!("log-prob {model} --in one.csv --out -"), &["one.csv", "`b`"]);
    fs::write(folder.path().join("nan.csv"), "a,b\n1,0.5\nnan,0.5\n").unwrap();
    say(&format!("log-prob {model} --in nan.csv --out -"), &["nan.csv", "row 1", "(a)"]);
    fs::write(folder.path().join("bare.csv"), "1,0.5\n").unwrap();
    say(&format!("log-prob {model} --in bare.csv --out -"), &["bare.csv", "column names"]);
}

#[test]
fn weights_of_unknown_scale_refuse_the_control_variate() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    fs::write(folder.path().join("weights.csv"), points("weight", 200)).unwrap();
    let text = task("weights.csv", "kind = \"gaussian\"", "control_variate = true", "figures = false");
    fs::write(folder.path().join("cv.toml"), text).unwrap();
    lwflow(folder.path(), "fit cv.toml --out run").expect(3, &["control_variate", "density of the draws"]);
}
