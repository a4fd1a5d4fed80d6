//! The demo: why the base distribution matters, on seven known targets, and one real nested-sampling run.
//! Every bound is checked on the mixture base; the Gaussian base, EM alone and the frozen flow are there to compare.

use crate::commands::open_engine;
use crate::exit::{CommandError, Status};
use crate::figures::{GridCell, GridRow, Label, LogDensityGrid, density_grid as draw_grid};
use crate::progress::{Console, interrupted, print};
use crate::report::{density_grid, judge, write_file};
use crate::source::{Source, draw_target, from_pairs};
use crate::task::Task;
use clap::Args;
use lwflow_engine::{DeviceChoice, Engine};
use lwflow_host::diagnostics::{Evaluation, EvaluationSettings, ks_distance};
use lwflow_host::files::{ChainSettings, read_chains};
use lwflow_host::fit::{BaseSettings, Components, FitSettings, fit, fit_mixture_only};
use lwflow_host::posterior::Posterior;
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_model::{Covariance, FlowSettings};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `lwflow demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the table, the figures and the figures' numbers.
    #[arg(long, default_value = "demo")]
    out: PathBuf,
    /// Device.
    #[arg(long, default_value = "software")]
    device: DeviceChoice,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Several seeds, separated by commas; the bounds must hold for each.
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Only the targets of these names, separated by commas ("chain" is the nested-sampling run).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// No progress and no remarks.
    #[arg(long)]
    quiet: bool,
}

/// Draws from the prior of each target.
const N_DRAWS: usize = 131_072;
/// Samples compared with the chain's known marginals.
const N_CHAIN: usize = 100_000;
/// Bridge mass of exact draws is 1e-4.
const MAX_BRIDGE: f64 = 3e-4;
const MAX_MODE_DIFFERENCE: f64 = 0.003;
/// Kolmogorov's 1 % point.
const KS_FACTOR: f64 = 1.63;

/// A target with what its mixture fit is held to.
struct Case {
    target: Target,
    max_forward_kl: f64,
    min_ess_fraction: Option<f64>,
    bound_bridge: bool,
    max_visits: usize,
    batch_size: usize,
}

fn cases() -> Vec<Case> {
    let case = |target, max_forward_kl, min_ess_fraction, bound_bridge, max_visits, batch_size| Case {
        target,
        max_forward_kl,
        min_ess_fraction,
        bound_bridge,
        max_visits,
        batch_size,
    };
    vec![
        case(Target::Gauss1, 0.003, Some(0.99), true, 400_000, 512),
        case(Target::Gauss2, 0.003, Some(0.99), true, 400_000, 512),
        case(Target::Gauss3, 0.003, Some(0.99), true, 400_000, 512),
        case(Target::Gauss3d, 0.01, Some(0.97), true, 400_000, 512),
        case(Target::TwoMoonsS, 0.005, None, false, 1_000_000, 512),
        case(Target::Circle8, 0.005, None, true, 400_000, 512),
        case(Target::Rings2, 0.15, None, false, 4_000_000, 512),
    ]
}

/// One row of the table.
#[derive(Serialize)]
struct Row {
    target: String,
    seed: u64,
    base: String,
    /// Seconds of the fit alone.
    seconds: f64,
    /// Largest difference of the mode masses from those of the weighted draws.
    mode_difference: f64,
    /// Largest difference from the truth in standard errors of both the draws and the samples.
    mode_z: f64,
    evaluation: Evaluation,
}

/// Runs the demo.
///
/// # Errors
/// [`CommandError`]; a bound that does not hold is not an error but [`Status::Fit`].
pub fn demo(args: &DemoArgs) -> Result<Status, CommandError> {
    let console = Console { quiet: args.quiet };
    let started = Instant::now();
    std::fs::create_dir_all(&args.out).map_err(|e| {
        CommandError::new(Status::Input, format!("{}: cannot make the folder: {e}", args.out.display()))
    })?;
    let known: Vec<String> = cases().iter().map(|c| c.target.name()).chain(["chain".to_owned()]).collect();
    if let Some(name) = args.only.iter().find(|n| !known.contains(n)) {
        let message = format!("--only: no case \"{name}\"; there are {}", known.join(", "));
        return Err(CommandError::new(Status::Usage, message));
    }
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|n| n == name);
    let engine = open_engine(&args.device, console)?;
    let seeds = if args.seeds.is_empty() { vec![args.seed] } else { args.seeds.clone() };
    let (mut rows, mut missed, mut pictures, mut chain_rows) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    print(&format!("{}\n", header()))?;
    for &seed in &seeds {
        for case in cases().iter().filter(|c| wanted(&c.target.name())) {
            let draw = seed == seeds[0] && case.target.dim() == 2;
            let done = run_case(case, seed, &engine, console, &mut missed, draw.then_some(&mut pictures))?;
            rows.extend(done);
            if interrupted() {
                console.remark("interrupted: writing what there is");
                break;
            }
        }
        if wanted("chain") && !interrupted() {
            chain_rows.extend(run_chain(seed, &engine, console, &mut missed)?);
        }
    }
    let results = serde_json::json!({ "rows": rows, "chain": chain_rows, "missed": missed });
    write_file(&args.out.join("demo.json"), (serde_json::to_string_pretty(&results)? + "\n").as_bytes())?;
    if !pictures.is_empty() {
        let columns = ["truth", "Gaussian base", "mixture base"].map(Label::plain);
        let path = args.out.join("bridges.png");
        draw_grid(&path, &columns, &pictures, 14.0)?;
        print(&format!("\ndensity maps: {}\n", path.display()))?;
    }
    print(&format!("numbers: {}\n", args.out.join("demo.json").display()))?;
    print(&format!("{:.0} s in all on {}\n", started.elapsed().as_secs_f64(), engine.info()))?;
    if interrupted() {
        return Ok(Status::Interrupted);
    }
    if missed.is_empty() {
        print("every bound holds for the mixture base\n")?;
        return Ok(Status::Success);
    }
    print(&format!("{} bounds do not hold:\n", missed.len()))?;
    for m in &missed {
        print(&format!("  {m}\n"))?;
    }
    Ok(Status::Fit)
}

fn header() -> String {
    format!(
        "{:<12} {:>4} {:<14} {:>9} {:>9} {:>15} {:>8} {:>7} {:>9} {:>7} {:>17} {:>7}",
        "target",
        "seed",
        "base",
        "fwd KL",
        "rev KL",
        "SW2 (floor)",
        "modes",
        "z",
        "bridge",
        "ESS",
        "log Z error",
        "s"
    )
}

fn line(row: &Row) -> String {
    let e = &row.evaluation;
    let forward = e.forward_kl.as_ref().map_or("-".to_owned(), |f| format!("{:.5}", f.value));
    let sw =
        e.sliced_wasserstein2.as_ref().map_or("-".into(), |s| format!("{:.4} ({:.4})", s.value, s.floor));
    format!(
        "{:<12} {:>4} {:<14} {:>9} {:>9.5} {:>15} {:>8.5} {:>7.2} {:>9.2e} {:>7.4} {:>8.4} +-{:>7.4} {:>7.1}",
        row.target,
        row.seed,
        row.base,
        forward,
        e.reverse_kl.value,
        sw,
        row.mode_difference,
        row.mode_z,
        e.bridge.value,
        e.importance.ess_fraction,
        e.log_z.error,
        e.importance.log_z_sd,
        row.seconds
    )
}

fn mixture_base(k: usize) -> BaseSettings {
    BaseSettings::Mixture { components: Components::Fixed(k), covariance: Covariance::Full, trainable: true }
}

fn run_case(
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
    let training = TrainSettings {
        max_visits: case.max_visits,
        batch_size: case.batch_size,
        ..TrainSettings::default()
    };
    let frozen = FlowSettings { n_layers: 0, ..FlowSettings::default() };
    let mut rows = Vec::new();
    let mut fitted = Vec::new();
    let mut add = |base: String, posterior: &Posterior, seconds: f64| -> Result<(), CommandError> {
        let mut executor = engine.flow(posterior.spec())?;
        let evaluation = judge(posterior, &mut executor, case.target, &EvaluationSettings::default(), seed)?;
        let (mode_difference, mode_z) = modes(&source, case.target, &evaluation);
        let row = Row { target: name.clone(), seed, base, seconds, mode_difference, mode_z, evaluation };
        print(&format!("{}\n", line(&row)))?;
        rows.push(row);
        Ok(())
    };
    for (label, flow, base, visits) in [
        (
            "Gaussian".to_owned(),
            FlowSettings::default(),
            BaseSettings::Gaussian,
            case.max_visits.min(400_000),
        ),
        (format!("mixture {k}"), FlowSettings::default(), mixture_base(k), case.max_visits),
        (format!("frozen flow {k}"), frozen, mixture_base(k), 100_000),
    ] {
        let settings =
            FitSettings { flow, base, training: TrainSettings { max_visits: visits, ..training.clone() } };
        let bar = console.bar(&format!("{name}, {label}"), visits as u64);
        let start = Instant::now();
        let (posterior, _) =
            fit(engine, &source.input, &settings, seed, |p| bar.update(p.done as u64, p.total as u64))?;
        let seconds = start.elapsed().as_secs_f64();
        drop(bar);
        add(label, &posterior, seconds)?;
        fitted.push(posterior);
    }
    let start = Instant::now();
    let em = fit_mixture_only(&source.input, &mixture_base(k), seed, |_| {
        if interrupted() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    add(format!("EM alone {k}"), &em, start.elapsed().as_secs_f64())?;
    check(case, &rows[1], missed);
    if let Some(pictures) = pictures {
        pictures.push(picture(case, engine, &fitted[0], &fitted[1], &rows)?);
    }
    Ok(rows)
}

/// Largest difference of the mode masses from the weighted draws' own, and from the truth in standard errors. The
/// standard error of the draws' masses comes from their independent scramblings.
fn modes(source: &Source, target: Target, evaluation: &Evaluation) -> (f64, f64) {
    let d = target.dim();
    let n_modes = target.n_modes();
    let lw = &source.input.log_weights;
    let max = lw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let blocks = source.input.blocks.as_deref().unwrap_or_default();
    let n_blocks = blocks.iter().copied().max().map_or(1, |b| b as usize + 1);
    let mut sums = vec![0.0; n_blocks * n_modes];
    for (i, theta) in source.input.theta.chunks_exact(d).enumerate() {
        let block = blocks.get(i).map_or(0, |&b| b as usize);
        sums[block * n_modes + target.mode_of(theta)] += (lw[i] - max).exp();
    }
    let (mut difference, mut z) = (0.0f64, 0.0f64);
    let total: f64 = sums.iter().sum();
    for m in 0..n_modes {
        let share = sums.iter().skip(m).step_by(n_modes).sum::<f64>() / total;
        // Linearised ratio estimator over blocks.
        let variance: f64 = (0..n_blocks)
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
        let se = (variance + modes.se[m] * modes.se[m]).sqrt();
        if n_modes > 1 {
            z = z.max((modes.masses[m] - modes.reference[m]).abs() / se);
        }
    }
    (difference, z)
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
        Ok::<_, crate::figures::FigureError>(theta.chunks_exact(2).map(|t| case.target.log_prob(t)).collect())
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

/// One known marginal of the chain.
#[derive(Serialize)]
struct ChainRow {
    parameter: String,
    seed: u64,
    ks_distance: f64,
    bound: f64,
    n: usize,
    outside: usize,
}

const CHAIN_TASK: &str = include_str!("../../../examples/polychord/TASK.toml");
const CHAIN_FILES: [(&str, &str); 3] = [
    ("pc.paramnames", include_str!("../../../tests/data/chains/pc.paramnames")),
    ("pc_dead-birth.txt", include_str!("../../../tests/data/chains/pc_dead-birth.txt")),
    ("pc_phys_live-birth.txt", include_str!("../../../tests/data/chains/pc_phys_live-birth.txt")),
];

/// Fits the PolyChord run that anesthetic tests with and compares the samples with the marginals its target is known
/// to have: x0 and x1 normal with sd 0.1, x2 exponential with mean 0.1, x3 uniform, x4 linear on (2, 4).
fn run_chain(
    seed: u64,
    engine: &Engine,
    console: Console,
    missed: &mut Vec<String>,
) -> Result<Vec<ChainRow>, CommandError> {
    let start = Instant::now();
    let folder = std::env::temp_dir().join(format!("lwflow-demo-{}", std::process::id()));
    let io = |e: std::io::Error| CommandError::new(Status::Other, format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(io)?;
    for (name, text) in CHAIN_FILES {
        std::fs::write(folder.join(name), text).map_err(io)?;
    }
    let samples = read_chains(&folder.join("pc"), &ChainSettings::default());
    std::fs::remove_dir_all(&folder).map_err(io)?;
    let samples = samples?;
    let ess = samples.report.kish_ess;
    let task = Task::parse(CHAIN_TASK, "examples/polychord/TASK.toml".as_ref())?;
    let source = from_pairs(&task, samples.pairs, None)?;
    let settings = crate::commands::fit_settings(&task);
    let bar = console.bar("PolyChord run", settings.training.max_visits as u64);
    let (posterior, _) =
        fit(engine, &source.input, &settings, seed, |p| bar.update(p.done as u64, p.total as u64))?;
    drop(bar);
    let mut executor = engine.flow(posterior.spec())?;
    let drawn = posterior.sample(&mut executor, N_CHAIN, &[], seed)?;
    let bound = KS_FACTOR / ess.sqrt();
    let d = posterior.dim();
    let normal = |x: f64| lwflow_host::rng::normal_cdf(x / 0.1);
    let cdfs: [&(dyn Fn(f64) -> f64 + Sync); 5] =
        [&normal, &normal, &|x| 1.0 - (-x.max(0.0) / 0.1).exp(), &|x| x.clamp(0.0, 1.0), &|x| {
            let t = (x - 2.0).clamp(0.0, 2.0);
            0.25 * t * t
        }];
    let mut out = Vec::new();
    let mut text =
        format!("\nPolyChord run, seed {seed}: ESS of the posterior weights {ess:.0}, KS bound {bound:.4}\n");
    for (j, cdf) in cdfs.iter().enumerate() {
        let column: Vec<f64> = drawn.theta.chunks_exact(d).map(|t| t[j]).collect();
        let support = &source.input.supports[j];
        let outside = column
            .iter()
            .filter(|&&x| support.lower.is_some_and(|b| x <= b) || support.upper.is_some_and(|b| x >= b))
            .count();
        let ks = ks_distance(&column, None, cdf)?;
        let parameter = posterior.names[j].clone();
        let _ = writeln!(
            text,
            "  {parameter}: KS distance {ks:.4}, samples outside the bounds {outside} of {N_CHAIN}"
        );
        if !(ks <= bound && outside == 0) {
            missed.push(format!(
                "PolyChord run, seed {seed}, {parameter}: KS {ks:.4} (bound {bound:.4}), {outside} outside"
            ));
        }
        out.push(ChainRow { parameter, seed, ks_distance: ks, bound, n: N_CHAIN, outside });
    }
    print(&text)?;
    print(&format!("  {:.1} s\n", start.elapsed().as_secs_f64()))?;
    Ok(out)
}
