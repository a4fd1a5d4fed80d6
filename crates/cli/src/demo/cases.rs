//! The known targets of the demo: the four fits of each, one row of the table per fit, and the bounds of the mixture base.
//! All fits of a target see the same draws and visit as many points.

use crate::exit::CommandError;
use crate::progress::{Console, go_on, interrupted, print};
use crate::report::{density_grid, fixed, judge};
use crate::source::{Source, draw_target};
use lwflow_engine::Engine;
use lwflow_figures::{FigureError, GridCell, GridRow, Label, LogDensityGrid};
use lwflow_host::diagnostics::{Evaluation, EvaluationSettings};
use lwflow_host::fit::{BaseSettings, Components, FitSettings, fit, fit_mixture_only};
use lwflow_host::posterior::Posterior;
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_model::{Covariance, FlowSettings};
use serde::Serialize;
use std::time::Instant;

/// Draws from the prior of each target.
const N_DRAWS: usize = 131_072;
/// Bridge mass of exact draws is 1e-4.
const MAX_BRIDGE: f64 = 3e-4;
const MAX_MODE_DIFFERENCE: f64 = 0.003;

/// A target with what its mixture fit is held to.
pub(super) struct Case {
    pub(super) target: Target,
    max_forward_kl: f64,
    min_ess_fraction: Option<f64>,
    bound_bridge: bool,
    n_layers: usize,
    max_visits: usize,
}

pub(super) fn cases() -> Vec<Case> {
    let case = |target, max_forward_kl, min_ess_fraction, bound_bridge, n_layers, max_visits| Case {
        target,
        max_forward_kl,
        min_ess_fraction,
        bound_bridge,
        n_layers,
        max_visits,
    };
    vec![
        case(Target::Gauss1, 0.003, Some(0.99), true, 8, 200_000),
        case(Target::Gauss2, 0.003, Some(0.99), true, 8, 200_000),
        case(Target::Gauss3, 0.003, Some(0.99), true, 8, 200_000),
        case(Target::Gauss3d, 0.01, Some(0.97), true, 8, 200_000),
        case(Target::TwoMoonsS, 0.005, None, false, 8, 700_000),
        case(Target::Circle8, 0.005, None, true, 8, 200_000),
        case(Target::Rings2, 0.15, None, false, 12, 1_200_000),
    ]
}

/// One row of the table.
#[derive(Serialize)]
pub(super) struct Row {
    target: String,
    seed: u64,
    base: String,
    /// Points visited in training; EM alone visits none.
    visits: Option<usize>,
    /// Seconds of the fit alone.
    seconds: f64,
    /// Largest difference of the mode masses from those of the weighted draws.
    mode_difference: f64,
    /// Largest difference from the truth in standard errors of both the weighted draws, as independent ones, and the
    /// samples.
    mode_z: f64,
    /// The same with the smaller standard error that the evenness of the draws gives them, from their scramblings.
    mode_z_even: f64,
    evaluation: Evaluation,
}

pub(super) fn header() -> String {
    format!(
        "{:<12} {:>4} {:<14} {:>9} {:>9} {:>15} {:>8} {:>6} {:>7} {:>9} {:>7} {:>9} {:>17} {:>8} {:>7}",
        "target",
        "seed",
        "base",
        "fwd KL",
        "rev KL",
        "SW2 (floor)",
        "modes",
        "z",
        "z even",
        "bridge",
        "ESS",
        "log Z",
        "log Z error",
        "visits",
        "s"
    )
}

fn line(row: &Row) -> String {
    let e = &row.evaluation;
    let forward = e.forward_kl.as_ref().map_or("-".to_owned(), |f| fixed(f.value, 5));
    let [log_z, log_z_error] = match e.log_z.error {
        Some(error) => {
            [fixed(e.importance.log_z, 4), format!("{} +-{:>7.4}", fixed(error, 4), e.importance.log_z_sd)]
        }
        None => ["-", "-"].map(str::to_owned),
    };
    let visits = row.visits.map_or("-".to_owned(), |n| n.to_string());
    let sw =
        e.sliced_wasserstein2.as_ref().map_or("-".into(), |s| format!("{:.4} ({:.4})", s.value, s.floor));
    format!(
        "{:<12} {:>4} {:<14} {:>9} {:>9} {:>15} {:>8.5} {:>6.2} {:>7.2} {:>9.2e} {:>7.4} {:>9} {:>17} {visits:>8} {:>7.1}",
        row.target,
        row.seed,
        row.base,
        forward,
        fixed(e.reverse_kl.value, 5),
        sw,
        row.mode_difference,
        row.mode_z,
        row.mode_z_even,
        e.bridge.value,
        e.importance.ess_fraction,
        log_z,
        log_z_error,
        row.seconds
    )
}

