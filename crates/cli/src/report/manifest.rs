//! What made a result: the head of metrics.json, the same for a fit of points and for rounds.

use crate::exit::CommandError;
use crate::task::Task;
use lwflow_host::fit::Stage;
use lwflow_host::model_file::FORMAT_VERSION;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::{Instant, SystemTime};

/// What the time of a fit went into, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Timings {
    /// From the start of the command: opening the device, reading, drawing or simulating.
    pub reading: f64,
    /// EM of the mixture base.
    pub mixture: f64,
    /// Short trainings that choose the start and the activation.
    pub starts: f64,
    /// Drawing and weighting parameters for every observation.
    pub weighting: f64,
    /// The training.
    pub training: f64,
}

/// Tells the time of each stage apart by the progress of a fit.
#[derive(Debug)]
pub struct StageClock {
    last: Instant,
    timings: Timings,
}

impl StageClock {
    /// One of a command that began at `start` and has read what it fits to.
    pub fn new(start: Instant) -> Self {
        let timings = Timings { reading: start.elapsed().as_secs_f64(), ..Timings::default() };
        Self { last: Instant::now(), timings }
    }

    /// The time since the last call was that of `stage`.
    pub fn tick(&mut self, stage: Stage) {
        let seconds = match stage {
            Stage::Mixture => &mut self.timings.mixture,
            Stage::Starts => &mut self.timings.starts,
            Stage::Weighting => &mut self.timings.weighting,
            Stage::Training => &mut self.timings.training,
        };
        *seconds += self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
    }

    /// What each stage took.
    pub fn timings(self) -> Timings {
        self.timings
    }
}

/// Version, time, system, command line, seed, device and task.
pub(super) fn manifest(task: &Task, seed: u64, device: &str) -> Result<Map<String, Value>, CommandError> {
    let command: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let entries = [
        ("lwflow", json!(env!("CARGO_PKG_VERSION"))),
        ("model_format", json!(FORMAT_VERSION)),
        ("written", json!(humantime::format_rfc3339_seconds(SystemTime::now()).to_string())),
        ("system", json!(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ("cores", json!(std::thread::available_parallelism().ok().map(usize::from))),
        ("command", json!(command)),
        ("seed", json!(seed)),
        ("device", json!(device)),
        ("task", serde_json::to_value(task)?),
    ];
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
