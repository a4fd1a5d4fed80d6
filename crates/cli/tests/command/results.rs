//! What a fit leaves behind and what the other subcommands make of it: files, figures, numbers and round trips.
//! Numbers that cannot be known are null in metrics.json and said in words.

use crate::harness::{Run, command, fitted, has_device, lwflow, points, task, workplace};
use lwflow_host::files::{ColumnChoice, SampleTable, read_samples};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn metrics(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("metrics.json")).unwrap()).unwrap()
}

fn table(path: &Path) -> SampleTable {
    read_samples(path, &ColumnChoice::default()).unwrap()
}

/// Repository root: the chains of the tests lie there.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn fit_writes_all_it_promises() {
    if !has_device() {
        return;
    }
    let (folder, run) = fitted();
    let out = folder.join("run");
    for line in [
        "pairs: 2000 rows",
        "log Z = -3.0",
        "fit: base Gaussian",
        "few effective points: 212 parameters",
        "mass of the flow",
        "results in run",
    ] {
        assert!(run.out.contains(line), "no `{line}` in\n{}", run.out);
    }
    for line in ["draws are taken to come from the prior", "device: ", "b: lower bound 0 gets a hard"] {
        assert!(run.err.contains(line), "no `{line}` in\n{}", run.err);
    }
    assert!(!run.out.contains("NaN"), "{}", run.out);

    for name in ["corner.png", "density.png", "loss.png"] {
        let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(out.join(name)).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(reader.info().width >= 300 && pixels.iter().any(|p| *p != pixels[0]), "{name} is blank");
    }
    let history = fs::read_to_string(out.join("history.csv")).unwrap();
    let mut lines = history.lines();
    assert_eq!(lines.next(), Some("step,visits,learning_rate,training_loss,validation_loss"));
    let rows: Vec<Vec<f64>> = lines.map(|l| l.split(',').map(|c| c.parse().unwrap()).collect()).collect();
    assert!(rows.len() >= 10 && rows.iter().flatten().all(|v| v.is_finite()));
    assert!(rows.windows(2).all(|w| w[1][0] > w[0][0] && w[1][1] > w[0][1]), "steps do not ascend");

    let m = metrics(&out);
    let seconds = |key: &str| m["timings"][key].as_f64().unwrap();
    let parts = ["reading", "mixture", "starts", "weighting", "training"].map(seconds);
    assert!(parts[0] > 0.0 && parts[4] > 0.0 && parts[3] == 0.0, "{parts:?}");
    assert!(parts.iter().sum::<f64>() <= m["seconds"].as_f64().unwrap(), "{parts:?}");
    assert_eq!((&m["seed"], &m["fit"]["n"]), (&Value::from(7), &Value::from(2000)));
    assert_eq!(m["pairs"]["weights"]["n"], 2000);
    assert!(m["pairs"]["evidence"]["log_z"].is_f64() && m["pairs"]["evidence"]["log_z_sd"].is_f64());
    // log Z is known: the integral of the likelihood over the box.
    let truth = (0.8 * (2.0 * std::f64::consts::PI).sqrt() / 10.0 * (1.0 - (-4f64).exp()) / 4.0).ln();
    let log_z = m["pairs"]["evidence"]["log_z"].as_f64().unwrap();
    assert!((log_z - truth).abs() < 0.02, "{log_z} {truth}");
    assert!(m["fit"]["training"]["n_validation"].as_u64().is_some_and(|n| n > 100));
    assert!(m["fit"]["training"]["best_validation_loss"].is_f64() && m["target"].is_null());

    let samples = table(&out.join("samples.npz"));
    assert_eq!((samples.n, samples.dim, &samples.names[..]), (400, 2, &["a".to_owned(), "b".to_owned()][..]));
    for row in samples.theta.chunks_exact(2) {
        assert!(row[0] > -5.0 && row[0] < 5.0 && row[1] > 0.0 && row[1] < 1.0, "{row:?}");
    }
    let leftovers: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(leftovers.len(), 9, "{leftovers:?}");
}

