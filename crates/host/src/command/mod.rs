//! Child processes that compute something of batches of theta: long-lived, handed theta on their standard input and answering
//! on their standard output (docs/command-likelihood.md). Invariant: row i of the answer belongs to theta i, however many
//! workers share a batch; an answer that is missing, late or senseless is an error with its theta.

mod protocol;
mod watcher;
mod worker;

pub use protocol::Protocol;
pub use worker::kill_commands;

use crate::HostError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use worker::Worker;

/// How a command is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandSettings {
    /// How batches and answers are written.
    pub protocol: Protocol,
    /// Child processes that share every batch.
    pub workers: usize,
    /// Longest silence in seconds while answers are due.
    pub timeout: f64,
    /// Most points that a child is handed at once.
    pub max_batch: usize,
    /// Names of the derived quantities that follow every log likelihood, `[M]`; none for a simulator.
    pub derived: Vec<String>,
}

impl Default for CommandSettings {
    fn default() -> Self {
        Self { protocol: Protocol::Binary, workers: 1, timeout: 300.0, max_batch: 1024, derived: Vec::new() }
    }
}

/// Longest silence that can be waited for, in seconds: thirty years.
const MAX_TIMEOUT: f64 = 1e9;

/// What a row of an answer is.
pub(crate) trait Answer: Sync {
    /// Numbers per row.
    fn width(&self) -> usize;
    /// In words: "one number, the log likelihood".
    fn words(&self) -> String;
    /// Whether a row of that many numbers is legal.
    ///
    /// # Errors
    /// What it is and what was expected, to be followed by the theta in question.
    fn check(&self, row: &[f64]) -> Result<(), String>;
}

/// What to start, and where.
#[derive(Debug)]
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    /// Variables beside those of this process.
    environment: Vec<(&'static str, String)>,
    /// The command as it was given.
    shown: String,
}

impl Launch {
    fn error(&self, problem: impl Into<String>) -> HostError {
        HostError::Likelihood { source_name: self.shown.clone(), problem: problem.into() }
    }
}

/// What became of one part of a batch.
struct Part {
    /// Answers, `[rows, width]`; fewer rows than asked for if there is a problem.
    values: Vec<f64>,
    problem: Option<String>,
}

/// The children of a command. They are killed when this is dropped; one that failed is started again at the next batch.
#[derive(Debug)]
pub(crate) struct Children {
    launch: Launch,
    dim: usize,
    settings: CommandSettings,
    workers: Vec<Option<Worker>>,
}

impl Children {
    /// Starts them. `command` is the program and its arguments, without a shell; it runs in `folder`, in which a relative path
    /// of the program is looked up too.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for senseless settings; [`HostError::Likelihood`] if the command cannot be started.
    pub fn start(
        command: &[String],
        dim: usize,
        folder: &Path,
        settings: CommandSettings,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self, HostError> {
        let Some((program, arguments)) = command.split_first().filter(|(program, _)| !program.is_empty())
        else {
            return Err(HostError::invalid("command", "empty", "a program and its arguments"));
        };
        for (what, n) in [("dim", dim), ("workers", settings.workers), ("max_batch", settings.max_batch)] {
            if n == 0 {
                return Err(HostError::invalid(what, n, "at least 1"));
            }
        }
        if !(settings.timeout > 0.0 && settings.timeout <= MAX_TIMEOUT) {
            return Err(HostError::invalid("timeout", settings.timeout, "seconds above 0, at most 1e9"));
        }
        let shown = command.join(" ");
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = std::path::absolute(folder).map_err(|e| HostError::Likelihood {
            source_name: shown.clone(),
            problem: format!("cannot find the folder {} to run in: {e}", folder.display()),
        })?;
        // A bare name is looked up in the search path; what names a folder means that of the task.
        let is_bare = Path::new(program).components().count() == 1 && !program.starts_with('.');
        let program = if is_bare { PathBuf::from(program) } else { folder.join(program) };
        let launch = Launch { program, arguments: arguments.to_vec(), folder, environment, shown };
        let workers = (0..settings.workers).map(|_| Worker::start(&launch).map(Some));
        let workers = workers.collect::<Result<_, _>>()?;
        Ok(Self { launch, dim, settings, workers })
    }

    /// Number of parameters.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How they are run.
    pub fn settings(&self) -> &CommandSettings {
        &self.settings
    }

    /// Has the rows of `theta`, `[n, dim]`, answered and adds the answers, `[n, width]`, to `out`; `first` is the number of the
    /// first simulation where there is one.
    ///
    /// # Errors
    /// [`HostError::Likelihood`] naming the first theta without a legal answer; those before it have been added.
    pub fn ask(
        &mut self,
        theta: &[f64],
        first: Option<u64>,
        answer: &dyn Answer,
        out: &mut Vec<f64>,
    ) -> Result<(), HostError> {
        // Parts are taken in order, so none before the first failed one is missing.
        for part in self.parts(theta, first, answer)?.into_iter().map_while(|part| part) {
            out.extend_from_slice(&part.values);
            if let Some(problem) = part.problem {
                return Err(self.launch.error(problem));
            }
        }
        Ok(())
    }

    /// The answers in parts that the workers take in order.
    fn parts(
        &mut self,
        theta: &[f64],
        first: Option<u64>,
        answer: &dyn Answer,
    ) -> Result<Vec<Option<Part>>, HostError> {
        let n = crate::error::n_rows("theta", theta.len(), self.dim)?;
        for worker in self.workers.iter_mut().filter(|worker| worker.is_none()) {
            *worker = Some(Worker::start(&self.launch)?);
        }
        let rows = n.div_ceil(self.settings.workers).clamp(1, self.settings.max_batch);
        let chunks: Vec<&[f64]> = theta.chunks(rows * self.dim).collect();
        let parts = Mutex::new((0..chunks.len()).map(|_| None).collect::<Vec<Option<Part>>>());
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let request = worker::Request {
            dim: self.dim,
            answer,
            protocol: self.settings.protocol,
            timeout: Duration::from_secs_f64(self.settings.timeout),
        };
        std::thread::scope(|scope| {
            for slot in &mut self.workers {
                let (chunks, parts, next, failed, request) = (&chunks, &parts, &next, &failed, &request);
                scope.spawn(move || {
                    while let Some(worker) = slot.as_mut().filter(|_| !failed.load(Ordering::SeqCst)) {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        let Some(chunk) = chunks.get(at) else { return };
                        let first = first.map(|first| first.wrapping_add((at * rows) as u64));
                        let mut values = Vec::with_capacity(chunk.len() / request.dim * answer.width());
                        let problem = worker.ask(request, chunk, first, &mut values).err();
                        if problem.is_some() {
                            failed.store(true, Ordering::SeqCst);
                            *slot = None;
                        }
                        parts.lock().unwrap_or_else(PoisonError::into_inner)[at] =
                            Some(Part { values, problem });
                    }
                });
            }
        });
        Ok(parts.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
