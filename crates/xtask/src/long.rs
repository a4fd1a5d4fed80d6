//! What `cargo xtask test --long` adds: fuzzing, and variables with which tests do more than their usual share.
//! Invariant: what was asked for and cannot be done is a failure, never a skip.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::checks::{Outcome, built_program, status};
use crate::setup::{ensure_browser, ensure_cxx};
use crate::tools::{cargo, workspace_root};

/// The fuzz targets, as fuzz/src/target.rs names them.
pub const TARGETS: [&str; 8] =
    ["task", "pairs", "chains", "model", "checkpoint", "wgsl", "answers", "report"];
/// How often the tests of killed runs kill.
const KILLS: &str = "100";
/// Seconds that one input may take before it counts as a hang.
const HANG: u32 = 25;
/// Longest input, in bytes.
const MAX_INPUT: u32 = 16_384;

/// What is there for the long checks.
pub struct Long {
    browser: Result<PathBuf, String>,
    compiler: Result<(), String>,
    fuzz_seconds: u32,
}

impl Long {
    /// Looks for what they need, and installs it where that is allowed.
    pub fn prepare(yes: bool, fuzz_seconds: u32) -> Self {
        Self { browser: ensure_browser(yes), compiler: ensure_cxx(yes), fuzz_seconds }
    }

    /// Tells the tests of what they may do.
    pub fn set_variables(&self, command: &mut Command) {
        command.env("LWFLOW_KILLS", KILLS).env("LWFLOW_TYPES", "1");
        if let Ok(browser) = &self.browser {
            command.env("LWFLOW_BROWSER", browser);
        }
    }

    /// Whether the tests had a browser.
    ///
    /// # Errors
    /// Why not.
    pub fn browser_outcome(&self) -> anyhow::Result<Outcome> {
        match &self.browser {
            Ok(_) => Ok(Outcome::Passed),
            Err(why) => Err(anyhow::anyhow!("{why}")),
        }
    }

    /// Fuzzes one target from its corpus. What it finds new goes to target/fuzz and leaves the corpus alone.
    ///
    /// # Errors
    /// Without a compiler, or a system that the build knows.
    pub fn fuzz(&self, target: &str) -> anyhow::Result<Outcome> {
        self.compiler.clone().map_err(anyhow::Error::msg)?;
        if !cfg!(unix) {
            anyhow::bail!("fuzz/instrument.sh needs a Unix shell");
        }
        let source = workspace_root().join("fuzz");
        let mut build = cargo("build");
        build
            .args(["--package", "lwflow-fuzz", "--features", "libfuzzer", "--bin", "fuzz"])
            .env("RUSTC_WORKSPACE_WRAPPER", source.join("instrument.sh"));
        if status(&mut build)? != Outcome::Passed {
            return Ok(Outcome::Failed);
        }
        let place = workspace_root().join("target").join("fuzz").join(target);
        let found = place.join("corpus");
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let mut command = Command::new(built_program("fuzz")?);
        command
            .env("LWFLOW_FUZZ_TARGET", target)
            .arg(format!("-max_total_time={}", self.fuzz_seconds))
            .arg(format!("-timeout={HANG}"))
            .arg(format!("-max_len={MAX_INPUT}"))
            .arg(format!("-artifact_prefix={}/", place.display()))
            .arg("-print_final_stats=1");
        let words = source.join("words").join(target);
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        status(command.arg(found).arg(source.join("corpus").join(target)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_fuzzed() {
        let corpus = workspace_root().join("fuzz/corpus");
        let mut corpora: Vec<_> =
            fs::read_dir(corpus).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        corpora.sort();
        let mut targets = TARGETS;
        targets.sort_unstable();
        assert_eq!(corpora, targets);
    }
}
