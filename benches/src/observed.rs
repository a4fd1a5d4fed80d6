//! A task file of an example with another observation in the place of its observation 1.
//! Invariant: nothing is copied and nothing in the example's folder changes; the new file names the others by full path.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The file of a task's observation 1; others lie beside it or come from elsewhere.
const FIRST: &str = "observation_1.csv";

/// Writes the task file `task` to `out` with the observation `observation`; the files that it names by `wgsl` and `data` are
/// named by full path.
///
/// # Errors
/// If a file cannot be read or written, or the task does not name `observation_1.csv`.
pub fn task_with_observation(task: &Path, observation: &Path, out: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(task).with_context(|| format!("{}", task.display()))?;
    let folder = task.parent().context("a task file lies in a folder")?;
    let observation = absolute(observation)?;
    let mut found = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some((key, name, rest)) = file_of(line) else {
            lines.push(line.to_owned());
            continue;
        };
        let path = if name == FIRST { observation.clone() } else { absolute(&folder.join(name))? };
        found |= name == FIRST;
        // A literal string: a path may hold backslashes.
        lines.push(format!("{key} = '{}'{rest}", path.display()));
    }
    if !found {
        bail!("{} does not name {FIRST}", task.display());
    }
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
    }
    fs::write(out, lines.join("\n") + "\n").with_context(|| format!("{}", out.display()))?;
    Ok(out.to_owned())
}

/// Key, file name and the rest of a line that names a file.
fn file_of(line: &str) -> Option<(&str, &str, &str)> {
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    let (name, rest) = value.trim_start().strip_prefix('"')?.split_once('"')?;
    matches!(key, "wgsl" | "data").then_some((key, name, rest))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_full_path_and_the_observation_is_another() {
        let folder = std::env::temp_dir().join(format!("lwflow-observed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let task = folder.join("TASK.toml");
        fs::write(&task, "[likelihood]\nwgsl = \"../a.wgsl\" # here\ndata = \"observation_1.csv\"\nx = 1\n")
            .unwrap();
        let out =
            task_with_observation(&task, Path::new("other.csv"), &folder.join("new/TASK.toml")).unwrap();
        let text = fs::read_to_string(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[3]), ("[likelihood]", "x = 1"));
        assert_eq!(lines[1], format!("wgsl = '{}' # here", folder.join("../a.wgsl").display()));
        assert_eq!(lines[2], format!("data = '{}'", absolute(Path::new("other.csv")).unwrap().display()));

        fs::write(&task, "[likelihood]\ntarget = \"gauss3\"\n").unwrap();
        let refused = task_with_observation(&task, Path::new("other.csv"), &folder.join("TASK2.toml"));
        assert!(refused.unwrap_err().to_string().contains("does not name observation_1.csv"));
        fs::remove_dir_all(folder).unwrap();
    }
}
