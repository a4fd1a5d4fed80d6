//! The corner plot: every parameter or derived quantity alone on the diagonal, every pair below it. The flow is filled, weighted training
//! points and true samples are lines; contours hold 68 and 95 % of the mass.

use super::axis::{Span, Ticks, ticks, with_note};
use super::canvas::{Align, Canvas, Stroke, TextStyle};
use super::colour::{BLUE, FAINT, INK, Rgb, VERMILION, WHITE, mix};
use super::contour::contours;
use super::density::{Cloud, Density1, Density2, LEVELS, Walls, common_ess, density_1, density_2};
use super::geometry::Frame;
use super::panel::{
    LABEL_TEXT, NOTE_TEXT, Side, TICK_ROOM, TICK_TEXT, TITLE_TEXT, labels_fit, widest, x_ticks, y_ticks,
};
use super::{FigureAxis, FigureError, FigureSize, Label};
use std::path::Path;

/// A corner plot shows at most so many quantities, the first ones; it says so if there are more.
pub const MAX_CORNER_PARAMETERS: usize = 10;

const GAP: f64 = 9.0;
const MARGIN: f64 = 14.0;
const SWATCH: f64 = 30.0;
const LEGEND_LINE: f64 = 24.0;
const LEVEL_NOTE: &str = "68 % and 95 % of the mass";
/// Share of the weight beyond each end of an axis.
const CUT: f64 = 5e-4;

/// What samples are; decides how they are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesRole {
    /// Samples of the flow: filled.
    Flow,
    /// Weighted training points: lines.
    Training,
    /// Samples of the truth: dashed lines.
    Truth,
}

impl SeriesRole {
    fn stroke(self) -> Stroke {
        match self {
            Self::Flow => Stroke::solid(1.2, BLUE),
            Self::Training => Stroke::solid(1.5, VERMILION),
            Self::Truth => Stroke { width: 1.5, colour: INK, dash: Some((6.0, 4.0)) },
        }
    }

    /// Colours of the areas inside 68 and 95 %.
    fn areas(self) -> Option<[Rgb; 2]> {
        (self == Self::Flow).then(|| [mix(WHITE, BLUE, 0.62), mix(WHITE, BLUE, 0.28)])
    }
}

/// One set of samples of a corner plot.
#[derive(Debug, Clone, Copy)]
pub struct CornerSeries<'a> {
    /// What it is.
    pub role: SeriesRole,
    /// Its name in the legend.
    pub name: &'a str,
    /// Samples, `[n, dim]`, in the user's coordinates.
    pub theta: &'a [f64],
    /// Weights, `[n]`, of any sum; equal if absent.
    pub weights: Option<&'a [f64]>,
}

/// One parameter of the plot.
struct Column<'a> {
    axis: &'a FigureAxis,
    span: Span,
    walls: Walls,
    ticks: Ticks,
}

struct Series<'a> {
    input: CornerSeries<'a>,
    cloud: Cloud,
    /// Density of every parameter alone.
    alone: Vec<Density1>,
}

