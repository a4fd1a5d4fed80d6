//! The furniture of a panel: frame, ticks with labels, legend entries and colour bar.

use super::axis::{Span, Ticks, ticks};
use super::canvas::{Align, Canvas, Stroke, TextStyle};
use super::colour::{INK, Rgb, viridis};
use super::geometry::Frame;
use super::label::Label;

pub(super) const TICK_TEXT: f64 = 12.0;
pub(super) const LABEL_TEXT: f64 = 15.0;
pub(super) const TITLE_TEXT: f64 = 17.0;
pub(super) const NOTE_TEXT: f64 = 11.5;
const TICK_LENGTH: f64 = 4.0;
/// From the frame to the tick labels.
pub(super) const TICK_ROOM: f64 = TICK_LENGTH + 5.0;

/// The most ticks, up to `n_most`, whose labels fit side by side.
pub(super) fn ticks_across(canvas: &Canvas, span: Span, width: f64, n_most: usize) -> Ticks {
    (2..=n_most)
        .rev()
        .map(|n| ticks(span, n))
        .find(|t| labels_fit(canvas, t, span, width))
        .unwrap_or_else(|| ticks(span, 2))
}

/// Whether the labels fit side by side.
pub(super) fn labels_fit(canvas: &Canvas, ticks: &Ticks, span: Span, width: f64) -> bool {
    let spacing = ticks.values.windows(2).map(|p| (p[1] - p[0]) / span.extent() * width).next();
    spacing.is_none_or(|s| s > widest(canvas, ticks) + 7.0)
}

/// Width of the widest tick label.
pub(super) fn widest(canvas: &Canvas, ticks: &Ticks) -> f64 {
    ticks.labels.iter().map(|l| canvas.text_width(l, TICK_TEXT)).fold(0.0, f64::max)
}

/// Ticks at the bottom; labels that would reach more than `overhang` pixels beyond the frame are left out.
pub(super) fn x_ticks(
    canvas: &mut Canvas,
    frame: Frame,
    span: Span,
    ticks: &Ticks,
    labels: bool,
    overhang: f64,
) {
    for (&value, label) in ticks.values.iter().zip(&ticks.labels) {
        let (x, y) = frame.at(span.share(value), 0.0);
        canvas.line(&[(x, y), (x, y + TICK_LENGTH)], Stroke::solid(1.0, INK));
        let half = 0.5 * canvas.text_width(label, TICK_TEXT);
        if labels && x - half >= frame.left - overhang && x + half <= frame.right + overhang {
            let place = (x, y + TICK_ROOM + 0.73 * TICK_TEXT);
            canvas.text(place, label, TextStyle::new(TICK_TEXT, Align::Middle));
        }
    }
}

/// Which side of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Ticks at a side of the frame.
pub(super) fn y_ticks(
    canvas: &mut Canvas,
    frame: Frame,
    span: Span,
    ticks: &Ticks,
    labels: bool,
    (side, colour): (Side, Rgb),
) {
    let (edge, outwards, align) = match side {
        Side::Left => (frame.left, -1.0, Align::End),
        Side::Right => (frame.right, 1.0, Align::Start),
    };
    for (&value, label) in ticks.values.iter().zip(&ticks.labels) {
        let y = frame.at(0.0, span.share(value)).1;
        canvas.line(&[(edge, y), (edge + outwards * TICK_LENGTH, y)], Stroke::solid(1.0, colour));
        if labels {
            let place = (edge + outwards * TICK_ROOM, y);
            canvas.text_centred(place, label, TextStyle::new(TICK_TEXT, align).colour(colour));
        }
    }
}

/// A bar from the lowest to the highest colour of log densities, `range` nats below their peak.
pub(super) fn colour_bar(canvas: &mut Canvas, frame: Frame, range: f64) {
    canvas.shade(frame, |_, y| Some(viridis(y)));
    canvas.outline(frame, Stroke::solid(1.0, INK));
    let span = Span { low: -range, high: 0.0 };
    let inner = ticks(span, 7);
    let keep: Vec<usize> = (0..inner.values.len()).filter(|&k| span.share(inner.values[k]) > 0.06).collect();
    let mut ticks = inner.only(&keep);
    ticks.values.push(-range);
    ticks.labels.push(Label::plain(format!("≤ −{range}")));
    y_ticks(canvas, frame, span, &ticks, true, (Side::Right, INK));
    let x = frame.right + TICK_ROOM + widest(canvas, &ticks) + 10.0 + 0.73 * LABEL_TEXT;
    let place = (x, 0.5 * (frame.top + frame.bottom));
    let text = Label::plain("log density relative to the peak (nats)");
    canvas.text(place, &text, TextStyle::new(LABEL_TEXT, Align::Middle).upright());
}

/// Room to the right of a colour bar for its labels.
pub(super) const COLOUR_BAR_ROOM: f64 = TICK_ROOM + 70.0;
