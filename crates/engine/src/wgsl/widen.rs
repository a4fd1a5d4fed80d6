//! The same WGSL with f64 for f32, so that an audit has literals, constants and arithmetic in 64 bits.
//! Invariant: every token keeps its line. What does not compile afterwards has no audit and is no mistake of the user.

use std::collections::BTreeSet;

/// Rewrites text after text; constants of the first are known in the next.
///
/// Literals become f64 where a function is evaluated. The initialiser of a constant stays abstract, which is 64 bits wide
/// too, because naga does not fold arithmetic on f64; where it is used it is multiplied by a variable that is one.
#[derive(Debug, Default)]
pub(super) struct Widening {
    constants: BTreeSet<String>,
}

/// The name of a variable of the module that is 1.
pub(super) const ONE: &str = "lwflow_one";

impl Widening {
    pub fn widen(&mut self, text: &str) -> String {
        let tokens = tokens(text);
        let mut out = String::with_capacity(text.len() + text.len() / 4);
        let (mut at, mut depth, mut previous) = (0, 0_usize, "");
        while at < tokens.len() {
            let token = tokens[at];
            match token {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if token == "const" || (token == "var" && depth == 0) {
                at = self.declaration(&tokens, at, &mut out);
                previous = ";";
                continue;
            }
            let next = next_word(&tokens, at);
            if is_number(token) {
                let wide = number(token, "lf");
                // naga refuses to apply its functions to a constant f64, so an argument must not be one.
                let alone = matches!(previous, "(" | "," | "-") && matches!(next, ")" | ",");
                if alone && wide.ends_with("lf") {
                    out.push_str(&format!("({ONE}*{wide})"));
                } else {
                    out.push_str(&wide);
                }
            } else if self.constants.contains(token)
                && !matches!(previous, "." | "let" | "var" | "fn" | "struct" | "alias")
                && !matches!(next, ":" | "(")
            {
                out.push_str(&format!("({ONE}*{token})"));
            } else {
                out.push_str(&word(token));
            }
            if !is_blank(token) {
                previous = token;
            }
            at += 1;
        }
        out
    }

    /// A constant, or a variable of the module, up to its semicolon. Returns the index of the token behind it.
    fn declaration(&mut self, tokens: &[&str], begin: usize, out: &mut String) -> usize {
        let rest = &tokens[begin..];
        let len = rest.iter().position(|t| *t == ";").unwrap_or(rest.len());
        let declaration = &rest[..len];
        let Some(equals) = declaration.iter().position(|t| *t == "=") else {
            declaration.iter().for_each(|t| out.push_str(&word(t)));
            return begin + len;
        };
        let (head, value) = declaration.split_at(equals);
        let words: Vec<&str> = head.iter().copied().filter(|t| !is_blank(t)).collect();
        let is_float = value.iter().any(|t| {
            self.constants.contains(*t)
                || (is_number(t) && number(t, "").as_str() != number(t, "lf").as_str())
        });
        match words.as_slice() {
            ["const", name, ":", "f32"] => {
                self.constants.insert((*name).to_owned());
                // Abstract and a float, also if the value is written as an integer.
                let blanks: String = head.iter().filter(|t| t.contains('\n')).copied().collect();
                out.push_str(&format!("const {name}{blanks} = 1.0 * ("));
                value[1..].iter().for_each(|t| out.push_str(&abstract_token(t)));
                out.push(')');
            }
            ["const", name] => {
                if is_float && !value.iter().any(|t| t.starts_with("vec") || *t == "array") {
                    self.constants.insert((*name).to_owned());
                }
                head.iter().for_each(|t| out.push_str(t));
                value.iter().for_each(|t| out.push_str(&abstract_token(t)));
            }
            words => {
                let typed = words.contains(&":");
                head.iter().for_each(|t| out.push_str(&word(t)));
                for token in value {
                    out.push_str(&match is_number(token) && !typed {
                        true => number(token, "lf"),
                        false => abstract_token(token),
                    });
                }
            }
        }
        begin + len
    }
}

/// Within a constant: a literal without its suffix, a type widened.
fn abstract_token(token: &str) -> String {
    if is_number(token) { number(token, "") } else { word(token) }
}

fn is_blank(token: &str) -> bool {
    token.starts_with("//") || token.starts_with("/*") || token.trim().is_empty()
}

fn next_word<'a>(tokens: &[&'a str], at: usize) -> &'a str {
    tokens[at + 1..].iter().find(|t| !is_blank(t)).copied().unwrap_or_default()
}

