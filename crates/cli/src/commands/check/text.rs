//! What `lwflow check` says to people.

use super::prior_simulations::PriorSimulations;
use super::run_time::{Course, RunTime};
use super::training::TrainingTime;
use super::{CheckReport, ParameterRow};
use crate::report::fixed;
use std::fmt::Write;

/// Share of impossible prior draws from which on it is worth a word.
const MANY_IMPOSSIBLE: f64 = 0.5;

pub(super) fn text(report: &CheckReport) -> String {
    let mut text = format!("{}: usable\ndevice: {}\nparameters:\n", report.task.display(), report.device);
    let width = report.parameters.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
    for parameter in &report.parameters {
        let _ = writeln!(text, "  {:width$}  {}", parameter.name, support(parameter));
    }
    if let Some(p) = &report.points {
        let _ = writeln!(
            text,
            "points: {} rows, {} weighted, effective sample size {:.0}, largest share {:.3}",
            p.n, p.n_weighted, p.ess, p.largest_share
        );
        if let Some(ess) = p.autocorrelation_ess {
            let _ = writeln!(text, "  with the autocorrelation of the chain: effective sample size {ess:.0}");
        }
        if p.n_context > 0 {
            let _ = writeln!(text, "  {} context values per row", p.n_context);
        }
        let _ = match (p.log_z, p.log_z_sd) {
            (Some(z), Some(sd)) => writeln!(text, "  log Z of the points: {} +- {sd:.4}", fixed(z, 4)),
            (Some(z), None) => writeln!(text, "  log Z of the points: {}", fixed(z, 4)),
            _ => Ok(()),
        };
    }
    if let (Some(draws), Some(rounds)) = (&report.prior_draws, &report.rounds) {
        let _ = writeln!(
            text,
            "likelihood ({}): {} draws from the prior, {} of them impossible (-inf)",
            report.source, draws.n, draws.n_impossible
        );
        match draws.log_likelihood {
            Some((least, median, largest)) => {
                let _ = writeln!(
                    text,
                    "  log L from {} to {}, median {}",
                    fixed(least, 2),
                    fixed(largest, 2),
                    fixed(median, 2)
                );
                if least == largest {
                    text.push_str("  it is the same at all of them: does it look at theta?\n");
                }
            }
            None => text.push_str("  no draw is possible: a fit will find nothing to begin with\n"),
        }
        if draws.log_likelihood.is_some() && draws.n_impossible as f64 > MANY_IMPOSSIBLE * draws.n as f64 {
            text.push_str("  most of the prior is impossible: narrower bounds would save evaluations\n");
        }
        if !draws.derived.is_empty() {
            let _ = writeln!(text, "  derived quantities: {}", draws.derived.join(", "));
        }
        let rate = draws.evaluations_per_second;
        let _ = writeln!(
            text,
            "  {} evaluations per second; max_evaluations = {} take {} at most",
            rounded(rate),
            rounds.max_evaluations,
            duration(rounds.max_evaluations as f64 / rate)
        );
        let limit = rounds.max_time.map_or_else(String::new, |s| format!(", or after {}", duration(s)));
        let _ = writeln!(
            text,
            "rounds: {} draws from the prior first, then until the effective size of fresh draws is {}{limit}",
            rounds.scan(),
            rounds.target_ess
        );
    }
    if let (Some(simulations), Some(task)) = (&report.simulations, report.task.file_name()) {
        simulator(&mut text, simulations, &task.to_string_lossy());
    }
    if let Some(training) = &report.training {
        fit(&mut text, training);
    }
    if let Some(time) = &report.run {
        run(&mut text, time);
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// Most simulated values whose range is printed.
const MAX_SHOWN: usize = 20;

fn simulator(text: &mut String, simulations: &PriorSimulations, task: &str) {
    let (n, n_failed) = (simulations.n, simulations.n_failed);
    let _ = writeln!(text, "simulator: {n} simulations of draws from the prior, {n_failed} of them failed");
    for range in simulations.observed.iter().take(MAX_SHOWN) {
        let (least, median, largest) = (range.least, range.median, range.largest);
        let _ = writeln!(text, "  {} from {least:.4} to {largest:.4}, median {median:.4}", range.name);
        if least == largest {
            text.push_str("    it is the same in all of them: does it look at theta?\n");
        }
    }
    if simulations.observed.len() > MAX_SHOWN {
        let _ = writeln!(text, "  and {} more (--json)", simulations.observed.len() - MAX_SHOWN);
    }
    if n_failed == n {
        text.push_str("  all of them failed: there will be nothing to train with\n");
    }
    let rate = simulations.simulations_per_second;
    let _ = writeln!(
        text,
        "  {} simulations per second; lwflow simulate {task} -n 100000 takes {}",
        rounded(rate),
        duration(1e5 / rate)
    );
}

fn fit(text: &mut String, t: &TrainingTime) {
    let base = match (t.n_components, t.is_assumed) {
        (0, _) => "Gaussian base".to_owned(),
        (k, true) => format!("base of {k} components assumed, the data decide"),
        (1, false) => "base of 1 component".to_owned(),
        (k, false) => format!("base of {k} components"),
    };
    let details = format!("{} per second, {} parameters, {base}", rounded(t.visits_per_second), t.n_params);
    let _ = match t.mixture_seconds {
        None => writeln!(
            text,
            "training: about {} per round for at most {} visits ({details})",
            duration(t.seconds),
            t.visits
        ),
        Some(mixture) => writeln!(
            text,
            "fit: about {}: at most {} of EM, then {} for at most {} visits ({details})\n  an estimate from a second \
             of each",
            duration(mixture + t.seconds),
            duration(mixture),
            duration(t.seconds),
            t.start_visits + t.visits
        ),
    };
}

fn run(text: &mut String, time: &RunTime) {
    let RunTime { short, long, longest, start_seconds } = time;
    let course = |c: &Course| {
        format!("{} ({} rounds, {} evaluations)", duration(c.seconds), c.n_rounds, c.n_evaluations)
    };
    let _ = writeln!(
        text,
        "run: most posteriors take from about {} to {}\n  a difficult one at most {}\n  an estimate from a second of each part; \
         {} per round are mixtures and starts",
        course(short),
        course(long),
        course(longest),
        duration(*start_seconds),
    );
}

fn support(parameter: &ParameterRow) -> String {
    let range = match (parameter.lower, parameter.upper) {
        (None, None) => "unbounded".to_owned(),
        (Some(lower), None) => format!("above {lower}"),
        (None, Some(upper)) => format!("below {upper}"),
        (Some(lower), Some(upper)) => format!("{lower} to {upper}"),
    };
    let prior = parameter.prior.map_or_else(String::new, |prior| format!("{prior}, "));
    let periodic = if parameter.periodic { ", periodic" } else { "" };
    format!("{prior}{range}{periodic}")
}

/// A number to two digits.
fn rounded(x: f64) -> String {
    let unit = 10f64.powf((x.max(1e-9).log10().floor() - 1.0).max(-2.0));
    let decimals = if unit < 1.0 { (-unit.log10()).round() as usize } else { 0 };
    format!("{:.decimals$}", (x / unit).round() * unit)
}

/// A time in the unit that suits it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "a second".to_owned(),
        s if s < 120.0 => format!("{} s", rounded(s)),
        s if s < 7200.0 => format!("{} min", rounded(s / 60.0)),
        s if s < 172_800.0 => format!("{} h", rounded(s / 3600.0)),
        s => format!("{} days", rounded(s / 86_400.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_have_two_digits() {
        let durations = [0.3, 1.26, 83.4, 600.0, 10_000.0, 1e6].map(duration);
        assert_eq!(durations, ["a second", "1.3 s", "83 s", "10 min", "2.8 h", "12 days"]);
        assert_eq!([123_456.0, 9.96, 0.123].map(rounded), ["120000", "10.0", "0.12"]);
    }
}
