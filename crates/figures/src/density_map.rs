//! Maps of two-dimensional log densities in viridis, one alone or a grid of them to compare. Colours end a stated number
//! of nats below the peak, low enough that bridges of probability between modes show.

use super::axis::{Span, with_note};
use super::canvas::{Align, Canvas, Stroke, TextStyle};
use super::colour::{FAINT, INK, NO_VALUE, viridis};
use super::density::bilinear;
use super::geometry::Frame;
use super::panel::{
    COLOUR_BAR_ROOM, LABEL_TEXT, NOTE_TEXT, Side, TICK_ROOM, TICK_TEXT, TITLE_TEXT, colour_bar, ticks_across,
    widest, x_ticks, y_ticks,
};
use super::{FigureError, FigureSize, Label};
use std::path::Path;

const MARGIN: f64 = 16.0;
const BAR: f64 = 20.0;
const SIDE: f64 = 520.0;
const CELL: f64 = 230.0;

/// Log densities at the centres of `n_x` by `n_y` equal cells of a rectangle.
#[derive(Debug, Clone, PartialEq)]
pub struct LogDensityGrid {
    x: Span,
    y: Span,
    n_x: usize,
    n_y: usize,
    values: Vec<f64>, // (n_y, n_x), from the bottom
}

impl LogDensityGrid {
    /// Takes values `[n_y, n_x]`, the row of least y first. `-inf` is a density of zero; NaN is drawn grey.
    ///
    /// # Errors
    /// [`FigureError::Shape`], [`FigureError::Range`].
    pub fn new(
        x: (f64, f64),
        y: (f64, f64),
        (n_x, n_y): (usize, usize),
        values: Vec<f64>,
    ) -> Result<Self, FigureError> {
        let (x, y) = (range("x", x)?, range("y", y)?);
        if n_x == 0 || n_y == 0 || values.len() != n_x * n_y {
            let expected = format!("n_x * n_y = {n_x} * {n_y}, both at least 1");
            return Err(FigureError::Shape { what: "log densities".into(), got: values.len(), expected });
        }
        Ok(Self { x, y, n_x, n_y, values })
    }

    /// Evaluates a log density once on all cell centres: the function takes points `[n_x * n_y, 2]`.
    ///
    /// # Errors
    /// [`FigureError::Shape`], [`FigureError::Range`], and those of the function.
    pub fn evaluate<E: From<FigureError>>(
        x: (f64, f64),
        y: (f64, f64),
        (n_x, n_y): (usize, usize),
        log_density: impl FnOnce(&[f64]) -> Result<Vec<f64>, E>,
    ) -> Result<Self, E> {
        let (sx, sy) = (range("x", x)?, range("y", y)?);
        let centre = |span: Span, i: usize, n: usize| span.low + span.extent() * (i as f64 + 0.5) / n as f64;
        let points: Vec<f64> = (0..n_y)
            .flat_map(|j| (0..n_x).flat_map(move |i| [centre(sx, i, n_x), centre(sy, j, n_y)]))
            .collect();
        Ok(Self::new(x, y, (n_x, n_y), log_density(&points)?)?)
    }

    /// Largest finite log density.
    pub fn peak(&self) -> Option<f64> {
        self.values.iter().copied().filter(|v| v.is_finite()).reduce(f64::max)
    }

    /// Values as shares of the colour scale; NaN stays.
    fn shares(&self, peak: f64, range: f64) -> Vec<f64> {
        let share = |v: f64| if v.is_nan() { v } else { ((v - peak) / range + 1.0).clamp(0.0, 1.0) };
        self.values.iter().map(|&v| share(v)).collect()
    }

    fn draw(&self, canvas: &mut Canvas, frame: Frame, peak: f64, range: f64) {
        let shares = self.shares(peak, range);
        canvas.shade(frame, |x, y| {
            let t = bilinear(&shares, (self.n_x, self.n_y), x, y);
            Some(if t.is_nan() { NO_VALUE } else { viridis(t) })
        });
        canvas.outline(frame, Stroke::solid(1.0, INK));
    }
}

fn range(what: &'static str, (low, high): (f64, f64)) -> Result<Span, FigureError> {
    let span = Span { low, high };
    let sound = low.is_finite() && high.is_finite() && span == Span::around(low, high);
    if sound { Ok(span) } else { Err(FigureError::Range { what, low, high }) }
}