fn is_number(token: &str) -> bool {
    let token = token.strip_prefix('.').unwrap_or(token);
    token.starts_with(|c: char| c.is_ascii_digit())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Blanks, comments, words, numbers and single characters.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let byte = bytes[at];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if byte.is_ascii_whitespace() {
            rest.find(|c: char| !c.is_ascii_whitespace()).unwrap_or(rest.len())
        } else if byte.is_ascii_digit() || (byte == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
        {
            number_len(rest.as_bytes())
        } else if is_word(byte) {
            rest.find(|c: char| c.is_ascii() && !is_word(c as u8)).unwrap_or(rest.len())
        } else {
            // Comparisons, so that `=` is an assignment.
            let two = rest.get(..2).filter(|t| matches!(*t, "==" | "<=" | ">=" | "!="));
            two.map_or_else(|| rest.chars().next().map_or(1, char::len_utf8), str::len)
        };
        tokens.push(&rest[..len]);
        at += len;
    }
    tokens
}

/// Length of a block comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of a numeric literal.
fn number_len(text: &[u8]) -> usize {
    let hex = text.len() > 1 && text[0] == b'0' && matches!(text[1], b'x' | b'X');
    let exponent: &[u8] = if hex { b"pP" } else { b"eE" };
    let mut at = if hex { 2 } else { 1 };
    while at < text.len() {
        let sign = matches!(text[at], b'+' | b'-') && exponent.contains(&text[at - 1]);
        if !(is_word(text[at]) || text[at] == b'.' || sign) {
            break;
        }
        at += 1;
    }
    at
}

/// A literal; a float one with `suffix` in place of its own.
fn number(literal: &str, suffix: &str) -> String {
    let hex = literal.starts_with("0x") || literal.starts_with("0X");
    let is_float = if hex {
        literal.contains(['.', 'p', 'P'])
    } else {
        literal.contains(['.', 'e', 'E']) || literal.ends_with('f')
    };
    if !is_float || literal.ends_with('h') {
        return literal.to_owned();
    }
    let has_suffix = literal.ends_with('f') && (!hex || literal.contains(['p', 'P']));
    let digits = if has_suffix { &literal[..literal.len() - 1] } else { literal };
    let point = if hex || digits.contains(['.', 'e', 'E']) { "" } else { ".0" };
    format!("{digits}{point}{suffix}")
}

/// A name; a type of f32 becomes one of f64.
fn word(token: &str) -> String {
    let short = token.strip_suffix('f').filter(|stem| {
        matches!(*stem, "vec2" | "vec3" | "vec4")
            || (stem.len() == 6 && stem.starts_with("mat") && stem.as_bytes()[4] == b'x')
    });
    match (token, short) {
        ("f32", _) => "f64".to_owned(),
        (_, Some(stem)) => format!("{stem}<f64>"),
        _ => token.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_literals_become_wide_and_nothing_else_does() {
        for (narrow, wide) in [
            ("let x: f32 = 1.5;", "let x: f64 = 1.5lf;"),
            ("1.0f + 2f - 1e-3 + .5 * 3.", "1.0lf + 2.0lf - 1e-3lf + .5lf * 3.lf"),
            ("x1.y 0x1f 0x1.8p3 0x1p-2f 7u 8i", "x1.y 0x1f 0x1.8p3lf 0x1p-2lf 7u 8i"),
            ("vec3f(a) mat2x3f vec2<f32> myvec3f", "vec3<f64>(a) mat2x3<f64> vec2<f64> myvec3f"),
            ("// f32 1.0\nf32 /* f32 /* 1.0 */ f32 */ 1.0", "// f32 1.0\nf64 /* f32 /* 1.0 */ f32 */ 1.0lf"),
            ("a[1].x-1.0 é 1.0 ü", "a[1].x-1.0lf é 1.0lf ü"),
            ("const A = 1.0f/3.0; A.x*A", "const A = 1.0/3.0; (lwflow_one*A).x*(lwflow_one*A)"),
            ("const N: f32 =\n 2; b.N let N = N", "const N = 1.0 * (\n 2); b.N let N = (lwflow_one*N)"),
            ("log(2.0) + f(-1.0, 2)", "log((lwflow_one*2.0lf)) + f(-(lwflow_one*1.0lf), 2)"),
            ("const K = 3; K", "const K = 3; K"),
            ("const V = vec2(0.5); V", "const V = vec2(0.5); V"),
            ("var<private> a: f32 = 1.0 / 3.0;", "var<private> a: f64 = 1.0 / 3.0;"),
        ] {
            assert_eq!(Widening::default().widen(narrow), wide);
        }
    }
}
