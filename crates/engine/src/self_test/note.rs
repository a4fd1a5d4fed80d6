//! Notes of how self-tests ended, one file per device. Invariant: a note counts only for the same device, driver, version and
//! kernels; one that cannot be read or written is no note.

use std::path::PathBuf;

use super::SelfTestReport;
use crate::Engine;

/// What is noted of an earlier self-test on the same device, driver and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelfTestNote {
    /// It passed.
    Passed,
    /// It failed, with these figures.
    Failed(String),
}

/// The note of `engine`'s device, if there is one.
pub(crate) fn read(engine: &Engine) -> Option<SelfTestNote> {
    let text = std::fs::read_to_string(file(engine)?).ok()?;
    let verdict = text.strip_prefix(&fingerprint(engine))?.strip_suffix('\n')?;
    match verdict.split_once(": ") {
        None if verdict == "passed" => Some(SelfTestNote::Passed),
        Some(("failed", figures)) => Some(SelfTestNote::Failed(figures.to_owned())),
        _ => None,
    }
}

/// Notes how a test ended.
pub(super) fn write(engine: &Engine, report: &SelfTestReport) {
    let verdict = if report.passed() { "passed".to_owned() } else { format!("failed: {report}") };
    let text = format!("{}{verdict}\n", fingerprint(engine));
    if let Some(file) = file(engine)
        && let Some(folder) = file.parent()
        && let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, text))
    {
        tracing::debug!(file = %file.display(), %error, "self-test result not kept");
    }
}

/// Everything that the outcome depends on: device, driver and the kernels' text.
pub(crate) fn fingerprint(engine: &Engine) -> String {
    let info = engine.info();
    let numbers = info.adapter.as_ref().map_or((0, 0), |a| (a.vendor, a.device));
    format!(
        "lwflow {} self-test\n{info}\n{:04x}:{:04x}\nkernels {:016x}\n",
        env!("CARGO_PKG_VERSION"),
        numbers.0,
        numbers.1,
        lwflow_shaders::fingerprint(),
    )
}

/// The folder of the engine's notes.
pub(crate) fn cache_folder(engine: &Engine) -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let chosen = engine.settings().cache_folder.clone();
    chosen
        .or_else(|| folder("LWFLOW_CACHE"))
        .or_else(|| folder("XDG_CACHE_HOME").map(|p| p.join("lwflow")))
        .or_else(|| folder("LOCALAPPDATA").map(|p| p.join("lwflow")))
        .or_else(|| folder("HOME").map(|p| p.join(".cache").join("lwflow")))
}

fn file(engine: &Engine) -> Option<PathBuf> {
    // FNV-1a: stable between builds, unlike the standard library's hasher.
    let hash = lwflow_shaders::fnv1a(engine.info().to_string().as_bytes());
    Some(cache_folder(engine)?.join(format!("self-test-{hash:016x}.txt")))
}
