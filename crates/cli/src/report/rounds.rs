//! Writes the results of rounds: the model, weighted and equal-weight samples, the verdict, the path of the rounds and
//! figures; the summary goes to stdout. Invariant: the samples are the fresh draws that the verdict is about.

mod figures;

use super::summary::fixed;
use super::{MODEL_FILE, judge, manifest, points, remove_others, write_file, write_history, write_page};
use crate::exit::CommandError;
use crate::inference::Inference;
use crate::progress::{Console, print};
use crate::task::{Precision as TaskPrecision, Task};
use lwflow_engine::Engine;
use lwflow_host::diagnostics::{Evaluation, EvaluationSettings};
use lwflow_host::files::{SampleTable, write_samples};
use lwflow_host::model_file::{Precision, write_model};
use lwflow_host::rounds::{Evidence, NO_ESTIMATE, RoundsReport, RoundsResult, equal_weight};
use lwflow_host::train::HistoryRow;
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Folder of the run in the folder of the results.
pub const RUN_FOLDER: &str = "run";

/// Everything that is known after rounds.
pub struct RoundsRun<'a> {
    /// What was asked.
    pub task: &'a Task,
    /// Prior, likelihood and settings.
    pub inference: &'a Inference,
    /// Names of the derived quantities, `[M]`.
    pub derived_names: &'a [String],
    /// What the rounds gave.
    pub result: &'a RoundsResult,
    /// Seed.
    pub seed: u64,
    /// Device, in words.
    pub device: String,
    /// Whether the results take the place of earlier ones.
    pub replace: bool,
}

/// Writes all results to `out` and the summary to stdout.
///
/// # Errors
/// [`CommandError`] naming the file that could not be written. A figure that cannot be drawn is a remark.
pub fn write(out: &Path, run: &RoundsRun<'_>, engine: &Engine, console: Console) -> Result<(), CommandError> {
    let RoundsRun { task, inference, result, .. } = run;
    let precision = match task.output.precision {
        TaskPrecision::F32 => Precision::F32,
        TaskPrecision::F16 => Precision::F16,
    };
    write_model(&out.join(MODEL_FILE), &result.posterior, precision)?;
    if run.replace {
        remove_others(out)?;
    }
    let report = &result.report;
    write_json(&out.join("verdict.json"), &verdict_json(report))?;
    let weighted = weighted_table(run)?;
    write_samples(&out.join("samples.npz"), &weighted, &mut std::io::sink())?;
    let equal = equal_table(run)?;
    if let Some(equal) = &equal {
        write_samples(&out.join("equal_weight.npz"), equal, &mut std::io::sink())?;
    }
    write_rounds(&out.join("rounds.csv"), report)?;
    points::write_of_rounds(out, &inference.names, &result.points)?;
    gather_histories(out, report)?;
    let mut evaluation = None;
    if let Some(target) = inference.target {
        let mut executor = engine.flow(result.posterior.spec())?;
        let settings = EvaluationSettings::default();
        evaluation = judge(&result.posterior, &mut executor, target, &settings, run.seed, console)?;
    }
    let mut metrics = manifest::manifest(task, run.seed, &run.device)?;
    metrics.insert("settings".into(), json!(inference.settings));
    metrics.insert("rounds".into(), json!(report));
    metrics.insert("target".into(), json!(evaluation));
    write_json(&out.join("metrics.json"), &serde_json::Value::from(metrics))?;
    print(&summary(run, evaluation.as_ref()))?;
    if task.output.figures {
        if let Some(equal) = &equal
            && let Err(error) = figures::write(out, run, equal.n, console)
        {
            console.remark(error);
        }
        write_page(out, console)?;
    }
    print(&format!("results in {}\n", out.display()))
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), CommandError> {
    write_file(path, (serde_json::to_string_pretty(value)? + "\n").as_bytes())
}

/// verdict.json: the verdict and the figures that it rests on.
fn verdict_json(report: &RoundsReport) -> serde_json::Value {
    json!({
        "met": report.verdict.met,
        "reasons": report.verdict.reasons,
        "limits": report.verdict.limits,
        "n_evaluations": report.n_evaluations,
        "stop": report.stop,
        "fresh": report.fresh,
        "evidence": report.evidence,
        "coverage": report.coverage,
        "audit": report.audit,
    })
}

