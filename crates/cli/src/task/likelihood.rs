//! The section [likelihood]: exactly one source, with the keys that belong to it and no others.

use super::reader::{Bounds, SHARE, Section};
use super::{Choice, TARGET_NAMES, TaskError};
use lwflow_host::files::RESERVED_NAMES;
use lwflow_host::likelihood::{CommandSettings, Protocol};
use lwflow_host::targets::Target;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(super) const KEYS: &[&str] = &[
    "target",
    "n_draws",
    "pairs",
    "chain",
    "format",
    "burn_in",
    "wgsl",
    "data",
    "derived",
    "command",
    "protocol",
    "workers",
    "timeout",
    "max_batch",
];
pub(super) const SOURCES: &str = "give exactly one of target, pairs, chain, wgsl, command";
const SOURCE_KEYS: [&str; 5] = ["target", "pairs", "chain", "wgsl", "command"];
const TABLES: &str = "a file that ends in .npz, .csv or .parquet";
const SECONDS: Bounds =
    Bounds { accept: |x| x > 0.0 && x <= 1e9, expected: "a number of seconds above 0, at most 1e9" };
/// Most child processes of a command.
const MAX_WORKERS: usize = 1024;

choice!(
    /// Layout of the files of a chain.
    ChainFormat {
        /// `root_1.txt` ... with `root.paramnames`: columns weight, -log posterior, parameters.
        Getdist = "getdist",
        /// Output of nested sampling by PolyChord.
        Polychord = "polychord",
        /// Output of nested sampling by MultiNest.
        Multinest = "multinest",
        /// The folder of UltraNest.
        Ultranest = "ultranest",
    }
);

/// Source of the likelihood. Paths are resolved against the folder of the task file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Likelihood {
    /// A built-in target whose truth is known.
    Target {
        /// Which.
        name: Target,
        /// Number of draws from its prior; without meaning in rounds.
        n_draws: usize,
    },
    /// A file of pairs.
    Pairs {
        /// `.npz`, `.csv` or `.parquet`.
        path: PathBuf,
    },
    /// A chain of another sampler.
    Chain {
        /// Path without `_1.txt`, `.txt`, `.paramnames` and the like.
        root: PathBuf,
        /// Layout of its files.
        format: ChainFormat,
        /// Share of the points dropped at the start.
        burn_in: f64,
    },
    /// A function in WGSL.
    Wgsl {
        /// The file.
        path: PathBuf,
        /// Observed data: `.npz`, `.csv` or `.parquet`.
        data: Option<PathBuf>,
        /// Names of the derived quantities, in the order in which the function gives them.
        derived: Vec<String>,
    },
    /// A command that is asked.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Folder in which it runs: that of the task file.
        folder: PathBuf,
        /// Protocol, workers, time limit, derived quantities.
        settings: CommandSettings,
        /// Table of the observation whose values follow every theta: one row.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<PathBuf>,
        /// The observation that a command without data is told of; `lwflow refine` names it, no task file does.
        #[serde(skip_serializing_if = "Option::is_none")]
        observation: Option<PathBuf>,
    },
}

impl Likelihood {
    /// Whether it can be evaluated at any theta, which is what rounds need.
    pub fn can_be_evaluated(&self) -> bool {
        matches!(self, Self::Target { .. } | Self::Wgsl { .. } | Self::Command { .. })
    }

    /// Its key in the task file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Target { .. } => "target",
            Self::Pairs { .. } => "pairs",
            Self::Chain { .. } => "chain",
            Self::Wgsl { .. } => "wgsl",
            Self::Command { .. } => "command",
        }
    }
}

