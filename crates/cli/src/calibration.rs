//! What `lwflow calibrate` has found: its verdict in plain words, its table, and the files it leaves.
//! Invariant: the figures and the page are made from what calibration.json holds.

use crate::exit::{CommandError, Status};
use crate::page;
use crate::progress::Console;
use crate::report::write_file;
use lwflow_figures::{CalibrationPanel, FigureError, Label, calibration_panels};
use lwflow_host::diagnostics::calibration::{
    CalibrationReport, Departure, PredictiveCheck, Quantity, QuantityReport,
};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// Name of the figures for programs.
pub const CALIBRATION_FILE: &str = "calibration.json";
/// Name of the page.
pub const CALIBRATION_PAGE: &str = "calibration.html";
/// Everything that a calibration writes.
pub const FILES: [&str; 5] =
    [CALIBRATION_FILE, CALIBRATION_PAGE, "calibration_ranks.png", "coverage.png", "tarp.png"];
/// Quantities whose ranks are drawn at most.
const MAX_SHOWN: usize = 12;
/// Values of an observation that are told at most.
const MAX_TOLD: usize = 8;

/// A prediction for one observation.
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Serialize)]
pub struct Calibration {
    /// Version of lwflow.
    pub lwflow: &'static str,
    /// The model file.
    pub model: String,
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

    /// Panels of the ranks of the quantities that are shown: histogram and difference of the distribution functions.
    pub fn rank_panels(&self) -> Vec<CalibrationPanel> {
        let report = &self.ranks;
        let mut shown: Vec<usize> = (0..report.quantities.len()).collect();
        shown.sort_by(|a, b| report.quantities[*a].p_value.total_cmp(&report.quantities[*b].p_value));
        shown.truncate(MAX_SHOWN);
        shown.sort_unstable();
        shown.into_iter().flat_map(|k| self.panels_of(k)).collect()
    }

    fn title(&self, k: usize) -> Label {
        match self.labels.get(k).filter(|label| !label.is_empty()) {
            Some(label) => Label::latex(label),
            None => Label::plain(quantity_name(&self.ranks.quantities[k].quantity)),
        }
    }

    fn panels_of(&self, k: usize) -> [CalibrationPanel; 2] {
        let report = &self.ranks.quantities[k];
        let n = report.histogram.len() as f64;
        let edges = (0..report.histogram.len()).map(|b| (b as f64 / n, (b + 1) as f64 / n));
        let bins = || edges.clone().zip(&report.histogram);
        let histogram = CalibrationPanel {
            title: self.title(k),
            x: "rank of the truth / L",
            y: "pairs / expected",
            bars: bins().map(|((from, to), bin)| [from, to, bin.n as f64 / bin.expected]).collect(),
            band: bins().flat_map(|((a, b), bin)| [[a, bin.low, bin.high], [b, bin.low, bin.high]]).collect(),
            curve: Vec::new(),
            expected: [(0.0, 1.0), (1.0, 1.0)],
        };
        let shares = || self.ranks.shares.iter().copied();
        let band = shares().zip(&self.ranks.band).map(|(s, (low, high))| [s, low - s, high - s]);
        let curve = shares().zip(&report.cdf).map(|(s, cdf)| (s, cdf - s));
        let difference = CalibrationPanel {
            title: self.title(k),
            x: "rank of the truth / L",
            y: "share below − expected",
            bars: Vec::new(),
            band: [[0.0; 3]].into_iter().chain(band).collect(),
            curve: [(0.0, 0.0)].into_iter().chain(curve).collect(),
            expected: [(0.0, 0.0), (1.0, 0.0)],
        };
        [histogram, difference]
    }

    /// How often regions of highest density hold the truth, by the share of the posterior they claim.
    pub fn coverage_panel(&self) -> Option<CalibrationPanel> {
        let of = |q: &&QuantityReport| q.quantity == Quantity::LogProb;
        let report = self.ranks.quantities.iter().find(of)?;
        // A region of level c holds the truth if its rank is not among the lowest 1 - c.
        let places = || self.ranks.shares.iter().zip(&report.cdf).zip(&self.ranks.band).rev();
        let curve = places().map(|((s, cdf), _)| (1.0 - s, 1.0 - cdf));
        let band = places().map(|((s, _), (low, high))| [1.0 - s, 1.0 - high, 1.0 - low]);
        Some(CalibrationPanel {
            title: Label::plain("expected coverage"),
            x: "level of the region",
            y: "share of truths within",
            bars: Vec::new(),
            band: band.chain([[1.0; 3]]).collect(),
            curve: curve.chain([(1.0, 1.0)]).collect(),
            expected: [(0.0, 0.0), (1.0, 1.0)],
        })
    }

    /// How often balls around random points hold the truth, by the share of the posterior they hold.
    pub fn tarp_panel(&self) -> Option<CalibrationPanel> {
        let of = |q: &&QuantityReport| q.quantity == Quantity::Distance;
        let report = self.ranks.quantities.iter().find(of)?;
        let shares = || self.ranks.shares.iter().copied();
        let band = shares().zip(&self.ranks.band).map(|(s, (low, high))| [s, *low, *high]);
        Some(CalibrationPanel {
            title: Label::plain("TARP"),
            x: "share of the posterior in the ball",
            y: "share of truths within",
            bars: Vec::new(),
            band: [[0.0; 3]].into_iter().chain(band).collect(),
            curve: [(0.0, 0.0)].into_iter().chain(shares().zip(report.cdf.iter().copied())).collect(),
            expected: [(0.0, 0.0), (1.0, 1.0)],
        })
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
        ];
        for (name, panels) in figures {
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
    if p < 1e-3 { format!("{p:.0e}") } else { format!("{p:.3}") }
}
