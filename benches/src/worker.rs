//! A Python process that answers one JSON object per line, one command at a time.
//! Invariant: the process never outlives its `Worker`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a worker says when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub struct Hello {
    /// Version of its framework.
    pub version: String,
    /// What it computes on.
    pub device: String,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    name: String,
    child: Child,
    // None once it has been told to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts `worker.py framework threads device` of the folder `scripts` and waits until it is ready.
    ///
    /// # Errors
    /// If it cannot be started or ends before it is ready; its own words are on stderr.
    pub fn start(
        python: &Path,
        scripts: &Path,
        framework: &str,
        threads: usize,
        device: &str,
    ) -> Result<(Self, Hello)> {
        let mut command = Command::new(python);
        command.arg(scripts.join("worker.py")).arg(framework).arg(threads.to_string()).arg(device);
        Self::spawn(framework, &mut command)
    }

    fn spawn(name: &str, command: &mut Command) -> Result<(Self, Hello)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("worker {name}: no pipes");
        };
        let mut worker =
            Self { name: name.to_owned(), child, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        let hello = worker.answer()?;
        Ok((worker, hello))
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// If the worker has ended, failed at the command or answered something else.
    pub fn ask<T: DeserializeOwned>(&mut self, command: &impl Serialize) -> Result<T> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let sent =
            self.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(&line).and_then(|()| stdin.flush()));
        sent.with_context(|| format!("worker {} does not listen", self.name))?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).with_context(|| format!("worker {}", self.name))?;
        if line.is_empty() {
            bail!("worker {} ended: {}", self.name, self.child.wait()?);
        }
        let value: serde_json::Value =
            serde_json::from_str(&line).with_context(|| format!("worker {} said {line:.200}", self.name))?;
        if let Some(error) = value.get("error") {
            bail!("worker {}: {error}", self.name);
        }
        serde_json::from_value(value).with_context(|| format!("worker {}", self.name))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input tells it to go; a worker in the middle of something is not waited for.
        drop(self.stdin.take());
        // An error only says that it has gone already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout)]
mod tests {
    use super::*;

    /// A worker that doubles, fails and ends on request; `None`, printed, without Python.
    fn doubler() -> Option<Worker> {
        let code = "import json, sys\nprint('{\"version\": \"1\", \"device\": \"none\"}', flush=True)\n\
                    for line in sys.stdin:\n    v = json.loads(line)\n    if v < 0: sys.exit(3)\n    \
                    print(json.dumps({'error': 'no'} if v == 0 else 2 * v), flush=True)";
        match Worker::spawn("doubler", Command::new("python3").args(["-c", code])) {
            Ok((worker, hello)) => {
                assert_eq!((hello.version.as_str(), hello.device.as_str()), ("1", "none"));
                Some(worker)
            }
            Err(error) => {
                lwflow_skip::skip(format!("python3: {error:#}"));
                None
            }
        }
    }

    #[test]
    fn answers_errors_and_the_end_are_told_apart() {
        let Some(mut worker) = doubler() else { return };
        assert_eq!(worker.ask::<u32>(&21).unwrap(), 42);
        assert!(worker.ask::<u32>(&0).unwrap_err().to_string().contains("no"));
        assert!(worker.ask::<String>(&1).is_err(), "a number is no text");
        let ended = worker.ask::<u32>(&-1).unwrap_err().to_string();
        assert!(ended.contains("ended") && ended.contains('3'), "{ended}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_dropped_worker_is_gone() {
        let Some(worker) = doubler() else { return };
        let folder = format!("/proc/{}", worker.child.id());
        assert!(Path::new(&folder).exists());
        drop(worker);
        assert!(!Path::new(&folder).exists());
    }
}
