//! Finds the files of a chain by its root. Invariant: the names of the files alone decide the family, and a root that leads to
//! none is refused with the names that were looked for.

use std::path::{Path, PathBuf};

use super::chains::ChainFormat;
use super::error::FileError;

/// Chain files found on disk.
pub(super) struct Located {
    pub(super) format: ChainFormat,
    pub(super) files: Vec<PathBuf>,
    /// Where a .paramnames file would be.
    pub(super) paramnames: PathBuf,
    /// What the sampler says of its run, for points that it has weighted itself.
    pub(super) summary: Option<PathBuf>,
}

/// UltraNest's points in its folder, those with weights first.
const ULTRANEST: [&str; 2] = ["chains/weighted_post.txt", "chains/equal_weighted_post.txt"];

/// # Errors
/// [`FileError::NoChain`], [`FileError::Io`].
pub(super) fn locate(root: &Path) -> Result<Located, FileError> {
    if let Some(points) = ULTRANEST.iter().map(|name| root.join(name)).find(|path| path.is_file()) {
        let summary = root.join("info").join("results.json");
        let paramnames = summary.clone();
        let format = ChainFormat::UltraNest;
        return Ok(Located { format, files: vec![points], paramnames, summary: Some(summary) });
    }
    let name = root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let of_root = |stem: &str| folder.join(format!("{stem}.paramnames"));
    let mut stem = name.as_str();
    if root.is_file() {
        // PolyChord's names first: MultiNest's are their ends.
        let nested = [
            "_dead-birth.txt",
            "_phys_live-birth.txt",
            ".paramnames",
            "dead-birth.txt",
            "phys_live-birth.txt",
            "stats.dat",
        ];
        if let Some(found) = nested.iter().find_map(|suffix| name.strip_suffix(suffix)) {
            stem = found;
        } else {
            let base = name.strip_suffix(".txt").unwrap_or(&name);
            let numbered = base.rsplit_once(['_', '.']).filter(|(_, k)| k.parse::<u32>().is_ok());
            if !folder.join(format!("{base}stats.dat")).is_file() {
                let paramnames = of_root(numbered.map_or(base, |(stem, _)| stem));
                let files = vec![root.into()];
                return Ok(Located { format: ChainFormat::GetDist, files, paramnames, summary: None });
            }
            stem = base;
        }
    }
    let is_file = |name: String| folder.join(name).is_file();
    // PolyChord puts the bar between root and name, MultiNest's own root may end with one.
    let with_bar = format!("{stem}_");
    let multinest_stem = if is_file(format!("{with_bar}stats.dat")) { &with_bar } else { stem };
    let families = [(ChainFormat::DeadBirth, with_bar.as_str()), (ChainFormat::MultiNest, multinest_stem)];
    for (format, prefix) in families {
        let dead = folder.join(format!("{prefix}dead-birth.txt"));
        let is_multinest = format == ChainFormat::MultiNest;
        if stem.is_empty() || !dead.is_file() || (!is_multinest && multinest_stem == with_bar) {
            continue;
        }
        let live = folder.join(format!("{prefix}phys_live-birth.txt"));
        // A finished run may leave an empty file of live points.
        let has_live = live.metadata().is_ok_and(|m| m.is_file() && m.len() > 0);
        let files = if has_live { vec![dead, live] } else { vec![dead] };
        let paramnames = of_root(if is_multinest { prefix } else { stem });
        return Ok(Located { format, files, paramnames, summary: None });
    }
    let summary = folder.join(format!("{multinest_stem}stats.dat"));
    if summary.is_file() {
        let files = vec![folder.join(format!("{multinest_stem}.txt"))];
        let paramnames = of_root(multinest_stem);
        return Ok(Located { format: ChainFormat::MultiNest, files, paramnames, summary: Some(summary) });
    }
    let mut files = Vec::new();
    for separator in ['_', '.'] {
        if files.is_empty() && !stem.is_empty() {
            files = numbered_files(folder, stem, separator)?;
        }
    }
    let single = folder.join(format!("{stem}.txt"));
    if files.is_empty() && single.is_file() {
        files.push(single);
    }
    if files.is_empty() {
        let tried = ["_dead-birth.txt", "dead-birth.txt", "stats.dat", "_1.txt", ".1.txt", ".txt"];
        let mut looked_for: Vec<String> = tried.iter().map(|suffix| format!("{stem}{suffix}")).collect();
        looked_for.push(format!("{stem}/{}", ULTRANEST[0]));
        return Err(FileError::NoChain { root: root.into(), looked_for });
    }
    Ok(Located { format: ChainFormat::GetDist, files, paramnames: of_root(stem), summary: None })
}

/// `stem_1.txt`, `stem_2.txt`, ... in the order of their numbers.
///
/// # Errors
/// [`FileError::Io`].
pub(super) fn numbered_files(folder: &Path, stem: &str, separator: char) -> Result<Vec<PathBuf>, FileError> {
    let io = |source| FileError::Io { path: folder.into(), action: "list", source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_prefix(separator))
            .and_then(|rest| rest.strip_suffix(".txt"))
            .filter(|k| k.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|k| k.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
