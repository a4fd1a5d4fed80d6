//! Likelihoods and simulators by child processes: order, derived quantities, several workers, and every way to fail.
//! This program is its own child (libtest would write to its output), so it brings a small runner that prints as libtest.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests, without libtest")]

mod child;
mod simulators;

use child::TRIGGER;
use lwflow_host::HostError;
use lwflow_host::likelihood::{
    CommandLikelihood, CommandSettings, Evaluations, Likelihood, Observation, Protocol, kill_commands,
};
use std::path::Path;
use std::time::{Duration, Instant};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("answers_keep_their_order", answers_keep_their_order),
    ("several_workers_share_a_batch", several_workers_share_a_batch),
    ("pipes_never_block_each_other", pipes_never_block_each_other),
    ("senseless_answers_name_the_theta", senseless_answers_name_the_theta),
    ("a_crash_shows_status_and_last_words", a_crash_shows_status_and_last_words),
    ("a_hang_ends_at_the_time_limit", a_hang_ends_at_the_time_limit),
    ("excess_output_is_refused", excess_output_is_refused),
    ("a_failed_child_is_started_again", a_failed_child_is_started_again),
    ("settings_and_program_are_checked", settings_and_program_are_checked),
    ("the_command_runs_in_its_folder", the_command_runs_in_its_folder),
    ("no_child_is_left_behind", no_child_is_left_behind),
    ("observations_follow_their_theta", observations_follow_their_theta),
    ("simulations_keep_their_numbers", simulators::simulations_keep_their_numbers),
    ("failed_simulations_are_told_from_wrong_ones", simulators::failed_simulations_are_told_from_wrong_ones),
    ("settings_of_simulators_are_checked", simulators::settings_of_simulators_are_checked),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "child" => child::run(rest),
        Some((first, rest)) if first == "simulator" => child::simulate(rest),
        Some((first, rest)) if first == "parent" => parent(&rest[0]),
        _ => std::process::exit(run(&arguments)),
    }
}

/// Runs the tests whose names hold one of the words given, as libtest does.
fn run(arguments: &[String]) -> i32 {
    let words: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    if arguments.iter().any(|a| a == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| words.is_empty() || words.iter().any(|w| name.contains(w.as_str())))
        .collect();
    println!("\nrunning {} tests", chosen.len());
    let start = Instant::now();
    let failed = chosen.iter().filter(|(name, test)| {
        let is_ok = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
        !is_ok
    });
    let failed = failed.count();
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        chosen.len() - failed,
        TESTS.len() - chosen.len(),
        start.elapsed().as_secs_f64()
    );
    if failed == 0 { 0 } else { 101 }
}

fn command(protocol: Protocol, n_derived: usize, mode: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let protocol = if protocol == Protocol::Csv { "csv" } else { "binary" };
    [program.as_str(), "child", protocol, &n_derived.to_string(), mode].map(str::to_owned).to_vec()
}

fn settings(protocol: Protocol, n_derived: usize) -> CommandSettings {
    let derived = ["total", "process"][..n_derived].iter().map(|name| (*name).to_owned()).collect();
    CommandSettings { protocol, derived, timeout: 20.0, ..CommandSettings::default() }
}

fn start(mode: &str, settings: CommandSettings) -> CommandLikelihood {
    let command = command(settings.protocol, settings.derived.len(), mode);
    CommandLikelihood::start(&command, 2, Path::new(""), settings, Observation::Own).unwrap()
}

/// n points of two parameters.
fn points(n: usize) -> Vec<f64> {
    (0..2 * n).map(|i| (0.754_877_666_246_692_8 * i as f64).fract() - 0.3).collect()
}

fn expected(theta: &[f64]) -> Vec<f64> {
    theta.chunks_exact(2).map(|t| -0.5 * t.iter().map(|x| x * x).sum::<f64>()).collect()
}

