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
use lwflow_host::prior::prior_rows;
use lwflow_host::simulator::{has_failed, run_simulations};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most simulations of a call: a Sobol block has a number of 32 bits.
const MAX_SIMULATIONS: u64 = 1 << 44;
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
    let like = table((&simulation.names, &simulation.observed), given.as_ref(), 0..0, Vec::new(), &[])?;
    let mut writer = SampleWriter::create(&args.out, &like, &mut stdout)?;
    let mut written = 0;
    let Simulation { names, observed, prior, simulator, .. } = &mut simulation;
    let theta = |rows: Range<usize>| match &given {
        Some(table) => table.theta[rows.start * table.dim..rows.end * table.dim].to_vec(),
        None => prior_rows(&**prior, args.seed, rows),
    };
    let (done, ended) = run_simulations(&mut **simulator, 0..n, theta, |rows, theta, x| {
        let end = rows.end;
        let table = table((names, observed), given.as_ref(), rows, theta, x)?;
        written += table.n;
        writer.append(&table)?;
        Ok::<_, CommandError>(bar.update(end, n))
    })?;
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

/// Pairs of `theta` and x, `[n, X]`, those that failed left out, with the weights of `rows` of the given table or weight one.
fn table(
    (names, observed): (&[String], &[String]),
    given: Option<&SampleTable>,
    rows: Range<usize>,
    theta: Vec<f64>,
    x: &[f64],
) -> Result<SampleTable, CommandError> {
    let (dim, width) = (names.len(), observed.len());
    let good: Vec<bool> = x.chunks_exact(width).map(|row| !has_failed(row)).collect();
    let kept = |values: &[f64], width: usize| -> Vec<f64> {
        let rows = values.chunks_exact(width).zip(&good).filter(|(_, good)| **good);
        rows.flat_map(|(row, _)| row).copied().collect()
    };
    let mut table = SampleTable::new(names.to_vec(), kept(&theta, dim))?;
    table.context = kept(x, width);
    table.context_dim = width;
    table.context_names = observed.to_vec();
    let weights = given.map(|given| (given.log_weight.as_deref(), given.weight.as_deref()));
    match weights {
        Some((Some(log_weight), _)) => table.log_weight = Some(kept(&log_weight[rows], 1)),
        Some((None, Some(weight))) => table.weight = Some(kept(&weight[rows], 1)),
        _ => table.weight = Some(vec![1.0; table.n]),
    }
    Ok(table)
}
