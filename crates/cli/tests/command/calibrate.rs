//! `lwflow calibrate` as a process: a model that passes, pairs that do not fit it, what is written, and everything that is refused.

use crate::harness::{fitted, on_cores as run};
use crate::report::{check_page, has};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const TASK: &str = "[simulator]\nwgsl = \"noisy.wgsl\"\nobserved = [\"u\", \"v\"]\n\
     [likelihood]\npairs = \"pairs.npz\"\n\
     [parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\nlabel = '\\alpha'\n\
     [parameters.b]\nprior = \"uniform\"\nlower = -2\nupper = 2\n\
     [flow]\nn_layers = 4\nhidden = [24]\n[base]\nkind = \"gaussian\"\n\
     [training]\nmax_visits = 500000\n[output]\nfigures = false\n";
const WGSL: &str = "
fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
    return array<f32, X>(theta[0] + 0.5 * normal(stream), theta[1] + 0.4 * normal(stream));
}
";

/// A folder with a task and the model it has trained, made once.
fn trained() -> &'static PathBuf {
    static TRAINED: OnceLock<PathBuf> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lwflow-calibrate");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("noisy.wgsl"), WGSL).unwrap();
        std::fs::write(folder.join("TASK.toml"), TASK).unwrap();
        run(&folder, "simulate TASK.toml -n 20000 --out pairs.npz").expect(0, &[]);
        run(&folder, "fit TASK.toml --out run").expect(0, &[]);
        folder
    })
}

/// A folder with the results of a fit and its calibration, with the prediction of an observation, made once.
pub fn calibrated() -> &'static PathBuf {
    static CALIBRATED: OnceLock<PathBuf> = OnceLock::new();
    CALIBRATED.get_or_init(|| {
        let at = trained();
        let folder = at.join("calibrated");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["model.safetensors", "metrics.json", "history.csv"] {
            std::fs::copy(at.join("run").join(name), folder.join(name)).unwrap();
        }
        let arguments =
            "calibrate calibrated/model.safetensors --task TASK.toml -n 200 --draws 100 --context -0.3,1.1";
        run(at, &format!("{arguments} --out calibrated")).expect(0, &["prediction of observation 1"]);
        run(at, "report calibrated").expect(0, &["report: calibrated"]);
        folder
    })
}

/// Fresh pairs as a table, their first parameter moved by `shift`, from `n` simulations.
fn pairs(folder: &Path, name: &str, n: usize, shift: f64) {
    let file = format!("fresh-{name}");
    run(folder, &format!("simulate TASK.toml -n {n} --seed 9 --out {file}")).expect(0, &[]);
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let mut lines = text.lines();
    let mut moved = lines.next().unwrap().to_owned() + "\n";
    for line in lines {
        let (first, rest) = line.split_once(',').unwrap();
        let _ = writeln!(moved, "{},{rest}", first.parse::<f64>().unwrap() + shift);
    }
    std::fs::write(folder.join(name), moved).unwrap();
}

fn json(folder: &Path, run: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join(run).join("calibration.json")).unwrap())
        .unwrap()
}

#[test]
fn a_trained_model_passes_and_pairs_of_another_world_do_not() {
    let at = trained();
    pairs(at, "good.csv", 400, 0.0);
    let good = "calibrate run/model.safetensors --in good.csv --draws 300 --out good --seed 4";
    let words = ["400 pairs, 300 draws", "expected coverage", "TARP", "calibrated: no test fails at 0.01"];
    let first = run(at, &format!("{good} --force")).expect(0, &words);
    for name in ["calibration.json", "calibration.html", "calibration_ranks.png", "coverage.png", "tarp.png"]
    {
        assert!(at.join("good").join(name).metadata().unwrap().len() > 500, "{name}");
    }
    let found = json(at, "good");
    assert_eq!(found["passed"], true);
    assert_eq!(found["ranks"]["quantities"].as_array().unwrap().len(), 4);
    let page = std::fs::read_to_string(at.join("good/calibration.html")).unwrap();
    assert!(page.contains("α") && page.matches("<svg").count() == 3 && !page.contains("=\"http"), "{page}");
    assert!(page.contains("var(--vermilion)") && page.contains("--blue: #0072b2"));
    run(at, good).expect(3, &["holds an earlier calibration", "--force"]);
    assert_eq!(run(at, &format!("{good} --force")).out, first.out, "not a function of the seed");
    // The truth lies higher than the model has learned.
    pairs(at, "moved.csv", 400, 0.3);
    let arguments = "calibrate run/model.safetensors --in moved.csv --draws 300 --out moved --force";
    run(at, arguments).expect(6, &["not calibrated", "a: posteriors lie too low"]);
    let found = json(at, "moved");
    assert_eq!(found["passed"], false);
    assert_eq!(found["ranks"]["quantities"][0]["departure"], "too_low");
    assert!(found["ranks"]["quantities"][1]["departure"].is_null());
}

