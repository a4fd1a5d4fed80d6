//! Targets by their names, as task files and reports write them.
//! Invariant: a name that is printed is read back as the same target.

use super::{MAX_WELL_PAIRS, Target};
use crate::HostError;
use std::fmt;
use std::str::FromStr;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Target {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "many_well" {
            return Ok(Self::ManyWell(2));
        }
        let n_pairs = text.strip_prefix("many_well_").and_then(|n| n.parse::<u32>().ok());
        if let Some(n) = n_pairs.filter(|n| (1..=MAX_WELL_PAIRS).contains(n)) {
            return Ok(Self::ManyWell(n));
        }
        let names: Vec<String> = Self::ALL.iter().map(Self::name).collect();
        if let Some(i) = names.iter().position(|name| name == text) {
            return Ok(Self::ALL[i]);
        }
        let nearest = names.iter().min_by_key(|name| edit_distance(text, name)).cloned().unwrap_or_default();
        let known = format!("{}; many_well_N for N = 1 to {MAX_WELL_PAIRS} pairs", names.join(", "));
        Err(HostError::UnknownTarget { got: text.into(), nearest, known })
    }
}

impl TryFrom<String> for Target {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.name()
    }
}

/// Levenshtein's distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
