//! Labels: plain text, or simple LaTeX turned into Unicode text with raised and lowered parts. Nothing is an error: what
//! is not understood is shown as it was written.

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

impl Label {
    /// Text shown as it is.
    pub fn plain(text: impl Into<String>) -> Self {
        let mut label = Self::default();
        label.push(&text.into(), 0);
        label
    }

    /// Simple LaTeX, with or without dollar signs: Greek, sub- and superscripts, accents, `\rm` and `\mathrm`, fractions
    /// as `a/b`, common signs.
    ///
    /// ```
    /// use lwflow_figures::Label;
    /// assert_eq!(Label::latex(r"\Omega_{\rm b} h^2").to_string(), "Ω_b h^2");
    /// ```
    pub fn latex(source: &str) -> Self {
        let characters: Vec<char> = source.chars().collect();
        let mut label = Self::default();
        Reader { characters: &characters, position: 0 }.sequence(&mut label, 0, false);
        label
    }

    /// Its parts from left to right: text, and 0 on the line, 1 for a superscript, -1 for a subscript.
    pub fn parts(&self) -> impl Iterator<Item = (&str, i8)> {
        self.runs.iter().map(|run| (run.text.as_str(), run.script.signum()))
    }

    pub(super) fn with(mut self, other: Self) -> Self {
        for run in other.runs {
            self.push(&run.text, run.script);
        }
        self
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

struct Reader<'a> {
    characters: &'a [char],
    position: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.characters.get(self.position).copied();
        self.position += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.position).copied()
    }

    /// Reads up to the end, or to the brace that closes the group.
    fn sequence(&mut self, label: &mut Label, script: i8, in_group: bool) {
        while let Some(c) = self.peek() {
            if in_group && c == '}' {
                self.position += 1;
                return;
            }
            self.token(label, script);
        }
    }

    /// Reads one character, command or group. Scripts of scripts stay at the height of the first.
    fn token(&mut self, label: &mut Label, script: i8) {
        let Some(c) = self.next() else { return };
        match c {
            '{' => self.sequence(label, script, true),
            '^' => self.token(label, if script == 0 { 1 } else { script }),
            '_' => self.token(label, if script == 0 { -1 } else { script }),
            '\\' => self.command(label, script),
            '$' | '}' => {}
            '~' => label.push(" ", script),
            '\'' => label.push("′", script),
            '-' => label.push("−", script),
            c => label.push(c.encode_utf8(&mut [0; 4]), script),
        }
    }

    fn argument(&mut self) -> String {
        let mut label = Label::default();
        while self.peek() == Some(' ') {
            self.position += 1;
        }
        self.token(&mut label, 0);
        label.runs.into_iter().map(|run| run.text).collect()
    }

    fn command(&mut self, label: &mut Label, script: i8) {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_alphabetic) {
            name.push(c);
            self.position += 1;
        }
        if name.is_empty() {
            match self.next() {
                Some(',' | ';' | ':' | ' ') => label.push(" ", script),
                Some('!') | None => {}
                Some(c) => label.push(c.encode_utf8(&mut [0; 4]), script),
            }
            return;
        }
        // LaTeX swallows the blank that ends the name of a command.
        let ended_by_blank = self.peek() == Some(' ');
        if ended_by_blank {
            self.position += 1;
        }
        if let Some((_, sign)) = SIGNS.iter().find(|(command, _)| *command == name) {
            label.push(sign, script);
        } else if let Some((_, accent)) = ACCENTS.iter().find(|(command, _)| *command == name) {
            let body = self.argument();
            let mut characters = body.chars();
            let first: String = characters.next().into_iter().collect();
            label.push(&format!("{first}{accent}{}", characters.as_str()), script);
        } else if name == "frac" {
            let (above, below) = (self.argument(), self.argument());
            label.push(&format!("{above}/{below}"), script);
        } else if name == "sqrt" {
            let body = self.argument();
            label.push(&format!("√{body}"), script);
        } else if !SILENT.contains(&name.as_str()) {
            // log, exp, sin ... and whatever is unknown: its name.
            let blank = if ended_by_blank { " " } else { "" };
            label.push(&format!("{name}{blank}"), script);
        }
    }
}

