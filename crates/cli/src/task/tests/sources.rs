//! Likelihoods that are evaluated, and the rounds that evaluate them.

use super::*;
use lwflow_host::likelihood::{CommandSettings, Protocol};

const A: &str = "[parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\n";

fn source(keys: &str) -> Task {
    parse(&format!("[likelihood]\n{keys}\n{A}")).unwrap()
}

fn wrong(keys: &str) -> String {
    message(&format!("[likelihood]\n{keys}\n{A}"))
}

#[test]
fn every_key_of_an_evaluated_likelihood_reaches_its_field() {
    let plain = source("wgsl = \"a.wgsl\"");
    let expected = Likelihood::Wgsl { path: "runs/a.wgsl".into(), data: None, derived: Vec::new() };
    assert_eq!(plain.likelihood, Some(expected));
    assert_eq!(plain.rounds, Some(RoundsSettings::default()));
    let full = source("wgsl = \"a.wgsl\"\ndata = \"obs.csv\"\nderived = [\"q\", \"age\"]");
    let expected = Likelihood::Wgsl {
        path: "runs/a.wgsl".into(),
        data: Some("runs/obs.csv".into()),
        derived: vec!["q".into(), "age".into()],
    };
    assert_eq!(full.likelihood, Some(expected));
    let plain = source("command = [\"python3\", \"l.py\", \"\"]");
    let command = vec!["python3".to_owned(), "l.py".into(), String::new()];
    let expected = Likelihood::Command {
        command: command.clone(),
        folder: "runs".into(),
        settings: CommandSettings::default(),
        data: None,
        observation: None,
    };
    assert_eq!(plain.likelihood, Some(expected));
    assert_eq!(plain.rounds, Some(RoundsSettings::default()));
    let full = source(
        "command = [\"./l\"]\nprotocol = \"csv\"\nworkers = 3\ntimeout = 1.5\nmax_batch = 10\nderived = [\"q\"]\ndata = \"d.csv\"",
    );
    let settings = CommandSettings {
        protocol: Protocol::Csv,
        workers: 3,
        timeout: 1.5,
        max_batch: 10,
        derived: vec!["q".into()],
    };
    let command = vec!["./l".to_owned()];
    let expected = Likelihood::Command {
        command,
        folder: "runs".into(),
        settings,
        data: Some("runs/d.csv".into()),
        observation: None,
    };
    assert_eq!((expected.key(), expected.can_be_evaluated()), ("command", true));
    assert_eq!(full.likelihood, Some(expected));
}

#[test]
fn every_key_of_rounds_reaches_its_field() {
    let task = parse(
        "[likelihood]\ntarget = \"gauss1\"\n[rounds]\ntarget_ess = 500\nmax_evaluations = 1e5\nmax_time = 60\n\
         max_k_hat = 0.5\nmax_log_z_sd = 0.02\nn_scan = 1000\nn_round = 4096\nprior_share = 0\n",
    );
    let expected = RoundsSettings {
        target_ess: 500.0,
        max_evaluations: 100_000,
        max_time: Some(60.0),
        max_k_hat: 0.5,
        max_log_z_sd: Some(0.02),
        n_scan: Some(1000),
        n_round: Some(4096),
        prior_share: 0.0,
    };
    assert_eq!(task.unwrap().rounds, Some(expected));
    assert_eq!(parse("[likelihood]\ntarget = \"gauss1\"\n").unwrap().rounds, None);
    let defaults = parse("[likelihood]\ntarget = \"gauss1\"\n[rounds]\n").unwrap().rounds;
    assert_eq!(defaults, Some(RoundsSettings::default()));
    assert_eq!(parse("[likelihood]\npairs = \"p.csv\"\n").unwrap().rounds, None);
}

