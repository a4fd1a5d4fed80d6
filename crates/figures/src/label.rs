//! Labels: plain text, or simple LaTeX turned into Unicode text with raised and lowered parts. Nothing is an error: what
//! is not understood is shown as it was written.

mod reader;
mod signs;

use reader::Reader;

/// A line of text with subscripts and superscripts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label {
    pub(super) runs: Vec<Run>,
}

/// Text of one height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) text: String,
    /// 0 on the line, 1 a superscript, -1 a subscript.
    pub(super) script: i8,
}

/// Signs that bind less than a product.
const LOOSE: &str = "+−±∓/=<>≤≥≠≈∼≃≡∝≪≫∈→,;";
/// Signs between the factors of a product.
const FACTORS: &str = "×·∘∗*-";

impl Label {
    /// Text shown as it is.
    pub fn plain(text: impl Into<String>) -> Self {
        let mut label = Self::default();
        label.push(&text.into(), 0);
        label
    }

    /// Simple LaTeX, with or without dollar signs: Greek, sub- and superscripts, accents, common signs, fonts (shown alike),
    /// fractions as `a/b` and roots, with the brackets that they need on one line.
    ///
    /// ```
    /// use lwflow_figures::Label;
    /// assert_eq!(Label::latex(r"\Omega_\mathrm{b} h^2").to_string(), "Ω_b h^2");
    /// assert_eq!(Label::latex(r"\frac{a+b}{2}").to_string(), "(a+b)/2");
    /// ```
    pub fn latex(source: &str) -> Self {
        let characters: Vec<char> = source.chars().collect();
        let mut label = Self::default();
        Reader::new(&characters).sequence(&mut label, 0, None);
        label
    }

    /// Its parts from left to right: text, and 0 on the line, 1 for a superscript, -1 for a subscript.
    pub fn parts(&self) -> impl Iterator<Item = (&str, i8)> {
        self.runs.iter().map(|run| (run.text.as_str(), run.script.signum()))
    }

    pub(super) fn with(mut self, other: Self) -> Self {
        self.append(other, 0);
        self
    }

    /// Adds a label at a height; within a script its own scripts stay at that height.
    fn append(&mut self, other: Self, script: i8) {
        for run in other.runs {
            self.push(&run.text, if script == 0 { run.script } else { script });
        }
    }

    fn push(&mut self, text: &str, script: i8) {
        if text.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.script == script => last.text.push_str(text),
            _ => self.runs.push(Run { text: text.to_owned(), script }),
        }
    }

    fn in_brackets(self) -> Self {
        Self::plain("(").with(self).with(Self::plain(")"))
    }

    fn map(mut self, change: impl Fn(char) -> char) -> Self {
        for run in &mut self.runs {
            run.text = run.text.chars().map(&change).collect();
        }
        self
    }

    fn ends_with(&self, condition: impl Fn(char) -> bool) -> bool {
        self.runs.last().is_some_and(|run| run.text.ends_with(condition))
    }

    /// The characters on the line that no bracket holds: for every pair the one that opens, for every script a zero.
    fn outermost(&self) -> Vec<char> {
        let (mut outermost, mut depth) = (Vec::new(), 0_usize);
        for run in &self.runs {
            if run.script != 0 {
                outermost.push('\0');
                continue;
            }
            for c in run.text.chars() {
                let closes = matches!(c, ')' | ']' | '}' | '⟩');
                depth -= usize::from(closes && depth > 0);
                if depth == 0 && !closes {
                    outermost.push(c);
                }
                depth += usize::from(matches!(c, '(' | '[' | '{' | '⟨'));
            }
        }
        outermost
    }

    /// Whether a sign of division may follow: no sum, and no blank but between the words of a `word`.
    fn is_product(&self, word: bool) -> bool {
        let outermost = self.outermost();
        let mut rest = outermost.iter().skip_while(|c| "+−±∓".contains(**c));
        rest.all(|c| !LOOSE.contains(*c) && (word || *c != ' '))
    }

    /// Whether a sign of division or a root may stand before it: one number, letter, bracket or (if it is a `word`) word.
    fn is_atom(&self, word: bool) -> bool {
        let (mut n_atoms, mut before) = (0, None);
        for c in self.outermost() {
            if is_mark(c) || c == '√' || c == '′' {
                continue;
            }
            let same = |kind: fn(char) -> bool| kind(c) && before.is_some_and(kind);
            let goes_on = same(|c| c.is_ascii_digit() || c == '.') || word && same(char::is_alphabetic);
            n_atoms += usize::from(!goes_on && c != '\0');
            if LOOSE.contains(c) || FACTORS.contains(c) || c == ' ' {
                return false;
            }
            before = Some(c);
        }
        n_atoms <= 1
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for run in &self.runs {
            let mark = ["_", "", "^"][(run.script.signum() + 1) as usize];
            write!(f, "{mark}{}", run.text)?;
        }
        Ok(())
    }
}