/// What a child that misbehaves at row 9 of 20 gives: the error, and the evaluations that came before.
fn misbehaviour(mode: &str, settings: CommandSettings) -> (String, Evaluations) {
    let mut theta = points(20);
    theta[18] = TRIGGER;
    let mut likelihood = start(mode, settings);
    let mut out = Evaluations::default();
    let error = likelihood.evaluate(&theta, &mut out).unwrap_err();
    assert!(matches!(&error, HostError::Likelihood { source_name, .. } if source_name.ends_with(mode)));
    assert_eq!(out.log_likelihood, expected(&theta[..18]), "{error}");
    (error.to_string(), out)
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Binary, Protocol::Csv];

fn answers_keep_their_order() {
    for protocol in PROTOCOLS {
        for (n, n_derived, max_batch) in [(1, 0, 1024), (257, 1, 10), (3000, 2, 1000)] {
            let theta = points(n);
            let mut likelihood =
                start("plain", CommandSettings { max_batch, ..settings(protocol, n_derived) });
            assert_eq!((likelihood.dim(), likelihood.derived_names().len()), (2, n_derived));
            let mut out = Evaluations::default();
            likelihood.evaluate(&theta, &mut out).unwrap();
            // Both protocols carry every bit.
            assert_eq!(out.log_likelihood, expected(&theta));
            assert_eq!(out.derived.len(), n * n_derived);
            let totals = out.derived.chunks_exact(n_derived.max(1)).map(|row| row[0]);
            assert!(totals.zip(theta.chunks_exact(2)).all(|(total, t)| total == t[0] + t[1]));
            assert_eq!(likelihood.audit(&theta[..2]).unwrap(), Some(expected(&theta[..2])));
            likelihood.evaluate(&[], &mut out).unwrap();
            assert_eq!(out.log_likelihood.len(), n);
        }
        let zero = settings(protocol, 1);
        let mut out = Evaluations::default();
        start("zero", zero).evaluate(&[TRIGGER, 0.0, 1.0, 1.0], &mut out).unwrap();
        assert_eq!(out.log_likelihood, [f64::NEG_INFINITY, -1.0]);
        assert!(out.derived[0].is_nan() && out.derived[1] == 2.0);
    }
}

