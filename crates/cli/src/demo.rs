//! The demo: why the base distribution matters, on seven known targets, and one real nested-sampling run.
//! Every bound is checked on the mixture base; the Gaussian base, EM alone and the frozen flow are there to compare.

mod cases;
mod chain;

use crate::commands::{device, open_engine};
use crate::exit::{CommandError, Status};
use crate::out_folder::OutFolder;
use crate::progress::{Console, interrupted, print};
use crate::report::write_file;
use cases::{cases, header, run_case};
use chain::run_chain;
use clap::Args;
use lwflow_engine::DeviceChoice;
use lwflow_figures::{Label, density_grid as draw_grid};
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `lwflow demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the table, the figures and the figures' numbers.
    #[arg(long, default_value = "demo")]
    out: PathBuf,
    /// auto, cpu, gpu, software, an index or part of a name (see `lwflow devices`).
    #[arg(long, default_value = "gpu", env = "LWFLOW_DEVICE", value_parser = device)]
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

/// Runs the demo.
///
/// # Errors
/// [`CommandError`]; a bound that does not hold is not an error but [`Status::Fit`].
pub fn demo(args: &DemoArgs) -> Result<Status, CommandError> {
    let console = Console::text(args.quiet);
    let started = Instant::now();
    let _folder = OutFolder::claim(&args.out, true)?;
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
    'seeds: for &seed in &seeds {
        for case in cases().iter().filter(|c| wanted(&c.target.name())) {
            let draw = seed == seeds[0] && case.target.dim() == 2;
            let done = run_case(case, seed, &engine, console, &mut missed, draw.then_some(&mut pictures))?;
            rows.extend(done);
            if interrupted() {
                break 'seeds;
            }
        }
        if wanted("chain") {
            chain_rows.extend(run_chain(seed, &engine, console, &mut missed)?);
        }
        if interrupted() {
            break;
        }
    }
    if interrupted() {
        console.interruption("writing what there is");
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
