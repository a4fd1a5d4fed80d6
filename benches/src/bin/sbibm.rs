//! `sbibm`: the ten tasks of sbibm with the command `lwflow`, scored against the reference posteriors of the wheel.
//! Exits with 1 if rounds or a refined posterior miss their bound.
#![allow(clippy::print_stdout, reason = "printing is what a command is for")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use lwflow_benches::sbibm::{
    Bench, Figure, Method, Published, RULES, Setup, TASKS, bound_of_exact, table, tables,
};
use lwflow_benches::{commit, date};
use serde_json::json;

#[derive(Parser)]
#[command(name = "cargo xtask bench --sbibm", about = "The ten tasks of sbibm beside the published figures")]
struct Args {
    /// Device of the trainings
    #[arg(long, default_value = "cpu", overrides_with = "device")]
    device: String,
    /// Only these tasks
    #[arg(long, value_delimiter = ',', value_name = "T,T,..")]
    task: Vec<String>,
    /// Simulations to train with
    #[arg(long, value_delimiter = ',', default_value = "10000", value_name = "N,N,..")]
    simulations: Vec<usize>,
    /// How posteriors are found
    #[arg(long, value_enum, default_value = "npe")]
    objective: Method,
    /// Refines each posterior with the likelihood of its observation
    #[arg(long)]
    refine: bool,
    /// Numbers of the observations, 1 to 10
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5", value_name = "K,K,..")]
    observations: Vec<usize>,
    /// Seed of trainings and draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seeds of the folds and of the classifier, whose mean is told
    #[arg(long, value_delimiter = ',', default_value = "1,2,3", value_name = "N,N,..")]
    fold_seeds: Vec<u64>,
    /// Draws that are compared with as many of the reference
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    draws: u64,
    /// The Python of an environment with benches/references/requirements.txt
    #[arg(long)]
    python: PathBuf,
    /// The wheel of sbibm 1.1.0
    #[arg(long)]
    wheel: PathBuf,
    /// Folder for what is trained and drawn, and for rows.jsonl, to which rows are added
    #[arg(long, default_value = "target/sbibm")]
    out: PathBuf,
    /// Prints the tables of rows that runs have left, and runs nothing
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    let published = Published::read(&root.join("benches").join("references"))?;
    if let Some(file) = args.show {
        let place = file.display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| place.clone())?;
        println!("{RULES}");
        tables(&text, &published).context(place)?.iter().for_each(|line| println!("{line}"));
        return Ok(ExitCode::SUCCESS);
    }
    for task in &args.task {
        anyhow::ensure!(
            TASKS.contains(&task.as_str()),
            "no task {task}: expected one of {}",
            TASKS.join(", ")
        );
    }
    anyhow::ensure!(args.observations.iter().all(|o| (1..=10).contains(o)), "observations are 1 to 10");
    anyhow::ensure!(
        !(args.refine && args.objective == Method::Rounds),
        "rounds are not refined: they have the likelihood already"
    );
    let bench = Bench {
        lwflow: std::env::current_exe()?.with_file_name(format!("lwflow{}", std::env::consts::EXE_SUFFIX)),
        python: args.python,
        wheel: args.wheel,
        root: root.to_owned(),
        out: args.out,
        device: args.device,
    };
    println!("{RULES}");
    println!("{} {}, device {}, seed {}", date(), commit().unwrap_or_default(), bench.device, args.seed);
    std::fs::create_dir_all(&bench.out).with_context(|| format!("{}", bench.out.display()))?;
    let rows = bench.out.join("rows.jsonl");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&rows)
        .with_context(|| format!("{}", rows.display()))?;
    // Rounds need none: one pass.
    let counts = if args.objective == Method::Rounds { vec![0] } else { args.simulations };
    let mut all_hold = true;
    for simulations in counts {
        let mut figures: Vec<Figure> = Vec::new();
        for task in TASKS {
            if !args.task.is_empty() && !args.task.iter().any(|name| name == task) {
                continue;
            }
            let setup = Setup {
                task: task.to_owned(),
                method: args.objective,
                simulations,
                refine: args.refine,
                seed: args.seed,
                draws: args.draws as usize,
                fold_seeds: args.fold_seeds.clone(),
            };
            let before = figures.len();
            bench.run(&setup, &args.observations, |figure| {
                let mut row = serde_json::to_value(figure)?;
                row["date"] = json!(date());
                row["commit"] = json!(commit());
                row["device"] = json!(bench.device);
                row["published_npe"] = json!(published.c2st(task, simulations, &[figure.observation]));
                writeln!(file, "{row}").with_context(|| format!("{}", rows.display()))?;
                println!(
                    "{task} observation {}: C2ST {:.4}; {:.1} s of training, {:.1} s of draws, {:.1} s of C2ST",
                    figure.observation,
                    figure.c2st,
                    figure.seconds_train,
                    figure.seconds_draw,
                    figure.seconds_score
                );
                figures.push(figure.clone());
                Ok(())
            })?;
            let new = &figures[before..];
            let mean = new.iter().map(|f| f.c2st).sum::<f64>() / new.len() as f64;
            all_hold &= mean <= bound_of_exact(task) || !(args.refine || args.objective == Method::Rounds);
        }
        println!();
        for line in table(&figures, &published) {
            println!("{line}");
        }
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