/// How a density map is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct DensityMapSettings {
    /// Title above the map.
    pub title: Option<Label>,
    /// Label of the first parameter.
    pub x_label: Label,
    /// Label of the second parameter.
    pub y_label: Label,
    /// Nats below the peak at which the colours end.
    pub range: f64,
}

impl Default for DensityMapSettings {
    fn default() -> Self {
        Self { title: None, x_label: Label::latex("x_0"), y_label: Label::latex("x_1"), range: 12.0 }
    }
}

fn check_range(range: f64) -> Result<(), FigureError> {
    let sound = range.is_finite() && (1e-6..1e9).contains(&range);
    if sound { Ok(()) } else { Err(FigureError::Range { what: "the colours", low: -range, high: 0.0 }) }
}

/// Draws one map to a PNG file. Its longer side is 520 pixels; equal lengths of both parameters are drawn equally long,
/// or the map is square if their extents are too different.
///
/// # Errors
/// [`FigureError::Range`] if the range of the colours is not a number above 0; [`FigureError::Write`].
pub fn density_map(
    file: &Path,
    grid: &LogDensityGrid,
    settings: &DensityMapSettings,
) -> Result<FigureSize, FigureError> {
    check_range(settings.range)?;
    let ratio = grid.x.extent() / grid.y.extent();
    let ratio = if (0.4..=2.5).contains(&ratio) { ratio } else { 1.0 };
    let (map_width, map_height) = (SIDE * ratio.min(1.0), SIDE / ratio.max(1.0));
    let probe = Canvas::new(FigureSize { width: 1, height: 1 })?;
    let across = ticks_across(&probe, grid.x, map_width, 7);
    let up = super::axis::ticks(grid.y, 7);
    let left = MARGIN + LABEL_TEXT + 12.0 + widest(&probe, &up) + TICK_ROOM;
    let top = MARGIN + if settings.title.is_some() { TITLE_TEXT + 12.0 } else { 0.0 };
    let bottom = TICK_ROOM + TICK_TEXT + 10.0 + LABEL_TEXT + MARGIN;
    let title_width = settings.title.as_ref().map_or(0.0, |t| probe.text_width(t, TITLE_TEXT)) + 2.0 * MARGIN;
    let width = (left + map_width + 18.0 + BAR + COLOUR_BAR_ROOM + MARGIN).max(title_width);
    let size = FigureSize { width: width.ceil() as u32, height: (top + map_height + bottom).ceil() as u32 };
    let mut canvas = Canvas::new(size)?;
    let frame = Frame::crisp(left, top, map_width, map_height);
    grid.draw(&mut canvas, frame, grid.peak().unwrap_or(0.0), settings.range);
    x_ticks(&mut canvas, frame, grid.x, &across, true, 10.0);
    y_ticks(&mut canvas, frame, grid.y, &up, true, (Side::Left, INK));
    colour_bar(&mut canvas, Frame::crisp(frame.right + 18.0, top, BAR, map_height), settings.range);
    let middle = TextStyle::new(LABEL_TEXT, Align::Middle);
    let (x, y) = frame.at(0.5, 0.5);
    canvas.text((x, f64::from(size.height) - MARGIN), &with_note(&settings.x_label, &across), middle);
    canvas.text((MARGIN + LABEL_TEXT - 3.0, y), &with_note(&settings.y_label, &up), middle.upright());
    if let Some(title) = &settings.title {
        let place = (0.5 * f64::from(size.width), MARGIN + TITLE_TEXT - 4.0);
        canvas.text(place, title, TextStyle::new(TITLE_TEXT, Align::Middle));
    }
    canvas.save(file)
}

/// One map of a grid of maps.
#[derive(Debug, Clone, PartialEq)]
pub struct GridCell {
    /// The map.
    pub grid: LogDensityGrid,
    /// A line below it, such as its divergence from the truth.
    pub note: Option<Label>,
}

/// One row of a grid of maps: a target.
#[derive(Debug, Clone, PartialEq)]
pub struct GridRow {
    /// Name of the target.
    pub name: Label,
    /// One map per column; the first one's peak is the peak of the row.
    pub cells: Vec<GridCell>,
}

