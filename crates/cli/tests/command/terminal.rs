//! Terminals of 80 and of 40 columns, what a fit shows on them, and Ctrl-C. `script` of util-linux makes the terminal.

#![cfg(target_os = "linux")]

use crate::harness::workplace;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a line of the shell says on a terminal so wide, and its status; `None`, after a line, where `script` is missing.
fn on_terminal(folder: &Path, columns: usize, line: &str) -> Option<(String, i32)> {
    let program = env!("CARGO_BIN_EXE_lwflow");
    let line = format!("stty cols {columns} rows 24; {line}");
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(folder)
        .env("LWFLOW", program)
        .env("LWFLOW_DEVICE", "cpu")
        .env("NODEVICE_SELECT", "1")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    match script.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
            Some((text, output.status.code().unwrap_or(-1)))
        }
        Err(error) => {
            lwflow_skip::skip(format!("script: {error}"));
            None
        }
    }
}

/// A line without the control sequences of a bar.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                // ESC [ digits letter
                let _ = rest.by_ref().skip(1).find(|c| c.is_ascii_alphabetic());
            }
            c => plain.push(c),
        }
    }
    plain
}

/// No line is longer than the terminal, but for a word that is and clap's line of usage. The live display, whose lines are
/// filled up to the width and not ended, fills whole ones.
#[track_caller]
fn assert_fits(text: &str, columns: usize) {
    for line in text.lines().map(plain) {
        let n = line.chars().count();
        let display = line.contains(" left ") && n % columns == 0;
        let whole = line.split_whitespace().count() <= 1 || line.starts_with("Usage: ");
        let fits = display || whole || n <= columns;
        assert!(fits, "{} columns of {columns}: `{line}`\n{text}", line.chars().count());
    }
}

#[test]
fn forty_columns_hold_everything_that_is_said() {
    let folder = workplace();
    let at = folder.path();
    let Some((said, status)) = on_terminal(at, 40, "$LWFLOW fit TASK.toml --out run") else { return };
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("pairs: 2000 rows") && said.contains("results in run"), "{said}");
    // The bar is there, and says how far it is.
    assert!(said.contains(" % "), "{said}");
    assert_fits(&said, 40);
    for line in [
        "$LWFLOW --help",
        "$LWFLOW fit --help",
        "$LWFLOW check TASK.toml",
        "$LWFLOW devices",
        "$LWFLOW doctor",
    ] {
        let Some((said, _)) = on_terminal(at, 40, line) else { return };
        assert_fits(&said, 40);
    }
    let (said, status) = on_terminal(at, 40, "$LWFLOW fit nowhere.toml --out x").unwrap();
    assert_eq!(status, 3);
    assert_fits(&said, 40);
    // What programs read stays whole.
    let (said, _) = on_terminal(at, 40, "$LWFLOW check TASK.toml --json 2>/dev/null").unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&said).is_ok(), "{said}");
}

/// What the live display of a fit in rounds said, one look after the other, each with a blank between its lines.
fn looks(folder: &Path, columns: usize) -> Option<Vec<String>> {
    // Half a millisecond for every theta, so that the scan has a rate.
    let script = "while read -r n; do
        sleep $(awk \"BEGIN { print $n * 0.0005 }\")
        head -n $n | awk '{ z = ($1 - 0.5) / 0.02; printf \"%.9f\\n\", 3 - z * z / 2 }'
        done";
    std::fs::write(folder.join("slow.sh"), script).unwrap();
    let task = "[likelihood]\ncommand = [\"sh\", \"slow.sh\"]\nprotocol = \"csv\"\ntimeout = 20.0\n\
                [rounds]\ntarget_ess = 300\nn_scan = 4096\n\
                [parameters.a]\nprior = \"uniform\"\nlower = 0\nupper = 1\n\
                [flow]\nn_layers = 2\nhidden = [8, 8]\n[training]\nmax_visits = 600000\nbatch_size = 128\n\
                [output]\nfigures = false\n";
    std::fs::write(folder.join("ROUNDS.toml"), task).unwrap();
    let (said, status) = on_terminal(folder, columns, &format!("$LWFLOW fit ROUNDS.toml --out r{columns}"))?;
    assert_eq!(status, 0, "{said}");
    assert_fits(&said, columns);
    Some(said.lines().map(plain).filter(|line| line.contains(" left ")).collect())
}

/// The number before `unit`, where there is one; the first line, a full one, ends with a percent sign.
fn before<'a>(look: &'a str, unit: &str) -> Option<&'a str> {
    let (words, _) = look.split_once(unit)?;
    words.rsplit([' ', '%']).next().filter(|word| word.parse::<f64>().is_ok())
}