/// Draws a corner plot of the first [`MAX_CORNER_PARAMETERS`] parameters to a PNG file.
///
/// Series are drawn in the order given, the flow below the others, all smoothed alike. Axes span all but 0.1 % of the weight of every series.
///
/// # Errors
/// [`FigureError::Shape`] if there is no axis, or samples or weights do not fit the axes; [`FigureError::Write`].
///
/// ```no_run
/// use lwflow_figures::{CornerSeries, FigureAxis, Label, SeriesRole, corner};
/// let axes = [FigureAxis::new(Label::latex("x_0")), FigureAxis::new(Label::latex("x_1"))];
/// let theta = [0.1, 0.2, 0.3, 0.1, -0.2, 0.4]; // three samples
/// let flow = CornerSeries { role: SeriesRole::Flow, name: "flow", theta: &theta, weights: None };
/// corner("corner.png".as_ref(), &axes, &[flow], None)?;
/// # Ok::<(), lwflow_figures::FigureError>(())
/// ```
pub fn corner(
    file: &Path,
    axes: &[FigureAxis],
    series: &[CornerSeries<'_>],
    title: Option<&Label>,
) -> Result<FigureSize, FigureError> {
    check(axes.len(), series)?;
    let n = axes.len().min(MAX_CORNER_PARAMETERS);
    let side = match n {
        1 => 440.0,
        2 => 270.0,
        3 => 215.0,
        4 => 185.0,
        5..=7 => 155.0,
        _ => 128.0,
    };
    let clouds: Vec<Cloud> = series.iter().map(|s| Cloud::new(s.theta, axes.len(), n, s.weights)).collect();
    let probe = Canvas::new(FigureSize { width: 1, height: 1 })?;
    let columns: Vec<Column<'_>> =
        axes[..n].iter().enumerate().map(|(i, axis)| column(&probe, axis, i, &clouds, side)).collect();
    let n_effective = common_ess(&clouds);
    let mut series: Vec<Series<'_>> = series
        .iter()
        .zip(clouds)
        .map(|(&input, cloud)| {
            let alone = columns
                .iter()
                .enumerate()
                .map(|(i, c)| density_1(&cloud, i, c.span, c.walls, n_effective))
                .collect();
            Series { input, cloud, alone }
        })
        .collect();
    series.sort_by_key(|s| s.input.role != SeriesRole::Flow);
    let notes = notes(axes.len(), &series);

    // The page: legend in the empty corner, or above the panels where there is none that holds it.
    let legend_width =
        series.iter().map(|s| probe.text_width(&Label::plain(s.input.name), LABEL_TEXT)).fold(0.0, f64::max)
            + SWATCH
            + 10.0;
    let level_note = probe.text_width(&Label::plain(LEVEL_NOTE), NOTE_TEXT);
    let legend_width = if n > 1 { legend_width.max(level_note) } else { legend_width };
    let legend_height = LEGEND_LINE * series.len() as f64 + if n > 1 { NOTE_TEXT + 10.0 } else { 0.0 };
    let empty = (n as f64 - 1.0) * (side + GAP) - 2.0 * GAP;
    let in_corner = n > 1 && legend_width <= empty && legend_height <= side - 10.0;
    let tick_width = columns[1..].iter().map(|c| widest(&probe, &c.ticks)).fold(0.0, f64::max);
    let left = MARGIN + LABEL_TEXT + 12.0 + if n > 1 { tick_width + TICK_ROOM } else { 0.0 };
    let title_height = if title.is_some() { TITLE_TEXT + 16.0 } else { 0.0 };
    let top = MARGIN + title_height + if in_corner { 0.0 } else { legend_height + 8.0 };
    let bottom = TICK_ROOM + TICK_TEXT + 12.0 + LABEL_TEXT + MARGIN + (NOTE_TEXT + 6.0) * notes.len() as f64;
    let extent = n as f64 * side + (n as f64 - 1.0) * GAP;
    let content = if in_corner { extent } else { extent.max(legend_width) };
    let title_width = title.map_or(0.0, |t| probe.text_width(t, TITLE_TEXT));
    let note_width = notes.iter().map(|t| probe.text_width(t, NOTE_TEXT)).fold(0.0, f64::max);
    let width =
        (left + content + MARGIN + 8.0).max(title_width + 2.0 * MARGIN).max(note_width + 2.0 * MARGIN);
    let size = FigureSize { width: width.ceil() as u32, height: (top + extent + bottom).ceil() as u32 };

    let mut canvas = Canvas::new(size)?;
    let panel = |i: usize, j: usize| {
        Frame::crisp(left + j as f64 * (side + GAP), top + i as f64 * (side + GAP), side, side)
    };
    for i in 0..n {
        for j in 0..=i {
            let frame = panel(i, j);
            if i == j {
                diagonal(&mut canvas, frame, &series, i)
            } else {
                pair(&mut canvas, frame, &columns, (&series, n_effective), (j, i))
            }
            canvas.outline(frame, Stroke::solid(1.0, INK));
            x_ticks(&mut canvas, frame, columns[j].span, &columns[j].ticks, i == n - 1, 0.4 * GAP);
            if i != j {
                y_ticks(&mut canvas, frame, columns[i].span, &columns[i].ticks, j == 0, (Side::Left, INK));
            }
        }
    }
    for (i, column) in columns.iter().enumerate() {
        let label = with_note(column.axis_label(), &column.ticks);
        let middle = TextStyle::new(LABEL_TEXT, Align::Middle);
        let below = panel(n - 1, i);
        let baseline = below.bottom + TICK_ROOM + TICK_TEXT + 8.0 + LABEL_TEXT;
        canvas.text((below.at(0.5, 0.0).0, baseline), &label, middle);
        let beside = (MARGIN + LABEL_TEXT - 3.0, panel(i, 0).at(0.0, 0.5).1);
        if i > 0 {
            canvas.text(beside, &label, middle.upright());
        } else if n == 1 {
            canvas.text(beside, &Label::plain("density"), middle.upright());
        }
    }
    if let Some(title) = title {
        canvas.text(
            (f64::from(size.width) / 2.0, MARGIN + TITLE_TEXT),
            title,
            TextStyle::new(TITLE_TEXT, Align::Middle),
        );
    }
    let corner_left = (left + extent - legend_width).max(left + side + GAP);
    let (x, y) = if in_corner { (corner_left, top + 6.0) } else { (left, MARGIN + title_height) };
    legend(&mut canvas, (x, y), &series, n > 1);
    for (k, note) in notes.iter().rev().enumerate() {
        let y = f64::from(size.height) - MARGIN - k as f64 * (NOTE_TEXT + 6.0) + 3.0;
        canvas.text((MARGIN, y), note, TextStyle::new(NOTE_TEXT, Align::Start).colour(FAINT));
    }
    canvas.save(file)
}

impl<'a> Column<'a> {
    fn axis_label(&self) -> &'a Label {
        &self.axis.label
    }
}

