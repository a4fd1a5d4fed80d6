//! Reads LaTeX into a label. The depth of what is read is bounded, and nothing is read twice.

use super::signs::{
    ACCENTS, CLOSING, DOUBLE, FONTS, FRACTIONS, FUNCTIONS, LINES, OPENING, SIGNS, SWITCHES, UPRIGHT, WORDS,
};
use super::{Label, is_mark};

/// Groups and scripts within each other; what lies deeper is left out.
const MAX_DEPTH: usize = 64;

pub(super) struct Reader<'a> {
    characters: &'a [char],
    position: usize,
    depth: usize,
    /// Within words, where `-` is a hyphen.
    words: bool,
}

/// What a fraction or root is made of.
struct Argument {
    label: Label,
    /// Its letters side by side are one word.
    word: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(characters: &'a [char]) -> Self {
        Self { characters, position: 0, depth: 0, words: false }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.position += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.position).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek() == Some(' ') {
            self.position += 1;
        }
    }

    /// Reads up to the end, or to the character that closes, which it swallows.
    pub(super) fn sequence(&mut self, label: &mut Label, script: i8, close: Option<char>) {
        while let Some(c) = self.peek() {
            if close == Some(c) {
                self.position += 1;
                return;
            }
            self.token(label, script);
        }
    }

    /// Reads one character, command or group, and says whether it is more than a change of font, which a script or an
    /// argument would not be made of.
    fn token(&mut self, label: &mut Label, script: i8) -> bool {
        let Some(c) = self.next() else { return true };
        if self.depth >= MAX_DEPTH {
            return true;
        }
        self.depth += 1;
        let shown = match c {
            '{' => {
                self.sequence(label, script, Some('}'));
                true
            }
            '^' => self.script(label, if script == 0 { 1 } else { script }),
            '_' => self.script(label, if script == 0 { -1 } else { script }),
            '\\' => self.command(label, script),
            c => {
                match c {
                    '$' | '}' => {}
                    '~' => label.push(" ", script),
                    '\'' => label.push("′", script),
                    '-' if !self.words => label.push("−", script),
                    c => label.push(c.encode_utf8(&mut [0; 4]), script),
                }
                true
            }
        };
        self.depth -= 1;
        shown
    }

    /// Scripts of scripts stay at the height of the first.
    fn script(&mut self, label: &mut Label, script: i8) -> bool {
        self.skip_blanks();
        while !self.token(label, script) {
            self.skip_blanks();
        }
        true
    }

    /// The next character, command or group by itself.
    fn argument(&mut self) -> Argument {
        let mut label = Label::default();
        self.skip_blanks();
        let word = self.upright_follows();
        self.script(&mut label, 0);
        Argument { label, word }
    }

    /// The name of the command at `position`, which is that of its backslash.
    fn name_at(&self, position: usize) -> String {
        let rest = self.characters.get(position + 1..).unwrap_or_default();
        rest.iter().take_while(|c| c.is_ascii_alphabetic()).collect()
    }

    fn upright_follows(&self) -> bool {
        let rest = self.characters.get(self.position..).unwrap_or_default();
        let skipped = rest.iter().take_while(|c| matches!(c, ' ' | '{')).count();
        let name = self.name_at(self.position + skipped);
        rest.get(skipped) == Some(&'\\') && (has(UPRIGHT, &name) || has(WORDS, &name))
    }

    /// Whether what follows is read together with what was: a letter, a number, an opening bracket, a script.
    fn factor_follows(&self) -> bool {
        let rest = self.characters.get(self.position..).unwrap_or_default();
        let blanks = rest.iter().take_while(|c| **c == ' ').count();
        match rest.get(blanks) {
            Some('\\') => {
                let name = self.name_at(self.position + blanks);
                match SIGNS.iter().find(|(command, _)| *command == name) {
                    Some((_, sign)) => sign.starts_with(|c: char| c.is_alphabetic() || "∂∇∑∏∫⟨".contains(c)),
                    None if name.is_empty() => rest.get(blanks + 1) == Some(&'{'),
                    None => !has(CLOSING, &name),
                }
            }
            Some(c) => c.is_alphanumeric() || "([{^_'/".contains(*c),
            None => false,
        }
    }

    /// Reads a command after its backslash; `false` if it shows nothing by itself.
    fn command(&mut self, label: &mut Label, script: i8) -> bool {
        let name = self.name_at(self.position - 1);
        self.position += name.len();
        if name.is_empty() {
            match self.next() {
                Some(',' | ';' | ':' | '>' | ' ' | '\\') => label.push(" ", script),
                Some('|') => label.push("‖", script),
                Some('!') | None => {}
                Some(c) => label.push(c.encode_utf8(&mut [0; 4]), script),
            }
            return true;
        }
        // LaTeX swallows the blank that ends the name of a command.
        let ended_by_blank = self.peek() == Some(' ');
        self.position += usize::from(ended_by_blank);
        let name = name.as_str();
        if has(SWITCHES, name) {
            return false;
        }
        if has(OPENING, name) || has(CLOSING, name) {
            // `\left.` is no bracket.
            self.position += usize::from(self.peek() == Some('.'));
            return false;
        }
        if let Some((_, sign)) = SIGNS.iter().find(|(command, _)| *command == name) {
            label.push(sign, script);
        } else if let Some((_, accent)) = ACCENTS.iter().find(|(command, _)| *command == name) {
            let body = accented(self.argument().label, *accent, has(LINES, name));
            label.append(body, script);
        } else if has(FONTS, name) {
            let body = self.argument().label;
            label.append(body, script);
        } else if has(WORDS, name) {
            let outer = std::mem::replace(&mut self.words, true);
            let body = self.argument().label;
            self.words = outer;
            label.append(body, script);
        } else if name == "mathbb" {
            let double = |c| DOUBLE.iter().find(|(plain, _)| *plain == c).map_or(c, |(_, double)| *double);
            let body = self.argument().label.map(double);
            label.append(body, script);
        } else if has(FRACTIONS, name) {
            self.fraction(label, script);
        } else if name == "sqrt" {
            self.root(label, script);
        } else if name == "operatorname" || has(FUNCTIONS, name) {
            let body = if name == "operatorname" { self.argument().label } else { Label::plain(name) };
            let beside = label.ends_with(|c| c.is_alphanumeric() || c == ')');
            label.push(if beside { " " } else { "" }, script);
            label.append(body, script);
            let apart = ended_by_blank
                || self.peek().is_some_and(|c| c.is_alphanumeric() || c == '{')
                || self.peek() == Some('\\')
                    && self.factor_follows()
                    && self.name_at(self.position) != "left";
            label.push(if apart { " " } else { "" }, script);
        } else {
            // Whatever is unknown: its name.
            label.push(name, script);
            label.push(if ended_by_blank { " " } else { "" }, script);
        }
        true
    }

    /// `a/b`, with the brackets that a line needs and a bar does not.
    fn fraction(&mut self, label: &mut Label, script: i8) {
        let (above, below) = (self.argument(), self.argument());
        let above = if above.label.is_product(above.word) { above.label } else { above.label.in_brackets() };
        let below = if below.label.is_atom(below.word) { below.label } else { below.label.in_brackets() };
        let all = above.with(Label::plain("/")).with(below);
        let apart = self.factor_follows() || label.ends_with(|c| c == '/');
        label.append(if apart { all.in_brackets() } else { all }, script);
    }

    /// `√x`, with brackets around what a bar would cover.
    fn root(&mut self, label: &mut Label, script: i8) {
        if self.peek() == Some('[') {
            self.position += 1;
            let mut degree = Label::default();
            self.sequence(&mut degree, 1, Some(']'));
            label.append(degree, script);
        }
        let Argument { label: body, word } = self.argument();
        let plain = body.is_atom(word) && body.runs.iter().all(|run| run.script <= 0);
        label.push("√", script);
        label.append(if plain && !self.factor_follows() { body } else { body.in_brackets() }, script);
    }
}

fn has(names: &[&str], name: &str) -> bool {
    names.contains(&name)
}

/// What stands on the line with an accent on every letter, or on that in the middle.
fn accented(mut body: Label, accent: char, every: bool) -> Label {
    if body.runs.first().is_none_or(|run| run.script != 0) {
        return body;
    }
    let text = &mut body.runs[0].text;
    let n_letters = text.chars().filter(|c| !is_mark(*c)).count();
    let mut k = 0;
    let mut characters = text.chars().peekable();
    let mut marked = String::new();
    while let Some(c) = characters.next() {
        marked.push(c);
        if characters.peek().is_some_and(|c| is_mark(*c)) {
            continue;
        }
        if every && c != ' ' || k == n_letters.saturating_sub(1) / 2 {
            marked.push(accent);
        }
        k += 1;
    }
    *text = marked;
    body
}
