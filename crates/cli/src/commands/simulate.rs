//! `lwflow simulate`: pairs (theta, x) of a task's prior and simulator, as a fit of a conditional flow reads them.
//! Invariant: pair i depends on task, seed and i alone; what was simulated before an end or an error is written.

use super::open_engine;
use super::table::replaces;
use crate::draws::forgive_closed_pipe;
use crate::exit::{CommandError, Status};
use crate::progress::{Console, interrupted};
use crate::simulation::{Simulation, simulation};
use crate::task::Task;
use clap::Args;
use lwflow_engine::DeviceChoice;
use lwflow_host::files::{ColumnChoice, SampleTable, SampleWriter, check_output, read_samples};
use lwflow_host::prior::{Prior, transform_rows};
use lwflow_host::rng::{SOBOL_BLOCK, sobol_rows};
use lwflow_host::simulator::has_failed;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most simulations of a call: a Sobol block has a number of 32 bits.
const MAX_SIMULATIONS: u64 = 1 << 44;
/// Most simulations between two looks at Ctrl-C, and numbers of x that are held at a time.
const MAX_PIECE: usize = 1 << 16;
const MAX_NUMBERS: usize = 1 << 24;
/// A piece that takes longer does not grow.
const LONG_PIECE: Duration = Duration::from_millis(250);

/// Arguments of `lwflow simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Task file with a section [simulator].
    task: PathBuf,
    /// Number of simulations, their parameters drawn from the prior.
    #[arg(short, long, required_unless_present = "theta", conflicts_with = "theta",
        value_parser = clap::value_parser!(u64).range(1..=MAX_SIMULATIONS))]
    n: Option<u64>,
    /// Parameters to simulate, a row each, in place of draws from the prior; weights of the rows are kept.
    #[arg(long, value_name = "FILE")]
    theta: Option<PathBuf>,
    /// .npz, .csv or .parquet; - for CSV on stdout.
    #[arg(long)]
    out: PathBuf,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device of a simulator in WGSL.
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = super::device)]
    device: DeviceChoice,
    /// No progress and no remarks.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run_simulate(args: &SimulateArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.quiet || args.out == Path::new("-"));
    let task = Task::read(&args.task)?;
    check_output(&args.out)?;
    let mut simulation = simulation(&task, args.seed, || open_engine(&args.device, console))?;
    let given = match &args.theta {
        Some(file) => {
            let choice = ColumnChoice { parameters: Some(simulation.names.clone()), context: None };
            Some(read_samples(file, &choice)?)
        }
        None => None,
    };
    let n = match (&given, args.n) {
        (Some(table), _) => table.n,
        (None, n) => usize::try_from(n.unwrap_or(0)).map_err(|e| CommandError::new(Status::Usage, e))?,
    };
    let replaced = replaces(&args.out);
    let bar = console.bar("simulating", "simulations");
    let mut stdout = std::io::stdout().lock();
    let like = table(&simulation, given.as_ref(), 0..0, Vec::new(), &[])?;
    let mut writer = SampleWriter::create(&args.out, &like, &mut stdout)?;
    let (mut done, mut written, mut ended) = (0, 0, Ok(()));
    let width = simulation.observed.len();
    let largest = (MAX_NUMBERS / width).clamp(1, MAX_PIECE);
    let mut piece = simulation.simulator.n_parallel().clamp(1, largest);
    let mut x = Vec::new();
    while done < n && ended.is_ok() && !interrupted() {
        let rows = done..(done + piece).min(n);
        let theta = match &given {
            Some(table) => table.theta[rows.start * table.dim..rows.end * table.dim].to_vec(),
            None => prior_rows(&*simulation.prior, args.seed, rows),
        };
        let clock = Instant::now();
        x.clear();
        ended = simulation.simulator.simulate(done as u64, &theta, &mut x);
        if clock.elapsed() < LONG_PIECE {
            piece = (2 * piece).min(largest);
        }
        let rows = done..done + x.len() / width;
        let table = table(&simulation, given.as_ref(), rows.clone(), theta, &x)?;
        done = rows.end;
        written += table.n;
        writer.append(&table)?;
        let _ = bar.update(done, n);
    }
    drop(bar);
    let out = args.out.display();
    if written > 0 {
        forgive_closed_pipe(&args.out, writer.finish().map(|_| ()))?;
    }
    if let Err(error) = ended {
        let error = CommandError::from(error);
        let kept =
            if written > 0 { format!(" ({written} simulations written to {out})") } else { String::new() };
        return Err(CommandError::new(
            error.status,
            format!("{}: {}{kept}", task.file.display(), error.message),
        ));
    }
    let failed = done - written;
    if written == 0 && done > 0 {
        let message = format!("{}: all {done} simulations failed, nothing is written", task.file.display());
        return Err(CommandError::new(Status::Input, message));
    }
    if failed > 0 {
        console.remark(format!("{failed} of {done} simulations failed (NaN alone) and are left out"));
    }
    if interrupted() && done < n {
        let place = if written > 0 { format!("written to {out}{replaced}") } else { "written".to_owned() };
        eprintln!("interrupted: {written} of {n} simulations {place}");
        return Ok(Status::Interrupted);
    }
    console.remark(format!("{written} simulations written to {out}{replaced}"));
    Ok(Status::Success)
}

