//! What `lwflow calibrate` has found: its verdict in plain words, its table, and the files it leaves.
//! Invariant: the figures and the page are made from what calibration.json holds.

mod figures;

pub use figures::MAX_DRAWN;

use crate::exit::{CommandError, Status};
use crate::page;
use crate::progress::Console;
use crate::report::write_file;
use lwflow_figures::{CalibrationPanel, FigureError, calibration_panels};
use lwflow_host::diagnostics::calibration::{
    CalibrationReport, Departure, PredictiveCheck, Quantity, QuantityReport,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;

/// Name of the figures for programs.
pub const CALIBRATION_FILE: &str = "calibration.json";
/// Name of the page.
pub const CALIBRATION_PAGE: &str = "calibration.html";
/// Everything that a calibration writes.
pub const FILES: [&str; 6] = [
    CALIBRATION_FILE,
    CALIBRATION_PAGE,
    "calibration_ranks.png",
    "coverage.png",
    "tarp.png",
    "predictions.png",
];
/// Values of an observation that are told at most.
const MAX_TOLD: usize = 8;

/// A prediction for one observation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prediction {
    /// Names of the values, `[X]`.
    pub names: Vec<String>,
    /// The observation, `[X]`.
    pub observed: Vec<f64>,
    /// Simulations that failed and count for nothing.
    pub n_failed: usize,
    /// What it is beside its predictions.
    pub check: PredictiveCheck,
}

/// All that is known after a calibration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Calibration {
    /// Version of lwflow.
    pub lwflow: String,
    /// The model file.
    pub model: String,
    /// Checksum of its bytes, as [`checksum`] gives it.
    pub model_checksum: String,
    /// Where the pairs come from.
    pub pairs: String,
    /// Seed.
    pub seed: u64,
    /// Device, in words.
    pub device: String,
    /// LaTeX labels of the parameters, `[D]`.
    pub labels: Vec<String>,
    /// Whether every test has passed.
    pub passed: bool,
    /// Each test that has not, in words.
    pub failures: Vec<String>,
    /// The ranks.
    pub ranks: CalibrationReport,
    /// Predictions, one for each observation.
    pub predictions: Vec<Prediction>,
}

/// A quantity as people call it.
pub fn quantity_name(quantity: &Quantity) -> &str {
    match quantity {
        Quantity::Parameter { name } => name,
        Quantity::LogProb => "log q (expected coverage)",
        Quantity::Distance => "distance (TARP)",
    }
}

fn failure(report: &QuantityReport, departure: Departure) -> String {
    let words = match (&report.quantity, departure) {
        (Quantity::LogProb, Departure::TooNarrow) => {
            "regions of the posterior hold the truth less often than they claim (overconfident)"
        }
        (Quantity::LogProb, Departure::TooWide) => {
            "regions of the posterior hold the truth more often than they claim (too cautious)"
        }
        (_, Departure::TooNarrow) => "posteriors are too narrow",
        (_, Departure::TooWide) => "posteriors are too wide",
        (_, Departure::TooLow) => "posteriors lie too low",
        (_, Departure::TooHigh) => "posteriors lie too high",
        (_, Departure::Other) => "ranks are not uniform",
    };
    format!("{}: {words} (p {})", quantity_name(&report.quantity), p_text(report.p_adjusted))
}

impl Calibration {
    /// Fills in the verdict.
    pub fn judge(&mut self) {
        let ranks = self.ranks.quantities.iter();
        self.failures = ranks.filter_map(|r| Some(failure(r, r.departure?))).collect();
        for (k, prediction) in self.predictions.iter().enumerate() {
            let check = &prediction.check;
            let names = prediction.names.iter().map(String::as_str).chain(["all of it together"]);
            let off: Vec<&str> = names
                .zip(&check.p_adjusted)
                .filter(|(_, p)| **p < self.ranks.alpha)
                .map(|(name, _)| name)
                .collect();
            if !off.is_empty() {
                let more = if off.len() > MAX_TOLD {
                    format!(" and {} more", off.len() - MAX_TOLD)
                } else {
                    String::new()
                };
                let off = off[..off.len().min(MAX_TOLD)].join(", ");
                let p = p_text(check.least());
                self.failures.push(format!("observation {}: not as predicted in {off}{more} (p {p})", k + 1));
            }
        }
        self.passed = self.failures.is_empty();
    }

    /// The verdict in a sentence.
    pub fn headline(&self) -> String {
        let alpha = self.ranks.alpha;
        match self.failures.len() {
            0 => format!("calibrated: no test fails at {alpha}"),
            1 => format!("not calibrated: one test fails at {alpha}"),
            n => format!("not calibrated: {n} tests fail at {alpha}"),
        }
    }