#[test]
fn replicas_give_error_bars_and_leave_the_fit_as_it_is() {
    if !has_device() {
        return;
    }
    let (alone, _) = fitted();
    let folder = workplace();
    let command = "fit TASK.toml --out run --seed 7 --quiet --replicas 3";
    let run = lwflow(folder.path(), command).expect(0, &["error bars from 3 replicas", "  a: mean ", " +- "]);
    assert!(run.err.is_empty(), "{}", run.err);
    let out = folder.path().join("run");
    let model = |path: &Path| fs::read(path.join("model.safetensors")).unwrap();
    assert!(model(&out) == model(&alone.join("run")), "the fit is another one");
    let bars = &metrics(&out)["error_bars"];
    assert_eq!((&bars["n_replicas"], bars["parameters"].as_array().unwrap().len()), (&Value::from(3), 2));
    for key in ["mean", "sd", "q05", "median", "q95"] {
        let error = bars["parameters"][0][key]["error"].as_f64().unwrap();
        assert!(error > 0.0 && error < 1.0, "{key}: {error}");
    }
    assert!(metrics(&alone.join("run"))["error_bars"].is_null());
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Error bars") && page.contains("3 replicas"));
    // Every replica is a model like any other, and no two are the same.
    let draw = |k: usize| {
        lwflow(folder.path(), &format!("sample run/replicas/{k}.safetensors -n 50 --out {k}.npz"))
            .expect(0, &[]);
        table(&folder.path().join(format!("{k}.npz"))).theta
    };
    assert!(draw(1) != draw(2) && draw(2) != draw(3));
    lwflow(folder.path(), "fit TASK.toml --out run --seed 7 --quiet").expect(3, &["replicas", "--force"]);
    lwflow(folder.path(), "fit TASK.toml --out run --seed 7 --quiet --force").expect(0, &[]);
    assert!(!out.join("replicas").exists(), "replicas of an earlier fit");
    lwflow(folder.path(), "fit TASK.toml --out other --replicas 1").expect(2, &["--replicas", "2 to 256"]);
}

#[test]
fn the_number_of_components_by_training_is_told() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let text = fs::read_to_string(folder.path().join("TASK.toml")).unwrap();
    let base = "kind = \"gaussian\"";
    assert!(text.contains(base), "{text}");
    let trained = text.replace(base, "n_components = \"trained\"\nmax_components = 3");
    fs::write(folder.path().join("TASK.toml"), trained).unwrap();
    let run = lwflow(folder.path(), "fit TASK.toml --out run --seed 7").expect(0, &["fit: base mixture of"]);
    assert!(run.err.contains("components were taken, the least number whose flow"), "{}", run.err);
    let fit = &metrics(&folder.path().join("run"))["fit"];
    assert_eq!(
        (fit["component_trials"].as_array().unwrap().len(), &fit["components"]),
        (3, &Value::from(Vec::<u8>::new()))
    );
}

#[test]
fn samples_and_log_prob_go_round_through_every_format() {
    if !has_device() {
        return;
    }
    let (folder, _) = fitted();
    let mut tables = Vec::new();
    for kind in ["npz", "csv", "parquet"] {
        let run = lwflow(folder, &format!("sample run/model.safetensors -n 200 --seed 7 --out s.{kind}"));
        assert_eq!(run.expect(0, &["200 samples"]).out, "", "a file was asked for, stdout is not empty");
        let run = lwflow(folder, &format!("log-prob run/model.safetensors --in s.{kind} --out l.{kind}"));
        run.expect(0, &["200 rows"]);
        let (s, l) = (table(&folder.join(format!("s.{kind}"))), table(&folder.join(format!("l.{kind}"))));
        assert_eq!(s.theta, l.theta, "{kind}");
        for (s, l) in s.log_prob.as_ref().unwrap().iter().zip(l.log_prob.as_ref().unwrap()) {
            assert!((s - l).abs() < 1e-4, "{kind}: sampled with {s}, evaluated {l}");
        }
        tables.push((s, l));
    }
    assert!(tables.windows(2).all(|t| t[0].0.theta == t[1].0.theta && t[0].1.log_prob == t[1].1.log_prob));

    // The fit drew the same samples, and more draws do not change the first ones.
    let fit = table(&folder.join("run/samples.npz"));
    assert!(fit.theta[..400] == tables[0].0.theta[..], "the model file is not exact");

    // On stdout there is data alone.
    let run = lwflow(folder, "sample run/model.safetensors -n 3 --seed 7 --out -").expect(0, &[]);
    assert_eq!((run.err.as_str(), run.out.lines().count()), ("", 4));
    assert!(run.out.starts_with("a,b,log_prob\n"), "{}", run.out);
    fs::write(folder.join("stdin.csv"), &run.out).unwrap();
    let again = lwflow(folder, "log-prob run/model.safetensors --in stdin.csv --out -").expect(0, &[]);
    assert_eq!((again.err.as_str(), again.out.lines().count()), ("", 4));

    // On and outside the bounds the density is zero; columns are found by name.
    fs::write(folder.join("edge.csv"), "b,other,a\n0.5,1,1\n0,1,1\n1,1,1\n2,1,1\n0.5,1,-5\n").unwrap();
    let edge = lwflow(folder, "log-prob run/model.safetensors --in edge.csv --out -").expect(0, &[]);
    let last: Vec<&str> = edge.out.lines().skip(1).filter_map(|l| l.rsplit(',').next()).collect();
    assert!(last[0].parse::<f64>().unwrap() > -5.0);
    assert_eq!(last[1..], ["-inf"; 4]);
}