/// samples.npz: every fresh draw with its weight.
fn weighted_table(run: &RoundsRun<'_>) -> Result<SampleTable, CommandError> {
    let result = run.result;
    let mut table = SampleTable::new(run.inference.names.clone(), result.theta.clone())?;
    table.log_weight = Some(result.log_weights());
    table.log_likelihood = Some(result.log_likelihood.clone());
    table.log_prior = Some(result.log_prior.clone());
    table.log_prob = Some(result.log_prob.clone());
    table.derived = result.derived.clone();
    table.derived_names = run.derived_names.to_vec();
    Ok(table)
}

/// equal_weight.npz: fresh draws resampled by weight; `None` if none carries any.
fn equal_table(run: &RoundsRun<'_>) -> Result<Option<SampleTable>, CommandError> {
    let result = run.result;
    let log_weights = result.log_weights();
    if run.task.output.n_samples == 0 || log_weights.iter().all(|lw| *lw == f64::NEG_INFINITY) {
        return Ok(None);
    }
    let d = run.inference.names.len();
    let m = run.derived_names.len();
    let rows = equal_weight(&log_weights, run.task.output.n_samples, run.seed);
    let pick = |values: &[f64], width: usize| -> Vec<f64> {
        rows.iter().flat_map(|&i| values[i * width..][..width].iter().copied()).collect()
    };
    let mut table = SampleTable::new(run.inference.names.clone(), pick(&result.theta, d))?;
    table.log_likelihood = Some(pick(&result.log_likelihood, 1));
    table.log_prior = Some(pick(&result.log_prior, 1));
    table.derived = pick(&result.derived, m);
    table.derived_names = run.derived_names.to_vec();
    Ok(Some(table))
}

/// rounds.csv: one row per round.
fn write_rounds(path: &Path, report: &RoundsReport) -> Result<(), CommandError> {
    let mut text = String::from(
        "round,beta,n_evaluations,pooled_ess,n_components,visits,n_fresh,fresh_ess,log_z_adaptive,posterior_ess,\
         training_seconds,evaluation_seconds\n",
    );
    for r in &report.rounds {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            r.round,
            r.beta,
            r.n_evaluations,
            r.pooled_ess,
            r.n_components,
            r.visits,
            r.n_fresh,
            r.fresh_ess,
            r.log_z,
            r.posterior_ess,
            r.seconds.0,
            r.seconds.1
        );
    }
    write_file(path, text.as_bytes())
}

/// The course of the training of a round, in the folder of the run: a run that is resumed does not train it again.
///
/// # Errors
/// What the operating system says.
pub fn write_round_history(out: &Path, round: usize, history: &[HistoryRow]) -> Result<(), CommandError> {
    write_history(&round_history(out, round), history)
}

fn round_history(out: &Path, round: usize) -> PathBuf {
    out.join(RUN_FOLDER).join(format!("round_{round}.csv"))
}

/// history.csv: the trainings of all rounds, as far as their files are there.
fn gather_histories(out: &Path, report: &RoundsReport) -> Result<(), CommandError> {
    let mut text = String::new();
    for row in &report.rounds {
        let Ok(history) = std::fs::read_to_string(round_history(out, row.round)) else { continue };
        let mut lines = history.lines();
        if let Some(head) = lines.next().filter(|_| text.is_empty()) {
            let _ = writeln!(text, "round,{head}");
        }
        for line in lines {
            let _ = writeln!(text, "{},{line}", row.round);
        }
    }
    if text.is_empty() { Ok(()) } else { write_file(&out.join("history.csv"), text.as_bytes()) }
}

