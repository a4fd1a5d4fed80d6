//! The section [simulator]: a function in WGSL or a command, with the keys that belong to it, and what it simulates.

use super::likelihood::{command_settings, refuse_foreign, table};
use super::reader::{Choice, Section};
use super::{Likelihood, TaskError};
use lwflow_host::amortise::AmortiseSettings;
use lwflow_host::files::RESERVED_NAMES;
use lwflow_host::likelihood::CommandSettings;
use lwflow_host::truncated::TruncatedSettings;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(super) const KEYS: &[&str] = &[
    "wgsl",
    "data",
    "command",
    "protocol",
    "workers",
    "timeout",
    "max_batch",
    "observed",
    "n_observed",
    "simulations",
    "objective",
    "evaluations_per_simulation",
    "observation",
    "rounds",
];
const SOURCES: &str = "give exactly one of wgsl, command";
const NAMES: &str = "give exactly one of `observed`, names such as [\"x1\", \"x2\"], and `n_observed`";
/// Most simulated values: a conditional flow has as many inputs.
const MAX_OBSERVED: usize = 1_000_000;
/// Most likelihood evaluations for each simulation.
const MAX_EVALUATIONS: usize = 100_000;
/// Most rounds of simulations.
const MAX_ROUNDS: usize = 100;
/// Most simulations of a fit, which holds them in memory.
pub const MAX_SIMULATIONS: usize = 100_000_000;

/// The simulator of a task. Paths are resolved against the folder of the task file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulatorSection {
    /// What simulates.
    #[serde(flatten)]
    pub source: SimulatorSource,
    /// Names of the simulated values, `[X]`.
    pub observed: Vec<String>,
    /// Simulations that a fit makes.
    pub simulations: usize,
    /// What a fit learns from them.
    pub objective: Objective,
    /// Likelihood evaluations for each, of the objective that needs them.
    pub evaluations_per_simulation: usize,
    /// Table of the one observation, of the objective that needs it.
    pub observation: Option<PathBuf>,
    /// Rounds of simulations for it.
    pub rounds: usize,
}

choice!(
    /// What a fit of a task with a simulator learns.
    #[derive(clap::ValueEnum)]
    Objective {
        /// The posterior of every observation from simulations alone (neural posterior estimation).
        Npe = "npe",
        /// The same from simulated observations and the likelihood of many parameters for each of them.
        Likelihood = "likelihood",
        /// The posterior of the one observation that the likelihood has, in rounds, without simulations.
        Rounds = "rounds",
        /// The posterior of one given observation, by rounds of simulations where it has its mass (truncated sequential neural
        /// posterior estimation).
        Truncated = "truncated",
    }
);

/// What simulates.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulatorSource {
    /// A function in WGSL.
    Wgsl {
        /// The file.
        path: PathBuf,
        /// Constants that it reads: `.npz`, `.csv` or `.parquet`.
        data: Option<PathBuf>,
    },
    /// A command that is asked.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Folder in which it runs: that of the task file.
        folder: PathBuf,
        /// Protocol, workers, time limit.
        settings: CommandSettings,
    },
}

impl SimulatorSource {
    /// Its key in the task file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Wgsl { .. } => "wgsl",
            Self::Command { .. } => "command",
        }
    }
}

pub(super) fn simulator(
    root: &Section<'_>,
    section: &Section<'_>,
    likelihood: Option<&Likelihood>,
    file: &Path,
) -> Result<Option<SimulatorSection>, TaskError> {
    if root.get("simulator").is_none() {
        return Ok(None);
    }
    if matches!(likelihood, Some(Likelihood::Target { .. })) {
        let reason =
            "a built-in target brings its own prior, and a simulator needs that of [parameters.NAME]";
        return Err(root.conflict("simulator", "`likelihood.target`", reason));
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let source = match (section.get("wgsl").is_some(), section.get("command").is_some()) {
        (false, false) => return Err(section.missing("wgsl", SOURCES)),
        (true, true) => return Err(section.conflict("command", "`wgsl`", SOURCES)),
        (true, false) => {
            refuse_foreign(section, "wgsl")?;
            SimulatorSource::Wgsl {
                path: folder.join(section.text("wgsl")?.unwrap_or_default()),
                data: table(section, "data")?.map(|path| folder.join(path)),
            }
        }
        (false, true) => {
            refuse_foreign(section, "command")?;
            if section.get("data").is_some() {
                let reason = "only a simulator in WGSL is handed data";
                return Err(section.conflict("data", "`command`".to_owned(), reason));
            }
            let (command, settings) = command_settings(section)?;
            SimulatorSource::Command { command, folder: folder.to_path_buf(), settings }
        }
    };
    let simulations = section.count("simulations", 1)?.unwrap_or(10_000);
    if simulations > MAX_SIMULATIONS {
        return Err(section.refuse("simulations", format!("at most {MAX_SIMULATIONS}")));
    }
    let objective = section.choice("objective")?.unwrap_or(Objective::Npe);
    let evaluations_per_simulation = section.count("evaluations_per_simulation", 4)?;
    if evaluations_per_simulation.is_some_and(|n| n > MAX_EVALUATIONS) {
        return Err(section.refuse("evaluations_per_simulation", format!("at most {MAX_EVALUATIONS}")));
    }
    let evaluations_per_simulation =
        evaluations_per_simulation.unwrap_or(AmortiseSettings::default().evaluations_per_simulation);
    let rounds = section.count("rounds", 1)?.unwrap_or(TruncatedSettings::default().n_rounds);
    if rounds > MAX_ROUNDS {
        return Err(section.refuse("rounds", format!("at most {MAX_ROUNDS}")));
    }
    Ok(Some(SimulatorSection {
        source,
        observed: observed(section)?,
        simulations,
        objective,
        evaluations_per_simulation,
        observation: table(section, "observation")?.map(|path| folder.join(path)),
        rounds,
    }))
}

/// Names of the simulated values; that none is a parameter's is checked with the parameters.
fn observed(section: &Section<'_>) -> Result<Vec<String>, TaskError> {
    let n = section.count("n_observed", 1)?;
    let names = section.texts("observed", "a list of names, such as [\"x1\", \"x2\"]")?;
    let names = match (n, names) {
        (None, None) => return Err(section.missing("observed", NAMES)),
        (Some(_), Some(_)) => return Err(section.conflict("n_observed", "`observed`", NAMES)),
        (Some(n), None) if n > MAX_OBSERVED => {
            return Err(section.refuse("n_observed", format!("at most {MAX_OBSERVED}")));
        }
        (Some(n), None) => return Ok((1..=n).map(|i| format!("x{i}")).collect()),
        (None, Some(names)) => names,
    };
    for (i, name) in names.iter().enumerate() {
        if name.trim().is_empty() || names[..i].contains(name) {
            return Err(section.refuse("observed", "names that are not empty, each of them once"));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            let expected = format!("another name than `{name}`, which has a meaning of its own");
            return Err(section.refuse("observed", expected));
        }
    }
    if names.is_empty() {
        return Err(section.refuse("observed", "at least one name"));
    }
    Ok(names)
}