#[cfg(unix)]
#[test]
fn a_reader_that_stops_early_is_no_error() {
    use crate::harness::command;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    if !has_device() {
        return;
    }
    let (folder, _) = fitted();
    let mut child = command(folder)
        .args(["sample", "run/model.safetensors", "-n", "20000", "--out", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(line, "a,b,log_prob\n");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));

    let mut child =
        command(folder).arg("devices").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn same_seed_same_bytes() {
    if !has_device() {
        return;
    }
    let (folder, _) = fitted();
    let other = workplace();
    lwflow(other.path(), "fit TASK.toml --out run --seed 7 --quiet").expect(0, &["results in run"]);
    for name in ["model.safetensors", "samples.npz", "history.csv"] {
        let read = |folder: &Path| fs::read(folder.join("run").join(name)).unwrap();
        assert!(read(folder) == read(other.path()), "{name} differs between two runs of one seed");
    }
    // With --force the results of another seed replace them.
    let forced = lwflow(other.path(), "fit TASK.toml --out run --seed 8 --force --quiet").expect(0, &[]);
    assert_eq!(forced.err, "", "--quiet speaks");
    assert_eq!(metrics(&other.path().join("run"))["seed"], 8);
    // What the new fit does not write would be taken for its result.
    let text = fs::read_to_string(other.path().join("TASK.toml")).unwrap();
    let text = text.replace("n_samples = 400", "n_samples = 0\nfigures = false").replace("20000", "256");
    fs::write(other.path().join("bare.toml"), text).unwrap();
    fs::write(other.path().join("run/notes.txt"), "mine").unwrap();
    lwflow(other.path(), "fit bare.toml --out run --seed 9 --force --quiet").expect(0, &[]);
    let mut names: Vec<_> = fs::read_dir(other.path().join("run"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["history.csv", "metrics.json", "model.safetensors", "notes.txt"]);
}

#[test]
fn log_prob_keeps_what_the_table_holds() {
    if !has_device() {
        return;
    }
    let (folder, _) = fitted();
    let model = folder.join("run/model.safetensors").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let text = "a,b,log_likelihood,log_prior\n1,0.5,-2,-1\n0.5,0.25,-inf,-1\n";
    for kind in ["npz", "csv", "parquet"] {
        fs::write(folder.path().join("in.csv"), text).unwrap();
        let file = format!("t.{kind}");
        lwflow(folder.path(), &format!("log-prob {model} --in in.csv --out {file}")).expect(0, &["2 rows"]);
        // In place: the columns stay, and a log_prob that was there is replaced.
        let words = &["2 rows", "replacing the earlier file"];
        lwflow(folder.path(), &format!("log-prob {model} --in {file} --out {file}")).expect(0, words);
        let table = table(&folder.path().join(&file));
        assert_eq!(table.log_likelihood, Some(vec![-2.0, f64::NEG_INFINITY]), "{kind}");
        assert_eq!(table.log_prior, Some(vec![-1.0; 2]), "{kind}");
        assert!(table.log_prob.unwrap().iter().all(|v| v.is_finite()), "{kind}");
    }
    // What cannot be kept is said, and never lost from the only copy.
    let text = "a,b,who\n1,0.5,me\n";
    fs::write(folder.path().join("who.csv"), text).unwrap();
    let refused = format!("log-prob {model} --in who.csv --out ./who.csv");
    lwflow(folder.path(), &refused).expect(3, &["also holds who", "another file"]);
    assert_eq!(fs::read_to_string(folder.path().join("who.csv")).unwrap(), text);
    lwflow(folder.path(), &format!("log-prob {model} --in who.csv --out o.csv"))
        .expect(0, &["left out: who"]);
}

#[test]
fn weights_alone_give_no_evidence() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    fs::write(folder.path().join("weights.csv"), points("weight", 1000)).unwrap();
    let text = task("weights.csv", "n_components = 2", "max_visits = 256", "figures = false\nn_samples = 0");
    fs::write(folder.path().join("w.toml"), text).unwrap();
    let words = &["give no evidence", "log Z: none", "unknown common factor", "base mixture of 2"];
    lwflow(folder.path(), "fit w.toml --out run").expect(0, words);
    let m = metrics(&folder.path().join("run"));
    assert!(m["pairs"]["evidence"]["log_z"].is_null() && m["pairs"]["evidence"]["log_z_sd"].is_null());
    assert!(m["pairs"]["weights"].get("log_z").is_none(), "a second log Z beside the evidence");
    assert!(!folder.path().join("run/loss.png").exists() && !folder.path().join("run/samples.npz").exists());
}

#[test]
fn context_is_given_and_asked_for() {
    if !has_device() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("a,context_0,log_weight\n");
    for i in 0..2000 {
        // a is uniform around its context.
        let (u, v) = ((0.7549 * i as f64).fract(), (0.5698 * i as f64).fract());
        text.push_str(&format!("{},{},0\n", 4.0 * u - 2.0 + v - 0.5, 4.0 * u - 2.0));
    }
    fs::write(folder.path().join("c.csv"), text).unwrap();
    let text = "[likelihood]\npairs = \"c.csv\"\n[flow]\nn_layers = 2\nhidden = [8, 8]\n[base]\nkind = \"gaussian\"\n\
                [training]\nbatch_size = 128\nmax_visits = 20000\n";
    fs::write(folder.path().join("c.toml"), text).unwrap();
    lwflow(folder.path(), "fit c.toml --out run").expect(0, &["log Z: none (with context", "no samples.npz"]);
    for context in ["-1.5", "1"] {
        let ask = format!("sample run/model.safetensors -n 400 --out - --context {context}");
        let run = lwflow(folder.path(), &ask).expect(0, &[]);
        let column = run.out.lines().skip(1).map(|l| l.split(',').next().unwrap().parse::<f64>().unwrap());
        let mean = column.sum::<f64>() / 400.0;
        assert!((mean - context.parse::<f64>().unwrap()).abs() < 0.3, "mean {mean} at context {context}");
    }
    lwflow(folder.path(), "sample run/model.safetensors -n 4 --out - --context nan").expect(2, &["NaN"]);
    lwflow(folder.path(), "sample run/model.safetensors -n 4 --out -")
        .expect(3, &["--context has 0", "takes 1"]);
    lwflow(folder.path(), "log-prob run/model.safetensors --in c.csv --out l.npz").expect(0, &["2000 rows"]);
    fs::write(folder.path().join("bare.csv"), "a\n1\n").unwrap();
    let words = &["bare.csv", "0 context values", "takes 1"];
    lwflow(folder.path(), "log-prob run/model.safetensors --in bare.csv --out -").expect(3, words);
}

#[test]
fn known_target_is_compared() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let text = "[likelihood]\ntarget = \"gauss2\"\nn_draws = 4096\n[flow]\nn_layers = 2\nhidden = [8, 8]\n\
                [base]\nn_components = 2\n[training]\nbatch_size = 128\nmax_visits = 256\n[output]\nfigures = false\n";
    fs::write(folder.path().join("t.toml"), text).unwrap();
    let run = lwflow(folder.path(), "fit t.toml --out run").expect(0, &["against the known target gauss2"]);
    assert!(!run.out.contains("NaN"), "{}", run.out);
    let m = metrics(&folder.path().join("run"));
    for figure in ["forward_kl", "reverse_kl", "importance", "sliced_wasserstein2", "modes", "bridge"] {
        assert!(
            m["target"][figure]["n"].as_u64().is_some_and(|n| n > 0),
            "{figure}: {}",
            m["target"][figure]
        );
    }
    // One block of draws gives a log Z without a standard error, and says so.
    assert!(m["pairs"]["evidence"]["log_z"].is_f64() && m["pairs"]["evidence"]["log_z_sd"].is_null());
}

