//! Writes the results of a fit: model, samples, metrics, history and figures, and the summary on stdout.
//! Every figure in metrics.json says how many draws made it; what cannot be known is null, never a number.

use crate::exit::{CommandError, Status};
use crate::figures::{
    CornerSeries, DensityMapSettings, FigureAxis, FigureError, Label, LogDensityGrid, LossRow, SeriesRole,
    corner, density_map, loss_curves,
};
use crate::progress::{Console, print};
use crate::source::Source;
use crate::task::Task;
use lwflow_engine::{Engine, FlowExecutor};
use lwflow_host::HostError;
use lwflow_host::diagnostics::{Evaluation, EvaluationSettings, evaluate};
use lwflow_host::files::{SampleTable, write_samples};
use lwflow_host::fit::FitReport;
use lwflow_host::model_file::{Precision, write_atomically, write_model};
use lwflow_host::posterior::Posterior;
use lwflow_host::train::{HistoryRow, StopReason};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

/// Name of the model file in the folder of results.
pub const MODEL_FILE: &str = "model.safetensors";

/// Everything that is known after a fit.
pub struct Run<'a> {
    /// What was asked.
    pub task: &'a Task,
    /// The pairs.
    pub source: &'a Source,
    /// The trained flow.
    pub posterior: &'a Posterior,
    /// What the fit did.
    pub report: &'a FitReport,
    /// Seed.
    pub seed: u64,
    /// Device, in words.
    pub device: String,
    /// Seconds from the start of the command to the end of training.
    pub seconds: f64,
}

/// Judges a posterior against a known target with the draw counts of the definition.
///
/// # Errors
/// Those of the engine.
pub fn judge(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    target: lwflow_host::targets::Target,
    settings: &EvaluationSettings,
    seed: u64,
) -> Result<Evaluation, HostError> {
    let executor = std::cell::RefCell::new(executor);
    evaluate(
        &target,
        &mut |n, seed| {
            let samples = posterior.sample(*executor.borrow_mut(), n, &[], seed)?;
            Ok::<_, HostError>((samples.theta, samples.log_prob))
        },
        &mut |theta| posterior.log_prob(*executor.borrow_mut(), theta, &[]),
        settings,
        seed,
    )
}

/// history.csv.
///
/// # Errors
/// What the operating system says.
pub fn write_history(path: &Path, rows: &[HistoryRow]) -> Result<(), CommandError> {
    let mut text = String::from("step,visits,learning_rate,training_loss,validation_loss\n");
    for r in rows {
        let _ = writeln!(
            text,
            "{},{},{},{},{}",
            r.step, r.visits, r.learning_rate, r.training_loss, r.validation_loss
        );
    }
    write_file(path, text.as_bytes())
}

/// Writes a file atomically.
///
/// # Errors
/// [`Status::Other`] naming the file.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    write_atomically(path, bytes)
        .map_err(|e| CommandError::new(Status::Other, format!("{}: cannot write: {e}", path.display())))
}

/// Writes all results to `out` and the summary to stdout.
///
/// # Errors
/// [`CommandError`] naming the file that could not be written.
pub fn write(
    out: &Path,
    run: &Run<'_>,
    engine: &Engine,
    precision: Precision,
    console: Console,
) -> Result<(), CommandError> {
    let Run { task, source, posterior, report, .. } = run;
    write_model(&out.join(MODEL_FILE), posterior, precision)?;
    write_history(&out.join("history.csv"), &report.training.history)?;
    let mut executor = engine.flow(posterior.spec())?;
    let conditional = posterior.spec().context_dim > 0;
    let mut samples = None;
    if !conditional && task.output.n_samples > 0 {
        let drawn = posterior.sample(&mut executor, task.output.n_samples, &[], run.seed)?;
        let mut table = SampleTable::new(posterior.names.clone(), drawn.theta)?;
        table.log_prob = Some(drawn.log_prob);
        write_samples(&out.join("samples.npz"), &table, &mut std::io::sink())?;
        samples = Some(table);
    }
    let evaluation = match source.target {
        Some(_) if report.training.stop == StopReason::Interrupted => {
            console.remark("not compared with the known target, because the fit was interrupted");
            None
        }
        Some(target) => {
            console.remark("comparing with the known target");
            Some(judge(posterior, &mut executor, target, &EvaluationSettings::default(), run.seed)?)
        }
        None => None,
    };
    let mut weights = serde_json::to_value(&source.weights)?;
    if let Some(fields) = weights.as_object_mut() {
        // What the weights say of log Z holds only for some sources; the evidence says which and stands alone.
        fields.retain(|key, _| !key.starts_with("log_z"));
        fields.insert("autocorrelation_ess".into(), json!(source.autocorrelation_ess));
    }
    let metrics = json!({
        "lwflow": env!("CARGO_PKG_VERSION"),
        "command": std::env::args().collect::<Vec<_>>(),
        "seed": run.seed,
        "device": run.device,
        "seconds": run.seconds,
        "task": task,
        "pairs": { "weights": weights, "evidence": source.evidence, "notes": source.notes },
        "fit": report,
        "target": evaluation,
    });
    write_file(&out.join("metrics.json"), (serde_json::to_string_pretty(&metrics)? + "\n").as_bytes())?;
    if task.output.figures {
        figures(out, run, samples.as_ref(), &mut executor)?;
    }
    print(&summary(run, evaluation.as_ref(), out))
}

