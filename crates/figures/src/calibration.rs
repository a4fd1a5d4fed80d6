//! Panels of a calibration: bars or a curve, the band in which they ought to stay, and the line on which they are expected; of a
//! prediction, the bars of what is predicted, the band that holds most of it, and a line at what was observed.
//! A grid of them goes into one PNG file here and into one drawing of the page in [`super::vector`].

use super::axis::{Span, ticks, with_note};
use super::canvas::{Align, Canvas, Stroke, TextStyle};
use super::colour::{BLUE, FAINT, INK, VERMILION, WHITE, mix};
use super::geometry::Frame;
use super::panel::{LABEL_TEXT, Side, TICK_ROOM, TICK_TEXT, ticks_across, widest, x_ticks, y_ticks};
use super::{FigureError, FigureSize, Label};
use std::path::Path;

/// Size of a panel in pixels.
const WIDTH: f64 = 450.0;
const HEIGHT: f64 = 300.0;

/// One panel.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationPanel {
    /// Above it.
    pub title: Label,
    /// Label of x, in LaTeX.
    pub x: &'static str,
    /// Range of x.
    pub range: (f64, f64),
    /// Label of y, in LaTeX.
    pub y: &'static str,
    /// From, to and height of bars.
    pub bars: Vec<[f64; 3]>,
    /// x, lower and upper end of the band, x ascending.
    pub band: Vec<[f64; 3]>,
    /// The curve.
    pub curve: Vec<(f64, f64)>,
    /// The line on which the curve is expected, if there is one.
    pub expected: Vec<(f64, f64)>,
}

impl CalibrationPanel {
    pub(super) fn x_span(&self) -> Span {
        Span::around(self.range.0, self.range.1)
    }

    /// Range of y: all that is shown, and zero below bars.
    pub(super) fn span(&self) -> Span {
        let bars = self.bars.iter().flat_map(|bar| [0.0, bar[2]]);
        let band = self.band.iter().flat_map(|place| [place[1], place[2]]);
        let lines = self.curve.iter().chain(&self.expected).map(|p| p.1);
        let all = bars.chain(band).chain(lines).filter(|y| y.is_finite());
        let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
        let span = Span::around(low, high);
        let pad = 0.06 * span.extent();
        Span { low: if self.bars.is_empty() { span.low - pad } else { span.low }, high: span.high + pad }
    }

    /// The band at `x`, between its places on straight lines.
    fn band_at(&self, x: f64) -> Option<(f64, f64)> {
        let after = self.band.partition_point(|place| place[0] < x);
        let (a, b) = (self.band.get(after.checked_sub(1)?)?, self.band.get(after)?);
        let share = if b[0] > a[0] { (x - a[0]) / (b[0] - a[0]) } else { 0.0 };
        Some((a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2])))
    }
}

/// Draws panels in rows of `columns` to a PNG file, 450 by 300 pixels each.
///
/// # Errors
/// [`FigureError::Write`], or [`FigureError::Shape`] without a panel.
pub fn calibration_panels(
    file: &Path,
    panels: &[CalibrationPanel],
    columns: usize,
) -> Result<FigureSize, FigureError> {
    let (columns, rows) = grid(panels.len(), columns)?;
    let size = FigureSize { width: (WIDTH * columns as f64) as u32, height: (HEIGHT * rows as f64) as u32 };
    let mut canvas = Canvas::new(size)?;
    for (k, panel) in panels.iter().enumerate() {
        let corner = (WIDTH * (k % columns) as f64, HEIGHT * (k / columns) as f64);
        draw(&mut canvas, panel, corner);
    }
    canvas.save(file)
}

/// Columns and rows of so many panels.
pub(super) fn grid(n: usize, columns: usize) -> Result<(usize, usize), FigureError> {
    if n == 0 {
        let expected = "at least one panel".to_owned();
        return Err(FigureError::Shape { what: "panels".to_owned(), got: 0, expected });
    }
    let columns = columns.clamp(1, n);
    Ok((columns, n.div_ceil(columns)))
}