    /// The table and the verdict for stdout.
    pub fn text(&self) -> String {
        let CalibrationReport { n_pairs, n_draws, .. } = self.ranks;
        let mut text = format!("calibration of {}: {n_pairs} pairs, {n_draws} draws for each\n", self.model);
        let name = |report: &QuantityReport| quantity_name(&report.quantity).to_owned();
        let width = self.ranks.quantities.iter().map(|r| name(r).chars().count()).max().unwrap_or(0);
        let _ = writeln!(text, "  {:width$}  p-value  adjusted  largest deviation  mean rank", "ranks of");
        for report in &self.ranks.quantities {
            let _ = writeln!(
                text,
                "  {:width$}  {:>7}  {:>8}  {:>17.3}  {:>9.3}",
                name(report),
                p_text(report.p_value),
                p_text(report.p_adjusted),
                report.largest_deviation,
                report.mean_rank
            );
        }
        for (k, prediction) in self.predictions.iter().enumerate() {
            let check = &prediction.check;
            let _ = writeln!(
                text,
                "prediction of observation {}, {} simulations: smallest adjusted p-value {}, of all together {}",
                k + 1,
                check.n,
                p_text(check.least()),
                p_text(check.p_value_distance)
            );
        }
        let _ = writeln!(text, "{}", self.headline());
        for failure in &self.failures {
            let _ = writeln!(text, "  {failure}");
        }
        text
    }

    /// Reads what [`Calibration::write`] has left in a folder; `None` if there is nothing.
    ///
    /// # Errors
    /// [`Status::Input`] naming a damaged file.
    pub fn read(folder: &Path) -> Result<Option<Self>, CommandError> {
        let file = folder.join(CALIBRATION_FILE);
        let refuse = |words: String| CommandError::new(Status::Input, format!("{}: {words}", file.display()));
        let bytes = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| refuse(format!("cannot read: {error}")))?,
        };
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|error| refuse(format!("damaged: {error}")))?;
        if read.fits() { Ok(Some(read)) } else { Err(refuse("damaged: its arrays do not fit".to_owned())) }
    }

    /// Whether all arrays are as long as the others of their kind.
    fn fits(&self) -> bool {
        let n = self.ranks.shares.len();
        let ranks = self.ranks.quantities.iter().all(|q| q.cdf.len() == n);
        let prediction = |p: &Prediction| {
            let (x, check) = (p.observed.len(), &p.check);
            let each = [&check.mean, &check.sd, &check.below, &check.p_values].iter().all(|v| v.len() == x);
            let drawn = check.histograms.iter().all(|h| h.value.is_none_or(|j| j < x));
            each && drawn && p.names.len() == x && check.p_adjusted.len() == x + 1
        };
        ranks && self.ranks.band.len() == n && self.predictions.iter().all(prediction)
    }

    /// Writes all files into `out`. A figure that cannot be drawn is a remark.
    ///
    /// # Errors
    /// [`Status::Other`] naming the file that cannot be written.
    pub fn write(&self, out: &Path, console: Console) -> Result<(), CommandError> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        write_file(&out.join(CALIBRATION_FILE), json.as_bytes())?;
        let single = |panel: Option<CalibrationPanel>| panel.into_iter().collect::<Vec<_>>();
        let figures = [
            ("calibration_ranks.png", self.rank_panels()),
            ("coverage.png", single(self.coverage_panel())),
            ("tarp.png", single(self.tarp_panel())),
            (
                "predictions.png",
                self.drawn_predictions().into_iter().flat_map(|k| self.prediction_panels(k)).collect(),
            ),
        ];
        for (name, panels) in figures {
            if panels.is_empty() {
                // That of an earlier calibration is not of this one.
                let _ = std::fs::remove_file(out.join(name));
                continue;
            }
            match calibration_panels(&out.join(name), &panels, 2) {
                Err(error @ FigureError::Write { .. }) => return Err(error.into()),
                Err(error) => console.remark(format!("{name}: {error}")),
                Ok(_) => {}
            }
        }
        write_file(&out.join(CALIBRATION_PAGE), page::of_calibration(self)?.as_bytes())
    }

    /// The status that says how it went.
    pub fn status(&self) -> Status {
        if self.passed { Status::Success } else { Status::Contract }
    }
}

/// A p-value to two or three digits.
pub fn p_text(p: f64) -> String {
    match p {
        // One minus a sum of probabilities resolves no less.
        _ if p < 1e-12 => "<1e-12".to_owned(),
        _ if p < 1e-3 => format!("{p:.0e}"),
        _ => format!("{p:.3}"),
    }
}

/// Checksum of a model file, by which a calibration knows its model.
///
/// # Errors
/// [`Status::Input`] if it cannot be read.
pub fn checksum(model: &Path) -> Result<String, CommandError> {
    let bytes = std::fs::read(model)
        .map_err(|e| CommandError::new(Status::Input, format!("{}: cannot read: {e}", model.display())))?;
    Ok(format!("{:08x}", crc32fast::hash(&bytes)))
}