/// Rows of the prior's scrambled Sobol points through its quantiles, `[n, D]`.
fn prior_rows(prior: &dyn Prior, seed: u64, rows: Range<usize>) -> Vec<f64> {
    let dim = prior.dim();
    let mut points = vec![0.0; rows.len() * dim];
    let (mut row, mut rest) = (rows.start, &mut points[..]);
    while row < rows.end {
        let n = (SOBOL_BLOCK - row % SOBOL_BLOCK).min(rows.end - row);
        let (these, others) = rest.split_at_mut(n * dim);
        // Both fit, because there are at most 2^44 rows.
        sobol_rows(seed, (row / SOBOL_BLOCK) as u32, (row % SOBOL_BLOCK) as u32, dim, these);
        (row, rest) = (row + n, others);
    }
    transform_rows(prior, &points)
}

/// Pairs of `theta` and x, `[n, X]`, those that failed left out, with the weights of `rows` of the given table or weight one.
fn table(
    simulation: &Simulation,
    given: Option<&SampleTable>,
    rows: Range<usize>,
    mut theta: Vec<f64>,
    x: &[f64],
) -> Result<SampleTable, CommandError> {
    let (dim, width) = (simulation.names.len(), simulation.observed.len());
    let good: Vec<bool> = x.chunks_exact(width).map(|row| !has_failed(row)).collect();
    let kept = |values: &[f64], width: usize| -> Vec<f64> {
        let rows = values.chunks_exact(width).zip(&good).filter(|(_, good)| **good);
        rows.flat_map(|(row, _)| row).copied().collect()
    };
    theta.truncate(good.len() * dim);
    let mut table = SampleTable::new(simulation.names.clone(), kept(&theta, dim))?;
    table.context = kept(x, width);
    table.context_dim = width;
    table.context_names.clone_from(&simulation.observed);
    let weights = given.map(|given| (given.log_weight.as_deref(), given.weight.as_deref()));
    match weights {
        Some((Some(log_weight), _)) => table.log_weight = Some(kept(&log_weight[rows], 1)),
        Some((None, Some(weight))) => table.weight = Some(kept(&weight[rows], 1)),
        _ => table.weight = Some(vec![1.0; table.n]),
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_host::prior::{IndependentPrior, Marginal};
    use lwflow_host::rng::sobol_blocks;

    #[test]
    fn rows_of_the_prior_are_those_of_all_its_points() {
        let marginal = Marginal::Uniform { lower: 0.0, upper: 1.0 };
        let prior = IndependentPrior::new(vec![marginal; 3]).unwrap();
        let all = sobol_blocks(5, 20_000, 3).points;
        for rows in [0..1, 8000..8200, 100..17_000, 8192..16_384] {
            assert_eq!(prior_rows(&prior, 5, rows.clone()), all[3 * rows.start..3 * rows.end]);
        }
    }
}