#[test]
fn a_task_gives_pairs_and_predictions() {
    let at = trained();
    let arguments = "calibrate run/model.safetensors --task TASK.toml -n 200 --draws 100 --out task --force";
    run(at, &format!("{arguments} --context -0.3,1.1"))
        .expect(0, &["200 pairs", "prediction of observation 1, 1200 simulations"]);
    let found = json(at, "task");
    assert_eq!(found["predictions"][0]["observed"], serde_json::json!([-0.3, 1.1]));
    // b is below 2 whatever is observed, and so v cannot be 5; the second observation of the file.
    std::fs::write(at.join("seen.csv"), "u,v\n0.2,0.5\n0.2,5.0\n").unwrap();
    run(at, &format!("{arguments} --context seen.csv"))
        .expect(6, &["observation 2: not as predicted in v, all of it together"]);
    let page = std::fs::read_to_string(at.join("task/calibration.html")).unwrap();
    check_page(&page);
    has(
        &page,
        &["Prediction of observation 2", "v, observation 2", "id=\"prediction-2\"", "what was observed"],
    );
    assert_eq!(page.matches("<svg").count(), 3 + 2);
    let found = json(at, "task");
    let off = &found["predictions"][1]["check"]["histograms"];
    let values: Vec<&serde_json::Value> = off.as_array().unwrap().iter().map(|h| &h["value"]).collect();
    assert_eq!(values, [&serde_json::json!(0), &serde_json::json!(1), &serde_json::Value::Null]);
    // v is beyond all of what its posterior predicts, and the figure shows both.
    assert_eq!(off[1]["observed"], 5.0);
    assert!(off[1]["central"][1].as_f64().unwrap() < 4.0, "{off}");
    let figure = at.join("task/predictions.png");
    assert!(figure.metadata().unwrap().len() > 5000);
    // Without an observation there is no prediction, nor the figure of the earlier one.
    run(at, arguments).expect(0, &["200 pairs"]);
    assert!(!figure.exists());
}

#[test]
fn the_report_of_a_fit_shows_its_calibration() {
    let folder = calibrated();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let html = read("report.html");
    check_page(&html);
    let ids = ["ranks-0", "coverage-0", "tarp-0", "prediction-1-0"];
    for id in ids {
        has(&html, &[&format!("<svg id=\"{id}\"")]);
    }
    let parts =
        ["href=\"#calibration-0\"", "calibrated: no test fails at 0.01", "Prediction of observation 1"];
    has(&html, &parts);
    has(&html, &["distance (TARP)", "What this cannot tell"]);
    check_page(&read("calibration.html"));
    // Elsewhere, so that the folder stays as it is for others: a model of a later fit, and damage.
    let other = tempfile::tempdir().unwrap();
    let at = other.path();
    for name in ["model.safetensors", "metrics.json", "history.csv"] {
        std::fs::copy(folder.join(name), at.join(name)).unwrap();
    }
    let text = read("calibration.json");
    let report = |calibration: &str, status: i32, words: &[&str]| {
        std::fs::write(at.join("calibration.json"), calibration).unwrap();
        run(at, "report .").expect(status, words);
    };
    let mut changed: serde_json::Value = serde_json::from_str(&text).unwrap();
    changed["model_checksum"] = "00000000".into();
    report(&changed.to_string(), 0, &[]);
    let html = std::fs::read_to_string(at.join("report.html")).unwrap();
    check_page(&html);
    has(&html, &["is of another model than the one beside it", "`lwflow calibrate` tests"]);
    assert!(!html.contains("id=\"ranks-0\"") && !html.contains("no test fails"), "{html}");
    let mut changed: serde_json::Value = serde_json::from_str(&text).unwrap();
    changed["predictions"][0]["check"]["mean"] = serde_json::json!([1.0]);
    report(&changed.to_string(), 3, &["calibration.json: damaged: its arrays do not fit"]);
    report("{\"lwflow\": \"0\"}", 3, &["calibration.json: damaged: missing field"]);
    report(&text, 0, &[]);
    assert!(std::fs::read_to_string(at.join("report.html")).unwrap().contains("id=\"tarp-0\""));
}

#[test]
fn what_does_not_fit_is_refused() {
    let at = trained();
    pairs(at, "few.csv", 49, 0.0);
    let model = "calibrate run/model.safetensors";
    run(at, &format!("{model} --in few.csv")).expect(3, &["few.csv: 49 pairs, expected at least 50"]);
    let rows = |row: &str| format!("a,b,context_u,context_v,weight\n{}", row.repeat(60));
    std::fs::write(at.join("nan.csv"), rows("0.1,0.2,0.3,0.4,1\n") + "0.1,0.2,NaN,0.4,1\n").unwrap();
    run(at, &format!("{model} --in nan.csv")).expect(3, &["nan.csv", "NaN"]);
    std::fs::write(at.join("uneven.csv"), rows("0.1,0.2,0.3,0.4,1\n") + "0.1,0.2,0.3,0.4,2\n").unwrap();
    run(at, &format!("{model} --in uneven.csv")).expect(3, &["unequal weights"]);
    std::fs::write(at.join("narrow.csv"), format!("a,b,context_u\n{}", "0.1,0.2,0.3\n".repeat(60))).unwrap();
    run(at, &format!("{model} --in narrow.csv")).expect(3, &["holds 1 context values", "takes 2"]);
    run(at, &format!("{model} --task TASK.toml -n 60 --context 1,2,3"))
        .expect(3, &["--context has 3 values", "takes 2"]);
    let renamed = TASK.replace("[parameters.a]", "[parameters.c]");
    std::fs::write(at.join("RENAMED.toml"), renamed).unwrap();
    run(at, &format!("{model} --task RENAMED.toml -n 60")).expect(3, &["c, b", "of the model a, b"]);
    for (arguments, word) in [
        ("", "--in"),
        (" --task TASK.toml", "-n"),
        (" --in few.csv --task TASK.toml -n 60", "cannot be used with"),
        (" --in few.csv --context 1,2", "--task"),
        (" --task TASK.toml -n 49", "49"),
        (" --in few.csv --draws 5", "5"),
    ] {
        run(at, &format!("{model}{arguments}")).expect(2, &[word]);
    }
    let (folder, _) = fitted();
    std::fs::copy(at.join("few.csv"), folder.join("few.csv")).unwrap();
    run(folder, "calibrate run/model.safetensors --in few.csv").expect(3, &["takes no context"]);
}