fn check(dim: usize, series: &[CornerSeries<'_>]) -> Result<(), FigureError> {
    let shape = |what: String, got, expected: String| Err(FigureError::Shape { what, got, expected });
    if dim == 0 {
        return shape("axes".into(), 0, "at least 1".into());
    }
    for s in series {
        if s.theta.len() % dim != 0 {
            return shape(
                format!("theta of {}", s.name),
                s.theta.len(),
                format!("a multiple of {dim}, one per axis"),
            );
        }
        if let Some(weights) = s.weights.filter(|w| w.len() * dim != s.theta.len()) {
            let expected = format!("{}, one per sample", s.theta.len() / dim);
            return shape(format!("weights of {}", s.name), weights.len(), expected);
        }
    }
    Ok(())
}

fn column<'a>(probe: &Canvas, axis: &'a FigureAxis, i: usize, clouds: &[Cloud], side: f64) -> Column<'a> {
    let ranges = clouds.iter().filter_map(|c| c.range(i, CUT));
    let both = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((f64::NAN, f64::NAN));
    let span = Span::around(both.0, both.1).padded(0.06).within(axis);
    let walls = (axis.lower == Some(span.low), axis.upper == Some(span.high));
    let ticks = inner_ticks(probe, span, side);
    Column { axis, span, walls, ticks }
}

/// Two or more ticks that fit side by side and stay clear of the corners of the panel, where they would meet those of the
/// neighbours.
fn inner_ticks(probe: &Canvas, span: Span, side: f64) -> Ticks {
    let wanted = if side > 200.0 { 4 } else { 3 };
    let inner = |n: usize| {
        let all = ticks(span, n);
        let keep: Vec<usize> =
            (0..all.values.len()).filter(|&k| (0.07..0.93).contains(&span.share(all.values[k]))).collect();
        all.only(&keep)
    };
    let fits = |t: &Ticks| t.values.len() > 1 && labels_fit(probe, t, span, side);
    (wanted..wanted + 5).map(inner).find(fits).unwrap_or_else(|| ticks(span, 3))
}

