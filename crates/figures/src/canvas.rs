//! A white page with rectangles, strokes, shaded areas and text, in pixels with the origin at the top left. Everything is
//! drawn [`FINE`] times larger and averaged down when it is saved, so edges are smooth.
//! Text is set here and not by plotters, whose ab_glyph backend drops the left side bearing of every letter.

use super::colour::{INK, Rgb, WHITE};
use super::geometry::{Frame, clipped, dashes};
use super::label::Label;
use super::{FigureError, FigureSize};
use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::RGBColor;
use std::path::Path;

const FINE: usize = 3;
pub(super) const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
/// Size of a sub- or superscript, and how far its baseline moves, in units of the letter size.
const SCRIPT_SIZE: f64 = 0.72;
const SUB_SHIFT: f64 = 0.22;
const SUPER_SHIFT: f64 = -0.36;
/// Height of a capital letter of the font over its letter size.
const CAP_HEIGHT: f64 = 0.73;

pub(super) fn font() -> Result<FontRef<'static>, FigureError> {
    FontRef::try_from_slice(FONT).map_err(|error| FigureError::Draw { message: error.to_string() })
}

/// Which part of a text stands at the given place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextStyle {
    /// Letter size in pixels.
    pub(super) size: f64,
    pub(super) colour: Rgb,
    /// Along the text.
    pub(super) align: Align,
    /// Reads from bottom to top.
    pub(super) upright: bool,
}

impl TextStyle {
    pub(super) fn new(size: f64, align: Align) -> Self {
        Self { size, colour: INK, align, upright: false }
    }

    pub(super) fn colour(self, colour: Rgb) -> Self {
        Self { colour, ..self }
    }

    pub(super) fn upright(self) -> Self {
        Self { upright: true, ..self }
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub(super) width: f64,
    pub(super) colour: Rgb,
    /// Lengths of dash and gap in pixels.
    pub(super) dash: Option<(f64, f64)>,
}

impl Stroke {
    pub(super) fn solid(width: f64, colour: Rgb) -> Self {
        Self { width, colour, dash: None }
    }
}

/// The page.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>, // (height * FINE, width * FINE, 3)
    font: FontRef<'static>,
    failure: Option<String>,
}

impl Canvas {
    pub(super) fn new(size: FigureSize) -> Result<Self, FigureError> {
        let (width, height) = (size.width as usize, size.height as usize);
        let pixels = vec![WHITE[0]; width * height * FINE * FINE * 3];
        Ok(Self { width, height, pixels, font: font()?, failure: None })
    }

