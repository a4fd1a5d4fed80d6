//! `peers`: lwflow beside PyTorch, JAX, normflows, zuko and flowjax, taking turns on the same cores.
//! `cargo xtask bench --peers` makes the Python environment and starts it. A contestant whose results differ from the
//! definition's ends the run with the figures and exit status 1.
#![allow(clippy::print_stdout, reason = "printing is what a command is for")]

use std::fs::{File, create_dir_all};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use lwflow_benches::contest::{Ours, Rival, Turn, check, load};
use lwflow_benches::quality::{self, Race};
use lwflow_benches::{Base, Problem, Shape, Stamp, Worker, peak};
use lwflow_engine::{DeviceChoice, DeviceKind, Engine, EngineSettings};
use lwflow_host::targets::Target;
use lwflow_model::{Activation, Coupling, ParamLayout};

/// Threads of every contestant: lwflow takes the cores that this process may use, the others are told.
const THREADS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Same formula, parameters and points
    Like,
    /// Time from raw pairs to a forward KL
    Quality,
}

#[derive(Parser)]
#[command(about = "lwflow beside other frameworks, taking turns")]
struct Args {
    /// Device of lwflow: software, auto, or a name or number that `lwflow devices` lists
    #[arg(long, default_value = "auto", overrides_with = "device")]
    device: DeviceChoice,
    /// Python with the packages of peers/requirements.txt
    #[arg(long, value_name = "FILE")]
    python: PathBuf,
    /// Folder of worker.py [default: peers beside this package's Cargo.toml]
    #[arg(long, value_name = "DIR")]
    scripts: Option<PathBuf>,
    /// Folder for the rows and what the contestants exchange
    #[arg(long, value_name = "DIR", default_value = "target/peers")]
    out: PathBuf,
    /// Parts to run
    #[arg(long, value_delimiter = ',', default_value = "like,quality")]
    parts: Vec<Part>,
    /// Contestants: torch, torch.compile, jax.jit
    #[arg(long, value_delimiter = ',', default_value = "torch,torch.compile,jax.jit")]
    rivals: Vec<String>,
    /// Widths at which torch.compile takes part; it compiles for most of a minute per call and batch
    #[arg(long, value_delimiter = ',', default_value = "64")]
    compile: Vec<usize>,
    /// Widths of the two hidden layers
    #[arg(long, value_delimiter = ',', default_value = "32,64,128,256")]
    hidden: Vec<usize>,
    /// Samples per call [default: 1024,16384 and on a GPU 131072]
    #[arg(long, value_delimiter = ',')]
    batch: Vec<usize>,
    /// Calls to compare
    #[arg(long, value_delimiter = ',', default_value = "train_step,log_prob,sample")]
    calls: Vec<Turn>,
    /// Pairs of windows per call and contestant
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 0.6)]
    seconds: f64,
    /// Targets of the time to quality
    #[arg(long, value_delimiter = ',', default_value = "gauss3,circle8,two_moons_s")]
    targets: Vec<Target>,
    /// Seeds of the time to quality
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    /// Of these seeds, how many the other libraries get
    #[arg(long, default_value_t = 1)]
    rival_seeds: usize,
    /// Visits that lwflow's fits are given, the fewest first
    #[arg(long, value_delimiter = ',', default_value = "50000,100000,200000,400000,1000000")]
    visits: Vec<usize>,
    /// Points per step of lwflow's fits
    #[arg(long, value_delimiter = ',', default_value = "128,256,512")]
    fit_batch: Vec<usize>,
    /// Libraries of the time to quality; all by default, none by `--libraries none`
    #[arg(long, value_delimiter = ',', default_value = quality::LIBRARIES)]
    libraries: Vec<String>,
    /// Seconds after which a library's fit has missed
    #[arg(long, default_value_t = 120.0)]
    limit: f64,
}

/// The rows' file and what every row carries.
struct Output {
    json: BufWriter<File>,
    stamp: Stamp,
}

