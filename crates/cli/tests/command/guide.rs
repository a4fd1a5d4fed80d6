//! Pages of docs/ as their readers follow them: their files are written and their commands run, in order, in one folder.

use crate::harness::{Run, command};
use std::path::Path;

/// A fenced block: what stands behind the fence, and its lines.
fn blocks(text: &str) -> Vec<(String, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, lines)), None) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Follows a page. Returns its folder, and how many files and commands there were.
fn follow(page: &str) -> (tempfile::TempDir, usize, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut n_files, mut n_commands) = (0, 0);
    for (info, lines) in blocks(&text) {
        if let Some((_, name)) = info.split_once("file=") {
            std::fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
            n_files += 1;
            continue;
        }
        assert_eq!(info, "sh", "a block that the test does not know");
        for line in lines {
            let (line, status) = line.split_once('#').unwrap_or((line, " status 0"));
            let status = status.trim().strip_prefix("status ").and_then(|s| s.parse().ok()).unwrap();
            let mut words = line.split_whitespace();
            assert_eq!(words.next(), Some("lwflow"), "{line}");
            let output = command(folder.path()).env("LWFLOW_DEVICE", "cpu").args(words).output().unwrap();
            println!("{line}");
            Run::from(output).expect(status, &[]);
            n_commands += 1;
        }
    }
    (folder, n_files, n_commands)
}

#[test]
fn the_page_on_simulators_runs() {
    let (folder, n_files, n_commands) = follow("simulators.md");
    assert_eq!((n_files, n_commands), (5, 5));
    // The page's conclusion: the posterior knows the counts, and what it predicts looks like them.
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let rows: Vec<Vec<f64>> =
            text.lines().skip(1).map(|line| line.split(',').map(|x| x.parse().unwrap()).collect()).collect();
        rows
    };
    let mean = |rows: &[Vec<f64>], j: usize| rows.iter().map(|row| row[j]).sum::<f64>() / rows.len() as f64;
    let posterior = read("posterior.csv");
    assert_eq!(posterior.len(), 2000);
    assert!((mean(&posterior, 0) - 100.0).abs() < 25.0 && (mean(&posterior, 1) - 0.5).abs() < 0.15);
    let predicted = read("predicted.csv");
    for (j, count) in [61.0, 37.0, 22.0, 14.0, 8.0].into_iter().enumerate() {
        let mean = mean(&predicted, 2 + j);
        assert!((mean - count).abs() < 4.0 + 0.2 * count, "x{} is {mean}, observed {count}", j + 1);
    }
}

/// The likelihood of docs/amortised.md as a command.
const DECAY: &str = r#"
import math, os, sys

file = os.environ.get("LWFLOW_OBSERVATION")
told = [float(x) for x in open(file).readlines()[1].split(",")] if file else []
for line in sys.stdin:
    for _ in range(int(line)):
        amplitude, rate, *handed = (float(x) for x in sys.stdin.readline().split(","))
        total = 0.0
        for k, count in enumerate(handed or told):
            expected = amplitude * math.exp(-rate * (k + 1))
            total += count * math.log(expected) - expected - math.lgamma(count + 1)
        print(total)
    sys.stdout.flush()
"#;