    fn draw(&mut self, run: impl FnOnce(&mut BitMapBackend<'_>) -> Result<(), String>) {
        let size = ((self.width * FINE) as u32, (self.height * FINE) as u32);
        if let Err(error) = run(&mut BitMapBackend::with_buffer(&mut self.pixels, size)) {
            self.failure.get_or_insert(error);
        }
    }

    /// Fills a frame with a colour for every point, given at shares `(x, y)` of the frame, y upwards.
    pub(super) fn shade(&mut self, frame: Frame, colour: impl Fn(f64, f64) -> Option<Rgb>) {
        let fine = FINE as f64;
        let (width, height) = (self.width * FINE, self.height * FINE);
        let edge = |x: f64, end: usize| (x * fine).round().clamp(0.0, end as f64) as usize;
        for row in edge(frame.top, height)..edge(frame.bottom, height) {
            let y = (frame.bottom - (row as f64 + 0.5) / fine) / frame.height();
            for column in edge(frame.left, width)..edge(frame.right, width) {
                let x = ((column as f64 + 0.5) / fine - frame.left) / frame.width();
                if let Some(rgb) = colour(x, y) {
                    let start = 3 * (row * width + column);
                    self.pixels[start..start + 3].copy_from_slice(&rgb);
                }
            }
        }
    }

    pub(super) fn fill(&mut self, frame: Frame, colour: Rgb) {
        self.shade(frame, |_, _| Some(colour));
    }

    pub(super) fn outline(&mut self, frame: Frame, stroke: Stroke) {
        let Frame { left, top, right, bottom } = frame;
        self.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], stroke);
    }

    /// The part of a connected line that lies within a frame.
    pub(super) fn line_in(&mut self, frame: Frame, points: &[(f64, f64)], stroke: Stroke) {
        for piece in clipped(frame, points) {
            self.line(&piece, stroke);
        }
    }

    /// A connected line with round joints; points that are not finite interrupt it.
    pub(super) fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
        for piece in points.split(|p| !finite(p)) {
            match stroke.dash {
                None => self.solid_line(piece, stroke),
                Some(dash) => {
                    for part in dashes(piece, dash) {
                        self.solid_line(&part, stroke);
                    }
                }
            }
        }
    }

    fn solid_line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let fine = FINE as f64;
        let half = 0.5 * stroke.width * fine;
        let [r, g, b] = stroke.colour;
        let style = RGBColor(r, g, b);
        // Coordinates far outside the page would overflow the integers of the backend.
        let limit = 4.0 * fine * self.width.max(self.height) as f64;
        let scaled = |p: (f64, f64)| ((p.0 * fine).clamp(-limit, limit), (p.1 * fine).clamp(-limit, limit));
        let round = |x: f64, y: f64| (x.round() as i32, y.round() as i32);
        // Upright and level parts are rectangles, sharp where they lie on whole pixels.
        for pair in points.windows(2).filter(|p| p[0].0 == p[1].0 || p[0].1 == p[1].1) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let half = 0.5 * stroke.width;
            self.fill(
                Frame {
                    left: x0.min(x1) - half,
                    top: y0.min(y1) - half,
                    right: x0.max(x1) + half,
                    bottom: y0.max(y1) + half,
                },
                stroke.colour,
            );
        }
        self.draw(|backend| {
            for pair in points.windows(2) {
                let ((x0, y0), (x1, y1)) = (scaled(pair[0]), scaled(pair[1]));
                let length = (x1 - x0).hypot(y1 - y0);
                if length > 0.0 && x0 != x1 && y0 != y1 {
                    let (nx, ny) = (-half * (y1 - y0) / length, half * (x1 - x0) / length);
                    let corners = [
                        round(x0 + nx, y0 + ny),
                        round(x1 + nx, y1 + ny),
                        round(x1 - nx, y1 - ny),
                        round(x0 - nx, y0 - ny),
                    ];
                    backend.fill_polygon(corners, &style).map_err(|e| e.to_string())?;
                }
            }
            let joints = points.len().saturating_sub(1);
            for &point in points.get(1..joints).unwrap_or_default() {
                let (x, y) = scaled(point);
                let radius = (half - 0.5).max(0.0).round() as u32;
                backend.draw_circle(round(x, y), radius, &style, true).map_err(|e| e.to_string())?;
            }
            Ok(())
        });
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, [r, g, b]: Rgb) {
        let fine = FINE as f64;
        let on_page = (0.0..=self.width as f64).contains(&x) && (0.0..=self.height as f64).contains(&y);
        if on_page {
            let centre = ((x * fine).round() as i32, (y * fine).round() as i32);
            let radius = (radius * fine).round() as u32;
            self.draw(|backend| {
                backend.draw_circle(centre, radius, &RGBColor(r, g, b), true).map_err(|e| e.to_string())
            });
        }
    }

    /// Width of a text in pixels.
    pub(super) fn text_width(&self, label: &Label, size: f64) -> f64 {
        self.layout(label, size).1
    }

    /// Start and size of every run, and the width of all.
    fn layout(&self, label: &Label, size: f64) -> (Vec<(f64, f64)>, f64) {
        let mut placed: Vec<(f64, f64)> = Vec::new();
        let (mut start, mut end) = (0.0_f64, 0.0_f64);
        for (i, run) in label.runs.iter().enumerate() {
            let run_size = if run.script == 0 { size } else { SCRIPT_SIZE * size };
            // A superscript right after a subscript (or the reverse) stands above it.
            let stacked = i > 1 && run.script != 0 && label.runs[i - 1].script == -run.script;
            start = if stacked { start } else { end };
            end = end.max(start + self.run_width(&run.text, run_size));
            placed.push((start, run_size));
        }
        (placed, end)
    }

    fn run_width(&self, text: &str, size: f64) -> f64 {
        let font = self.font.as_scaled(self.scale(size));
        let mut width = 0.0;
        let mut previous = None;
        for c in text.chars() {
            let glyph = font.glyph_id(c);
            width += previous.map_or(0.0, |p| font.kern(p, glyph)) + font.h_advance(glyph);
            previous = Some(glyph);
        }
        f64::from(width)
    }

    /// ab_glyph measures letters by ascent minus descent, this file by the em.
    fn scale(&self, size: f64) -> PxScale {
        let per_em = self.font.height_unscaled() / self.font.units_per_em().unwrap_or(1.0);
        PxScale::from(size as f32 * per_em)
    }

    /// Sets a text whose baseline passes through the place.
    pub(super) fn text(&mut self, (x, y): (f64, f64), label: &Label, style: TextStyle) {
        let (placed, width) = self.layout(label, style.size);
        let before = match style.align {
            Align::Start => 0.0,
            Align::Middle => 0.5 * width,
            Align::End => width,
        };
        for (run, (start, size)) in label.runs.iter().zip(placed) {
            let shift = style.size
                * match run.script.signum() {
                    1 => SUPER_SHIFT,
                    -1 => SUB_SHIFT,
                    _ => 0.0,
                };
            let along = start - before;
            let origin = if style.upright { (x + shift, y - along) } else { (x + along, y + shift) };
            self.run(origin, &run.text, size, style);
        }
    }

    /// Sets a text whose capitals are centred on the place, across its direction.
    pub(super) fn text_centred(&mut self, (x, y): (f64, f64), label: &Label, style: TextStyle) {
        let drop = 0.5 * CAP_HEIGHT * style.size;
        self.text(if style.upright { (x + drop, y) } else { (x, y + drop) }, label, style);
    }

    fn run(&mut self, origin: (f64, f64), text: &str, size: f64, style: TextStyle) {
        let fine = FINE as f64;
        let scale = self.scale(size * fine);
        let font = self.font.clone();
        let scaled = font.as_scaled(scale);
        let (x, y) = ((origin.0 * fine).round() as i64, (origin.1 * fine).round() as i64);
        let mut pen = 0.0_f32;
        let mut previous = None;
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            pen += previous.map_or(0.0, |p| scaled.kern(p, id));
            previous = Some(id);
            if let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, point(pen, 0.0))) {
                let bounds = outline.px_bounds();
                let (dx, dy) = (bounds.min.x as i64, bounds.min.y as i64);
                outline.draw(|column, row, cover| {
                    let (across, down) = (dx + i64::from(column), dy + i64::from(row));
                    let (px, py) =
                        if style.upright { (x + down, y - across) } else { (x + across, y + down) };
                    self.blend(px, py, style.colour, cover);
                });
            }
            pen += scaled.h_advance(id);
        }
    }

    fn blend(&mut self, x: i64, y: i64, colour: Rgb, cover: f32) {
        let (width, height) = ((self.width * FINE) as i64, (self.height * FINE) as i64);
        if !(0..width).contains(&x) || !(0..height).contains(&y) {
            return;
        }
        let start = 3 * (y * width + x) as usize;
        for (pixel, ink) in self.pixels[start..start + 3].iter_mut().zip(colour) {
            let mixed = f32::from(*pixel) + (f32::from(ink) - f32::from(*pixel)) * cover.clamp(0.0, 1.0);
            *pixel = mixed.round() as u8;
        }
    }

    /// Averages down and writes the PNG; the extension of the file has to be `png`.
    pub(super) fn save(self, file: &Path) -> Result<FigureSize, FigureError> {
        if let Some(message) = self.failure {
            return Err(FigureError::Draw { message });
        }
        let stride = 3 * self.width * FINE;
        let mut page = Vec::with_capacity(3 * self.width * self.height);
        for row in 0..self.height {
            for column in 0..self.width {
                for channel in 0..3 {
                    let start = row * FINE * stride + column * FINE * 3 + channel;
                    let fine = (0..FINE).flat_map(|i| (0..FINE).map(move |j| start + i * stride + 3 * j));
                    let sum: usize = fine.map(|index| usize::from(self.pixels[index])).sum();
                    page.push(((sum + FINE * FINE / 2) / (FINE * FINE)) as u8);
                }
            }
        }
        let size = FigureSize { width: self.width as u32, height: self.height as u32 };
        let failed = |message: String| FigureError::Write { file: file.to_path_buf(), message };
        let bytes = encoded(size, &page).map_err(|error| failed(error.to_string()))?;
        std::fs::write(file, bytes).map_err(|error| failed(error.to_string()))?;
        Ok(size)
    }
}

