//! Simulators: their keys, their names, and what goes with them.

use super::*;
use lwflow_host::likelihood::{CommandSettings, Protocol};

const A: &str = "[parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\n";

fn task(keys: &str) -> Task {
    parse(&format!("[simulator]\n{keys}\n{A}")).unwrap()
}

fn wrong(keys: &str) -> String {
    message(&format!("[simulator]\n{keys}\n{A}"))
}

/// A simulator with the defaults of a fit.
fn section(source: SimulatorSource, observed: Vec<String>) -> SimulatorSection {
    SimulatorSection {
        source,
        observed,
        simulations: 10_000,
        objective: Objective::Npe,
        evaluations_per_simulation: 64,
        observation: None,
        rounds: 4,
    }
}

#[test]
fn every_key_of_a_simulator_reaches_its_field() {
    let plain = task("wgsl = \"a.wgsl\"\nn_observed = 3");
    let source = SimulatorSource::Wgsl { path: "runs/a.wgsl".into(), data: None };
    let observed = ["x1", "x2", "x3"].map(str::to_owned).to_vec();
    assert_eq!(plain.simulator, Some(section(source, observed)));
    assert_eq!((&plain.likelihood, &plain.rounds), (&None, &None));
    assert!(prior_of(&plain).is_ok());
    let error = likelihood_of(&plain).unwrap_err().to_string();
    assert!(error.contains("`likelihood` is missing: there is only a simulator"), "{error}");
    let full = task("wgsl = \"a.wgsl\"\ndata = \"design.npz\"\nobserved = [\"count\", \"mean\"]");
    let source = SimulatorSource::Wgsl { path: "runs/a.wgsl".into(), data: Some("runs/design.npz".into()) };
    assert_eq!(source.key(), "wgsl");
    let observed = ["count", "mean"].map(str::to_owned).to_vec();
    assert_eq!(full.simulator, Some(section(source, observed)));
    let asked = task(
        "command = [\"./s\", \"-x\"]\nprotocol = \"csv\"\nworkers = 3\ntimeout = 1.5\nmax_batch = 10\nobserved = [\"y\"]",
    );
    let source = SimulatorSource::Command {
        command: vec!["./s".into(), "-x".into()],
        folder: "runs".into(),
        settings: CommandSettings {
            protocol: Protocol::Csv,
            workers: 3,
            timeout: 1.5,
            max_batch: 10,
            derived: Vec::new(),
        },
    };
    assert_eq!(source.key(), "command");
    assert_eq!(asked.simulator, Some(section(source, vec!["y".into()])));
    let rounds = task(
        "wgsl = \"a.wgsl\"\nn_observed = 1\nobjective = \"truncated\"\nobservation = \"x.csv\"\nrounds = 6",
    );
    let rounds = rounds.simulator.unwrap();
    assert_eq!((rounds.objective, rounds.rounds), (Objective::Truncated, 6));
    assert_eq!(rounds.observation, Some("runs/x.csv".into()));
    let record = serde_json::to_value(&asked).unwrap();
    assert_eq!(record["simulator"]["command"]["settings"]["workers"], 3);
    assert_eq!(record["simulator"]["observed"][0], "y");
}

#[test]
fn a_simulator_stands_beside_a_likelihood() {
    let both = parse(&format!(
        "[likelihood]\nwgsl = \"a.wgsl\"\n[simulator]\nwgsl = \"a.wgsl\"\nn_observed = 1\n{A}offset = 0.5\n"
    ));
    let both = both.unwrap();
    assert!(both.simulator.is_some() && both.likelihood.is_some() && both.rounds.is_some());
    let error =
        message("[likelihood]\ntarget = \"gauss1\"\n[simulator]\nwgsl = \"a.wgsl\"\nn_observed = 1\n");
    assert!(error.contains(":3: `simulator` cannot stand beside `likelihood.target`"), "{error}");
    let error = message(
        "[likelihood]\npairs = \"a.csv\"\n[simulator]\nwgsl = \"a.wgsl\"\nn_observed = 1\n[parameters.a]\nlower = 0\n",
    );
    assert!(error.contains("`parameters.a.prior` is missing: a simulator needs a prior"), "{error}");
}

#[test]
fn senseless_simulators_are_refused_where_they_stand() {
    let wgsl = "wgsl = \"a.wgsl\"\n";
    let command = "command = [\"s\"]\n";
    for (keys, expected) in [
        ("n_observed = 1".to_owned(), ":1: `simulator.wgsl` is missing: give exactly one of wgsl, command"),
        (format!("{wgsl}{command}"), ":3: `simulator.command` cannot stand beside `wgsl`"),
        (wgsl.to_owned(), ":1: `simulator.observed` is missing: give exactly one of `observed`"),
        (
            format!("{wgsl}n_observed = 0"),
            ":3: `simulator.n_observed` is 0, expected a whole number of at least 1",
        ),
        (format!("{wgsl}n_observed = 2e6"), ":3: `simulator.n_observed` is 2e6, expected at most 1000000"),
        (
            format!("{wgsl}n_observed = 1\nobserved = [\"x\"]"),
            ":3: `simulator.n_observed` cannot stand beside",
        ),
        (format!("{wgsl}observed = []"), ":3: `simulator.observed` is [], expected at least one name"),
        (format!("{wgsl}observed = [\"x\", \"x\"]"), "expected names that are not empty, each of them once"),
        (format!("{wgsl}observed = [\"weight\"]"), "expected another name than `weight`"),
        (
            format!("{wgsl}observed = 3"),
            ":3: `simulator.observed` is the integer 3, expected a list of names",
        ),
        (format!("{wgsl}observed = [\"a\"]"), "`parameters.a` cannot stand beside `simulator.observed`"),
        (format!("{wgsl}n_observed = 1\nworkers = 2"), ":4: `simulator.workers` cannot stand beside `wgsl`"),
        (
            format!("{command}n_observed = 1\ndata = \"a.csv\""),
            ":4: `simulator.data` cannot stand beside `command`",
        ),
        (
            format!("{wgsl}n_observed = 1\ndata = \"a.txt\""),
            "expected a file that ends in .npz, .csv or .parquet",
        ),
        (
            format!("{wgsl}n_observed = 1\nobservation = \"x\""),
            ":4: `simulator.observation` is \"x\", expected a file that ends in",
        ),
        (
            format!("{wgsl}n_observed = 1\nrounds = 101"),
            ":4: `simulator.rounds` is 101, expected at most 100",
        ),
        (format!("{wgsl}n_observed = 1\nderived = [\"q\"]"), ":4: unknown key `simulator.derived`"),
        (format!("{wgsl}n_observd = 1"), "did you mean `simulator.n_observed`?"),
    ] {
        let error = wrong(&keys);
        assert!(error.contains(expected), "{keys}: {error}");
    }
    let error = message("[simulator]\nwgsl = \"a.wgsl\"\nn_observed = 1\n");
    assert!(error.contains("`parameters` is missing: a section [parameters.NAME] with a prior"), "{error}");
    let error = wrong(&format!("{wgsl}n_observed = 1\n[rounds]\ntarget_ess = 100"));
    assert!(error.contains(":4: `rounds` cannot stand beside [simulator] alone"), "{error}");
    let error = message(&format!("[simulator]\n{command}n_observed = 1\n{A}offset = 1\n"));
    assert!(error.contains("`parameters.a.offset` cannot stand beside `simulator.command`"), "{error}");
}