fn mixture_base(k: usize) -> BaseSettings {
    BaseSettings::Mixture { components: Components::Fixed(k), covariance: Covariance::Full, trainable: true }
}

/// The rows of one target; after an interruption those that were complete by then.
pub(super) fn run_case(
    case: &Case,
    seed: u64,
    engine: &Engine,
    console: Console,
    missed: &mut Vec<String>,
    pictures: Option<&mut Vec<GridRow>>,
) -> Result<Vec<Row>, CommandError> {
    let name = case.target.name();
    let source = draw_target(case.target, N_DRAWS, seed)?;
    let k = case.target.n_components_demo();
    let training = TrainSettings { max_visits: case.max_visits, ..TrainSettings::default() };
    let flow = FlowSettings { n_layers: case.n_layers, ..FlowSettings::default() };
    let frozen = FlowSettings { n_layers: 0, ..FlowSettings::default() };
    let mut rows = Vec::new();
    let mut fitted = Vec::new();
    // What an interrupted fit left, or an interrupted comparison, is no row.
    let judged = |base, posterior: &Posterior, visits, seconds| -> Result<Option<Row>, CommandError> {
        if interrupted() {
            return Ok(None);
        }
        let mut executor = engine.flow(posterior.spec())?;
        let settings = EvaluationSettings::default();
        let Some(evaluation) = judge(posterior, &mut executor, case.target, &settings, seed, console)? else {
            return Ok(None);
        };
        let [mode_difference, mode_z, mode_z_even] = modes(&source, case.target, &evaluation);
        let target = name.clone();
        let row =
            Row { target, seed, base, visits, seconds, mode_difference, mode_z, mode_z_even, evaluation };
        print(&format!("{}\n", line(&row)))?;
        Ok(Some(row))
    };
    for (label, flow, base) in [
        ("Gaussian".to_owned(), flow.clone(), BaseSettings::Gaussian),
        (format!("mixture {k}"), flow, mixture_base(k)),
        (format!("frozen flow {k}"), frozen, mixture_base(k)),
    ] {
        let settings = FitSettings { flow, base, training: training.clone(), ..FitSettings::default() };
        let bar = console.bar(format!("{name}, {label}"), "points");
        let start = Instant::now();
        let (posterior, report) =
            fit(engine, &source.input, &settings, seed, |progress| bar.update_fit(progress))?;
        let seconds = start.elapsed().as_secs_f64();
        drop(bar);
        let Some(row) = judged(label, &posterior, Some(report.training.visits), seconds)? else {
            return Ok(rows);
        };
        rows.push(row);
        fitted.push(posterior);
    }
    check(case, &rows[1], missed);
    let start = Instant::now();
    let em = fit_mixture_only(&source.input, &mixture_base(k), seed, |_| go_on())?;
    let Some(row) = judged(format!("EM alone {k}"), &em, None, start.elapsed().as_secs_f64())? else {
        return Ok(rows);
    };
    rows.push(row);
    if let Some(pictures) = pictures {
        pictures.push(picture(case, engine, &fitted[0], &fitted[1], &rows)?);
    }
    Ok(rows)
}

