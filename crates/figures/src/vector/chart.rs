//! What all drawings share: the page that plotters draws on, panels with ticks, labels as text, and the last touch that
//! makes the SVG fit into a page of HTML.

use super::ink::{ALL, Ink};
use crate::axis::{Span, Ticks, ticks, with_note};
use crate::canvas::FONT;
use crate::geometry::{Frame, clipped};
use crate::{FigureError, Label};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::sync::OnceLock;

/// Units of the drawing for each pixel.
pub(super) const SCALE: u32 = 10;
/// plotters takes the height of a line for the size of a font.
const LINE_HEIGHT: f64 = 1.24;
pub(super) const TICK_TEXT: f64 = 11.5;
pub(super) const LABEL_TEXT: f64 = 13.5;

/// Marks in labels while plotters has them: a subscript, a superscript, back from either, the end of a part.
const MARKS: [(char, &str); 5] = [
    ('\u{e000}', "<tspan dy=\"0.3em\" font-size=\"72%\">"),
    ('\u{e001}', "<tspan dy=\"-0.5em\" font-size=\"72%\">"),
    ('\u{e002}', "<tspan dy=\"-0.216em\">"),
    ('\u{e003}', "<tspan dy=\"0.36em\">"),
    ('\u{e004}', "</tspan>"),
];

/// A drawing: the elements of an SVG with this view box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// Width of the view box.
    pub width: u32,
    /// Height of the view box.
    pub height: u32,
    /// What the `svg` element holds.
    pub elements: String,
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// An axis for plotters with ticks of our choice.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    span: Span,
    ticks: Vec<f64>,
    labels: Vec<String>,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = self.span.share(*value).clamp(0.0, 1.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.span.low..self.span.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let at = self.ticks.iter().position(|v| v == value);
        at.and_then(|k| self.labels.get(k)).cloned().unwrap_or_default()
    }
}

/// An error of plotters.
pub(super) fn failed(error: impl std::fmt::Display) -> FigureError {
    FigureError::Draw { message: error.to_string() }
}

/// Pixels as units of the drawing.
pub(super) fn units(pixels: f64) -> i32 {
    (pixels * f64::from(SCALE)).round() as i32
}

/// A solid or dashed line, as its ink has it.
pub(super) fn stroke(ink: Ink, width: f64) -> ShapeStyle {
    ink.rgb().stroke_width(units(width).max(1) as u32)
}

/// A text style; `pos` says which part of the text is at its place.
pub(super) fn text(size: f64, ink: Ink, (h, v): (HPos, VPos)) -> TextStyle<'static> {
    let font = ("sans-serif", size * LINE_HEIGHT * f64::from(SCALE)).into_font();
    let mut style = TextStyle::from(font).pos(Pos::new(h, v));
    style.color = ink.rgb().to_backend_color();
    style
}

/// Draws on a page of so many pixels.
pub(super) fn drawing(
    width: f64,
    height: f64,
    draw: impl FnOnce(&Area<'_>) -> Result<(), FigureError>,
) -> Result<Drawing, FigureError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    if !REGISTERED
        .get_or_init(|| plotters::style::register_font("sans-serif", FontStyle::Normal, FONT).is_ok())
    {
        return Err(failed("the font cannot be read"));
    }
    let (width, height) = (units(width.ceil()) as u32, units(height.ceil()) as u32);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        draw(&root)?;
        root.present().map_err(failed)?;
    }
    // The page has its own svg element, with a title and a description.
    let start = svg.find('>').map_or(0, |at| at + 1);
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    Ok(Drawing { width, height, elements: themed(&svg[start..end]) })
}

fn themed(svg: &str) -> String {
    let mut text = svg.replace(" font-family=\"sans-serif\"", "").replace(" opacity=\"1\"", "");
    for (mark, element) in MARKS {
        text = text.replace(mark, element);
    }
    ALL.iter().fold(text, |text, ink| ink.themed(&text, SCALE))
}