/// What rounds say on stdout.
fn summary(run: &RoundsRun<'_>, evaluation: Option<&Evaluation>) -> String {
    let report = &run.result.report;
    let mut text = String::new();
    let speed = report
        .evaluations_per_second
        .map_or_else(String::new, |rate| format!(", {rate:.0} evaluations per second"));
    let _ = writeln!(
        text,
        "{} evaluations ({} of them the scan of the prior) in {} rounds and {:.1} s{speed}",
        report.n_evaluations,
        report.n_scan,
        report.rounds.len(),
        report.seconds
    );
    if let Some(deep) = &report.deep_scan {
        let place = if deep.on_device { "on the device" } else { "in pieces" };
        let speed =
            deep.draws_per_second.map_or_else(String::new, |rate| format!(", {rate:.3e} draws per second"));
        let above = deep.threshold.map_or_else(String::new, |t| format!(" above log L = {}", fixed(t, 2)));
        let _ = writeln!(
            text,
            "deep scan of {} draws {place}{speed}: all {}{above} are kept, the rest holds {:.1e} of the evidence",
            deep.n, deep.n_kept, deep.share_below
        );
    }
    if let Some(fresh) = &report.fresh {
        let bound = fresh.ess.lower.map_or_else(
            || "not bounded".to_owned(),
            |lower| format!("with 95 % confidence at least {lower:.0}"),
        );
        let k = fresh.weights.k_hat.value.map_or_else(|| "none".to_owned(), |k| format!("{k:.2}"));
        let _ = writeln!(
            text,
            "{} fresh draws: effective size {:.0} ({bound}), largest share {:.1e}, Pareto k-hat {k}",
            fresh.weights.n, fresh.ess.ess, fresh.weights.largest_share
        );
    }
    let line = |name: &str, evidence: Option<Evidence>, z: Option<f64>| match evidence {
        None => format!("  {name}: unavailable ({NO_ESTIMATE})\n"),
        Some(e) => {
            let z = z.map_or_else(String::new, |z| format!(", z {}", fixed(z, 1)));
            format!("  {name}: {} +- {:.4} ({} draws{z})\n", fixed(e.log_z, 4), e.sd, e.n)
        }
    };
    let e = &report.evidence;
    text.push_str("log Z\n");
    text.push_str(&line("fresh draws of the final flow", e.flow, None));
    text.push_str(&line("draws of earlier rounds", e.earlier_rounds, e.earlier_rounds_z));
    text.push_str(&line("scan of the prior", e.scan, e.scan_z));
    if let Some(row) = report.rounds.last() {
        let _ = writeln!(text, "  all points together, adaptive: {}", fixed(row.log_z, 4));
    }
    if let Some(coverage) = &report.coverage {
        let _ = writeln!(
            text,
            "modes: {} found; bridges hold {:.2e} of the flow, it lacks {:.2e} of the mass",
            coverage.n_modes,
            coverage.bridge_mass,
            // No minus before a zero.
            coverage.lacking_mass + 0.0
        );
        for (k, mode) in coverage.modes.iter().take(12).enumerate() {
            let scan = mode.mass_scan.map_or_else(String::new, |mass| format!(", scan {mass:.4}"));
            let _ = writeln!(
                text,
                "  mode {:2}: mass {:.4} (flow {:.4}{scan}); {} hits of the scan",
                k + 1,
                mode.mass_weighted,
                mode.mass_flow,
                mode.n_scan
            );
        }
    }
    if let Some(audit) = &report.audit {
        let log_l =
            audit.log_likelihood_largest.map_or_else(|| "not audited".to_owned(), |e| format!("{e:.1e}"));
        let _ = writeln!(
            text,
            "64-bit audit of {} draws: log q off by {:.1e} at most, log L {log_l}; log Z shifts by {:.1e}",
            audit.n_random + audit.n_top,
            audit.log_prob_largest,
            audit.log_z_shift
        );
    }
    if let Some(evaluation) = evaluation {
        text.push_str(&super::summary::comparison(evaluation));
    }
    let verdict = &report.verdict;
    text.push_str(if verdict.met { "verdict: contract met\n" } else { "verdict: contract NOT met\n" });
    for reason in &verdict.reasons {
        let _ = writeln!(text, "  because {reason}");
    }
    for limit in &verdict.limits {
        let _ = writeln!(text, "  note: {limit}");
    }
    text
}