fn observations_follow_their_theta() {
    let theta = points(300);
    let squares = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
    for protocol in PROTOCOLS {
        let (command, folder) = (command(protocol, 1, "plain"), Path::new(""));
        let start = |x: &[f64]| {
            let settings = CommandSettings { workers: 2, max_batch: 50, ..settings(protocol, 1) };
            CommandLikelihood::start(&command, 2, folder, settings, Observation::Values(x))
        };
        let mut likelihood = start(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((likelihood.dim(), likelihood.n_observed()), (2, Some(3)));
        let mut out = Evaluations::default();
        likelihood.evaluate(&theta, &mut out).unwrap();
        for (i, theta) in theta.chunks_exact(2).enumerate() {
            assert!((out.log_likelihood[i] + 0.5 * (squares(theta) + 14.0)).abs() < 1e-12);
            assert!((out.derived[i] - (theta[0] + theta[1] + 6.0)).abs() < 1e-12);
        }
        // Others than the one it was started with, in any order.
        let observations = [0.0, 0.0, 5.0, 4.0, -1.0, 2.0];
        let index: Vec<u32> = (0..300).map(|i| (i * i + i / 7) % 2).collect();
        let mut log_likelihood = Vec::new();
        likelihood.evaluate_observed(&theta, &observations, &index, &mut log_likelihood).unwrap();
        for ((value, theta), &j) in log_likelihood.iter().zip(theta.chunks_exact(2)).zip(&index) {
            let x = &observations[3 * j as usize..][..3];
            assert!((value + 0.5 * (squares(theta) + squares(x))).abs() < 1e-12);
        }
        let error = likelihood
            .evaluate_observed(&theta[..2], &observations[..5], &[0], &mut log_likelihood)
            .unwrap_err();
        assert!(error.to_string().contains("a multiple of 3"), "{error}");
        let error = start(&[]).unwrap_err();
        assert!(error.to_string().contains("at least one value"), "{error}");
        // One that is handed none has its own.
        let error = self::start("plain", settings(protocol, 0))
            .evaluate_observed(&theta[..2], &observations, &[0], &mut log_likelihood)
            .unwrap_err();
        assert!(error.to_string().contains("its own observation"), "{error}");
    }
}

fn several_workers_share_a_batch() {
    let theta = points(120);
    let shared = CommandSettings { workers: 3, max_batch: 7, ..settings(Protocol::Binary, 2) };
    let mut likelihood = start("slow", shared);
    let mut out = Evaluations::default();
    likelihood.evaluate(&theta, &mut out).unwrap();
    assert_eq!(out.log_likelihood, expected(&theta));
    let mut processes: Vec<u64> = out.derived.chunks_exact(2).map(|row| row[1] as u64).collect();
    processes.sort_unstable();
    processes.dedup();
    assert_eq!(processes.len(), 3, "{processes:?}");
    // What came before the failure is a prefix, whichever worker meets it.
    for mode in ["nan", "crash"] {
        let shared = CommandSettings { workers: 3, max_batch: 4, ..settings(Protocol::Csv, 1) };
        misbehaviour(mode, shared);
    }
}

fn pipes_never_block_each_other() {
    // A megabyte each way, answered while it comes in, and five of messages beside it.
    for (protocol, mode, n) in [(Protocol::Binary, "plain", 60_000), (Protocol::Csv, "loud", 1000)] {
        let theta = points(n);
        let mut likelihood = start(mode, CommandSettings { max_batch: n, ..settings(protocol, 0) });
        let mut out = Evaluations::default();
        likelihood.evaluate(&theta, &mut out).unwrap();
        assert_eq!(out.log_likelihood, expected(&theta));
    }
}

fn senseless_answers_name_the_theta() {
    let at = format!("for theta = [{TRIGGER:?}, {:?}]", points(10)[19]);
    let legal = "expected a finite number or -inf";
    for protocol in PROTOCOLS {
        for (mode, value) in [("nan", "NaN"), ("inf", "inf")] {
            let (error, out) = misbehaviour(mode, settings(protocol, 1));
            assert!(
                error.ends_with(&format!("answered the log likelihood {value}, {legal}, {at}")),
                "{error}"
            );
            assert_eq!(out.derived.len(), 9);
        }
        let (error, _) = misbehaviour("derived_nan", settings(protocol, 1));
        let text = format!("answered NaN for the derived `total`, expected a finite number, {at}");
        assert!(error.ends_with(&text), "{error}");
    }
    let (error, _) = misbehaviour("text", settings(Protocol::Csv, 0));
    let text = format!("answered `Traceback: no such thing`, expected one number, the log likelihood, {at}");
    assert!(error.ends_with(&text), "{error}");
    let (error, _) = misbehaviour("wide", settings(Protocol::Csv, 1));
    let numbers = "expected 2 numbers separated by commas: the log likelihood and 1 derived";
    assert!(error.contains(&format!(",1.0`, {numbers}, {at}")), "{error}");
}

fn a_crash_shows_status_and_last_words() {
    for protocol in PROTOCOLS {
        let (error, _) = misbehaviour("crash", settings(protocol, 0));
        let status = if cfg!(unix) { "exit status: 3" } else { "exit code: 3" };
        assert!(
            error.contains(&format!("ended ({status}) before it answered for theta = [77.0, ")),
            "{error}"
        );
        let last = "standard error:\ntrace 9\n";
        assert!(error.contains(last) && error.ends_with("ZeroDivisionError: the mass is zero"), "{error}");
    }
    // A short answer: the child ends in order, but rows are missing.
    let (error, _) = misbehaviour("quit", settings(Protocol::Csv, 0));
    assert!(error.contains(": 0) before it answered for theta = [77.0, "), "{error}");
    assert!(error.ends_with("it wrote nothing to standard error"), "{error}");
    let mut deaf = start("deaf", settings(Protocol::Binary, 0));
    let error = deaf.evaluate(&points(1), &mut Evaluations::default()).unwrap_err().to_string();
    assert!(error.contains("before it answered for theta = [-0.3, "), "{error}");
}

fn a_hang_ends_at_the_time_limit() {
    let brief = |protocol| CommandSettings { timeout: 1.0, ..settings(protocol, 0) };
    let begin = Instant::now();
    let (error, _) = misbehaviour("hang", brief(Protocol::Binary));
    let text = "gave no answer within 1 s for theta = [77.0, ";
    assert!(error.contains(text) && error.ends_with("standard error:\nwaiting for a licence"), "{error}");
    let (error, _) = misbehaviour("half", brief(Protocol::Csv));
    assert!(
        error.contains(text) && error.contains(" (after the unfinished line `-0.`); it wrote"),
        "{error}"
    );
    let (error, _) = misbehaviour("half", brief(Protocol::Binary));
    assert!(error.contains(text) && error.contains(" (after 3 of the 8 bytes of its answer); "), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

fn excess_output_is_refused() {
    let rule =
        "beyond the answers that were due, expected one row per theta and nothing else on standard output";
    for (protocol, excess) in [(Protocol::Binary, "wrote 8 bytes"), (Protocol::Csv, "wrote `-0.")] {
        let mut likelihood = start("excess", settings(protocol, 0));
        let mut out = Evaluations::default();
        // The excess may come with the answer, or after it and before the next question.
        let first = likelihood.evaluate(&points(3), &mut out);
        std::thread::sleep(Duration::from_millis(200));
        let error = first.and_then(|()| likelihood.evaluate(&points(3), &mut out)).unwrap_err().to_string();
        assert!(error.contains(excess) && error.ends_with(rule), "{error}");
        assert_eq!(out.log_likelihood, expected(&points(3)));
    }
    let mut chatty = start("chatty", settings(Protocol::Csv, 0));
    std::thread::sleep(Duration::from_millis(500));
    let error = chatty.evaluate(&points(1), &mut Evaluations::default()).unwrap_err().to_string();
    assert!(error.contains("`loading the model ...`"), "{error}");
}

fn a_failed_child_is_started_again() {
    let mut likelihood = start("crash", CommandSettings { workers: 2, ..settings(Protocol::Binary, 0) });
    let mut out = Evaluations::default();
    likelihood.evaluate(&[TRIGGER, 0.0], &mut out).unwrap_err();
    likelihood.evaluate(&points(50), &mut out).unwrap();
    assert_eq!(out.log_likelihood, expected(&points(50)));
}

fn settings_and_program_are_checked() {
    let refused = |command: &[&str], dim, settings| {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        CommandLikelihood::start(&command, dim, Path::new(""), settings, Observation::Own)
            .unwrap_err()
            .to_string()
    };
    let good = CommandSettings::default;
    assert_eq!(refused(&[], 1, good()), "command is empty, expected a program and its arguments");
    assert_eq!(refused(&["a"], 0, good()), "dim is 0, expected at least 1");
    let workers = CommandSettings { workers: 0, ..good() };
    assert_eq!(refused(&["a"], 1, workers), "workers is 0, expected at least 1");
    let max_batch = CommandSettings { max_batch: 0, ..good() };
    assert_eq!(refused(&["a"], 1, max_batch), "max_batch is 0, expected at least 1");
    for timeout in [0.0, f64::NAN, 1e10] {
        let error = refused(&["a"], 1, CommandSettings { timeout, ..good() });
        assert_eq!(error, format!("timeout is {timeout}, expected seconds above 0, at most 1e9"));
    }
    let error = refused(&["lwflow-no-such-program", "-x"], 1, good());
    let text = "lwflow-no-such-program -x: cannot start `lwflow-no-such-program` in ";
    assert!(error.starts_with(text), "{error}");
    let mut likelihood = start("plain", settings(Protocol::Binary, 0));
    let error = likelihood.evaluate(&[1.0; 3], &mut Evaluations::default()).unwrap_err().to_string();
    assert_eq!(error, "theta: length 3, expected a multiple of dim = 2");
}

fn the_command_runs_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("marker"), "").unwrap();
    let own = command(Protocol::Csv, 0, "marker");
    let mut out = Evaluations::default();
    let csv = || settings(Protocol::Csv, 0);
    CommandLikelihood::start(&own, 2, folder.path(), csv(), Observation::Own)
        .unwrap()
        .evaluate(&points(1), &mut out)
        .unwrap();
    // A program beside the task file, named relative to it.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&own[0], folder.path().join("program")).unwrap();
        let mut relative = own.clone();
        relative[0] = "./program".to_owned();
        let mut likelihood =
            CommandLikelihood::start(&relative, 2, folder.path(), csv(), Observation::Own).unwrap();
        likelihood.evaluate(&points(1), &mut out).unwrap();
    }
    assert!(out.log_likelihood.iter().all(|l| *l == 1.0), "{out:?}");
}

