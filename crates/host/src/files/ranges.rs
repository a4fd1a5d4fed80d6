//! The file root.ranges that GetDist keeps beside its chains: a line per parameter with its name, its lower and its upper
//! bound, `N` for none, and perhaps the word `periodic`. Lines of parameters that are fixed (equal bounds) say nothing.

use std::path::{Path, PathBuf};

use super::error::FileError;

/// Bounds that a file gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The parameter.
    pub name: String,
    /// Lower bound.
    pub lower: Option<f64>,
    /// Upper bound.
    pub upper: Option<f64>,
    /// Whether the bounds are the same point.
    pub periodic: bool,
}

/// The file of bounds that belongs to the chain `root`.
pub fn ranges_file(root: &Path) -> PathBuf {
    let mut name = root.file_name().unwrap_or_default().to_os_string();
    name.push(".ranges");
    root.with_file_name(name)
}

/// Reads a file of bounds.
///
/// # Errors
/// [`FileError::Io`], [`FileError::Damaged`] with the line.
pub fn read_ranges(path: &Path) -> Result<Vec<Range>, FileError> {
    let io = |source| FileError::Io { path: path.into(), action: "read", source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let mut ranges = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let bad = |what: &str| {
            let reason = format!("line {}: {what}", i + 1);
            FileError::Damaged { path: path.into(), format: "ranges", reason }
        };
        let bound = |word: &str| match word {
            "N" | "None" | "-inf" | "inf" => Ok(None),
            word => match word.parse::<f64>() {
                Ok(x) if x.is_finite() => Ok(Some(x)),
                _ => Err(bad(&format!("`{word}` is no bound, expected a number or N"))),
            },
        };
        let (name, lower, upper) = match words[..] {
            [] => continue,
            [name, lower, upper, ..] => (name, bound(lower)?, bound(upper)?),
            _ => return Err(bad("expected a name, a lower and an upper bound")),
        };
        match (lower, upper) {
            (Some(l), Some(u)) if l > u => return Err(bad("the lower bound is above the upper one")),
            (Some(l), Some(u)) if l == u => {}
            _ => ranges.push(Range {
                name: name.trim_end_matches('*').to_owned(),
                lower,
                upper,
                periodic: words.get(3) == Some(&"periodic"),
            }),
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_mistakes_are_placed() {
        let folder = tempfile::tempdir().unwrap();
        let path = ranges_file(&folder.path().join("run"));
        assert_eq!(path.file_name().unwrap(), "run.ranges");
        std::fs::write(&path, "a -1 2.5e1\nb* N 3 # derived\n\nfixed 1 1\nphi 0 6.25 periodic\n").unwrap();
        let range = |name: &str, lower, upper, periodic| Range { name: name.into(), lower, upper, periodic };
        let expected = [
            range("a", Some(-1.0), Some(25.0), false),
            range("b", None, Some(3.0), false),
            range("phi", Some(0.0), Some(6.25), true),
        ];
        assert_eq!(read_ranges(&path).unwrap(), expected);
        for (text, words) in
            [("a 0 1\nb 0", "line 2: expected a name"), ("a 0 x", "`x` is no bound"), ("a 2 1", "above")]
        {
            std::fs::write(&path, text).unwrap();
            let error = read_ranges(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
