//! Ranges and ticks. A range always has extent and is finite, whatever the data; ticks are round numbers inside it, and
//! numbers too large, small or close together for plain labels share a factor and an offset, which the axis names.

use super::FigureAxis;
use super::label::Label;

/// Least extent of an interval as a share of its numbers; below it the places in it blur.
pub(super) const RESOLUTION: f64 = 1e-12;

/// An interval of one axis, `low < high`, both finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Span {
    /// The interval if it is one; around a single value, one that holds it; `[0, 1]` if nothing is known.
    pub(super) fn around(low: f64, high: f64) -> Self {
        // Wider than this overflows when it is padded or scaled.
        let limit = 1e300;
        if !(low.is_finite() && high.is_finite()) || low > high {
            return Self { low: 0.0, high: 1.0 };
        }
        let (low, high) = (low.clamp(-limit, limit), high.clamp(-limit, limit));
        let least = RESOLUTION * low.abs().max(high.abs()).max(1e-280);
        if high - low > least {
            return Self { low, high };
        }
        let half = if low == 0.0 && high == 0.0 { 0.5 } else { 0.05 * low.abs().max(high.abs()) };
        Self { low: low - half, high: high + half }
    }

    /// Wider by a share of its extent on both sides.
    pub(super) fn padded(self, share: f64) -> Self {
        let pad = share * (self.high - self.low);
        Self { low: self.low - pad, high: self.high + pad }
    }

    /// Ends at the bounds of the axis where it reaches beyond them, or almost to them.
    pub(super) fn within(self, axis: &FigureAxis) -> Self {
        let near = 0.08 * (self.high - self.low);
        let low = axis.lower.filter(|l| l.is_finite() && *l > self.low - near && *l < self.high);
        let high = axis.upper.filter(|u| u.is_finite() && *u < self.high + near && *u > self.low);
        Self { low: low.unwrap_or(self.low), high: high.unwrap_or(self.high) }
    }

    pub(super) fn extent(self) -> f64 {
        self.high - self.low
    }

    /// Place of a value as a share of the interval.
    pub(super) fn share(self, value: f64) -> f64 {
        (value - self.low) / self.extent()
    }
}

/// Round numbers of an axis with their labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ticks {
    pub(super) values: Vec<f64>,
    pub(super) labels: Vec<Label>,
    /// Factor and offset of the labels, empty if they are plain numbers.
    pub(super) note: Option<Label>,
}

impl Ticks {
    /// The ticks of the given numbers.
    pub(super) fn only(&self, keep: &[usize]) -> Self {
        let values = keep.iter().map(|&k| self.values[k]).collect();
        let labels = keep.iter().map(|&k| self.labels[k].clone()).collect();
        Self { values, labels, note: self.note.clone() }
    }
}

/// At most `n_most` (at least two) ticks.
pub(super) fn ticks(span: Span, n_most: usize) -> Ticks {
    let n_most = n_most.max(2);
    let power = (span.extent() / n_most as f64).log10().floor() as i32;
    let mut values = Vec::new();
    'search: for power in power..power + 3 {
        for multiple in [1.0, 2.0, 2.5, 5.0] {
            let step = multiple * 10f64.powi(power);
            let (first, last) = ((span.low / step - 1e-9).ceil(), (span.high / step + 1e-9).floor());
            let count = last - first + 1.0;
            if count >= 1.0 && count <= n_most as f64 {
                values = (0..count as usize).map(|i| (first + i as f64) * step).collect();
                break 'search;
            }
        }
    }
    label(span, values)
}

