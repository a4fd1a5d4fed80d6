//! The targets by name.

mod answers;
mod chains;
mod checkpoint;
mod model;
mod pairs;
mod report;
mod scratch;
mod several;
mod task;
mod wgsl;

use std::path::PathBuf;

/// A reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Task files.
    Task,
    /// Pairs, sample tables and observed data: CSV, .npz and Parquet.
    Pairs,
    /// Chains of GetDist, PolyChord, MultiNest and UltraNest, and GetDist's ranges.
    Chains,
    /// Model files.
    Model,
    /// The files of a run of rounds that `--resume` reads.
    Checkpoint,
    /// Likelihoods and simulators in WGSL.
    Wgsl,
    /// Answers of child processes.
    Answers,
    /// Folders of results that the page is made of.
    Report,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Task,
        Self::Pairs,
        Self::Chains,
        Self::Model,
        Self::Checkpoint,
        Self::Wgsl,
        Self::Answers,
        Self::Report,
    ];

    /// The name of the target and of its corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Pairs => "pairs",
            Self::Chains => "chains",
            Self::Model => "model",
            Self::Checkpoint => "checkpoint",
            Self::Wgsl => "wgsl",
            Self::Answers => "answers",
            Self::Report => "report",
        }
    }

    /// The target of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The folder of its corpus.
    pub fn corpus(self) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "corpus", self.name()].iter().collect()
    }

    /// Reads the bytes. The first one chooses among the formats of a reader that has several.
    ///
    /// # Panics
    /// If the reader does, or if what it let pass is not what it promises.
    pub fn run(self, bytes: &[u8]) {
        match self {
            Self::Task => task::run(bytes),
            Self::Pairs => pairs::run(bytes),
            Self::Chains => chains::run(bytes),
            Self::Model => model::run(bytes),
            Self::Checkpoint => checkpoint::run(bytes),
            Self::Wgsl => wgsl::run(bytes),
            Self::Answers => answers::run(bytes),
            Self::Report => report::run(bytes),
        }
    }
}
