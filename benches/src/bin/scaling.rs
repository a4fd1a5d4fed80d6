//! `scaling`: how time and memory of a training step grow with samples, layers and weights on one device.
//! Needs no other program; `--long` goes up to 10 million samples and takes minutes.
#![allow(clippy::print_stdout, reason = "printing is what a command is for")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use lwflow_benches::scaling::{Series, Step, exponent, measure};
use lwflow_benches::{Stamp, memory, peak};
use lwflow_engine::{DeviceChoice, Engine, EngineSettings};

#[derive(Parser)]
#[command(about = "How time and memory grow with samples, layers and weights")]
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
    /// Write the rows here, one JSON object per line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let settings = EngineSettings { device: args.device.clone(), ..EngineSettings::default() };
    let engine = Engine::new(&settings)?;
    let stamp = Stamp::now(engine.info().to_string(), peak::measured_gflops(engine.info())?);
    memory::forget_peak();
    let baseline = memory::peak_bytes();
    println!(
        "{stamp}\nTraining step. ps/MA: picoseconds per sample and multiply-add of the model. peak: VmHWM of the process; \
         rest: its growth since the device was opened, less the data.\n\n{}",
        Step::heading()
    );
    let mut json = args
        .json
        .map(|path| File::create(&path).map(BufWriter::new).with_context(|| format!("{}", path.display())))
        .transpose()?;
    for series in if args.tiny { Series::tiny() } else { Series::all(args.long) } {
        let mut steps = Vec::new();
        for shape in &series.shapes {
            let step = measure(&engine, baseline, series.grows, shape, args.repeats)?;
            println!("{step}");
            if let Some(json) = &mut json {
                let row = serde_json::json!({ "kind": "scaling", "stamp": stamp, "row": step });
                serde_json::to_writer(&mut *json, &row)?;
                writeln!(json)?;
                json.flush()?;
            }
            steps.push(step);
        }
        println!("          time grows with the power {:.2}\n", exponent(&steps));
    }
    Ok(())
}
