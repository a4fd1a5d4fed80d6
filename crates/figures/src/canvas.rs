//! A white page with rectangles, strokes, shaded areas and text, in pixels with the origin at the top left. Everything is
//! drawn [`FINE`] times larger and averaged down when it is saved, so edges are smooth.

mod text;

pub(crate) use text::{Align, TextStyle};

use super::colour::{Rgb, WHITE};
use super::geometry::{Frame, clipped, dashes};
use super::{FigureError, FigureSize};
use ab_glyph::FontRef;
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::RGBColor;
use std::path::Path;

const FINE: usize = 3;
pub(super) const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
pub(super) fn font() -> Result<FontRef<'static>, FigureError> {
    FontRef::try_from_slice(FONT).map_err(|error| FigureError::Draw { message: error.to_string() })
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
    use crate::Label;
    use crate::colour::INK;

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