/// RGB pixels, row by row, as a PNG file.
fn encoded(size: FigureSize, pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_adaptive_filter(png::AdaptiveFilterType::Adaptive);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_widen_a_text_and_stand_above_each_other() {
        let canvas = Canvas::new(FigureSize { width: 8, height: 8 }).unwrap();
        let width = |source: &str| canvas.text_width(&Label::latex(source), 14.0);
        assert!(width("x_0") > width("x"));
        assert!(width("x_0^2") < width("x_0^2y"));
        assert!((width("x_0^2") - width("x_0").max(width("x^2"))).abs() < 1e-9);
        assert!((width("MM") - 2.0 * 0.863 * 14.0).abs() < 0.05, "{}", width("MM"));
    }

    #[test]
    fn text_off_the_page_is_cut() {
        let mut canvas = Canvas::new(FigureSize { width: 8, height: 8 }).unwrap();
        let style = TextStyle::new(14.0, Align::Middle);
        canvas.text((-3.0, 2.0), &Label::plain("edge"), style);
        canvas.text((7.0, 40.0), &Label::plain("edge"), style.upright());
        canvas.dot((f64::NAN, 1.0), 2.0, INK);
        canvas.line(&[(-1e9, 4.0), (1e9, 4.0)], Stroke::solid(1.0, INK));
        assert!(canvas.failure.is_none());
    }
}
