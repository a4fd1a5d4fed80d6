//! `example_runs`: runs the examples that go in rounds with several seeds and holds them against their truths and bounds.
//! Exits with 1 if a median misses its bound.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command is for")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use lwflow_benches::examples::{Reached, examples, figures, run};
use lwflow_benches::{commit, date};

#[derive(Parser)]
#[command(about = "The examples against their truths, with several seeds")]
struct Args {
    /// Device of the runs
    #[arg(long, default_value = "cpu", overrides_with = "device")]
    device: String,
    /// Seeds
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,3,4")]
    seeds: Vec<u64>,
    /// Only these examples
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The Python of an environment with benches/references/requirements.txt; without it there is no C2ST
    #[arg(long)]
    python: Option<PathBuf>,
    /// Folder for the runs
    #[arg(long, default_value = "target/examples")]
    out: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    let lwflow = std::env::current_exe()?.with_file_name(format!("lwflow{}", std::env::consts::EXE_SUFFIX));
    let references = root.join("benches").join("references");
    let tools = args.python.as_deref().map(|python| (python, references.as_path()));
    println!("{} {}, device {}", date(), commit().unwrap_or_default(), args.device);
    println!(
        "{:<16} {:>4} {:>4} {:>11} {:>8} {:>9} {:>8} {:>13} {:>9} {:>7}",
        "example",
        "seed",
        "met",
        "evaluations",
        "seconds",
        "ESS bound",
        "fraction",
        "log Z - truth",
        "masses",
        "C2ST"
    );
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
    let mut all_hold = true;
    let mut table = Vec::new();
    for example in examples() {
        let wanted = args.only.is_empty() || args.only.iter().any(|name| name == example.name);
        if !wanted {
            continue;
        }
        let mut runs: Vec<Reached> = Vec::new();
        for &seed in &args.seeds {
            let out = args.out.join(format!("{}_{seed}", example.title().replace(' ', "_")));
            let r = run(&example, &lwflow, &root.join("examples"), &out, &args.device, seed, tools)?;
            println!(
                "{:<16} {:>4} {:>4} {:>11} {:>8.1} {:>9} {:>8.3} {:>13} {:>9} {:>7}",
                r.example,
                r.seed,
                if r.met { "yes" } else { "no" },
                r.evaluations,
                r.seconds,
                number(r.ess_bound, 0),
                r.ess_fraction,
                number(r.log_z_error, 4),
                number(r.mass_error, 4),
                number(r.c2st, 4)
            );
            runs.push(r);
        }
        table.push((example.title(), figures(&example, &runs)));
    }
    println!("\n{:<16} {:<20} {:>10} {:>10} {:>10}", "example", "figure", "bound", "median", "worst");
    for (title, figures) in table {
        for f in figures {
            let relation = if f.least { ">=" } else { "<=" };
            let missed = if f.holds() { "" } else { "  MISSED" };
            all_hold &= f.holds();
            let show = |v: f64| if v.abs() >= 100.0 { format!("{v:.0}") } else { format!("{v:.4}") };
            println!(
                "{title:<16} {:<20} {relation}{:>8} {:>10} {:>10}{missed}",
                f.name,
                show(f.bound),
                show(f.median),
                show(f.worst)
            );
        }
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
