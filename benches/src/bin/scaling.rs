//! `scaling`: how time and memory of a training step grow with samples, layers and weights on one device, and what flows that
//! are trained together gain over one after another.
//! Needs no other program; `--long` goes up to 10 million samples and takes minutes.
#![allow(clippy::print_stdout, reason = "printing is what a command is for")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use lwflow_benches::scaling::{Series, Step, exponent, measure};
use lwflow_benches::together::{self, Together};
use lwflow_benches::{Stamp, memory, peak};
use lwflow_engine::{DeviceChoice, Engine, EngineSettings, OptimiserPlace};

#[derive(Parser)]
#[command(about = "How time and memory grow with samples, layers, weights and flows")]
struct Args {
    /// Device to measure: software, auto, or a name or number that `lwflow devices` lists
    #[arg(long, default_value = "auto", overrides_with = "device")]
    device: DeviceChoice,
    /// Up to 10 million samples, 128 layers, and D = 64, H = 512 at full batches
    #[arg(long)]
    long: bool,
    /// The smallest sizes, to see that it runs: the numbers mean nothing
    #[arg(long, conflicts_with = "long")]
    tiny: bool,
    /// Training steps of each flow, after a first one
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Only the flows that are trained together
    #[arg(long)]
    together: bool,
    /// Numbers of flows that are trained together
    #[arg(long, value_delimiter = ',', default_value = "2,8")]
    flows: Vec<usize>,
    /// Where the optimiser of those is: auto, host or device
    #[arg(long, default_value = "auto", value_parser = optimiser)]
    optimiser: OptimiserPlace,
    /// Write the rows here, one JSON object per line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn optimiser(word: &str) -> Result<OptimiserPlace, String> {
    serde_json::from_value(word.into()).map_err(|_| "expected auto, host or device".to_owned())
}

fn main() -> Result<()> {
    let args = Args::parse();
    let optimiser = args.optimiser;
    let settings = EngineSettings { device: args.device.clone(), optimiser, ..EngineSettings::default() };
    let engine = Engine::new(&settings)?;
    let stamp = Stamp::now(engine.info().to_string(), peak::measured_gflops(engine.info())?);
    println!("{stamp}");
    let mut json = args
        .json
        .map(|path| File::create(&path).map(BufWriter::new).with_context(|| format!("{}", path.display())))
        .transpose()?;
    let mut write = |kind: &str, row: serde_json::Value| -> Result<()> {
        if let Some(json) = &mut json {
            let row = serde_json::json!({ "kind": kind, "stamp": stamp, "row": row });
            serde_json::to_writer(&mut *json, &row)?;
            writeln!(json)?;
            json.flush()?;
        }
        Ok(())
    };
    if !args.together {
        memory::forget_peak();
        let baseline = memory::peak_bytes();
        println!(
            "Training step. ps/MA: picoseconds per sample and multiply-add of the model. peak: VmHWM of the process; rest: its \
             growth since the device was opened, less the data.\n\n{}",
            Step::heading()
        );
        for series in if args.tiny { Series::tiny() } else { Series::all(args.long) } {
            let mut steps = Vec::new();
            for shape in &series.shapes {
                let step = measure(&engine, baseline, series.grows, shape, args.repeats)?;
                println!("{step}");
                write("scaling", serde_json::to_value(&step)?)?;
                steps.push(step);
            }
            println!("          time grows with the power {:.2}\n", exponent(&steps));
        }
    }
    println!(
        "Flows trained together, and the same one after another; samples per second of all of them, pairs of windows.\n\n{}",
        Together::heading()
    );
    let (pairs, seconds) = if args.tiny { (1, 0.01) } else { (5, 0.3) };
    for shape in together::shapes(args.tiny) {
        for &n_flows in &args.flows {
            let row = together::measure(&engine, &shape, n_flows, pairs, seconds)?;
            println!("{row}");
            write("together", serde_json::to_value(&row)?)?;
        }
    }
    Ok(())
}
