//! The panels of a calibration's figures, the same for the files and the page.

use super::{Calibration, quantity_name};
use lwflow_figures::{CalibrationPanel, Label};
use lwflow_host::diagnostics::calibration::{PredictedHistogram, Quantity, QuantityReport};

/// Quantities whose ranks are drawn at most.
const MAX_SHOWN: usize = 12;
/// Observations whose predictions are drawn at most, those that are least expected.
pub const MAX_DRAWN: usize = 4;

impl Calibration {
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
            range: (0.0, 1.0),
            bars: bins().map(|((from, to), bin)| [from, to, bin.n as f64 / bin.expected]).collect(),
            band: bins().flat_map(|((a, b), bin)| [[a, bin.low, bin.high], [b, bin.low, bin.high]]).collect(),
            curve: Vec::new(),
            expected: vec![(0.0, 1.0), (1.0, 1.0)],
        };
        let shares = || self.ranks.shares.iter().copied();
        let band = shares().zip(&self.ranks.band).map(|(s, (low, high))| [s, low - s, high - s]);
        let curve = shares().zip(&report.cdf).map(|(s, cdf)| (s, cdf - s));
        let difference = CalibrationPanel {
            title: self.title(k),
            x: "rank of the truth / L",
            y: "share below − expected",
            range: (0.0, 1.0),
            bars: Vec::new(),
            band: [[0.0; 3]].into_iter().chain(band).collect(),
            curve: [(0.0, 0.0)].into_iter().chain(curve).collect(),
            expected: vec![(0.0, 0.0), (1.0, 0.0)],
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
            range: (0.0, 1.0),
            bars: Vec::new(),
            band: band.chain([[1.0; 3]]).collect(),
            curve: curve.chain([(1.0, 1.0)]).collect(),
            expected: vec![(0.0, 0.0), (1.0, 1.0)],
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
            range: (0.0, 1.0),
            bars: Vec::new(),
            band: [[0.0; 3]].into_iter().chain(band).collect(),
            curve: [(0.0, 0.0)].into_iter().chain(shares().zip(report.cdf.iter().copied())).collect(),
            expected: vec![(0.0, 0.0), (1.0, 1.0)],
        })
    }

    /// The observations whose predictions are drawn: the least expected ones, in their order.
    pub fn drawn_predictions(&self) -> Vec<usize> {
        let least = |k: &usize| self.predictions[*k].check.least();
        let mut drawn: Vec<usize> = (0..self.predictions.len()).collect();
        drawn.sort_by(|a, b| least(a).total_cmp(&least(b)));
        drawn.truncate(MAX_DRAWN);
        drawn.sort_unstable();
        drawn
    }

    /// Panels of the prediction of observation `k`: what its posterior predicts for the values that are least expected, and how
    /// far out all together are.
    pub fn prediction_panels(&self, k: usize) -> Vec<CalibrationPanel> {
        let whose =
            if self.predictions.len() > 1 { format!(", observation {}", k + 1) } else { String::new() };
        let panel = |predicted: &PredictedHistogram| {
            let PredictedHistogram { observed, low, width, counts, central, .. } = predicted;
            let name = predicted.value.map_or("all together", |j| &self.predictions[k].names[j]);
            let from = |bin: usize| low + width * bin as f64;
            let (left, right) = (low.min(*observed), from(counts.len()).max(*observed));
            let pad = 0.03 * (right - left);
            let top = 1.08 * counts.iter().copied().max().unwrap_or(1) as f64;
            CalibrationPanel {
                title: Label::plain(format!("{name}{whose}")),
                x: if predicted.value.is_some() { "value" } else { "Mahalanobis distance" },
                y: "simulations",
                range: (left - pad, right + pad),
                bars: (0..counts.len()).map(|bin| [from(bin), from(bin + 1), counts[bin] as f64]).collect(),
                band: vec![[central.0, 0.0, top], [central.1, 0.0, top]],
                curve: vec![(*observed, 0.0), (*observed, top)],
                expected: Vec::new(),
            }
        };
        self.predictions[k].check.histograms.iter().map(panel).collect()
    }
}
