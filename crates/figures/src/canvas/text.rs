//! Text on the page, set here and not by plotters, whose ab_glyph backend drops the left side bearing of every letter.

use super::{Canvas, FINE};
use crate::colour::{INK, Rgb};
use crate::label::{Label, is_mark};
use ab_glyph::{Font as _, PxScale, ScaleFont as _, point};

/// Size of a sub- or superscript, and how far its baseline moves, in units of the letter size.
const SCRIPT_SIZE: f64 = 0.72;
const SUB_SHIFT: f64 = 0.22;
const SUPER_SHIFT: f64 = -0.36;
/// Least distance between a letter and a mark over it, in units of the height of a line.
const MARK_GAP: f32 = 0.05;
/// Height of a capital letter of the font over its letter size.
const CAP_HEIGHT: f64 = 0.73;

/// Which part of a text stands at the given place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextStyle {
    /// Letter size in pixels.
    pub(crate) size: f64,
    pub(crate) colour: Rgb,
    /// Along the text.
    pub(crate) align: Align,
    /// Reads from bottom to top.
    pub(crate) upright: bool,
}

impl TextStyle {
    pub(crate) fn new(size: f64, align: Align) -> Self {
        Self { size, colour: INK, align, upright: false }
    }

    pub(crate) fn colour(self, colour: Rgb) -> Self {
        Self { colour, ..self }
    }

    pub(crate) fn upright(self) -> Self {
        Self { upright: true, ..self }
    }
}

impl Canvas {
    /// Width of a text in pixels.
    pub(crate) fn text_width(&self, label: &Label, size: f64) -> f64 {
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
    pub(crate) fn text(&mut self, (x, y): (f64, f64), label: &Label, style: TextStyle) {
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
    pub(crate) fn text_centred(&mut self, (x, y): (f64, f64), label: &Label, style: TextStyle) {
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
        // What a mark goes over: the middle and the top of the letter before it.
        let mut letter: Option<(f32, f32)> = None;
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            pen += previous.map_or(0.0, |p| scaled.kern(p, id));
            previous = Some(id);
            let glyph = |at| font.outline_glyph(id.with_scale_and_position(scale, at));
            if let Some(mut outline) = glyph(point(pen, 0.0)) {
                if let Some((middle, top)) = letter.filter(|_| is_mark(c)) {
                    let bounds = outline.px_bounds();
                    let across = middle - 0.5 * (bounds.min.x + bounds.max.x);
                    let down = if bounds.max.y < 0.0 { (top - bounds.max.y).min(0.0) } else { 0.0 };
                    outline = glyph(point(pen + across, down)).unwrap_or(outline);
                }
                let bounds = outline.px_bounds();
                letter = Some((0.5 * (bounds.min.x + bounds.max.x), bounds.min.y - MARK_GAP * scale.y));
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FigureSize;

    #[test]
    fn scripts_widen_a_text_and_stand_above_each_other() {
        let canvas = Canvas::new(FigureSize { width: 8, height: 8 }).unwrap();
        let width = |source: &str| canvas.text_width(&Label::latex(source), 14.0);
        assert!(width("x_0") > width("x"));
        assert!(width("x_0^2") < width("x_0^2y"));
        assert!((width("x_0^2") - width("x_0").max(width("x^2"))).abs() < 1e-9);
        assert!((width("MM") - 2.0 * 0.863 * 14.0).abs() < 0.05, "{}", width("MM"));
    }

    /// Rows from the first to the last with ink, and the first blank one between them.
    fn rows(source: &str) -> (usize, usize, Option<usize>) {
        let mut canvas = Canvas::new(FigureSize { width: 60, height: 60 }).unwrap();
        canvas.text((20.0, 45.0), &Label::latex(source), TextStyle::new(20.0, Align::Start));
        let inked = |row: &[u8]| row.iter().any(|v| *v < 128);
        let inked: Vec<bool> = canvas.pixels.chunks_exact(60 * FINE * 3).map(inked).collect();
        let first = inked.iter().position(|on| *on).unwrap();
        let last = inked.iter().rposition(|on| *on).unwrap();
        (first, last, (first..last).find(|row| !inked[*row]))
    }

    #[test]
    fn marks_stand_clear_of_their_letter() {
        for letter in ["x", "H", "d", r"\lambda", r"\Omega"] {
            let (top, bottom, _) = rows(letter);
            for accent in ["hat", "widetilde", "bar", "dot", "ddot", "vec"] {
                let (first, last, blank) = rows(&format!(r"\{accent}{{{letter}}}"));
                assert!(
                    first < top && last == bottom && blank.is_some_and(|row| row < top),
                    "{accent} {letter}"
                );
            }
            let twice = rows(&format!(r"\hat{{\vec{{{letter}}}}}"));
            assert!(twice.0 < rows(&format!(r"\vec{{{letter}}}")).0, "{letter}");
        }
        assert!(rows(r"\underline{x}").1 > rows("x").1);
    }
}