const SILENT: &[&str] = &[
    "rm",
    "it",
    "bf",
    "sf",
    "tt",
    "mathrm",
    "mathbf",
    "mathit",
    "mathcal",
    "mathsf",
    "text",
    "textrm",
    "textit",
    "bm",
    "boldsymbol",
    "operatorname",
    "left",
    "right",
    "displaystyle",
];
/// Combining marks follow the letter.
const ACCENTS: &[(&str, &str)] = &[
    ("hat", "\u{302}"),
    ("tilde", "\u{303}"),
    ("bar", "\u{304}"),
    ("overline", "\u{304}"),
    ("dot", "\u{307}"),
];
const SIGNS: &[(&str, &str)] = &[
    ("alpha", "α"),
    ("beta", "β"),
    ("gamma", "γ"),
    ("delta", "δ"),
    ("epsilon", "ϵ"),
    ("varepsilon", "ε"),
    ("zeta", "ζ"),
    ("eta", "η"),
    ("theta", "θ"),
    ("vartheta", "ϑ"),
    ("iota", "ι"),
    ("kappa", "κ"),
    ("lambda", "λ"),
    ("mu", "μ"),
    ("nu", "ν"),
    ("xi", "ξ"),
    ("pi", "π"),
    ("varpi", "ϖ"),
    ("rho", "ρ"),
    ("varrho", "ϱ"),
    ("sigma", "σ"),
    ("varsigma", "ς"),
    ("tau", "τ"),
    ("upsilon", "υ"),
    ("phi", "ϕ"),
    ("varphi", "φ"),
    ("chi", "χ"),
    ("psi", "ψ"),
    ("omega", "ω"),
    ("Gamma", "Γ"),
    ("Delta", "Δ"),
    ("Theta", "Θ"),
    ("Lambda", "Λ"),
    ("Xi", "Ξ"),
    ("Pi", "Π"),
    ("Sigma", "Σ"),
    ("Upsilon", "Υ"),
    ("Phi", "Φ"),
    ("Psi", "Ψ"),
    ("Omega", "Ω"),
    ("times", "×"),
    ("cdot", "·"),
    ("pm", "±"),
    ("mp", "∓"),
    ("infty", "∞"),
    ("odot", "⊙"),
    ("oplus", "⊕"),
    ("star", "★"),
    ("partial", "∂"),
    ("nabla", "∇"),
    ("sum", "∑"),
    ("prod", "∏"),
    ("int", "∫"),
    ("ell", "ℓ"),
    ("hbar", "ℏ"),
    ("prime", "′"),
    ("dagger", "†"),
    ("leq", "≤"),
    ("le", "≤"),
    ("geq", "≥"),
    ("ge", "≥"),
    ("neq", "≠"),
    ("ne", "≠"),
    ("approx", "≈"),
    ("sim", "∼"),
    ("propto", "∝"),
    ("ll", "≪"),
    ("gg", "≫"),
    ("to", "→"),
    ("rightarrow", "→"),
    ("leftarrow", "←"),
    ("in", "∈"),
    ("perp", "⊥"),
    ("parallel", "∥"),
    ("langle", "⟨"),
    ("rangle", "⟩"),
    ("circ", "∘"),
    ("deg", "°"),
    ("quad", "  "),
    ("qquad", "    "),
    ("ldots", "…"),
    ("dots", "…"),
    ("cdots", "⋯"),
    ("lbrace", "{"),
    ("rbrace", "}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latex_becomes_text() {
        let cases = [
            (r"\theta_1", "θ_1"),
            ("x_0", "x_0"),
            (r"$\Omega_{\rm m}h^2$", "Ω_mh^2"),
            (r"\log_{10} M_{\rm BH}/M_\odot", "log_10 M_BH/M_⊙"),
            (r"\sigma_{8}", "σ_8"),
            (r"10^{-9}A_{\mathrm{s}}", "10^−9A_s"),
            (r"\frac{a}{b}", "a/b"),
            (r"\hat{\theta}", "θ\u{302}"),
            (r"\sqrt{x}", "√x"),
            (r"\Delta t\,[{\rm s}]", "Δt [s]"),
            (r"\ln x", "ln x"),
            (r"\unknown{x}", "unknownx"),
            ("a~b", "a b"),
            (r"f'", "f′"),
        ];
        for (source, expected) in cases {
            assert_eq!(Label::latex(source).to_string(), expected, "{source}");
        }
    }

    #[test]
    fn scripts_keep_their_height() {
        let runs = |source: &str| {
            Label::latex(source).runs.into_iter().map(|r| (r.text, r.script)).collect::<Vec<_>>()
        };
        let own = |pairs: &[(&str, i8)]| pairs.iter().map(|(t, s)| ((*t).to_owned(), *s)).collect::<Vec<_>>();
        assert_eq!(runs("x_{ab}^2y"), own(&[("x", 0), ("ab", -1), ("2", 1), ("y", 0)]));
        assert_eq!(runs("x_{a_b}"), own(&[("x", 0), ("ab", -1)]));
    }

    #[test]
    fn broken_latex_is_shown_not_refused() {
        for source in ["", "_", "^", "\\", "{", "}", "x_", r"\frac{a", r"\hat", "{{{{", "x^{", "$$", r"\ "] {
            let _ = Label::latex(source).to_string();
        }
        assert_eq!(Label::latex("x_").to_string(), "x");
        assert_eq!(Label::plain("a_b").runs.len(), 1);
    }

    #[test]
    fn the_font_has_every_sign() {
        use ab_glyph::Font as _;
        let font = crate::canvas::font().unwrap();
        let signs = SIGNS.iter().chain(ACCENTS).flat_map(|(_, text)| text.chars()).filter(|c| *c != ' ');
        let missing: Vec<char> = signs.filter(|&c| font.glyph_id(c).0 == 0).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