fn fit_chain(name: &str, format: &str, more: &str) -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().unwrap();
    // Single quotes: a Windows path has backslashes.
    let chain = root().join("tests/data/chains").join(name);
    let text = format!(
        "[likelihood]\nchain = '{}'\nformat = \"{format}\"\n{more}\n[parameters.x0]\n[parameters.x2]\nlower = 0\n\
         [flow]\nn_layers = 2\nhidden = [8, 8]\n[base]\nkind = \"gaussian\"\n\
         [training]\nbatch_size = 128\nmax_visits = 2560\n[output]\nn_samples = 100\nfigures = false\n",
        chain.display()
    );
    fs::write(folder.path().join("TASK.toml"), text).unwrap();
    let run = lwflow(folder.path(), "fit TASK.toml --out run");
    (folder, run)
}

#[test]
fn getdist_chain() {
    if !has_device() {
        return;
    }
    let (folder, run) = fit_chain("gd", "getdist", "burn_in = 0.3");
    run.expect(0, &["dropped as burn-in", "log Z: none", "autocorrelation of the chain"]);
    let m = metrics(&folder.path().join("run"));
    assert!(m["pairs"]["evidence"]["log_z"].is_null());
    let (kish, with) = (&m["pairs"]["weights"]["ess"], &m["pairs"]["weights"]["autocorrelation_ess"]);
    assert!(with.as_f64().unwrap() < 0.5 * kish.as_f64().unwrap(), "{kish} {with}");
    let samples = table(&folder.path().join("run/samples.npz"));
    assert_eq!(samples.names, ["x0", "x2"]);
    assert!(samples.theta.chunks_exact(2).all(|t| t[1] > 0.0));
    let (_kept, run) = fit_chain("gd", "polychord", "");
    run.expect(3, &["`likelihood.format` is \"polychord\"", "those of \"getdist\""]);
    let (_kept, run) = fit_chain("none", "getdist", "");
    run.expect(3, &["none", "no chain found", "none_1.txt"]);
}