/// Draws maps side by side to a PNG file: rows are targets, columns are for instance the truth, a flow on a Gaussian base
/// and one on a mixture. All share one colour scale, in nats below the peak of the first map of the row.
///
/// # Errors
/// [`FigureError::Shape`] if there is no map or a row has not one map per column; [`FigureError::Range`] if the range of
/// the colours is not a number above 0; [`FigureError::Write`].
pub fn density_grid(
    file: &Path,
    columns: &[Label],
    rows: &[GridRow],
    range: f64,
) -> Result<FigureSize, FigureError> {
    check_range(range)?;
    if columns.is_empty() || rows.is_empty() {
        let (what, expected) = ("columns or rows".to_owned(), "at least 1".to_owned());
        return Err(FigureError::Shape { what, got: 0, expected });
    }
    if let Some(row) = rows.iter().find(|row| row.cells.len() != columns.len()) {
        let (what, expected) =
            (format!("row {}", row.name), format!("{}, one map per column", columns.len()));
        return Err(FigureError::Shape { what, got: row.cells.len(), expected });
    }
    let probe = Canvas::new(FigureSize { width: 1, height: 1 })?;
    let cells = || rows.iter().flat_map(|row| &row.cells);
    let tick_width = cells().map(|c| widest(&probe, &super::axis::ticks(c.grid.y, 5))).fold(0.0, f64::max);
    let note_width =
        cells().filter_map(|c| c.note.as_ref()).map(|n| probe.text_width(n, NOTE_TEXT)).fold(0.0, f64::max);
    let column_width = columns.iter().map(|c| probe.text_width(c, LABEL_TEXT)).fold(0.0, f64::max);
    let note_height = if note_width > 0.0 { NOTE_TEXT + 6.0 } else { 0.0 };
    let gap = (note_width.max(column_width) - CELL + 12.0).max(18.0);
    let step_down = CELL + TICK_ROOM + TICK_TEXT + note_height + 16.0;
    let left = MARGIN + LABEL_TEXT + 14.0 + tick_width + TICK_ROOM;
    let top = MARGIN + LABEL_TEXT + 10.0;
    let extent = (columns.len() as f64 * (CELL + gap) - gap, rows.len() as f64 * step_down);
    let width = left + extent.0 + 20.0 + BAR + COLOUR_BAR_ROOM + MARGIN;
    let size =
        FigureSize { width: width.ceil() as u32, height: (top + extent.1 + MARGIN - 8.0).ceil() as u32 };
    let mut canvas = Canvas::new(size)?;
    let middle = TextStyle::new(LABEL_TEXT, Align::Middle);
    for (i, row) in rows.iter().enumerate() {
        let peak = row.cells[0].grid.peak().unwrap_or(0.0);
        for (j, cell) in row.cells.iter().enumerate() {
            let frame = Frame::crisp(left + j as f64 * (CELL + gap), top + i as f64 * step_down, CELL, CELL);
            cell.grid.draw(&mut canvas, frame, peak, range);
            let across = ticks_across(&canvas, cell.grid.x, CELL, 5);
            x_ticks(&mut canvas, frame, cell.grid.x, &across, true, 8.0);
            let up = super::axis::ticks(cell.grid.y, 5);
            y_ticks(&mut canvas, frame, cell.grid.y, &up, j == 0, (Side::Left, INK));
            let x = frame.at(0.5, 0.0).0;
            if i == 0 {
                canvas.text((x, top - 10.0), &columns[j], middle);
            }
            if j == 0 {
                canvas.text((MARGIN + LABEL_TEXT - 3.0, frame.at(0.0, 0.5).1), &row.name, middle.upright());
            }
            if let Some(note) = &cell.note {
                let y = frame.bottom + TICK_ROOM + TICK_TEXT + 4.0 + NOTE_TEXT;
                canvas.text((x, y), note, TextStyle::new(NOTE_TEXT, Align::Middle).colour(FAINT));
            }
        }
    }
    let last = top + (rows.len() as f64 - 1.0) * step_down + CELL;
    // A bar longer than a few rows says no more.
    let bar_height = (last - top).min(2.6 * CELL);
    let bar_top = 0.5 * (top + last - bar_height);
    colour_bar(&mut canvas, Frame::crisp(left + extent.0 + 20.0, bar_top, BAR, bar_height), range);
    canvas.save(file)
}