/// Largest difference of the mode masses from the weighted draws' own, and from the truth in two standard errors, each
/// joined with that of the samples: of the draws' masses as 131,072 independent weighted draws have it (the delta method
/// for a ratio), and of these draws, which are more even than independent ones, from their independent scramblings.
fn modes(source: &Source, target: Target, evaluation: &Evaluation) -> [f64; 3] {
    let d = target.dim();
    let n_modes = target.n_modes();
    let lw = &source.input.log_weights;
    let max = lw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let blocks = source.input.blocks.as_deref().unwrap_or_default();
    let n_blocks = blocks.iter().copied().max().map_or(1, |b| b as usize + 1);
    let mut sums = vec![0.0; n_blocks * n_modes];
    let mut squares = vec![0.0; n_modes];
    for (i, theta) in source.input.theta.chunks_exact(d).enumerate() {
        let block = blocks.get(i).map_or(0, |&b| b as usize);
        let (mode, w) = (target.mode_of(theta), (lw[i] - max).exp());
        sums[block * n_modes + mode] += w;
        squares[mode] += w * w;
    }
    let [mut difference, mut z, mut z_even] = [0.0f64; 3];
    let (total, all_squares): (f64, f64) = (sums.iter().sum(), squares.iter().sum());
    for m in 0..n_modes {
        let share = sums.iter().skip(m).step_by(n_modes).sum::<f64>() / total;
        let inside = (1.0 - share).powi(2) * squares[m];
        let independent = (inside + share * share * (all_squares - squares[m])) / (total * total);
        // Linearised ratio estimator over blocks.
        let even: f64 = (0..n_blocks)
            .map(|b| {
                let row = &sums[b * n_modes..][..n_modes];
                (row[m] - share * row.iter().sum::<f64>()).powi(2)
            })
            .sum::<f64>()
            * n_blocks as f64
            / (n_blocks.max(2) - 1) as f64
            / (total * total);
        let modes = &evaluation.modes;
        difference = difference.max((modes.masses[m] - share).abs());
        if n_modes > 1 {
            let off = (modes.masses[m] - modes.reference[m]).abs();
            let se = |variance: f64| (variance + modes.se[m] * modes.se[m]).sqrt();
            (z, z_even) = (z.max(off / se(independent)), z_even.max(off / se(even)));
        }
    }
    [difference, z, z_even]
}

fn check(case: &Case, row: &Row, missed: &mut Vec<String>) {
    let e = &row.evaluation;
    let place = format!("{}, seed {}", row.target, row.seed);
    let mut hold = |what: &str, value: f64, bound: f64, least: bool| {
        let holds = if least { value >= bound } else { value <= bound };
        if !holds {
            let relation = if least { "at least" } else { "at most" };
            missed.push(format!("{place}: {what} is {value:.5}, expected {relation} {bound}"));
        }
    };
    let forward = e.forward_kl.as_ref().map_or(f64::NAN, |f| f.value);
    hold("forward KL", forward, case.max_forward_kl, false);
    if let Some(bound) = case.min_ess_fraction {
        hold("ESS fraction", e.importance.ess_fraction, bound, true);
    }
    if case.bound_bridge {
        hold("bridge mass", e.bridge.value, MAX_BRIDGE, false);
    }
    hold(
        "difference of the mode masses from the weighted draws",
        row.mode_difference,
        MAX_MODE_DIFFERENCE,
        false,
    );
    hold("difference of the mode masses from the truth in standard errors", row.mode_z, 3.0, false);
}

fn picture(
    case: &Case,
    engine: &Engine,
    gaussian: &Posterior,
    mixture: &Posterior,
    rows: &[Row],
) -> Result<GridRow, CommandError> {
    let theta = case.target.sample(20_000, 1).unwrap_or_default();
    let range = |j: usize| {
        let column = theta.chunks_exact(2).map(|t| t[j]);
        let (lo, hi) = column.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
        (lo - 0.12 * (hi - lo), hi + 0.12 * (hi - lo))
    };
    let (x, y, size) = (range(0), range(1), (160, 160));
    let truth = LogDensityGrid::evaluate(x, y, size, |theta| {
        Ok::<_, FigureError>(theta.chunks_exact(2).map(|t| case.target.log_prob(t)).collect())
    })?;
    let note = |row: &Row| {
        let kl = row.evaluation.forward_kl.as_ref().map_or(f64::NAN, |f| f.value);
        // An estimate a little below zero is zero to four digits, without a sign.
        let kl = if kl.abs() < 5e-5 { 0.0 } else { kl };
        Some(Label::plain(format!("KL {kl:.4}, bridge {:.0e}", row.evaluation.bridge.value)))
    };
    let mut cells = vec![GridCell { grid: truth, note: None }];
    for (posterior, row) in [gaussian, mixture].into_iter().zip(rows) {
        let mut executor = engine.flow(posterior.spec())?;
        cells.push(GridCell { grid: density_grid(posterior, &mut executor, x, y, size)?, note: note(row) });
    }
    Ok(GridRow { name: Label::plain(case.target.name()), cells })
}