fn draw(canvas: &mut Canvas, panel: &CalibrationPanel, (left, top): (f64, f64)) {
    let (x_span, y_span) = (panel.x_span(), panel.span());
    let y_ticks_ = ticks(y_span, 6);
    let room = 12.0 + LABEL_TEXT + 10.0 + widest(canvas, &y_ticks_) + TICK_ROOM;
    let above = 14.0 + LABEL_TEXT + 8.0;
    let below = TICK_ROOM + TICK_TEXT + 8.0 + LABEL_TEXT + 12.0;
    let frame = Frame::crisp(left + room, top + above, WIDTH - room - 18.0, HEIGHT - above - below);
    let place = |(x, y): (f64, f64)| frame.at(x_span.share(x), y_span.share(y));
    let grey = mix(WHITE, FAINT, 0.3);
    canvas.shade(frame, |x, y| {
        let (low, high) = panel.band_at(x_span.low + x * x_span.extent())?;
        let y = y_span.low + y * y_span.extent();
        (y >= low && y <= high).then_some(grey)
    });
    for [from, to, height] in &panel.bars {
        let ((x0, y0), (x1, y1)) = (place((*from, y_span.low.max(0.0))), place((*to, *height)));
        let outline = [(x0, y0), (x0, y1), (x1, y1), (x1, y0)];
        canvas.line_in(frame, &outline, Stroke::solid(1.6, BLUE));
    }
    let expected: Vec<(f64, f64)> = panel.expected.iter().copied().map(place).collect();
    canvas.line_in(frame, &expected, Stroke { width: 1.2, colour: INK, dash: Some((6.0, 4.0)) });
    let curve: Vec<(f64, f64)> = panel.curve.iter().copied().map(place).collect();
    canvas.line_in(frame, &curve, Stroke::solid(2.0, VERMILION));
    canvas.outline(frame, Stroke::solid(1.0, INK));
    let x_ticks_ = ticks_across(canvas, x_span, frame.width(), 6);
    x_ticks(canvas, frame, x_span, &x_ticks_, true, 12.0);
    y_ticks(canvas, frame, y_span, &y_ticks_, true, (Side::Left, INK));
    let centre = frame.at(0.5, 0.5);
    let middle = TextStyle::new(LABEL_TEXT - 1.0, Align::Middle);
    let label = with_note(&Label::latex(panel.x), &x_ticks_);
    canvas.text((centre.0, top + HEIGHT - 12.0), &label, middle);
    let label = with_note(&Label::latex(panel.y), &y_ticks_);
    canvas.text((left + 12.0 + LABEL_TEXT - 3.0, centre.1), &label, middle.upright());
    canvas.text((centre.0, top + 10.0 + LABEL_TEXT), &panel.title, middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(bars: Vec<[f64; 3]>) -> CalibrationPanel {
        CalibrationPanel {
            title: Label::latex(r"\Omega_{\rm m}"),
            x: "rank",
            y: "difference",
            range: (0.0, 1.0),
            bars,
            band: vec![[0.0, 0.0, 0.0], [0.5, -0.1, 0.3], [1.0, 0.0, 0.0]],
            curve: vec![(0.0, 0.0), (0.3, 0.2), (1.0, 0.0)],
            expected: vec![(0.0, 0.0), (1.0, 0.0)],
        }
    }

    #[test]
    fn panels_fill_a_grid() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("panels.png");
        let panels =
            vec![panel(Vec::new()), panel(vec![[0.0, 0.5, 0.9], [0.5, 1.0, 1.1]]), panel(Vec::new())];
        let size = calibration_panels(&file, &panels, 2).unwrap();
        assert_eq!((size.width, size.height), (900, 600));
        assert!(std::fs::metadata(&file).unwrap().len() > 1000);
        let drawing = crate::vector::calibration_panels(&panels, 2).unwrap();
        assert!(drawing.elements.contains("var(--vermilion)") && drawing.elements.contains("var(--blue)"));
        assert!(calibration_panels(&file, &[], 2).is_err());
    }

    #[test]
    fn a_prediction_has_a_range_of_its_own_and_a_line_at_what_was_observed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prediction.png");
        let panel = CalibrationPanel {
            range: (-3e5, 9e5),
            bars: vec![[-2e5, 0.0, 10.0], [0.0, 2e5, 20.0]],
            band: vec![[-1e5, 0.0, 22.0], [1e5, 0.0, 22.0]],
            curve: vec![(8e5, 0.0), (8e5, 22.0)],
            expected: Vec::new(),
            ..panel(Vec::new())
        };
        assert!(panel.band_at(-1.5e5).is_none() && panel.band_at(0.5e5) == Some((0.0, 22.0)));
        calibration_panels(&file, std::slice::from_ref(&panel), 2).unwrap();
        let drawing = crate::vector::calibration_panels(&[panel], 2).unwrap();
        // The axis names its factor.
        assert!(drawing.elements.contains("×10") && drawing.elements.contains("var(--vermilion)"));
    }

    #[test]
    fn the_band_is_interpolated_and_the_range_holds_all() {
        let panel = panel(vec![[0.0, 1.0, 2.0]]);
        let (low, high) = panel.band_at(0.25).unwrap();
        assert!((low + 0.05).abs() < 1e-12 && (high - 0.15).abs() < 1e-12);
        assert!(panel.band_at(1.5).is_none());
        let span = panel.span();
        assert!(span.low <= -0.1 && span.high > 2.0);
    }
}