#[test]
fn rounds_need_something_to_evaluate() {
    let reason = "rounds need a likelihood that can be evaluated";
    for (source, key) in [("pairs = \"p.csv\"", "pairs"), ("chain = \"c\"\nformat = \"getdist\"", "chain")] {
        let line = 2 + source.lines().count();
        assert_eq!(
            message(&format!("[likelihood]\n{source}\n[rounds]\n")),
            format!("runs/TASK.toml:{line}: `rounds` cannot stand beside `likelihood.{key}`: {reason}")
        );
    }
    assert_eq!(
        message("[likelihood]\ntarget = \"gauss1\"\nn_draws = 10\n[rounds]\n"),
        "runs/TASK.toml:3: `likelihood.n_draws` cannot stand beside [rounds]: rounds draw by `max_evaluations` and \
         `n_scan`"
    );
}

#[test]
fn senseless_rounds_are_refused() {
    let positive = "expected a finite number above 0";
    let count = "expected a whole number of at least 1";
    let cases = [
        ("target_ess", "0", positive),
        ("max_evaluations", "0", count),
        ("max_evaluations", "1.5", count),
        ("max_time", "-1", positive),
        ("max_time", "inf", positive),
        (
            "max_k_hat",
            "0.8",
            "expected a number above 0, at most 0.7: beyond it no effective size is bounded",
        ),
        ("max_k_hat", "0", "expected a number above 0, at most 0.7: beyond it no effective size is bounded"),
        ("max_log_z_sd", "0", positive),
        ("n_scan", "0", count),
        ("n_round", "0", count),
        ("prior_share", "1", "expected a share: at least 0, below 1"),
    ];
    for (key, value, expected) in cases {
        assert_eq!(
            with("rounds", &format!("{key} = {value}")),
            format!("runs/TASK.toml:4: `rounds.{key}` is {value}, {expected}")
        );
    }
    assert_eq!(
        with("rounds", "n_scan = 1e7"),
        "runs/TASK.toml:4: `rounds.n_scan` is 1e7, expected at most `max_evaluations`, which is 1000000 and counts the \
         scan too"
    );
    assert_eq!(
        with("rounds", "target_es = 3"),
        "runs/TASK.toml:4: unknown key `rounds.target_es`, did you mean `rounds.target_ess`?; valid here: target_ess, \
         max_evaluations, max_time, max_k_hat, max_log_z_sd, n_scan, n_round, prior_share"
    );
    assert_eq!(
        with("flow", "target_ess = 3"),
        "runs/TASK.toml:4: unknown key `flow.target_ess`, did you mean `rounds.target_ess`?; valid here: n_layers, \
         hidden, activation, coupling, s_max, n_bins, bound, mixing"
    );
}

#[test]
fn a_source_has_its_own_keys_only() {
    let cases = [
        ("wgsl = \"a.wgsl\"\nworkers = 2", "workers", "wgsl", "only a command has workers"),
        ("wgsl = \"a.wgsl\"\nprotocol = \"csv\"", "protocol", "wgsl", "only a command has a protocol"),
        ("wgsl = \"a.wgsl\"\ntimeout = 2", "timeout", "wgsl", "only a command has a time limit"),
        ("wgsl = \"a.wgsl\"\nmax_batch = 2", "max_batch", "wgsl", "only a command is handed batches"),
        ("wgsl = \"a.wgsl\"\nn_draws = 2", "n_draws", "wgsl", "only a target is drawn from"),
        (
            "target = \"gauss1\"\ndata = \"d.csv\"",
            "data",
            "target",
            "only a function in WGSL or a command is handed data",
        ),
        ("command = [\"p\"]\nburn_in = 0.1", "burn_in", "command", "only a chain has a burn-in"),
        (
            "pairs = \"p.csv\"\nderived = [\"q\"]",
            "derived",
            "pairs",
            "only a function in WGSL or a command has derived quantities",
        ),
    ];
    for (keys, key, owner, reason) in cases {
        assert_eq!(
            wrong(keys),
            format!("runs/TASK.toml:3: `likelihood.{key}` cannot stand beside `{owner}`: {reason}")
        );
    }
    assert_eq!(
        wrong("wgsl = \"a.wgsl\"\ncommand = [\"p\"]"),
        "runs/TASK.toml:3: `likelihood.command` cannot stand beside `wgsl`: give exactly one of target, pairs, chain, \
         wgsl, command"
    );
    assert!(wrong("wgls = \"a.wgsl\"").contains("`likelihood.wgls`, did you mean `likelihood.wgsl`?"));
}

