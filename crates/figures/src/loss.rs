//! The course of training: training and validation loss against the points visited, and the learning rate on an axis of
//! its own at the right. A first few losses far above the rest are cut off at the frame.

use super::axis::{Span, Ticks, ticks, with_note};
use super::canvas::{Align, Canvas, Stroke, TextStyle};
use super::colour::{BLUE, FAINT, GREEN, INK, RULE, VERMILION};
use super::geometry::Frame;
use super::panel::{
    LABEL_TEXT, NOTE_TEXT, Side, TICK_ROOM, TICK_TEXT, TITLE_TEXT, ticks_across, widest, x_ticks, y_ticks,
};
use super::{FigureError, FigureSize, Label};
use std::path::Path;

const SIZE: FigureSize = FigureSize { width: 900, height: 540 };

/// One row of the history of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossRow {
    /// Training points visited so far.
    pub n_visits: u64,
    /// Training loss in nats.
    pub training: f64,
    /// Validation loss in nats, in rows that checked it.
    pub validation: Option<f64>,
    /// Learning rate.
    pub learning_rate: f64,
}

/// Draws the loss curves, 900 by 540 pixels, to a PNG file. Values that are not finite interrupt a curve. `kept` is the
/// point (visits, validation loss) whose parameters were kept, and gets a dot.
///
/// # Errors
/// [`FigureError::Write`].
pub fn loss_curves(
    file: &Path,
    rows: &[LossRow],
    kept: Option<(f64, f64)>,
    title: Option<&Label>,
) -> Result<FigureSize, FigureError> {
    let mut canvas = Canvas::new(SIZE)?;
    let visits = |row: &LossRow| row.n_visits as f64;
    let x_span = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => Span::around(visits(first).min(0.0), visits(last)),
        _ => Span::around(f64::NAN, f64::NAN),
    };
    let training: Vec<(f64, f64)> = rows.iter().map(|r| (visits(r), r.training)).collect();
    let validation: Vec<(f64, f64)> = rows.iter().filter_map(|r| Some((visits(r), r.validation?))).collect();
    let y_span = loss_span(&training, &validation);
    let rates = RateAxis::new(rows);

    let y_ticks_ = ticks(y_span, 7);
    let left = 14.0 + LABEL_TEXT + 12.0 + widest(&canvas, &y_ticks_) + TICK_ROOM;
    let right = 14.0 + LABEL_TEXT + 12.0 + widest(&canvas, &rates.ticks) + TICK_ROOM;
    let top = 20.0 + if title.is_some() { TITLE_TEXT + 14.0 } else { 0.0 } + LABEL_TEXT + 14.0;
    let bottom = TICK_ROOM + TICK_TEXT + 10.0 + LABEL_TEXT + 16.0;
    let (width, height) = (f64::from(SIZE.width), f64::from(SIZE.height));
    let frame = Frame::crisp(left, top, width - left - right, height - top - bottom);

    for &value in &y_ticks_.values {
        let y = frame.at(0.0, y_span.share(value)).1;
        canvas.line(&[(frame.left, y), (frame.right, y)], Stroke::solid(1.0, RULE));
    }
    let place = |(x, y): (f64, f64)| frame.at(x_span.share(x), y_span.share(y));
    let rate_line: Vec<(f64, f64)> =
        rows.iter().map(|r| frame.at(x_span.share(visits(r)), rates.share(r.learning_rate))).collect();
    let dotted = Stroke { width: 1.4, colour: GREEN, dash: Some((2.0, 3.0)) };
    canvas.line_in(frame, &rate_line, dotted);
    let curves = [(&training, Stroke::solid(1.3, BLUE)), (&validation, Stroke::solid(2.0, VERMILION))];
    for (curve, stroke) in curves {
        let points: Vec<(f64, f64)> = curve.iter().copied().map(place).collect();
        canvas.line_in(frame, &points, stroke);
        if let [single] = points[..] {
            canvas.dot(single, 3.0, stroke.colour);
        }
    }
    let kept = kept.filter(|p| p.1.is_finite());
    // The loss of a start may lie far above the frame.
    if let Some(at) = kept.filter(|p| (0.0..=1.0).contains(&y_span.share(p.1))) {
        canvas.dot(place(at), 4.5, VERMILION);
    }
    canvas.outline(frame, Stroke::solid(1.0, INK));

    let x_ticks_ = ticks_across(&canvas, x_span, frame.width(), 8);
    x_ticks(&mut canvas, frame, x_span, &x_ticks_, true, 12.0);
    y_ticks(&mut canvas, frame, y_span, &y_ticks_, true, (Side::Left, INK));
    y_ticks(&mut canvas, frame, rates.span, &rates.ticks, true, (Side::Right, GREEN));
    let middle = TextStyle::new(LABEL_TEXT, Align::Middle);
    let centre = frame.at(0.5, 0.5);
    canvas.text(
        (centre.0, height - 16.0),
        &with_note(&Label::plain("training points visited"), &x_ticks_),
        middle,
    );
    let loss = with_note(&Label::plain("loss (nats)"), &y_ticks_);
    canvas.text((14.0 + LABEL_TEXT - 3.0, centre.1), &loss, middle.upright());
    let rate = with_note(&Label::plain("learning rate"), &rates.ticks);
    canvas.text((width - 16.0, centre.1), &rate, middle.upright().colour(GREEN));
    if let Some(title) = title {
        canvas.text((0.5 * width, 14.0 + TITLE_TEXT), title, TextStyle::new(TITLE_TEXT, Align::Middle));
    }
    let mut entries =
        vec![("training", Stroke::solid(1.6, BLUE)), ("validation", Stroke::solid(2.2, VERMILION))];
    entries.push(("learning rate", dotted));
    legend(&mut canvas, (frame.left, top - 14.0 - 0.3 * LABEL_TEXT), &entries);
    if let Some((_, value)) = kept {
        let text = Label::plain(format!("validation loss of what was kept {value:.4}").replace('-', "−"));
        let place = (frame.right, top - 14.0 - 0.3 * LABEL_TEXT);
        let dot = (place.0 - canvas.text_width(&text, LABEL_TEXT - 1.0) - 11.0, place.1);
        canvas.dot(dot, 4.5, VERMILION);
        canvas.text_centred(place, &text, TextStyle::new(LABEL_TEXT - 1.0, Align::End).colour(VERMILION));
    }
    if rows.is_empty() {
        canvas.text_centred(
            centre,
            &Label::plain("no rows"),
            TextStyle::new(NOTE_TEXT, Align::Middle).colour(FAINT),
        );
    }
    canvas.save(file)
}

