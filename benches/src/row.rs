//! One measured number with everything that says what it is a measurement of.
//! Invariant: a row stands on its own; rows of different runs can be put into one table.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::Stamp;

/// A row of the table and of the JSON file (one object per line).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Commit, day, device and its measured peak.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Kernel path: `fused`, `tiled`, `native` for the cores, `host` for what runs on none of them, `wgsl` for programs.
    pub path: &'static str,
    /// `pass` for a call, `kernel` for one kernel within a call.
    pub kind: &'static str,
    /// The call, or the call and the kernel: `gradient/linear_forward`.
    pub name: String,
    /// The flow.
    pub shape: String,
    /// Samples per call.
    pub batch: usize,
    /// Dispatches of the kernel in one call; absent for a pass.
    pub dispatches: Option<usize>,
    /// Number of measurements.
    pub repeats: usize,
    /// Fastest measurement, seconds per call.
    pub seconds_min: f64,
    /// Middle measurement, seconds per call.
    pub seconds_median: f64,
    /// Batch over the median.
    pub samples_per_second: f64,
    /// Model GFLOP over the median: 2 per multiply-add of the linear maps for a forward pass or one kernel's product, 6
    /// for a gradient. Absent for what runs none of the linear maps.
    pub gflops: Option<f64>,
    /// `gflops` over the device's measured peak.
    pub peak_share: Option<f64>,
}

impl Row {
    /// The row with its measurements, seconds per call, and the model FLOP of a call.
    #[must_use]
    pub(crate) fn measured(self, mut seconds: Vec<f64>, flop: Option<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        let gflops = flop.map(|flop| flop / median / 1e9);
        Self {
            repeats: seconds.len(),
            seconds_min: seconds.first().copied().unwrap_or(f64::NAN),
            seconds_median: median,
            samples_per_second: self.batch as f64 / median,
            gflops,
            peak_share: gflops.zip(self.stamp.peak_gflops).map(|(gflops, peak)| gflops / peak),
            ..self
        }
    }

    /// The heading of the table that [`Row::line`] fills.
    #[must_use]
    pub fn heading() -> String {
        format!(
            "{:<6} {:<37} {:>4} {:>7} {:>10} {:>10} {:>12} {:>7} {:>5}",
            "path", "pass or call/kernel", "n", "batch", "min ms", "median ms", "samples/s", "GF/s", "peak"
        )
    }

    /// The row as a line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let dispatches = self.dispatches.map_or_else(String::new, |n| n.to_string());
        let gflops = self.gflops.map_or_else(|| "-".to_owned(), |g| format!("{g:.2}"));
        let share = self.peak_share.map_or_else(|| "-".to_owned(), |s| format!("{:.0} %", 100.0 * s));
        format!(
            "{:<6} {:<37} {:>4} {:>7} {:>10.3} {:>10.3} {:>12.0} {:>7} {:>5}",
            self.path,
            self.name,
            dispatches,
            self.batch,
            1e3 * self.seconds_min,
            1e3 * self.seconds_median,
            self.samples_per_second,
            gflops,
            share
        )
    }
}

/// Short hash of the commit in the working directory, with `-dirty` if files differ from it; `None` without git.
#[must_use]
pub fn commit() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--exclude=*"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !hash.is_empty()).then_some(hash)
}

/// Today in UTC, `YYYY-MM-DD`.
#[must_use]
pub fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970-01-01, by walking the years and months.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_453), (2025, 12, 31));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }
}
