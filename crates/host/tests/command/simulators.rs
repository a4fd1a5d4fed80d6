//! Simulators by child processes: seed and numbers reach them, failed simulations, wrong answers, wrong settings.

use super::child::TRIGGER;
use super::{PROTOCOLS, points};
use lwflow_host::HostError;
use lwflow_host::likelihood::{CommandSettings, Protocol};
use lwflow_host::simulator::{CommandSimulator, Simulator, has_failed};
use std::path::Path;

fn start(mode: &str, settings: CommandSettings, seed: u64) -> CommandSimulator {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let protocol = if settings.protocol == Protocol::Csv { "csv" } else { "binary" };
    let command = [program.as_str(), "simulator", protocol, mode].map(str::to_owned);
    CommandSimulator::start(&command, 2, 4, Path::new(""), settings, seed).unwrap()
}

pub fn simulations_keep_their_numbers() {
    for protocol in PROTOCOLS {
        let theta = points(101);
        let settings = CommandSettings { protocol, workers: 3, max_batch: 7, ..CommandSettings::default() };
        let mut simulator = start("slow", settings, 12);
        assert_eq!((simulator.dim(), simulator.n_observed(), simulator.n_parallel()), (2, 4, 3));
        let first = 1 << 40;
        let mut x = Vec::new();
        simulator.simulate(first, &theta, &mut x).unwrap();
        simulator.simulate(5, &theta[..6], &mut x).unwrap();
        simulator.simulate(0, &[], &mut x).unwrap();
        let numbers = (first..first + 101).chain(5..8);
        let rows: Vec<&[f64]> = x.chunks_exact(4).collect();
        assert_eq!(rows.len(), 104);
        for ((row, number), theta) in
            rows.iter().zip(numbers).zip(theta.chunks_exact(2).chain(theta.chunks_exact(2).take(3)))
        {
            assert_eq!(row[..3], [theta[0], 12.0, number as f64]);
        }
        let mut processes: Vec<u64> = rows.iter().map(|row| row[3] as u64).collect();
        processes.sort_unstable();
        processes.dedup();
        assert_eq!(processes.len(), 3);
    }
}

pub fn failed_simulations_are_told_from_wrong_ones() {
    for protocol in PROTOCOLS {
        let settings = CommandSettings { protocol, timeout: 20.0, ..CommandSettings::default() };
        let mut theta = points(20);
        theta[18] = TRIGGER;
        let mut x = Vec::new();
        start("failed", settings.clone(), 0).simulate(0, &theta, &mut x).unwrap();
        let failed: Vec<usize> = (0..20).filter(|i| has_failed(&x[4 * i..4 * i + 4])).collect();
        assert_eq!(failed, [9]);
        let at = format!("for theta = [{TRIGGER:?}, {:?}]", theta[19]);
        for (mode, what) in [
            ("nan", "answered x[2] = NaN, expected finite"),
            ("inf", "answered x[0] = inf, expected finite"),
            ("crash", "before it answered"),
        ] {
            let mut x = Vec::new();
            let error = start(mode, settings.clone(), 0).simulate(3, &theta, &mut x).unwrap_err();
            assert!(
                matches!(&error, HostError::Likelihood { source_name, .. } if source_name.ends_with(mode))
            );
            let error = error.to_string();
            assert!(error.contains(what) && error.contains(&at), "{error}");
            // What came before is kept.
            assert_eq!(x.len(), 9 * 4, "{mode}");
        }
    }
    let csv = CommandSettings { protocol: Protocol::Csv, ..CommandSettings::default() };
    let error = start("wide", csv, 0).simulate(0, &[TRIGGER, 0.0], &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains(",1.0`, expected 4 numbers separated by commas, the simulated values"), "{error}");
}

pub fn settings_of_simulators_are_checked() {
    let command = ["a".to_owned()];
    let refused = |n_observed, settings| {
        CommandSimulator::start(&command, 1, n_observed, Path::new(""), settings, 0).unwrap_err().to_string()
    };
    assert_eq!(
        refused(0, CommandSettings::default()),
        "the number of simulated values is 0, expected at least 1"
    );
    let derived = CommandSettings { derived: vec!["q".into()], ..CommandSettings::default() };
    assert_eq!(refused(1, derived), "derived is q, expected nothing: a simulator has no derived quantities");
    let workers = CommandSettings { workers: 0, ..CommandSettings::default() };
    assert_eq!(refused(1, workers), "workers is 0, expected at least 1");
}
