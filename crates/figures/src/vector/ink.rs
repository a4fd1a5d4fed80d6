//! Inks: what a line or an area is drawn with. In the SVG that plotters writes, an ink is a colour of its own; the page
//! gets a CSS variable in its place, and the dashes that go with it.

use plotters::style::RGBColor;

/// A colour of the palette of Okabe and Ito (2008) on a page, with dashes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ink {
    /// The colour in the hands of plotters; each ink has another.
    rgb: (u8, u8, u8),
    /// The CSS variable that the page defines.
    variable: &'static str,
    /// Lengths of dashes and gaps, in pixels; empty for a solid line.
    dashes: &'static str,
}

const fn ink(rgb: (u8, u8, u8), variable: &'static str, dashes: &'static str) -> Ink {
    Ink { rgb, variable, dashes }
}

impl Ink {
    /// Text and frames.
    pub const TEXT: Self = ink((30, 30, 30), "ink", "");
    /// Notes.
    pub const FAINT: Self = ink((120, 120, 120), "faint", "");
    /// Grid lines.
    pub const RULE: Self = ink((228, 228, 228), "rule", "");
    /// The truth, and what something ought to be.
    pub const TRUTH: Self = ink((31, 30, 30), "ink", "6 4");
    /// The prior.
    pub const PRIOR: Self = ink((121, 120, 120), "faint", "1.5 3");
    /// Flow, and training loss.
    pub const BLUE: Self = ink((0, 114, 178), "blue", "");
    /// Weighted draws, and validation loss.
    pub const VERMILION: Self = ink((213, 94, 0), "vermilion", "9 2.5");
    /// Training points.
    pub const GREEN: Self = ink((0, 158, 115), "green", "5 2 1.5 2");
    /// Another model.
    pub const PURPLE: Self = ink((204, 121, 167), "purple", "9 2.5 2 2.5 2 2.5");
    /// Another model.
    pub const ORANGE: Self = ink((230, 159, 0), "orange", "3 2");
    /// Another model.
    pub const SKY: Self = ink((86, 180, 233), "sky", "12 4");

    pub(super) fn rgb(self) -> RGBColor {
        RGBColor(self.rgb.0, self.rgb.1, self.rgb.2)
    }

    /// Puts the variable and the dashes in the place of the colour; lengths become those of a drawing `scale` times larger.
    pub(super) fn themed(self, svg: &str, scale: u32) -> String {
        let (r, g, b) = self.rgb;
        let colour = format!("#{r:02X}{g:02X}{b:02X}");
        let lengths = self.dashes.split_whitespace().filter_map(|length| length.parse::<f64>().ok());
        let dashes: Vec<String> = lengths.map(|length| (length * f64::from(scale)).to_string()).collect();
        let dashes = match dashes.is_empty() {
            true => String::new(),
            false => format!(" stroke-dasharray=\"{}\"", dashes.join(" ")),
        };
        svg.replace(&format!("fill=\"{colour}\""), &format!("fill=\"var(--{})\"", self.variable))
            .replace(&format!("stroke=\"{colour}\""), &format!("stroke=\"var(--{})\"{dashes}", self.variable))
    }
}

/// The inks of the models beside the first, in their order; a fourth begins anew.
pub const MODELS: [Ink; 3] = [Ink::PURPLE, Ink::ORANGE, Ink::SKY];

pub(super) const ALL: [Ink; 11] = [
    Ink::TEXT,
    Ink::FAINT,
    Ink::RULE,
    Ink::TRUTH,
    Ink::PRIOR,
    Ink::BLUE,
    Ink::VERMILION,
    Ink::GREEN,
    Ink::PURPLE,
    Ink::ORANGE,
    Ink::SKY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_has_a_colour_of_its_own_and_lines_of_one_hue_differ_in_dashes() {
        for (i, a) in ALL.iter().enumerate() {
            for b in &ALL[i + 1..] {
                assert!(a.rgb != b.rgb && (a.variable != b.variable || a.dashes != b.dashes), "{a:?} {b:?}");
            }
        }
        let line = "<line stroke=\"#D55E00\"/><circle fill=\"#D55E00\"/>";
        let expected = "<line stroke=\"var(--vermilion)\" stroke-dasharray=\"90 25\"/><circle fill=\"var(--vermilion)\"/>";
        assert_eq!(Ink::VERMILION.themed(line, 10), expected);
    }
}