/// Round, evaluations, effective size, log Z, losses, rate and remaining time: all at every width, what is not known yet as
/// a dash.
#[test]
fn a_fit_in_rounds_shows_how_it_goes() {
    let folder = workplace();
    for (columns, per_second) in [(80, " evaluations per second,"), (40, " evaluations/s,")] {
        let Some(looks) = looks(folder.path(), columns) else { return };
        let shown = format!("{looks:#?}");
        let any = |holds: &dyn Fn(&str) -> bool| looks.iter().any(|look| holds(look));
        // During the scan: evaluations at once, a dash for the rest, then rate and remaining time.
        let scan: Vec<&String> = looks.iter().filter(|look| look.starts_with("prior ")).collect();
        assert!(scan.iter().any(|look| look.contains("ESS –  log Z –  loss –")), "{shown}");
        assert!(
            scan.iter().any(|look| before(look, " evaluations  ESS").is_some_and(|n| n != "0")),
            "{shown}"
        );
        assert!(scan[0].contains(&format!("–{per_second} – left")), "{shown}");
        let rated = |look: &&&String| before(look, per_second).is_some() && before(look, " s left").is_some();
        assert!(scan.iter().any(|look| rated(&look)), "{shown}");
        // In a round: its number, what the scan has found, and the losses.
        let training = |look: &str| look.starts_with("round 1: training (beta ") && look.contains(" points");
        assert!(any(&|look| training(look) && before(look, " evaluations  ESS") == Some("4096")), "{shown}");
        assert!(
            any(&|look| training(look) && !look.contains("ESS –") && !look.contains("log Z –")),
            "{shown}"
        );
        let has_loss = |look: &str| {
            let after = look.split_once("loss ").map(|(_, after)| after);
            after.is_some_and(|after| after.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
        };
        assert!(any(&|look| training(look) && has_loss(look)), "{shown}");
        assert!(any(&|look| look.contains('\u{2581}')), "{shown}");
        assert!(any(&|look| look.starts_with("round 1: likelihood ")), "{shown}");
    }
}

/// Two signals to the foreground of a terminal: the first is answered, the second ends the program at once.
#[test]
fn ctrl_c_twice_on_a_terminal() {
    let folder = workplace();
    let at = folder.path();
    let text = std::fs::read_to_string(at.join("TASK.toml")).unwrap();
    std::fs::write(at.join("silent.sh"), "sleep 3600\n").unwrap();
    let text = text.replace("pairs = \"pairs.csv\"", "command = [\"sh\", \"silent.sh\"]\ntimeout = 600.0");
    std::fs::write(at.join("silent.toml"), &text).unwrap();
    std::fs::write(
        at.join("endless.wgsl"),
        "fn log_likelihood(theta: array<f32, D>) -> f32 {
             var n = 0; loop { n = (n + 1) & 1; if n > 5 { break; } } return f32(n);
         }",
    )
    .unwrap();
    let endless =
        text.replace("command = [\"sh\", \"silent.sh\"]\ntimeout = 600.0", "wgsl = \"endless.wgsl\"");
    std::fs::write(at.join("endless.toml"), endless).unwrap();
    // Neither likelihood ever answers, so that only the second Ctrl-C can end the run before a time limit does.
    for task in ["silent", "endless"] {
        let line = format!(
            "$LWFLOW fit {task}.toml --out {task} & while ! [ -e {task}/run/run.json ]; do sleep 0.1; done; \
             sleep 0.5; kill -INT $!; sleep 0.5; kill -INT $!; wait $!"
        );
        let begun = std::time::Instant::now();
        let Some((said, status)) = on_terminal(at, 80, &line) else { return };
        assert_eq!(status, 130, "{task}: {said}");
        assert!(said.contains("ending in order; Ctrl-C again ends at once"), "{task}: {said}");
        assert!(begun.elapsed().as_secs() < 60, "{task}: {said}");
    }
}