fn legend(canvas: &mut Canvas, (mut x, y): (f64, f64), entries: &[(&str, Stroke)]) {
    for &(name, stroke) in entries {
        canvas.line(&[(x, y), (x + 28.0, y)], stroke);
        let label = Label::plain(name);
        canvas.text_centred((x + 35.0, y), &label, TextStyle::new(LABEL_TEXT - 1.0, Align::Start));
        x += 35.0 + canvas.text_width(&label, LABEL_TEXT - 1.0) + 24.0;
    }
}

/// From the lowest loss to the highest, or to three times the height that nine in ten losses stay below.
pub(super) fn loss_span(training: &[(f64, f64)], validation: &[(f64, f64)]) -> Span {
    let mut losses: Vec<f64> =
        training.iter().chain(validation).map(|p| p.1).filter(|y| y.is_finite()).collect();
    losses.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (losses.first(), losses.last()) else {
        return Span::around(f64::NAN, f64::NAN);
    };
    let most = losses[(0.9 * (losses.len() - 1) as f64).round() as usize];
    let cut = low + 3.0 * (most - low);
    let high = if losses.len() > 10 && cut > low { high.min(cut) } else { high };
    Span::around(low, high).padded(0.05)
}

/// The axis of the learning rate: in powers of ten where most of it is far below its largest, else linear from zero.
struct RateAxis {
    logarithmic: bool,
    span: Span,
    ticks: Ticks,
}

impl RateAxis {
    fn new(rows: &[LossRow]) -> Self {
        let rates = || rows.iter().map(|r| r.learning_rate).filter(|r| r.is_finite());
        let (low, high) = (rates().fold(f64::INFINITY, f64::min), rates().fold(f64::NEG_INFINITY, f64::max));
        let n_small = rates().filter(|r| 10.0 * r < high).count();
        if low > 1e-12 && 2 * n_small > rates().count() {
            let span = Span { low: low.log10().floor(), high: high.log10().ceil() };
            let decades = || span.low as i32..=span.high as i32;
            let labels = decades().map(|d| Label::latex(&format!("10^{{{d}}}"))).collect();
            let ticks = Ticks { values: decades().map(f64::from).collect(), labels, note: None };
            return Self { logarithmic: true, span, ticks };
        }
        let span = if high > 0.0 { Span::around(low.min(0.0), 1.08 * high) } else { Span::around(low, high) };
        Self { logarithmic: false, span, ticks: ticks(span, 6) }
    }

    fn share(&self, rate: f64) -> f64 {
        self.span.share(if self.logarithmic { rate.log10() } else { rate })
    }
}
