//! `bench`: prints samples per second of every kernel, pass and step of a device, and writes them as JSON rows.
//! Needs no display; `--tiny` is over in seconds and only shows that everything runs.
#![allow(clippy::print_stdout, reason = "printing is what a command is for")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use lwflow_benches::{Options, Row, Stamp, run};
use lwflow_engine::DeviceChoice;
use lwflow_model::Activation;

#[derive(Parser)]
#[command(about = "Samples per second of every kernel, pass and training step")]
struct Args {
    /// Device to measure: software, auto, or a name or number that `lwflow devices` lists
    #[arg(long, default_value = "auto", overrides_with = "device")]
    device: DeviceChoice,
    /// The smallest sizes, to see that it runs: the numbers mean nothing
    #[arg(long)]
    tiny: bool,
    /// Write the rows here, one JSON object per line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Widths of the two hidden layers
    #[arg(long, value_delimiter = ',', default_value = "32,64,128", conflicts_with = "tiny")]
    hidden: Vec<usize>,
    /// Samples per call
    #[arg(long, value_delimiter = ',', default_value = "1024,16384", conflicts_with = "tiny",
          value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    batch: Vec<u32>,
    /// Number of parameters D
    #[arg(long, default_value_t = 8, conflicts_with = "tiny")]
    dim: usize,
    /// Coupling layers
    #[arg(long, default_value_t = 8, conflicts_with = "tiny")]
    layers: usize,
    /// Activation of the hidden layers: relu, silu or tanh
    #[arg(long, value_parser = activation, default_value = "relu", conflicts_with = "tiny")]
    activation: Activation,
    /// Components of the mixture base
    #[arg(long, default_value_t = 3, conflicts_with = "tiny")]
    components: usize,
    /// Measurements of each call and kernel; slow ones get fewer
    #[arg(long, default_value_t = 7, conflicts_with = "tiny")]
    repeats: usize,
}

fn activation(text: &str) -> Result<Activation, String> {
    match text {
        "relu" => Ok(Activation::Relu),
        "silu" => Ok(Activation::Silu),
        "tanh" => Ok(Activation::Tanh),
        _ => Err("expected relu, silu or tanh".to_owned()),
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let options = if args.tiny {
        Options::tiny(args.device)
    } else {
        let batch: Vec<usize> = args.batch.iter().map(|&b| b as usize).collect();
        let flow = (args.dim, args.layers, args.components, args.activation);
        Options::grid(args.device, flow, &args.hidden, &batch, args.repeats)
    };
    let mut json = args
        .json
        .map(|path| {
            let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
            anyhow::Ok(BufWriter::new(file))
        })
        .transpose()?;
    let begin = |stamp: &Stamp| {
        println!(
            "{stamp}\nn: dispatches of a kernel in one call. GF/s: model FLOPs, 2 per multiply-add, 6 for a gradient; \
             peak: their share of the measured peak."
        );
        Ok(())
    };
    run(&options, begin, |name, rows| {
        println!("\n{name}\n{}", Row::heading());
        for row in rows {
            println!("{}", row.line());
        }
        if let Some(json) = &mut json {
            for row in rows {
                serde_json::to_writer(&mut *json, row)?;
                writeln!(json)?;
            }
            json.flush()?;
        }
        Ok(())
    })
}