fn figures(
    out: &Path,
    run: &Run<'_>,
    samples: Option<&SampleTable>,
    executor: &mut FlowExecutor,
) -> Result<(), CommandError> {
    let Run { source, posterior, report, .. } = run;
    let rows: Vec<LossRow> = report
        .training
        .history
        .iter()
        .map(|r| LossRow {
            n_visits: r.visits as u64,
            training: r.training_loss,
            validation: Some(r.validation_loss),
            learning_rate: r.learning_rate,
        })
        .collect();
    let t = &report.training;
    let kept = ((t.best_step * t.visits) as f64 / t.steps.max(1) as f64, t.best_validation_loss);
    loss_curves(&out.join("loss.png"), &rows, Some(kept), None)?;
    let Some(samples) = samples else { return Ok(()) };
    let axes: Vec<FigureAxis> = posterior
        .labels
        .iter()
        .zip(&source.input.supports)
        .map(|(label, support)| FigureAxis {
            lower: support.lower,
            upper: support.upper,
            ..FigureAxis::new(Label::latex(label))
        })
        .collect();
    let weights = lwflow_host::weights::normalised_weights(&source.input.log_weights, &[])?;
    let truth = source.target.and_then(|t| t.sample(samples.n, run.seed ^ 0x7275_7468));
    let mut series = vec![
        CornerSeries { role: SeriesRole::Flow, name: "flow", theta: &samples.theta, weights: None },
        CornerSeries {
            role: SeriesRole::Training,
            name: "weighted points",
            theta: &source.input.theta,
            weights: Some(&weights),
        },
    ];
    if let Some(truth) = &truth {
        series.push(CornerSeries { role: SeriesRole::Truth, name: "truth", theta: truth, weights: None });
    }
    corner(&out.join("corner.png"), &axes, &series, None)?;
    if posterior.dim() == 2 {
        let grid = density_grid_of(posterior, executor, &samples.theta, (320, 320))?;
        let settings = DensityMapSettings {
            x_label: Label::latex(&posterior.labels[0]),
            y_label: Label::latex(&posterior.labels[1]),
            ..DensityMapSettings::default()
        };
        density_map(&out.join("density.png"), &grid, &settings)?;
    }
    Ok(())
}