/// Whether a character goes over or under the one before it.
pub(super) fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}')
}

#[cfg(test)]
mod tests {
    use super::signs::{ACCENTS, DOUBLE, SIGNS};
    use super::*;

    fn holds(cases: &[(&str, &str)]) {
        for (source, expected) in cases {
            assert_eq!(Label::latex(source).to_string(), *expected, "{source}");
        }
    }

    fn runs(source: &str) -> Vec<(String, i8)> {
        Label::latex(source).runs.into_iter().map(|run| (run.text, run.script)).collect()
    }

    fn own(pairs: &[(&str, i8)]) -> Vec<(String, i8)> {
        pairs.iter().map(|(text, script)| ((*text).to_owned(), *script)).collect()
    }

    #[test]
    fn latex_becomes_text() {
        holds(&[
            (r"\theta_1", "θ_1"),
            ("x_0", "x_0"),
            (r"$\Omega_{\rm m}h^2$", "Ω_mh^2"),
            (r"\log_{10} M_{\rm BH}/M_\odot", "log_10 M_BH/M_⊙"),
            (r"\sigma_{8}", "σ_8"),
            (r"10^{-9}A_{\mathrm{s}}", "10^−9A_s"),
            (r"\Delta t\,[{\rm s}]", "Δt [s]"),
            (r"a\;b\:c\>d\ e\!f\quad g", "a b c d ef  g"),
            (r"\unknown{x}", "unknownx"),
            ("a~b", "a b"),
            (r"f'", "f′"),
            (r"\left(\frac{a}{b}\right)^2", "(a/b)^2"),
            (r"\left.x\right|_0", "x|_0"),
            (r"\bigl[x\bigr]", "[x]"),
            (r"\left\langle x\right\rangle", "⟨x⟩"),
            (r"\left\{x\right\}", "{x}"),
            (r"\mathbb{R}\mathbb{E}[x]", "ℝ𝔼[x]"),
            (r"\mathbf{x}\boldsymbol\mu\mathcal L", "xμL"),
            (r"50\%\,\&\,\#", "50% & #"),
        ]);
    }

    #[test]
    fn functions_stand_apart() {
        holds(&[
            (r"\ln x", "ln x"),
            (r"2\ln{x}", "2 ln x"),
            (r"\log\sigma", "log σ"),
            (r"\log(x)", "log(x)"),
            (r"x\log_{10}\left(y\right)", "x log_10(y)"),
            (r"\operatorname{logit}p", "logit p"),
        ]);
    }

    #[test]
    fn a_script_takes_what_follows_a_font() {
        for source in
            [r"x_\mathrm{m}", r"x_\mathrm m", r"x_\text{m}", r"x_\rm m", r"x_{\rm m}", r"x_\rm{m}", "x_ m"]
        {
            assert_eq!(runs(source), own(&[("x", 0), ("m", -1)]), "{source}");
        }
        assert_eq!(runs(r"\Omega_\mathrm{m}h^2"), own(&[("Ω", 0), ("m", -1), ("h", 0), ("2", 1)]));
        assert_eq!(runs(r"z_\text{re-i}-1"), own(&[("z", 0), ("re-i", -1), ("−1", 0)]));
        assert_eq!(runs(r"x^\mathrm{T}y"), own(&[("x", 0), ("T", 1), ("y", 0)]));
        assert_eq!(runs(r"x_{\mathrm{m}_2}"), own(&[("x", 0), ("m2", -1)]));
        assert_eq!(runs(r"x_\hat{y}^\frac12"), own(&[("x", 0), ("y\u{302}", -1), ("1/2", 1)]));
    }

    #[test]
    fn scripts_keep_their_height() {
        assert_eq!(runs("x_{ab}^2y"), own(&[("x", 0), ("ab", -1), ("2", 1), ("y", 0)]));
        assert_eq!(runs("x_{a_b}"), own(&[("x", 0), ("ab", -1)]));
    }