#[test]
fn the_page_on_amortised_inference_runs() {
    let (folder, n_files, n_commands) = follow("amortised.md");
    assert_eq!((n_files, n_commands), (4, 7));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    // Each draw stands beside its observation, and the posteriors are where the counts put them.
    let draws = read("draws.csv");
    let mut lines = draws.lines();
    assert_eq!(
        lines.next(),
        Some("amplitude,rate,context_x1,context_x2,context_x3,context_x4,context_x5,log_prob")
    );
    let rows: Vec<Vec<f64>> =
        lines.map(|line| line.split(',').map(|x| x.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 3000);
    let mean = |rows: &[Vec<f64>], j: usize| rows.iter().map(|row| row[j]).sum::<f64>() / rows.len() as f64;
    assert!((mean(&rows[..1000], 0) - 100.0).abs() < 25.0 && (mean(&rows[..1000], 1) - 0.5).abs() < 0.15);
    assert!(
        (mean(&rows[1000..2000], 0) - 185.0).abs() < 35.0 && (mean(&rows[1000..2000], 1) - 0.2).abs() < 0.1
    );
    assert!(rows.iter().all(|row| row[0] > 20.0 && row[0] < 300.0 && row[1] > 0.1 && row[1] < 1.5));
    // Of one observation the draws stand alone, and have the density that they were drawn with.
    let densities = |name: &str| -> Vec<f64> {
        let text = read(name);
        assert!(text.starts_with("amplitude,rate,log_prob\n"), "{text:.80}");
        text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect()
    };
    let (drawn, given) = (densities("first_draws.csv"), densities("densities.csv"));
    let apart = drawn.iter().zip(&given).filter(|(a, b)| (*a - *b).abs() > 0.01).count();
    assert!(drawn.len() == 1000 && given.len() == 1000 && apart < 20, "{apart} of 1000 densities differ");
    // The third observation is new, the others are not.
    let tails: Vec<f64> = read("novelty.csv")
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').next().unwrap().parse().unwrap())
        .collect();
    assert!(tails[0] > 0.001 && tails[1] > 0.001 && tails[2] == 0.0, "{tails:?}");
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&read(name)).unwrap();
    assert_eq!(json("runs/refined/verdict.json")["met"], true);
    assert_eq!(read("runs/refined/observation.csv"), "x1,x2,x3,x4,x5\n61,37,22,14,8\n");
    // What cannot be refined.
    let refuse = |arguments: &str, words: &[&str]| {
        let line = format!("refine runs/npe/model.safetensors --out runs/none {arguments}");
        let output = command(folder.path()).args(line.split_whitespace()).output().unwrap();
        Run::from(output).expect(3, words);
        assert!(!folder.path().join("runs/none").exists(), "{arguments}");
    };
    refuse("--task TASK.toml --context observed.csv", &["no --observation, expected a row from 1 to 3"]);
    refuse(
        "--task TASK.toml --context observed.csv --observation 4",
        &["--observation 4, expected a row from 1 to 3"],
    );
    refuse("--task TASK.toml --context 1,2", &["--context has 2 values, the model takes 5"]);
    std::fs::write(folder.path().join("OTHER.toml"), "[likelihood]\ntarget = \"gauss1\"\n").unwrap();
    refuse(
        "--task OTHER.toml --context 61,37,22,14,8",
        &["OTHER.toml: its parameters are ", "amplitude, rate"],
    );
    // A likelihood by a command finds the observation that it is asked about.
    let task = read("TASK.toml");
    let (before, rest) = task.split_once("[likelihood]").unwrap();
    let (_, parameters) = rest.split_once("[parameters.amplitude]").unwrap();
    let likelihood = "[likelihood]\ncommand = [\"python3\", \"decay.py\"]\nprotocol = \"csv\"\n";
    let task = format!("{before}{likelihood}[parameters.amplitude]{parameters}");
    std::fs::write(folder.path().join("COMMAND.toml"), &task).unwrap();
    std::fs::write(folder.path().join("decay.py"), DECAY).unwrap();
    let line = "refine runs/npe/model.safetensors --task COMMAND.toml --context observed.csv --observation 1 --out runs/asked";
    let output = command(folder.path()).args(line.split_whitespace()).output().unwrap();
    Run::from(output).expect(0, &["contract met"]);
    let log_z =
        |run: &str| json(&format!("runs/{run}/verdict.json"))["evidence"]["flow"]["log_z"].as_f64().unwrap();
    assert!((log_z("asked") - log_z("refined")).abs() < 0.1, "{} {}", log_z("asked"), log_z("refined"));
    // One that is handed the observation serves any: amortised training, and refining.
    let likelihood = "[likelihood]\ncommand = [\"python3\", \"decay.py\"]\nprotocol = \"csv\"\nworkers = 2\n";
    let text = format!("{before}{likelihood}data = \"first.csv\"\n[parameters.amplitude]{parameters}");
    let text = text.replace("[simulator]", "[simulator]\ndata = \"first.csv\"");
    std::fs::write(folder.path().join("ANY.toml"), text).unwrap();
    for line in [
        "fit ANY.toml --objective likelihood --simulations 300 --out runs/any",
        "refine runs/npe/model.safetensors --task ANY.toml --context observed.csv --observation 1 --out runs/handed",
    ] {
        Run::from(command(folder.path()).args(line.split_whitespace()).output().unwrap()).expect(0, &[]);
    }
    assert_eq!(json("runs/any/metrics.json")["amortised"]["n_evaluations"], 300 * 64);
    assert!((log_z("handed") - log_z("refined")).abs() < 0.1, "{} {}", log_z("handed"), log_z("refined"));
    // One that has its own observation is refused before anything is simulated.
    let text = task.replace("[simulator]", "[simulator]\ndata = \"first.csv\"");
    std::fs::write(folder.path().join("COMMAND.toml"), text).unwrap();
    let line = "fit COMMAND.toml --objective likelihood --out runs/none";
    let output = command(folder.path()).args(line.split_whitespace()).output().unwrap();
    let run = Run::from(output).expect(3, &["COMMAND.toml: ", "its own observation", "a command with data"]);
    assert!(!run.err.contains("simulations"), "{}", run.err);
    let weighted = json("runs/weighted/metrics.json");
    assert_eq!(weighted["amortised"]["n_evaluations"], 64_000);
    assert!(
        weighted["amortised"]["rounds"][1]["mean_ess"].as_f64().unwrap() > 8.0,
        "{}",
        weighted["amortised"]
    );
}