/// A figure or a host error, where a density is evaluated for a figure.
#[derive(Debug, thiserror::Error)]
enum GridError {
    #[error(transparent)]
    Figure(#[from] FigureError),
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<GridError> for CommandError {
    fn from(error: GridError) -> Self {
        match error {
            GridError::Figure(e) => e.into(),
            GridError::Host(e) => e.into(),
        }
    }
}

/// log q on a grid that covers the samples.
fn density_grid_of(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    theta: &[f64],
    size: (usize, usize),
) -> Result<LogDensityGrid, CommandError> {
    let range = |j: usize| {
        let column = theta.chunks_exact(2).map(|t| t[j]);
        let (lo, hi) = column.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
        let margin = 0.08 * (hi - lo);
        (lo - margin, hi + margin)
    };
    density_grid(posterior, executor, range(0), range(1), size)
}

/// log q of a two-dimensional posterior on a grid.
///
/// # Errors
/// Those of the engine.
pub fn density_grid(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    x: (f64, f64),
    y: (f64, f64),
    size: (usize, usize),
) -> Result<LogDensityGrid, CommandError> {
    let evaluated = LogDensityGrid::evaluate(x, y, size, |theta| {
        Ok::<_, GridError>(posterior.log_prob(executor, theta, &[])?)
    });
    Ok(evaluated?)
}

fn summary(run: &Run<'_>, evaluation: Option<&Evaluation>, out: &Path) -> String {
    let Run { source, report, .. } = run;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "pairs: {} rows, {} weighted, effective sample size {:.0}, largest share {:.3}",
        report.n, report.n_weighted, report.ess, source.weights.largest_share
    );
    if let Some(ess) = source.autocorrelation_ess {
        let _ = writeln!(text, "  with the autocorrelation of the chain: effective sample size {ess:.0}");
    }
    let _ = match (source.evidence.log_z, source.evidence.log_z_sd) {
        (Some(z), Some(sd)) => writeln!(text, "log Z = {z:.4} +- {sd:.4} ({})", source.evidence.how),
        (Some(z), None) => writeln!(text, "log Z = {z:.4} ({})", source.evidence.how),
        _ => writeln!(text, "log Z: none ({})", source.evidence.how),
    };
    let base = if report.n_components == 0 {
        "Gaussian".into()
    } else {
        format!("mixture of {}", report.n_components)
    };
    let t = &report.training;
    let kept = match t.best_step {
        0 => "the start: no step improved on it".to_owned(),
        step => format!("step {step} of {}", t.steps),
    };
    let _ = writeln!(
        text,
        "fit: base {base}, {} parameters, {} visits, validation loss {:.5} nats on {} points ({kept}), {:.1} s",
        report.n_params, t.visits, t.best_validation_loss, t.n_validation, run.seconds
    );
    // Statistical floor of a fit of P parameters to E effective points: P / (2 E) nats of forward KL.
    let ess = source.autocorrelation_ess.unwrap_or(report.ess);
    let floor = report.n_params as f64 / (2.0 * ess);
    if floor > 0.1 {
        let _ = writeln!(
            text,
            "  few effective points: {} parameters for {ess:.0} of them; more draws or a smaller flow may do better",
            report.n_params
        );
    }
    if t.skipped_steps > 0 {
        let _ = writeln!(text, "{} steps were skipped because they were not finite", t.skipped_steps);
    }
    if let Some(mass) = t.flow_mass {
        // The mean of q / r over n draws; at q = p its noise is that of the evidence's weights.
        let noise = ((1.0 / source.weights.ess_fraction - 1.0).max(0.0) / source.weights.n as f64).sqrt();
        let warning = match mass - 1.0 {
            gap if gap.abs() <= 0.05_f64.max(3.0 * noise) => "",
            gap if gap < 0.0 => "  <- below 1: the flow may hide mass between the points",
            _ => "  <- above 1: the flow is too dense where the draws are",
        };
        let n = report.n;
        let _ =
            writeln!(text, "mass of the flow seen by the {n} draws: {mass:.4} (noise {noise:.3}){warning}");
    }
    if let Some(e) = evaluation {
        text.push_str(&comparison(e));
    }
    let _ = writeln!(text, "results in {}", out.display());
    text
}

/// The figures against a known target, one line each, with their standard errors and numbers of draws.
fn comparison(e: &Evaluation) -> String {
    let mut text = format!("against the known target {}:\n", e.target);
    if let Some(f) = &e.forward_kl {
        let _ = writeln!(text, "  forward KL {:.5} +- {:.5} nats ({} exact draws)", f.value, f.se, f.n);
    }
    let r = &e.reverse_kl;
    let infinite =
        if r.n_infinite > 0 { format!(", {} of them infinite", r.n_infinite) } else { String::new() };
    let _ = writeln!(text, "  reverse KL {:.5} +- {:.5} nats ({} draws{infinite})", r.value, r.se, r.n);
    let w = &e.importance;
    let _ = writeln!(
        text,
        "  ESS fraction {:.4}, largest weight {:.1e} ({} draws)",
        w.ess_fraction, w.largest_share, w.n
    );
    let _ = writeln!(
        text,
        "  log Z {:.4} +- {:.4}, truth {:.4} (z {:.1})",
        w.log_z, w.log_z_sd, e.log_z.truth, e.log_z.z_score
    );
    if let Some(s) = &e.sliced_wasserstein2 {
        let _ = writeln!(text, "  sliced W2 {:.4}, exact draws {:.4} ({} draws)", s.value, s.floor, s.n);
    }
    let _ = writeln!(text, "  mode masses off by {:.5} at most ({} draws)", e.modes.error, e.modes.n);
    let _ = writeln!(
        text,
        "  bridge mass {:.2e} +- {:.1e}, exact 1e-4 ({} draws)",
        e.bridge.value, e.bridge.se, e.bridge.n
    );
    text
}
