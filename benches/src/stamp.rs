//! What says where and when numbers were measured; every row carries it.
//! Invariant: a stamp is made once per run, before the first measurement.

use std::fmt;

use serde::Serialize;

use crate::{commit, date};

/// Commit, day, device and its measured peak.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stamp {
    /// Short hash of the commit, if there is a repository around the working directory.
    pub commit: Option<String>,
    /// Day of the run in UTC, `YYYY-MM-DD`.
    pub date: String,
    /// The device with its driver.
    pub device: String,
    /// Multiply-adds that the device was seen to make, in GFLOP per second; none where it was not measured.
    pub peak_gflops: Option<f64>,
}

impl Stamp {
    /// A stamp of this moment.
    #[must_use]
    pub fn now(device: String, peak_gflops: Option<f64>) -> Self {
        Self { commit: commit(), date: date(), device, peak_gflops }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, commit {}, {}", self.device, self.commit.as_deref().unwrap_or("unknown"), self.date)?;
        match self.peak_gflops {
            Some(peak) => write!(f, ", measured peak {peak:.0} GF/s"),
            None => Ok(()),
        }
    }
}