#[test]
fn polychord_chain() {
    if !has_device() {
        return;
    }
    let (folder, run) = fit_chain("pc", "polychord", "");
    run.expect(0, &["1500 rows", "(nested sampling)"]);
    let evidence = &metrics(&folder.path().join("run"))["pairs"]["evidence"];
    let (log_z, sd) = (evidence["log_z"].as_f64().unwrap(), evidence["log_z_sd"].as_f64().unwrap());
    assert!((log_z + 8f64.ln()).abs() < 4.0 * sd && sd < 0.5, "{log_z} +- {sd}");
}

#[test]
fn devices_in_words_and_as_json() {
    if !has_device() {
        return;
    }
    let folder = workplace();
    let words = lwflow(folder.path(), "devices").expect(0, &["0: ", "self-test: ", "MiB"]);
    let json: Value =
        serde_json::from_str(&lwflow(folder.path(), "devices --json").expect(0, &[]).out).unwrap();
    let list = json.as_array().unwrap();
    assert!(!list.is_empty());
    for device in list {
        assert!(words.out.contains(device["name"].as_str().unwrap()));
        assert!(
            device["kind"] == "cpu" || device["limits"]["max_storage_bytes"].as_u64().unwrap() >= 1 << 20
        );
        assert!(device["self_test"].is_string() && device["index"].is_u64());
    }
}

/// The note of a failed self-test is shown, and the next fit tests again; the cores are right, so it goes on.
#[test]
fn a_failed_self_test_is_remembered_and_shown() {
    let folder = workplace();
    let cache = folder.path().join("cache");
    let run = |arguments: &str| {
        let mut command = command(folder.path());
        command.env("LWFLOW_DEVICE", "cpu").env("LWFLOW_CACHE", &cache);
        Run::from(command.args(arguments.split_whitespace()).output().unwrap())
    };
    run("devices").expect(0, &["self-test: not run yet"]);
    run("fit TASK.toml --out first").expect(0, &[]);
    run("devices").expect(0, &["self-test: passed"]);
    let figures = "inverse 300.0 (allowed 128) in units of f32 rounding";
    for note in fs::read_dir(&cache).unwrap() {
        let note = note.unwrap().path();
        let text = fs::read_to_string(&note).unwrap();
        assert!(text.ends_with("\npassed\n"), "{text}");
        fs::write(&note, text.replace("\npassed\n", &format!("\nfailed: {figures}\n"))).unwrap();
    }
    run("devices").expect(4, &[&format!("self-test: failed: {figures} (--test runs it again")]);
    run("devices --json").expect(4, &[figures]);
    run("fit TASK.toml --out second").expect(0, &[]);
    run("devices").expect(0, &["self-test: passed"]);
}