impl Output {
    fn row(&mut self, kind: &str, row: &impl serde::Serialize) -> Result<()> {
        let row = serde_json::json!({ "kind": kind, "stamp": self.stamp, "row": row });
        serde_json::to_writer(&mut self.json, &row)?;
        writeln!(self.json)?;
        Ok(self.json.flush()?)
    }
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    let settings = EngineSettings { device: args.device.clone(), ..EngineSettings::default() };
    let engine = Engine::new(&settings)?;
    let on_gpu =
        matches!(engine.info().kind, DeviceKind::Discrete | DeviceKind::Integrated | DeviceKind::Virtual);
    if args.batch.is_empty() {
        args.batch = if on_gpu { vec![1024, 16_384, 131_072] } else { vec![1024, 16_384] };
    }
    let cores = std::thread::available_parallelism()?.get();
    if cores > THREADS {
        println!(
            "NOTE: lwflow may use {cores} cores, the others {THREADS}; start it with taskset to make them equal"
        );
    }
    create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    let path = args.out.join("peers.jsonl");
    let json = BufWriter::new(File::create(&path).with_context(|| format!("{}", path.display()))?);
    let peak = peak::measured_gflops(engine.info())?;
    let mut output = Output { json, stamp: Stamp::now(engine.info().to_string(), peak) };
    println!("lwflow on {}", output.stamp);
    if args.parts.contains(&Part::Like) {
        like_for_like(&args, &engine, on_gpu, &mut output)?;
    }
    if args.parts.contains(&Part::Quality) {
        time_to_quality(&args, &engine, &mut output)?;
    }
    println!("\nrows: {}", path.display());
    Ok(())
}

fn scripts(args: &Args) -> PathBuf {
    let package =
        || std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    args.scripts.clone().unwrap_or_else(|| PathBuf::from(package()).join("peers"))
}

fn like_for_like(args: &Args, engine: &Engine, on_gpu: bool, output: &mut Output) -> Result<()> {
    let scripts = scripts(args);
    let mut rivals: Vec<(&'static str, &'static str)> =
        vec![("torch", "torch"), ("torch.compile", "torch"), ("jax.jit", "jax")];
    // JAX's GPU packages are not among the requirements.
    rivals.retain(|(name, _)| args.rivals.iter().any(|r| r == name) && !(on_gpu && *name == "jax.jit"));
    let device = if on_gpu { "cuda" } else { "cpu" };
    let mut workers = Vec::new();
    for framework in ["torch", "jax"].into_iter().filter(|f| rivals.iter().any(|(_, of)| of == f)) {
        let (worker, hello) = Worker::start(&args.python, &scripts, framework, THREADS, device)?;
        println!("{framework} {} on {}", hello.version, hello.device);
        workers.push((framework, worker));
    }
    println!(
        "\nLike for like: {} pairs of windows of {} s, {} threads each; median (range). Ratio: lwflow over the other, \
         pair by pair.\nGF/s: model FLOPs, 6 per multiply-add of a training step, 2 otherwise.\n\n{}",
        args.pairs,
        args.seconds,
        THREADS,
        heading()
    );
    for &hidden in &args.hidden {
        let shape = |batch| Shape {
            dim: 8,
            context_dim: 0,
            n_layers: 8,
            hidden,
            activation: Activation::Relu,
            coupling: Coupling::Affine,
            base: Base::Mixture(3),
            batch,
        };
        let largest = args.batch.iter().copied().max().unwrap_or(1);
        let problem = Problem::new(&shape(largest), largest)?;
        let file = args.out.join("problem.npz");
        problem.write(&file)?;
        let file = file.canonicalize()?;
        let (truth, layout) = (problem.truth()?, ParamLayout::new(&problem.spec));
        let mut ours = Ours::new(engine, &problem)?;
        let mut agreed = vec![("lwflow", check("lwflow", &layout, &truth, &ours.outcome(&problem)?)?)];
        for (_, worker) in &mut workers {
            load(worker, &file)?;
        }
        let takes_part = |name: &str| name != "torch.compile" || args.compile.contains(&hidden);
        for (name, framework) in rivals.iter().filter(|(name, _)| takes_part(name)) {
            let Some((_, worker)) = workers.iter_mut().find(|(f, _)| f == framework) else { continue };
            let outcome = Rival { worker, name }.outcome()?;
            agreed.push((name, check(name, &layout, &truth, &outcome)?));
        }
        let words: Vec<String> = agreed
            .iter()
            .map(|(n, d)| format!("{n} {:.1e} ({}; bound {:.0e})", d.error, d.what, d.bound))
            .collect();
        println!("{}: agree with the definition: {}", shape(0), words.join("; "));
        for &batch in &args.batch {
            for &turn in &args.calls {
                for (name, framework) in rivals.iter().filter(|(name, _)| takes_part(name)) {
                    let Some((_, worker)) = workers.iter_mut().find(|(f, _)| f == framework) else {
                        continue;
                    };
                    let windows = (args.pairs, args.seconds);
                    let pairs =
                        Rival { worker, name }.contest(&mut ours, &problem, &shape(batch), turn, windows)?;
                    println!("{}", line(hidden, &pairs, output.stamp.peak_gflops));
                    output.row("like_for_like", &pairs)?;
                }
            }
        }
    }
    Ok(())
}