/// Starts a child, prints its process number and waits for the end, with the child at rest or hanging.
fn parent(mode: &str) {
    let mut likelihood = start(mode, settings(Protocol::Binary, 2));
    println!("{}", process(&mut likelihood));
    let _ =
        likelihood.evaluate(&[if mode == "hang" { TRIGGER } else { 0.0 }, 0.0], &mut Evaluations::default());
    std::thread::sleep(Duration::from_secs(3600));
}

fn process(likelihood: &mut CommandLikelihood) -> u32 {
    let mut out = Evaluations::default();
    likelihood.evaluate(&points(1), &mut out).unwrap();
    out.derived[1] as u32
}

/// Whether a process that is not ours to wait for ends within five seconds.
#[cfg(unix)]
fn ends(process: u32) -> bool {
    let alive = || {
        let mut probe = std::process::Command::new("kill");
        probe
            .args(["-0", &process.to_string()])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    let begin = Instant::now();
    while alive() && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
    !alive()
}

#[cfg(not(unix))]
fn no_child_is_left_behind() {
    let mut likelihood = start("plain", settings(Protocol::Binary, 2));
    process(&mut likelihood);
    kill_commands();
    let error = likelihood.evaluate(&points(1), &mut Evaluations::default()).unwrap_err().to_string();
    assert!(error.contains("before it answered"), "{error}");
}

#[cfg(unix)]
fn no_child_is_left_behind() {
    use std::io::{BufRead, BufReader};
    // Dropped, idle and in the middle of work.
    let mut likelihood = start("plain", settings(Protocol::Binary, 2));
    let idle = process(&mut likelihood);
    drop(likelihood);
    assert!(ends(idle));
    let mut likelihood = start("hang", CommandSettings { timeout: 0.5, ..settings(Protocol::Binary, 2) });
    let busy = process(&mut likelihood);
    likelihood.evaluate(&[TRIGGER, 0.0], &mut Evaluations::default()).unwrap_err();
    assert!(ends(busy));
    // Killed for the end of the program.
    let mut likelihood = start("plain", settings(Protocol::Binary, 2));
    let killed = process(&mut likelihood);
    kill_commands();
    assert!(ends(killed));
    // The parent is killed without a chance to do anything.
    for mode in ["plain", "hang"] {
        let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["parent", mode])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        // Ctrl-C at a terminal goes to the group of the parent, in which the child is not.
        #[cfg(target_os = "linux")]
        {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
            let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap();
            assert_eq!(group, child.to_string());
        }
        std::thread::sleep(Duration::from_millis(100));
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(ends(child), "{mode}");
    }
}