#[test]
fn the_page_on_calibration_runs() {
    let (folder, n_files, n_commands) = follow("calibration.md");
    assert_eq!((n_files, n_commands), (4, 7));
    // What the text says: the model passes, and the noisier world finds it too narrow.
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.path().join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("runs/line/calibration.json")["passed"], true);
    let noisy = read("runs/noisy/calibration.json");
    for k in 0..3 {
        assert_eq!(noisy["ranks"]["quantities"][k]["departure"], "too_narrow", "quantity {k}");
    }
}

#[test]
fn the_page_on_context_networks_runs() {
    let (folder, n_files, n_commands) = follow("context-networks.md");
    assert_eq!((n_files, n_commands), (3, 3));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let column = |text: &str, j: usize| -> Vec<f64> {
        text.lines().skip(1).map(|line| line.split(',').nth(j).unwrap().parse().unwrap()).collect()
    };
    // The posterior of n measurements is normal(4 sum / (1 + 4 n), 1 / (1 + 4 n)).
    let level = column(&read("draws.csv"), 0);
    for (k, (n, sum)) in [(1, 1.2), (8, 6.8), (3, 0.0)].into_iter().enumerate() {
        let of = &level[2000 * k..2000 * (k + 1)];
        let mean = of.iter().sum::<f64>() / 2000.0;
        let sd = (of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2000.0).sqrt();
        let exact = (1.0 + 4.0 * f64::from(n)).sqrt().recip();
        let expected = 4.0 * sum * exact * exact;
        let is_close = (mean - expected).abs() < 0.35 * exact && (sd / exact - 1.0).abs() < 0.2;
        assert!(is_close, "set {k}: {mean} +- {sd}, expected {expected} +- {exact}");
    }
    assert!(column(&read("novelty.csv"), 2).iter().all(|tail| *tail > 0.001));
    let verdict: serde_json::Value = serde_json::from_str(&read("runs/refined/verdict.json")).unwrap();
    assert_eq!(verdict["met"], true);
}

#[test]
fn the_guide_runs() {
    let (folder, n_files, n_commands) = follow("guide.md");
    // It says that every command is run; one with arguments in the running text would not be.
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide.md"));
    let text = text.unwrap();
    let is_command = |words: &&str| {
        words.starts_with("lwflow -") || words.starts_with("lwflow") && words.split(' ').count() > 2
    };
    let told: Vec<&str> = text.split('`').filter(is_command).filter(|words| !words.contains('\n')).collect();
    assert!(told.is_empty(), "in no block: {told:?}");
    assert!(n_files >= 5 && n_commands >= 11, "{n_files} files, {n_commands} commands");
    // What the text says about them.
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let loss = |run: &str| {
        let metrics: serde_json::Value =
            serde_json::from_str(&read(&format!("runs/{run}/metrics.json"))).unwrap();
        metrics["fit"]["training"]["best_validation_loss"].as_f64().unwrap()
    };
    assert!(loss("mixture") < loss("gaussian"), "{} and {}", loss("mixture"), loss("gaussian"));
    assert_eq!(read("densities.csv").lines().count(), 1001);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|path| path.extension().is_some_and(|e| e == "md")));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let prose = text.lines().filter(|line| !line.starts_with("    ")).collect::<Vec<_>>().join("\n");
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") {
                assert!(file.parent().unwrap().join(path).exists(), "{}: {link}", file.display());
            }
        }
    }
}
