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
fn earlier_results_and_unwritable_folders_are_refused() {
    let folder = workplace();
    fs::create_dir(folder.path().join("old")).unwrap();
    fs::write(folder.path().join("old/model.safetensors"), b"x").unwrap();
    lwflow(folder.path(), "fit TASK.toml --out old").expect(3, &["old", "earlier fit", "--force"]);
    assert_eq!(fs::read(folder.path().join("old/model.safetensors")).unwrap(), b"x");
    lwflow(folder.path(), "fit TASK.toml --out pairs.csv").expect(3, &["pairs.csv", "cannot write"]);
    lwflow(folder.path(), "fit TASK.toml --out pairs.csv/run").expect(3, &["pairs.csv/run", "cannot write"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let locked = folder.path().join("locked");
        fs::create_dir(&locked).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
        if fs::write(locked.join("probe"), b"").is_ok() {
            println!("SKIP read-only folder: this user writes everywhere");
        } else {
            lwflow(folder.path(), "fit TASK.toml --out locked").expect(3, &["locked", "cannot write"]);
        }
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    }
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