pub(super) fn likelihood(section: &Section<'_>, file: &Path) -> Result<Likelihood, TaskError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let given: Vec<&str> = SOURCE_KEYS.into_iter().filter(|key| section.get(key).is_some()).collect();
    let source = match given[..] {
        [] => return Err(section.missing("target", SOURCES)),
        [source] => source,
        [first, second, ..] => return Err(section.conflict(second, format!("`{first}`"), SOURCES)),
    };
    refuse_foreign(section, source)?;
    match source {
        "target" => {
            let text = section.text("target")?.unwrap_or_default();
            let Ok(name) = text.parse() else {
                return Err(section.unknown_word("target", text, TARGET_NAMES));
            };
            Ok(Likelihood::Target { name, n_draws: section.count("n_draws", 1)?.unwrap_or(131_072) })
        }
        "pairs" => Ok(Likelihood::Pairs { path: folder.join(table(section, "pairs")?.unwrap_or_default()) }),
        "chain" => {
            let root = folder.join(section.text("chain")?.unwrap_or_default());
            let burn_in = section.number("burn_in", SHARE)?;
            let format: ChainFormat = section.choice("format")?.ok_or_else(|| {
                section.missing("format", "\"getdist\", \"polychord\", \"multinest\" or \"ultranest\"")
            })?;
            if format != ChainFormat::Getdist && burn_in.is_some_and(|share| share > 0.0) {
                let reason = "points of nested sampling are weighted, none is burn-in";
                let other = format!("format = \"{}\"", format.word());
                return Err(section.conflict("burn_in", other, reason));
            }
            let default = if format == ChainFormat::Getdist { 0.3 } else { 0.0 };
            Ok(Likelihood::Chain { root, format, burn_in: burn_in.unwrap_or(default) })
        }
        "wgsl" => Ok(Likelihood::Wgsl {
            path: folder.join(section.text("wgsl")?.unwrap_or_default()),
            data: table(section, "data")?.map(|path| folder.join(path)),
            derived: derived(section)?,
        }),
        _ => {
            let (command, settings) = command_settings(section)?;
            let settings = CommandSettings { derived: derived(section)?, ..settings };
            let data = table(section, "data")?.map(|path| folder.join(path));
            Ok(Likelihood::Command {
                command,
                folder: folder.to_path_buf(),
                settings,
                data,
                observation: None,
            })
        }
    }
}

/// A program with its arguments and how it is run, all but derived quantities.
pub(super) fn command_settings(section: &Section<'_>) -> Result<(Vec<String>, CommandSettings), TaskError> {
    let command = section.texts("command", "a list of texts, such as [\"python3\", \"likelihood.py\"]")?;
    let command = command.unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        return Err(section.refuse("command", "a program and its arguments"));
    }
    let default = CommandSettings::default();
    let protocol = match section.word("protocol", &["binary", "csv"])? {
        Some("csv") => Protocol::Csv,
        Some(_) => Protocol::Binary,
        None => default.protocol,
    };
    let workers = section.count("workers", 1)?.unwrap_or(default.workers);
    if workers > MAX_WORKERS {
        return Err(section.refuse("workers", format!("at most {MAX_WORKERS}")));
    }
    let settings = CommandSettings {
        protocol,
        workers,
        timeout: section.number("timeout", SECONDS)?.unwrap_or(default.timeout),
        max_batch: section.count("max_batch", 1)?.unwrap_or(default.max_batch),
        derived: default.derived,
    };
    Ok((command, settings))
}

/// Refuses keys of another source.
pub(super) fn refuse_foreign(section: &Section<'_>, source: &str) -> Result<(), TaskError> {
    let belongs: [(&str, &[&str], &str); 9] = [
        ("n_draws", &["target"], "only a target is drawn from"),
        ("format", &["chain"], "only a chain has a format"),
        ("burn_in", &["chain"], "only a chain has a burn-in"),
        ("data", &["wgsl", "command"], "only a function in WGSL or a command is handed data"),
        ("derived", &["wgsl", "command"], "only a function in WGSL or a command has derived quantities"),
        ("protocol", &["command"], "only a command has a protocol"),
        ("workers", &["command"], "only a command has workers"),
        ("timeout", &["command"], "only a command has a time limit"),
        ("max_batch", &["command"], "only a command is handed batches"),
    ];
    for (key, owners, reason) in belongs {
        if section.get(key).is_some() && !owners.contains(&source) {
            return Err(section.conflict(key, format!("`{source}`"), reason));
        }
    }
    Ok(())
}

/// A path that ends as tables do.
pub(super) fn table(section: &Section<'_>, key: &str) -> Result<Option<String>, TaskError> {
    let path = section.text(key)?;
    let is_table = |path: &String| {
        ["npz", "csv", "parquet"].iter().any(|e| Path::new(path).extension() == Some(e.as_ref()))
    };
    if path.as_ref().is_some_and(|path| !is_table(path)) {
        return Err(section.refuse(key, TABLES));
    }
    Ok(path)
}

/// Names of derived quantities; that none is a parameter's is checked with the parameters.
fn derived(section: &Section<'_>) -> Result<Vec<String>, TaskError> {
    let names = section.texts("derived", "a list of names, such as [\"q\", \"age\"]")?.unwrap_or_default();
    for (i, name) in names.iter().enumerate() {
        if name.trim().is_empty() || names[..i].contains(name) {
            return Err(section.refuse("derived", "names that are not empty, each of them once"));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(section
                .refuse("derived", format!("another name than `{name}`, which has a meaning of its own")));
        }
    }
    Ok(names)
}