    #[test]
    fn fractions_have_the_brackets_that_they_need() {
        holds(&[
            (r"\frac{a}{b}", "a/b"),
            (r"\frac12", "1/2"),
            (r"\frac{-ab}{c}", "−ab/c"),
            (r"\frac{a+b}{c^2}", "(a+b)/c^2"),
            (r"\frac{a_1}{b_1^2}", "a_1/b_1^2"),
            (r"\frac{a}{2b}", "a/(2b)"),
            (r"\frac{a}{b_1c_2}", "a/(b_1c_2)"),
            (r"\frac{a}{1.25}", "a/1.25"),
            (r"\frac{a}{(b+c)}", "a/(b+c)"),
            (r"\frac{(a+b)(c+d)}{\sqrt{e+f}}", "(a+b)(c+d)/√(e+f)"),
            (r"\frac{(a+b)}{(c+d)(e+f)}", "(a+b)/((c+d)(e+f))"),
            (r"\frac{\ln x}{y}", "(ln x)/y"),
            (r"\frac{\rm km}{\rm s\,Mpc}", "km/(s Mpc)"),
            (r"\frac{\mathrm{km\,s^{-1}}}{\mathrm{Mpc}}", "km s^−1/Mpc"),
            (r"\frac{\frac{a}{b}}{c}", "(a/b)/c"),
            (r"\frac{a}{b}c", "(a/b)c"),
            (r"\frac{1}{2} \mu", "(1/2) μ"),
            (r"\frac{a}{b}^2", "(a/b)^2"),
            (r"\frac{a}{b}+\frac{c}{d}\pm e", "a/b+c/d±e"),
            (r"x/\frac{a}{b}", "x/(a/b)"),
        ]);
        assert_eq!(runs(r"x_{\frac{a}{b^2}}"), own(&[("x", 0), ("a/b2", -1)]));
    }

    #[test]
    fn roots_show_how_far_they_reach() {
        holds(&[
            (r"\sqrt{x}", "√x"),
            (r"\sqrt x_1", "√(x)_1"),
            (r"\sqrt{\sigma_8}", "√σ_8"),
            (r"\sqrt{\sigma^2+1}", "√(σ^2+1)"),
            (r"\sqrt{\sigma^2}", "√(σ^2)"),
            (r"\sqrt{ab}", "√(ab)"),
            (r"\sqrt{2}\pi", "√(2)π"),
            (r"\sqrt[3]{x}", "^3√x"),
        ]);
    }

    #[test]
    fn accents_follow_their_letter() {
        holds(&[
            (r"\hat{\theta}", "θ\u{302}"),
            (r"\widehat x", "x\u{302}"),
            (r"\widetilde{\chi}_1", "χ\u{303}_1"),
            (r"\vec{x}", "x\u{20d7}"),
            (r"\ddot\phi", "ϕ\u{308}"),
            (r"\bar x\dot{x}", "x\u{304}x\u{307}"),
            (r"\overline{ab}", "a\u{304}b\u{304}"),
            (r"\hat{x_1}", "x\u{302}_1"),
            (r"\widehat{abc}", "ab\u{302}c"),
            (r"\hat{\vec x}", "x\u{20d7}\u{302}"),
        ]);
    }

    #[test]
    fn broken_latex_is_shown_not_refused() {
        for source in [
            "",
            "_",
            "^",
            "\\",
            "{",
            "}",
            "x_",
            r"\frac{a",
            r"\hat",
            "x^{",
            "$$",
            r"\ ",
            r"\sqrt[",
            r"\hat{_x}",
        ] {
            let _ = Label::latex(source).to_string();
        }
        for source in
            ["{", "^", r"\hat", r"\frac", r"\frac12", r"\frac ab{", r"\sqrt[", r"\text", r"\rm", "_\\rm "]
        {
            let _ = Label::latex(&source.repeat(20_000)).to_string();
        }
        assert_eq!(Label::latex("x_").to_string(), "x");
        assert_eq!(Label::plain("a_b").runs.len(), 1);
    }

    #[test]
    fn the_font_has_every_sign() {
        use ab_glyph::Font as _;
        let font = crate::canvas::font().unwrap();
        let signs = SIGNS.iter().flat_map(|(_, text)| text.chars());
        let letters = ACCENTS.iter().map(|(_, mark)| *mark).chain(DOUBLE.iter().map(|(_, double)| *double));
        let all = signs.chain(letters).chain("√‖′−".chars()).filter(|c| *c != ' ');
        let missing: Vec<char> = all.filter(|&c| font.glyph_id(c).0 == 0).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
