//! Writes the results of a fit: model, samples, metrics, history and figures, and the summary on stdout.
//! Every figure in metrics.json says how many draws made it; what cannot be known is null, never a number.

mod manifest;
mod points;
pub mod rounds;
mod summary;

pub use manifest::{StageClock, Timings};
pub use points::POINTS_FILE;
pub use summary::{fixed, plus_minus};

use crate::draws::{Draws, write_draws};
use crate::exit::{CommandError, Status};
use crate::page::{self, PAGE_FILE};
use crate::progress::{Console, print};
use crate::source::Source;
use crate::task::Task;
use lwflow_engine::{Engine, FlowExecutor};
use lwflow_figures::{
    CornerSeries, DensityMapSettings, FigureAxis, FigureError, Label, LogDensityGrid, LossRow, SeriesRole,
    corner, density_map, loss_curves,
};
use lwflow_host::HostError;
use lwflow_host::amortise::AmortiseReport;
use lwflow_host::diagnostics::{ErrorBars, Evaluation, EvaluationSettings, error_bars, evaluate};
use lwflow_host::files::SampleTable;
use lwflow_host::fit::FitReport;
use lwflow_host::model_file::{Precision, write_atomically, write_model};
use lwflow_host::posterior::Posterior;
use lwflow_host::rounds::PointModes;
use lwflow_host::targets::Target;
use lwflow_host::train::{HistoryRow, StopReason};
use lwflow_host::truncated::TruncatedReport;
use lwflow_host::weights::WeightHistogram;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use summary::summary;

/// Name of the model file in the folder of results.
pub const MODEL_FILE: &str = "model.safetensors";
/// All files that a fit may write there.
pub const FILES: [&str; 13] = [
    MODEL_FILE,
    "history.csv",
    "metrics.json",
    "samples.npz",
    "equal_weight.npz",
    POINTS_FILE,
    "verdict.json",
    "rounds.csv",
    "loss.png",
    "corner.png",
    "density.png",
    PAGE_FILE,
    REPLICAS,
];
/// Folder with the models of the replicas.
const REPLICAS: &str = "replicas";
/// Draws of each flow behind error bars.
const N_ERROR_BARS: usize = 20_000;
/// Samples that figures show at most.
const N_SHOWN: usize = 100_000;

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
    /// Replicas on bootstrap weights, if they were asked for.
    pub replicas: &'a [Posterior],
    /// What likelihood-weighted amortisation did, if that was asked for.
    pub amortised: Option<&'a AmortiseReport>,
    /// What rounds of simulations for one observation did, if these were asked for: draws and figures are of that observation.
    pub truncated: Option<&'a TruncatedReport>,
    /// Seed.
    pub seed: u64,
    /// Device, in words.
    pub device: String,
    /// Seconds from the start of the command to the end of training.
    pub seconds: f64,
    /// What it went into; of rounds of simulations, their own report says it.
    pub timings: Option<Timings>,
    /// Whether the results take the place of earlier ones.
    pub replace: bool,
}

/// Judges a posterior against a known target with the draw counts of the definition; `None` if the user asked to stop.
///
/// # Errors
/// Those of the engine.
pub fn judge(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    target: Target,
    settings: &EvaluationSettings,
    seed: u64,
    console: Console,
) -> Result<Option<Evaluation>, HostError> {
    let bar = console.bar("comparing with the truth", "points");
    let n_draws = settings.n_kl.max(settings.n_bridge).max(settings.n_sw);
    let total = n_draws + settings.n_kl;
    let executor = std::cell::RefCell::new(executor);
    let evaluation = evaluate(
        &target,
        &mut |n, seed| {
            let mut all = (Vec::with_capacity(n * posterior.dim()), Vec::with_capacity(n));
            let done = posterior.sample_pieces(*executor.borrow_mut(), n, &[], seed, |mut piece| {
                all.0.append(&mut piece.theta);
                all.1.append(&mut piece.log_prob);
                bar.update(all.1.len(), total)
            })?;
            if done < n { Err(Halt::Interrupted) } else { Ok(all) }
        },
        &mut |theta| {
            let n = theta.len() / posterior.dim();
            let mut all = Vec::with_capacity(n);
            let done = posterior.log_prob_pieces(*executor.borrow_mut(), theta, &[], |piece| {
                all.extend_from_slice(piece);
                bar.update(n_draws + all.len(), total)
            })?;
            if done < n { Err(Halt::Interrupted) } else { Ok(all) }
        },
        settings,
        seed,
    );
    match evaluation {
        Ok(evaluation) => Ok(Some(evaluation)),
        Err(Halt::Interrupted) => Ok(None),
        Err(Halt::Host(error)) => Err(error),
    }
}