/// A label for plotters, with marks for what stands lower or higher.
pub(super) fn marked(label: &Label) -> String {
    let mut text = String::new();
    let mut height = 0;
    for run in &label.runs {
        let script = run.script.signum();
        let words: String = run.text.chars().filter(|c| MARKS.iter().all(|(mark, _)| mark != c)).collect();
        if height != 0 && script != height {
            text.push(MARKS[if height < 0 { 2 } else { 3 }].0);
            // An empty part would not move what follows it.
            text.push_str(if script == 0 { words.as_str() } else { "\u{200b}" });
            text.push(MARKS[4].0);
            height = 0;
            if script == 0 {
                continue;
            }
        }
        match script {
            0 => text.push_str(&words),
            _ if script == height => {}
            _ => {
                text.push(MARKS[if script < 0 { 0 } else { 1 }].0);
                text.push_str(&words);
                text.push(MARKS[4].0);
                height = script;
            }
        }
    }
    text
}

/// One axis of a panel.
#[derive(Debug, Clone)]
pub(super) struct AxisSpec {
    pub(super) span: Span,
    pub(super) ticks: Ticks,
    label: Label,
}

impl AxisSpec {
    pub(super) fn linear(label: &str, span: Span, n_ticks: usize) -> Self {
        Self { span, ticks: ticks(span, n_ticks), label: Label::latex(label) }
    }

    /// Powers of ten; the values are logarithms to the base of ten.
    pub(super) fn decades(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
        let step = ((high - low) / 5.0).ceil().max(1.0) as usize;
        let decades: Vec<i32> = (low as i32..=high as i32).step_by(step).collect();
        let labels = decades.iter().map(|d| match d {
            0..=3 => Label::plain(10u32.pow(*d as u32).to_string()),
            -2..=-1 => Label::plain(format!("{}", 10f64.powi(*d))),
            _ => Label::latex(&format!("10^{{{d}}}")),
        });
        let labels = labels.collect();
        let values = decades.iter().map(|d| f64::from(*d)).collect();
        Self {
            span: Span { low, high },
            ticks: Ticks { values, labels, note: None },
            label: Label::latex(label),
        }
    }
}

/// A panel with labelled axes and a light grid, `left` pixels of which hold the labels of y.
pub(super) fn panel<'a, 'b: 'a>(
    area: &'a Area<'b>,
    x: &AxisSpec,
    y: &AxisSpec,
    left: f64,
) -> Result<Panel<'a, 'b>, FigureError> {
    let axis = |a: &AxisSpec| Axis {
        span: a.span,
        ticks: a.ticks.values.clone(),
        labels: a.ticks.labels.iter().map(marked).collect(),
    };
    let mut chart = ChartBuilder::on(area)
        .margin_top(units(8.0))
        .margin_left(units(6.0))
        .margin_right(units(14.0))
        .x_label_area_size(units(42.0))
        .y_label_area_size(units(left))
        .build_cartesian_2d(axis(x), axis(y))
        .map_err(failed)?;
    let centre = (HPos::Center, VPos::Top);
    chart
        .configure_mesh()
        .bold_line_style(stroke(Ink::RULE, 1.0))
        .light_line_style(TRANSPARENT)
        .axis_style(stroke(Ink::TEXT, 1.0))
        .label_style(text(TICK_TEXT, Ink::TEXT, centre))
        .axis_desc_style(text(LABEL_TEXT, Ink::TEXT, centre))
        .set_all_tick_mark_size(units(4.0))
        .x_desc(marked(&with_note(&x.label, &x.ticks)))
        .y_desc(marked(&with_note(&y.label, &y.ticks)))
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

/// The parts of a line that lie within a panel; places that are not finite interrupt it.
pub(super) fn line(
    chart: &mut Panel<'_, '_>,
    (x, y): (&AxisSpec, &AxisSpec),
    points: &[(f64, f64)],
    style: ShapeStyle,
) -> Result<(), FigureError> {
    let frame = Frame { left: x.span.low, right: x.span.high, top: y.span.low, bottom: y.span.high };
    for piece in clipped(frame, points) {
        chart.draw_series(std::iter::once(PathElement::new(piece, style))).map_err(failed)?;
    }
    Ok(())
}

/// How an entry of a legend is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Line(Ink),
    Area(Ink),
    Dots(Ink),
    Crosses(Ink),
}