fn label(span: Span, values: Vec<f64>) -> Ticks {
    let step = values.windows(2).map(|p| p[1] - p[0]).next().unwrap_or(span.extent());
    let largest = span.low.abs().max(span.high.abs());
    // Numbers that differ only after their fifth digit are given relative to the first.
    let offset = if step < 1e-5 * largest { values.first().copied().unwrap_or(0.0) } else { 0.0 };
    let shown: Vec<f64> = values.iter().map(|v| v - offset).collect();
    let largest = if offset == 0.0 { largest } else { span.extent() };
    let exponent = largest.log10().floor();
    let exponent = if (-2.0..4.0).contains(&exponent) { 0 } else { exponent as i32 };
    let unit = 10f64.powi(exponent);
    let step = step / unit;
    let decimals = (0..9).find(|&d| {
        let scaled = step * 10f64.powi(d);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0) && scaled > 0.5
    });
    let decimals = decimals.unwrap_or(9) as usize;
    let text = |v: f64| {
        let text = format!("{:.decimals$}", v / unit);
        let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
        if zero { text.replace('-', "") } else { text.replace('-', "−") }
    };
    let labels = shown.iter().map(|&v| Label::plain(text(v))).collect();
    let factor = if exponent == 0 { String::new() } else { format!("×10^{{{exponent}}}") };
    let start = if offset == 0.0 { String::new() } else { format!(" + {offset}") };
    let note = format!("{factor}{start}");
    Ticks { values, labels, note: (!note.is_empty()).then(|| Label::latex(&note)) }
}

/// The label of an axis with the factor of its ticks.
pub(super) fn with_note(label: &Label, ticks: &Ticks) -> Label {
    match &ticks.note {
        None => label.clone(),
        Some(note) => label.clone().with(Label::plain(" (")).with(note.clone()).with(Label::plain(")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(low: f64, high: f64, n: usize) -> (Vec<String>, Option<String>) {
        let ticks = ticks(Span { low, high }, n);
        (ticks.labels.iter().map(Label::to_string).collect(), ticks.note.map(|n| n.to_string()))
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(shown(-8.0, 8.0, 5), (["−5", "0", "5"].map(String::from).to_vec(), None));
        assert_eq!(
            shown(0.0, 1.0, 5),
            (["0.00", "0.25", "0.50", "0.75", "1.00"].map(String::from).to_vec(), None)
        );
        assert_eq!(shown(-0.1, 0.3, 3), (["0.0", "0.2"].map(String::from).to_vec(), None));
    }

    #[test]
    fn large_small_and_close_numbers_share_a_factor() {
        assert_eq!(shown(2.0e-9, 2.2e-9, 3).1.as_deref(), Some("×10^−9"));
        assert_eq!(
            shown(0.0, 3e6, 4),
            (["0", "1", "2", "3"].map(String::from).to_vec(), Some("×10^6".into()))
        );
        let (labels, note) = shown(1e6, 1e6 + 1e-3, 4);
        assert!(labels.iter().all(|l| l.chars().count() <= 6), "{labels:?}");
        assert!(note.is_some_and(|n| n.contains("+ 1000000")));
    }

    #[test]
    fn every_span_has_ticks_inside() {
        let spans =
            [(0.0, 1.0), (-1e300, 1e300), (1e-290, 3e-290), (5.0, 5.0 + 1e-7), (-3e4, 7.7e5), (0.1, 0.9)];
        for (low, high) in spans {
            for n in 0..9 {
                let span = Span::around(low, high);
                let ticks = ticks(span, n);
                assert!(!ticks.values.is_empty(), "{low} {high} {n}");
                assert!(ticks.values.len() <= n.max(2));
                let margin = 1e-6;
                assert!(ticks.values.iter().all(|&v| (-margin..1.0 + margin).contains(&span.share(v))));
            }
        }
    }

    #[test]
    fn spans_are_never_empty() {
        for (low, high) in [
            (3.0, 3.0),
            (0.0, 0.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, f64::NEG_INFINITY),
            (-1e308, 1e308),
            (1e-320, 1e-320),
            (-2.0, -2.0 + 1e-15),
        ] {
            let span = Span::around(low, high).padded(0.05);
            assert!(span.low < span.high && span.extent().is_finite(), "{low} {high}: {span:?}");
        }
    }

    #[test]
    fn a_bound_ends_the_span() {
        let axis = FigureAxis { label: Label::plain("x"), lower: Some(0.0), upper: Some(9.0) };
        assert_eq!(Span { low: -0.1, high: 2.0 }.within(&axis), Span { low: 0.0, high: 2.0 });
        assert_eq!(Span { low: 0.1, high: 2.0 }.within(&axis), Span { low: 0.0, high: 2.0 });
        assert_eq!(Span { low: 1.0, high: 2.0 }.within(&axis), Span { low: 1.0, high: 2.0 });
    }
}
