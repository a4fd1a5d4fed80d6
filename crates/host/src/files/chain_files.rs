//! Finds the files of a chain by its root, or by the folder that holds one. Invariant: the names of the files alone decide the
//! family, and a root that leads to none is refused with the names that were looked for, a folder of several with their roots.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::chains::ChainFormat;
use super::error::FileError;

/// Chain files found on disk.
pub(super) struct Located {
    pub(super) format: ChainFormat,
    pub(super) files: Vec<PathBuf>,
    /// What the names of the files begin with, or UltraNest's folder.
    pub(super) root: PathBuf,
    /// What the sampler says of its run, for points that it has weighted itself.
    pub(super) summary: Option<PathBuf>,
}

impl Located {
    /// Where a .paramnames file would be.
    pub(super) fn paramnames(&self) -> PathBuf {
        let mut name = self.root.as_os_str().to_owned();
        name.push(".paramnames");
        name.into()
    }
}

/// UltraNest's points in its folder, those with weights first.
const ULTRANEST: [&str; 2] = ["chains/weighted_post.txt", "chains/equal_weighted_post.txt"];

/// What follows the root in the names of dead and live points, PolyChord's first: MultiNest's are their ends.
const NESTED: [&str; 5] =
    ["_dead-birth.txt", "_phys_live-birth.txt", "dead-birth.txt", "phys_live-birth.txt", "stats.dat"];

/// Finds the files of `root`, or of the one root in the folder `root`.
///
/// # Errors
/// [`FileError::NoChain`], [`FileError::SeveralChains`], [`FileError::Io`].
pub(super) fn locate(root: &Path) -> Result<Located, FileError> {
    let not_found = match locate_root(root) {
        Err(error @ FileError::NoChain { .. }) if root.is_dir() => error,
        other => return other,
    };
    let roots: Vec<String> = roots_in(root)?.into_iter().collect();
    match &roots[..] {
        [] => Err(not_found),
        [one] => locate_root(&root.join(one)),
        _ => Err(FileError::SeveralChains { folder: root.into(), roots }),
    }
}

/// The roots of the chains in a folder, by the files that no other file resembles. A bar at the end of MultiNest's root is
/// left out, as it may be.
///
/// # Errors
/// [`FileError::Io`].
fn roots_in(folder: &Path) -> Result<BTreeSet<String>, FileError> {
    let names = file_names(folder)?;
    let root_of = |name: &String| {
        if let Some(root) = NESTED.iter().find_map(|ending| name.strip_suffix(ending)) {
            return Some(root.strip_suffix('_').unwrap_or(root).to_owned());
        }
        let base = name.strip_suffix(".txt")?;
        match numbered(base) {
            Some((root, _)) => Some(root.to_owned()),
            None => names.contains(&format!("{base}.paramnames")).then(|| base.to_owned()),
        }
    };
    Ok(names.iter().filter_map(root_of).filter(|root| !root.is_empty()).collect())
}

/// `root_1` or `root.1` as root and number.
fn numbered(base: &str) -> Option<(&str, u32)> {
    let (root, number) = base.rsplit_once(['_', '.'])?;
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    Some((root, number.parse().ok().filter(|_| digits)?))
}

/// # Errors
/// [`FileError::NoChain`], [`FileError::Io`].
fn locate_root(root: &Path) -> Result<Located, FileError> {
    if let Some(points) = ULTRANEST.iter().map(|name| root.join(name)).find(|path| path.is_file()) {
        let summary = root.join("info").join("results.json");
        let format = ChainFormat::UltraNest;
        return Ok(Located { format, files: vec![points], root: root.into(), summary: Some(summary) });
    }
    let name = root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut stem = name.as_str();
    if root.is_file() {
        let endings = NESTED.iter().chain(&[".paramnames"]);
        if let Some(found) = endings.clone().find_map(|ending| name.strip_suffix(ending)) {
            stem = found;
        } else {
            let base = name.strip_suffix(".txt").unwrap_or(&name);
            if !folder.join(format!("{base}stats.dat")).is_file() {
                let files = vec![root.into()];
                let root = folder.join(numbered(base).map_or(base, |(stem, _)| stem));
                return Ok(Located { format: ChainFormat::GetDist, files, root, summary: None });
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
        let root = folder.join(if is_multinest { prefix } else { stem });
        return Ok(Located { format, files, root, summary: None });
    }
    let summary = folder.join(format!("{multinest_stem}stats.dat"));
    if summary.is_file() {
        let files = vec![folder.join(format!("{multinest_stem}.txt"))];
        let root = folder.join(multinest_stem);
        return Ok(Located { format: ChainFormat::MultiNest, files, root, summary: Some(summary) });
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
    Ok(Located { format: ChainFormat::GetDist, files, root: folder.join(stem), summary: None })
}

/// `stem_1.txt`, `stem_2.txt`, ... in the order of their numbers.
///
/// # Errors
/// [`FileError::Io`].
pub(super) fn numbered_files(folder: &Path, stem: &str, separator: char) -> Result<Vec<PathBuf>, FileError> {
    let number = |name: &String| {
        let (root, number) = numbered(name.strip_suffix(".txt")?)?;
        (root == stem && name[root.len()..].starts_with(separator)).then_some(number)
    };
    let names = file_names(folder)?;
    let mut found: Vec<(u32, PathBuf)> =
        names.iter().filter_map(|name| Some((number(name)?, folder.join(name)))).collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// # Errors
/// [`FileError::Io`].
fn file_names(folder: &Path) -> Result<BTreeSet<String>, FileError> {
    let io = |source| FileError::Io { path: folder.into(), action: "list", source };
    let entries = std::fs::read_dir(folder).map_err(io)?;
    entries.map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().into_owned())).collect()
}