#[test]
fn senseless_sources_are_refused() {
    let list = "expected a list of texts, such as [\"python3\", \"likelihood.py\"]";
    let names = "expected a list of names, such as [\"q\", \"age\"]";
    let cases = [
        ("command = \"python3 l.py\"", 2, format!("command` is the string \"python3 l.py\", {list}")),
        ("command = [\"p\", 3]", 2, format!("command` is the array [\"p\", 3], {list}")),
        ("command = []", 2, "command` is [], expected a program and its arguments".into()),
        ("command = [\"\"]", 2, "command` is [\"\"], expected a program and its arguments".into()),
        (
            "command = [\"p\"]\nprotocol = \"bin\"",
            3,
            "protocol` is \"bin\"; valid values: binary, csv".into(),
        ),
        ("command = [\"p\"]\nworkers = 0", 3, "workers` is 0, expected a whole number of at least 1".into()),
        ("command = [\"p\"]\nworkers = 5000", 3, "workers` is 5000, expected at most 1024".into()),
        (
            "command = [\"p\"]\ntimeout = 0",
            3,
            "timeout` is 0, expected a number of seconds above 0, at most 1e9".into(),
        ),
        (
            "command = [\"p\"]\nmax_batch = 0",
            3,
            "max_batch` is 0, expected a whole number of at least 1".into(),
        ),
        ("command = [\"p\"]\nderived = \"q\"", 3, format!("derived` is the string \"q\", {names}")),
        (
            "command = [\"p\"]\nderived = [\"q\", \"q\"]",
            3,
            "derived` is [\"q\", \"q\"], expected names that are not empty, each of them once".into(),
        ),
        (
            "command = [\"p\"]\nderived = [\" \"]",
            3,
            "derived` is [\" \"], expected names that are not empty, each of them once".into(),
        ),
        (
            "command = [\"p\"]\nderived = [\"weight\"]",
            3,
            "derived` is [\"weight\"], expected another name than `weight`, which has a meaning of its own"
                .into(),
        ),
        ("wgsl = \"\"", 2, "wgsl` is \"\", expected a text that is not empty".into()),
        (
            "wgsl = \"a.wgsl\"\ndata = \"d.txt\"",
            3,
            "data` is \"d.txt\", expected a file that ends in .npz, .csv or .parquet".into(),
        ),
    ];
    for (keys, line, expected) in cases {
        assert_eq!(wrong(keys), format!("runs/TASK.toml:{line}: `likelihood.{expected}"));
    }
}

#[test]
fn an_evaluated_likelihood_needs_priors() {
    for source in ["wgsl = \"a.wgsl\"", "command = [\"p\"]"] {
        assert_eq!(
            message(&format!("[likelihood]\n{source}\n")),
            "runs/TASK.toml:1: `parameters` is missing: a section [parameters.NAME] with a prior for every parameter"
        );
        assert_eq!(
            message(&format!("[likelihood]\n{source}\n{A}[parameters.b]\nlower = 0\n")),
            "runs/TASK.toml:7: `parameters.b.prior` is missing: a likelihood that is evaluated needs a prior for every \
             parameter"
        );
        assert_eq!(
            message(&format!("[likelihood]\n{source}\nderived = [\"q\", \"a\"]\n{A}")),
            "runs/TASK.toml:4: `parameters.a` cannot stand beside `likelihood.derived`: a derived quantity has the same \
             name"
        );
    }
}

#[test]
fn a_record_names_prior_and_command() {
    let task = source("command = [\"p\"]\nworkers = 2");
    let record = serde_json::to_value(&task).unwrap();
    assert_eq!(record["likelihood"]["command"]["settings"]["workers"], 2);
    assert_eq!(record["parameters"][0]["prior"]["prior"], "normal");
    assert_eq!(record["rounds"]["target_ess"], 4000.0);
}