/// Why an evaluation ended before its end.
enum Halt {
    Interrupted,
    Host(HostError),
}

impl From<HostError> for Halt {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// history.csv.
///
/// # Errors
/// What the operating system says.
pub fn write_history(path: &Path, rows: &[HistoryRow]) -> Result<(), CommandError> {
    let mut text = String::from("step,visits,learning_rate,training_loss,validation_loss\n");
    // A loss that no step gave is an empty cell.
    let cell = |loss: f64| if loss.is_nan() { String::new() } else { loss.to_string() };
    for r in rows {
        let (training, validation) = (cell(r.training_loss), cell(r.validation_loss));
        let _ = writeln!(text, "{},{},{},{training},{validation}", r.step, r.visits, r.learning_rate);
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
/// [`CommandError`] naming the file that could not be written. A figure that cannot be drawn is a remark.
pub fn write(
    out: &Path,
    run: &Run<'_>,
    engine: &Engine,
    precision: Precision,
    console: Console,
) -> Result<(), CommandError> {
    let Run { task, source, posterior, report, .. } = run;
    write_model(&out.join(MODEL_FILE), posterior, precision)?;
    if run.replace {
        remove_others(out)?;
    }
    write_history(&out.join("history.csv"), &report.training.history)?;
    let histogram = WeightHistogram::new(&source.input.log_weights)?;
    write_replicas(out, run.replicas, precision)?;
    let error_bars = (run.replicas.len() > 1)
        .then(|| error_bars(engine, posterior, run.replicas, N_ERROR_BARS, run.seed))
        .transpose()?;
    let write_metrics = |evaluation: Option<&Evaluation>, modes: Option<&PointModes>| {
        write_metrics(out, run, histogram.as_ref(), error_bars.as_ref(), evaluation, modes)
    };
    write_metrics(None, None)?;
    let given = run.truncated.map(|rounds| posterior.given(&rounds.observation)).transpose()?;
    // What draws and figures are of.
    let shown = given.as_ref().unwrap_or(posterior);
    let mut executor = engine.flow(shown.spec())?;
    let mut evaluation = None;
    if let Some(target) = source.target {
        if report.training.stop == StopReason::Interrupted {
            console.remark("not compared with the known target, because the fit was interrupted");
        } else {
            console.remark("comparing with the known target");
            let settings = EvaluationSettings::default();
            evaluation = judge(posterior, &mut executor, target, &settings, run.seed, console)?;
            match &evaluation {
                Some(evaluation) => write_metrics(Some(evaluation), None)?,
                None => console.interruption("the comparison with the known target is left out"),
            }
        }
    }
    print(&summary(run, error_bars.as_ref(), evaluation.as_ref()))?;
    let samples = write_fit_samples(out, run, shown, &mut executor, console)?;
    if task.output.figures {
        match figures(out, run, shown, samples.as_ref(), &mut executor) {
            // Drawing must not undo a fit; a full disk or a lost device is told by the exit status.
            Err(DrawError::Figure(error)) if !matches!(error, FigureError::Write { .. }) => {
                console.remark(error);
            }
            drawn => drawn?,
        }
        // The simulations of rounds are weighted for no posterior.
        if let Some(samples) = samples.as_ref().filter(|_| run.truncated.is_none()) {
            let modes = points::write_of_fit(out, run, samples, &mut executor)?;
            write_metrics(evaluation.as_ref(), modes.as_ref())?;
        }
        write_page(out, console)?;
    }
    print(&format!("results in {}\n", out.display()))
}

/// report.html, from the files that are there now, and its name on stdout. A page that cannot be made is a remark: the
/// results are written.
fn write_page(out: &Path, console: Console) -> Result<(), CommandError> {
    let file = out.join(PAGE_FILE);
    match page::of_folders(&[out]) {
        Ok(html) => {
            write_file(&file, html.as_bytes())?;
            print(&format!("report: {}\n", file.display()))
        }
        Err(error) => {
            console.remark(format!("no {PAGE_FILE}: {error}"));
            Ok(())
        }
    }
}

/// Removes what an earlier fit left, all but the model: beside a new model it would be taken for its result.
fn remove_others(out: &Path) -> Result<(), CommandError> {
    for name in FILES.into_iter().filter(|name| *name != MODEL_FILE) {
        let path = out.join(name);
        if path.exists() {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|e| {
                CommandError::new(Status::Other, format!("{}: cannot remove: {e}", path.display()))
            })?;
        }
    }
    Ok(())
}

/// The models of the replicas, each one a model file like any other.
fn write_replicas(out: &Path, replicas: &[Posterior], precision: Precision) -> Result<(), CommandError> {
    if replicas.is_empty() {
        return Ok(());
    }
    let folder = out.join(REPLICAS);
    std::fs::create_dir_all(&folder)
        .map_err(|e| CommandError::new(Status::Other, format!("{}: cannot make: {e}", folder.display())))?;
    for (k, replica) in replicas.iter().enumerate() {
        write_model(&folder.join(format!("{}.safetensors", k + 1)), replica, precision)?;
    }
    Ok(())
}

/// metrics.json; written before the long work after training, and again with what that found.
fn write_metrics(
    out: &Path,
    run: &Run<'_>,
    histogram: Option<&WeightHistogram>,
    error_bars: Option<&ErrorBars>,
    evaluation: Option<&Evaluation>,
    modes: Option<&PointModes>,
) -> Result<(), CommandError> {
    let source = run.source;
    let mut weights = serde_json::to_value(&source.weights)?;
    if let Some(fields) = weights.as_object_mut() {
        // What the weights say of log Z holds only for some sources; the evidence says which and stands alone.
        fields.retain(|key, _| !key.starts_with("log_z"));
        fields.insert("autocorrelation_ess".into(), json!(source.autocorrelation_ess));
    }
    let pairs = json!({
        "weights": weights,
        "histogram": histogram,
        "evidence": source.evidence,
        "notes": source.notes,
    });
    let mut metrics = manifest::manifest(run.task, run.seed, &run.device)?;
    metrics.insert("seconds".into(), json!(run.seconds));
    metrics.insert("timings".into(), json!(run.timings));
    metrics.insert("pairs".into(), pairs);
    metrics.insert("fit".into(), json!(run.report));
    metrics.insert("error_bars".into(), json!(error_bars));
    metrics.insert("amortised".into(), json!(run.amortised));
    metrics.insert("truncated".into(), json!(run.truncated));
    metrics.insert("target".into(), json!(evaluation));
    metrics.insert("modes".into(), json!(modes));
    write_file(&out.join("metrics.json"), (serde_json::to_string_pretty(&metrics)? + "\n").as_bytes())
}

/// samples.npz; returns the samples for the figures.
fn write_fit_samples(
    out: &Path,
    run: &Run<'_>,
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    console: Console,
) -> Result<Option<SampleTable>, CommandError> {
    let n = run.task.output.n_samples;
    if n == 0 {
        return Ok(None);
    }
    if posterior.spec().context_dim > 0 {
        console.remark(
            "no samples.npz and no corner plot: samples need a context; `lwflow sample --context` draws them",
        );
        return Ok(None);
    }
    let bar = console.bar("sampling", "samples");
    let draws = Draws { n_each: n, contexts: &[], names: None, seed: run.seed };
    let (written, shown) = write_draws(posterior, executor, draws, &out.join("samples.npz"), N_SHOWN, &bar)?;
    drop(bar);
    if written < n {
        console.interruption(format!("{written} of {n} samples written"));
    }
    Ok(Some(shown))
}

fn figures(
    out: &Path,
    run: &Run<'_>,
    posterior: &Posterior,
    samples: Option<&SampleTable>,
    executor: &mut FlowExecutor,
) -> Result<(), DrawError> {
    let Run { source, report, .. } = run;
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
    let mut series =
        vec![CornerSeries { role: SeriesRole::Flow, name: "flow", theta: &samples.theta, weights: None }];
    if run.truncated.is_none() {
        series.push(CornerSeries {
            role: SeriesRole::Training,
            name: "weighted points",
            theta: &source.input.theta,
            weights: Some(&weights),
        });
    }
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

/// Why a figure is not there: the figure itself, or the density in it.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// It cannot be drawn or written.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// The density cannot be evaluated.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<DrawError> for CommandError {
    fn from(error: DrawError) -> Self {
        match error {
            DrawError::Figure(e) => e.into(),
            DrawError::Host(e) => e.into(),
        }
    }
}

/// log q on a grid that covers the samples.
fn density_grid_of(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    theta: &[f64],
    size: (usize, usize),
) -> Result<LogDensityGrid, DrawError> {
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
) -> Result<LogDensityGrid, DrawError> {
    LogDensityGrid::evaluate(x, y, size, |theta| Ok(posterior.log_prob(executor, theta, &[])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_no_step_gave_is_an_empty_cell() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.csv");
        let (training_loss, validation_loss) = (f64::NAN, 1.5);
        let row = HistoryRow { step: 10, visits: 5120, learning_rate: 0.5, training_loss, validation_loss };
        write_history(&file, &[row]).unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(text, "step,visits,learning_rate,training_loss,validation_loss\n10,5120,0.5,,1.5\n");
    }
}