fn heading() -> String {
    format!(
        "{:>4} {:>6} {:<10} {:<13} {:>20} {:>20} {:>20} {:>7} {:>6} {:>7} {:>8} {:>5}",
        "H",
        "batch",
        "call",
        "against",
        "lwflow k/s",
        "theirs k/s",
        "ratio",
        "GF/s",
        "peak",
        "theirs",
        "first s",
        "load"
    )
}

fn line(hidden: usize, pairs: &lwflow_benches::contest::Pairs, peak: Option<f64>) -> String {
    let spread = |s: &lwflow_benches::Spread, scale: f64, digits: usize| {
        format!("{:.*} ({:.*}-{:.*})", digits, s.median * scale, digits, s.min * scale, digits, s.max * scale)
    };
    format!(
        "{:>4} {:>6} {:<10} {:<13} {:>20} {:>20} {:>20} {:>7.1} {:>6} {:>7.1} {:>8.1} {:>5}",
        hidden,
        pairs.batch,
        pairs.turn.name(),
        pairs.rival,
        spread(&pairs.ours, 1e-3, 0),
        spread(&pairs.theirs, 1e-3, 0),
        spread(&pairs.ratio, 1.0, 2),
        pairs.gflops,
        peak.map_or_else(|| "-".to_owned(), |p| format!("{:.0} %", 100.0 * pairs.gflops / p)),
        pairs.rival_gflops,
        pairs.rival_first_seconds,
        pairs.load.map_or_else(|| "-".to_owned(), |l| format!("{l:.1}")),
    )
}

fn time_to_quality(args: &Args, engine: &Engine, output: &mut Output) -> Result<()> {
    let race = Race { out: &args.out, limit: args.limit, visits: &args.visits, fit_batch: &args.fit_batch };
    println!(
        "\nTime to quality: seconds from raw pairs to the forward KL, on {} exact draws",
        quality::N_EXACT
    );
    for &target in &args.targets {
        for row in race.ours(engine, target, &args.seeds)? {
            println!("{row}");
            output.row("time_to_quality", &row)?;
        }
        for library in args.libraries.iter().filter(|l| *l != "none") {
            // Each has a process of its own, so that none pays for what another has left behind.
            let (mut worker, _) = Worker::start(&args.python, &scripts(args), "quality", THREADS, "cpu")?;
            for &seed in args.seeds.iter().take(args.rival_seeds) {
                let row = race.theirs(&mut worker, library, target, seed)?;
                println!("{row}");
                output.row("time_to_quality", &row)?;
            }
        }
    }
    Ok(())
}
