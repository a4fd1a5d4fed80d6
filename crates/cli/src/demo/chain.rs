//! The demo's real run: nested sampling by PolyChord of a target whose marginals are known exactly.
//! Its files travel with the program.

use crate::exit::{CommandError, Status};
use crate::progress::{Console, interrupted, print};
use crate::source::from_pairs;
use crate::task::Task;
use lwflow_engine::Engine;
use lwflow_host::diagnostics::ks_distance;
use lwflow_host::files::{ChainSettings, read_chains};
use lwflow_host::fit::fit;
use serde::Serialize;
use std::fmt::Write;
use std::time::Instant;

/// Samples compared with the chain's known marginals.
const N_CHAIN: usize = 100_000;
/// Kolmogorov's 1 % point.
const KS_FACTOR: f64 = 1.63;

/// One known marginal of the chain.
#[derive(Serialize)]
pub(super) struct ChainRow {
    parameter: String,
    seed: u64,
    ks_distance: f64,
    bound: f64,
    n: usize,
    outside: usize,
}

const CHAIN_TASK: &str = include_str!("../../../../examples/polychord/TASK.toml");
const CHAIN_FILES: [(&str, &str); 3] = [
    ("pc.paramnames", include_str!("../../../../tests/data/chains/pc.paramnames")),
    ("pc_dead-birth.txt", include_str!("../../../../tests/data/chains/pc_dead-birth.txt")),
    ("pc_phys_live-birth.txt", include_str!("../../../../tests/data/chains/pc_phys_live-birth.txt")),
];

/// Fits the PolyChord run that anesthetic tests with and compares the samples with the marginals its target is known
/// to have; no row if the user asked to stop: x0 and x1 normal with sd 0.1, x2 exponential with mean 0.1, x3 uniform, x4 linear on (2, 4).
pub(super) fn run_chain(
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
    let bar = console.bar("PolyChord run", "points");
    let (posterior, _) = fit(engine, &source.input, &settings, seed, |progress| bar.update_fit(progress))?;
    drop(bar);
    if interrupted() {
        return Ok(Vec::new());
    }
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
