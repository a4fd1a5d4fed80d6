//! What made a result: the head of metrics.json, the same for a fit of points and for rounds.

use crate::exit::CommandError;
use crate::task::Task;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// Version, time, system, command line, seed, device and task.
pub(super) fn manifest(task: &Task, seed: u64, device: &str) -> Result<Map<String, Value>, CommandError> {
    let command: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let entries = [
        ("lwflow", json!(env!("CARGO_PKG_VERSION"))),
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