/// Height of an entry of a legend.
const ENTRY: f64 = 20.0;
/// From the left of an entry to its name.
const KEY_WIDTH: f64 = 42.0;
const ENTRY_TEXT: f64 = 12.5;

/// Width and height of a legend in pixels, for a font in which letters are rather wide.
pub(super) fn legend_size(entries: &[(Key, String)]) -> (f64, f64) {
    let longest = entries.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0);
    (KEY_WIDTH + 0.62 * ENTRY_TEXT * longest as f64, ENTRY * entries.len() as f64)
}

/// Entries of a legend below each other, from a place in pixels.
pub(super) fn legend(
    area: &Area<'_>,
    (left, top): (f64, f64),
    entries: &[(Key, String)],
) -> Result<(), FigureError> {
    for (k, (key, name)) in entries.iter().enumerate() {
        let middle = top + ENTRY * (k as f64 + 0.5);
        let at = |x: f64, y: f64| (units(left + x), units(middle + y));
        match *key {
            Key::Line(ink) => {
                area.draw(&PathElement::new(vec![at(0.0, 0.0), at(34.0, 0.0)], stroke(ink, 2.0)))
                    .map_err(failed)?;
            }
            Key::Area(ink) => {
                let corners = [at(0.0, -5.0), at(34.0, 5.0)];
                area.draw(&Rectangle::new(corners, ink.rgb().mix(0.35).filled())).map_err(failed)?;
                let edge = vec![at(0.0, -5.0), at(34.0, -5.0), at(34.0, 5.0), at(0.0, 5.0), at(0.0, -5.0)];
                area.draw(&PathElement::new(edge, stroke(ink, 1.2))).map_err(failed)?;
            }
            Key::Dots(ink) => {
                for x in [5.0, 13.0, 21.0, 29.0] {
                    area.draw(&Circle::new(at(x, 0.0), units(1.8), ink.rgb().filled())).map_err(failed)?;
                }
            }
            Key::Crosses(ink) => {
                for x in [5.0, 17.0, 29.0] {
                    area.draw(&Cross::new(at(x, 0.0), units(2.5), stroke(ink, 1.0))).map_err(failed)?;
                }
            }
        }
        let style = text(ENTRY_TEXT, Ink::TEXT, (HPos::Left, VPos::Center));
        let name = marked(&Label::plain(name.as_str()));
        area.draw(&Text::new(name, at(KEY_WIDTH, 0.0), style)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_text_with_parts_that_return_to_the_line() {
        let draw = |label: &Label| {
            let style = text(12.0, Ink::TEXT, (HPos::Left, VPos::Top));
            let words = marked(label);
            let drawing = drawing(100.0, 20.0, |area| {
                area.draw(&Text::new(words.as_str(), (0, 0), style.clone())).map_err(failed)
            });
            drawing.unwrap().elements
        };
        let svg = draw(&Label::latex(r"\Omega_{\rm m}h^2"));
        assert!(
            svg.contains("Ω<tspan dy=\"0.3em\" font-size=\"72%\">m</tspan><tspan dy=\"-0.216em\">h</tspan><tspan dy=\"-0.5em\" font-size=\"72%\">2</tspan>"),
            "{svg}"
        );
        assert!(svg.contains("fill=\"var(--ink)\"") && !svg.contains("http"), "{svg}");
        let svg = draw(&Label::latex("x_1^2"));
        assert_eq!((svg.matches("<tspan").count(), svg.matches("</tspan>").count()), (3, 3), "{svg}");
        let evil = draw(&Label::plain("<script>\u{e000}x & \"y\""));
        assert!(evil.contains("&lt;script&gt;x &amp; ") && !evil.contains("<tspan"), "{evil}");
    }

    #[test]
    fn decades_are_few_and_cover() {
        for (low, high) in [(-0.3, 0.2), (-12.0, 3.0), (2.0, 2.0), (0.5, 4.1)] {
            let axis = AxisSpec::decades("n", low, high);
            assert!(axis.span.low <= low && axis.span.high >= high && axis.span.extent() >= 1.0);
            assert!((2..=7).contains(&axis.ticks.values.len()), "{axis:?}");
        }
    }
}