fn diagonal(canvas: &mut Canvas, frame: Frame, series: &[Series<'_>], i: usize) {
    let peak = series.iter().flat_map(|s| &s.alone[i].values).copied().fold(0.0, f64::max);
    if peak <= 0.0 {
        return;
    }
    for s in series {
        let values = &s.alone[i].values;
        let height = |k: usize| 0.93 * values[k] / peak;
        if s.input.role.areas().is_some() {
            let n = values.len();
            canvas.shade(frame, |x, y| {
                let k = ((x * n as f64) as usize).min(n - 1);
                (y < height(k)).then(|| mix(WHITE, BLUE, 0.28))
            });
        }
        let n = values.len() as f64;
        let points: Vec<(f64, f64)> =
            (0..values.len()).map(|k| frame.at((k as f64 + 0.5) / n, height(k))).collect();
        let stroke = s.input.role.stroke();
        if !s.cloud.is_empty() {
            canvas.line_in(frame, &points, Stroke { width: stroke.width + 0.3, ..stroke });
        }
    }
}

fn pair(
    canvas: &mut Canvas,
    frame: Frame,
    columns: &[Column<'_>],
    (series, n_effective): (&[Series<'_>], f64),
    (x, y): (usize, usize),
) {
    let spans = (columns[x].span, columns[y].span);
    let walls = (columns[x].walls, columns[y].walls);
    for s in series.iter().filter(|s| !s.cloud.is_empty()) {
        let density: Density2 =
            density_2(&s.cloud, (x, y), spans, walls, (&s.alone[x], &s.alone[y]), n_effective);
        let levels = LEVELS.map(|share| density.level(share));
        if let Some(areas) = s.input.role.areas() {
            canvas.shade(frame, |u, v| {
                let value = density.at(u, v);
                levels.iter().zip(areas).find(|(level, _)| value >= **level).map(|(_, area)| area)
            });
        }
        for level in levels {
            for line in contours(&density.values, (density.n, density.n), level) {
                let points: Vec<(f64, f64)> = line.into_iter().map(|(u, v)| frame.at(u, v)).collect();
                canvas.line_in(frame, &points, s.input.role.stroke());
            }
        }
    }
}

fn legend(canvas: &mut Canvas, (x, mut y): (f64, f64), series: &[Series<'_>], levels: bool) {
    for s in series {
        let middle = (y + 0.5 * LEGEND_LINE).round();
        match s.input.role.areas() {
            Some(areas) => {
                let swatch = Frame::new(x, middle - 6.0, SWATCH, 12.0);
                canvas.fill(swatch, areas[1]);
                canvas.fill(Frame::new(x + 6.0, middle - 3.0, SWATCH - 12.0, 6.0), areas[0]);
                canvas.outline(swatch, s.input.role.stroke());
            }
            None => {
                let stroke = Stroke { width: 2.0, ..s.input.role.stroke() };
                canvas.line(&[(x, middle), (x + SWATCH, middle)], stroke);
            }
        }
        let name = Label::plain(s.input.name);
        canvas.text_centred((x + SWATCH + 10.0, middle), &name, TextStyle::new(LABEL_TEXT, Align::Start));
        y += LEGEND_LINE;
    }
    if levels {
        let text = Label::plain(LEVEL_NOTE);
        canvas.text((x, y + NOTE_TEXT + 4.0), &text, TextStyle::new(NOTE_TEXT, Align::Start).colour(FAINT));
    }
}

/// What the reader has to know about the data.
fn notes(dim: usize, series: &[Series<'_>]) -> Vec<Label> {
    let mut notes = Vec::new();
    if dim > MAX_CORNER_PARAMETERS {
        notes.push(Label::plain(format!("The first {MAX_CORNER_PARAMETERS} of {dim} quantities.")));
    }
    for s in series {
        let n = s.input.theta.len() / dim;
        if s.cloud.n_left_out > 0 {
            let count = s.cloud.n_left_out;
            notes.push(Label::plain(format!(
                "{}: {count} of {n} rows are not finite and left out.",
                s.input.name
            )));
        }
        if s.cloud.is_empty() {
            notes.push(Label::plain(format!("{}: no points to show.", s.input.name)));
        }
    }
    notes
}
