//! Puts a user's file behind the functions it may use, for the device and for the cores, in 32 and in 64 bits.
//! Invariant: the user's text stands in the result as it is, so that places in it map back; the text for 64 bits keeps the
//! line of every token.

use std::ops::Range;

use lwflow_shaders::Constants;

use super::WgslSource;
use crate::EngineError;

/// Functions of include/likelihood_native.wgsl with a body that stands in for them on the cores, where they are operations.
pub(super) const NATIVE: &[(&str, &str)] = &[
    ("is_finite", "(x: f32) -> bool { return true; }"),
    ("minus_infinity", "() -> f32 { return 0.0; }"),
    ("safe_exp", "(x: f32) -> f32 { return x; }"),
    ("safe_tanh", "(x: f32) -> f32 { return x; }"),
    ("safe_log", "(x: f32) -> f32 { return x; }"),
    ("log_add", "(a: f32, b: f32) -> f32 { return a + b; }"),
    ("erfc", "(x: f32) -> f32 { return x; }"),
    ("log_erfc", "(x: f32) -> f32 { return x; }"),
    ("erf", "(x: f32) -> f32 { return x; }"),
    ("lgamma", "(x: f32) -> f32 { return x; }"),
];

/// A whole text and where the user's part is.
#[derive(Debug, Clone)]
pub(crate) struct Spliced {
    file: String,
    text: String,
    user: Range<usize>,
}

impl Spliced {
    /// The text for the cores: no entry point, and native functions as declarations. `wide`: every f32 is an f64.
    pub fn for_cores(source: &WgslSource, wide: bool) -> Result<Self, EngineError> {
        let mut text = lwflow_shaders::render_text("include/likelihood_data", &constants(source, false))?;
        for (name, body) in NATIVE {
            text.push_str(&format!("\nfn {name}{body}"));
        }
        if source.data.is_some() {
            text.push_str("\nfn data(row: u32, column: u32) -> f32 { return 0.0; }\n");
        }
        text.push_str(&lwflow_shaders::render_text("include/likelihood_math", &Constants::new())?);
        text.push('\n');
        let mut user = source.text.clone();
        if wide {
            text = widened(&text);
            user = widened(&user);
        }
        let begin = text.len();
        text.push_str(&user);
        Ok(Self { file: source.file.clone(), user: begin..text.len(), text })
    }

    /// The text for a device.
    pub fn for_device(source: &WgslSource, reads_data: bool) -> Result<Self, EngineError> {
        let text = lwflow_shaders::render_text("evaluate_likelihood", &constants(source, reads_data))?;
        let begin = text.find(&source.text).unwrap_or_default();
        Ok(Self { file: source.file.clone(), user: begin..begin + source.text.len(), text })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of the user's part.
    pub fn user(&self) -> &Range<usize> {
        &self.user
    }
}

/// The constants of the kernel `evaluate_likelihood`.
pub(super) fn constants(source: &WgslSource, reads_data: bool) -> Constants {
    let (n_rows, n_columns) = source.data.as_ref().map_or((0, 0), |d| (d.n_rows(), d.n_columns));
    Constants::new()
        .with("workgroup", super::WORKGROUP)
        .with("dim", source.dim as u32)
        .with("n_derived", source.n_derived as u32)
        .with("n_rows", n_rows as u32)
        .with("n_columns", n_columns as u32)
        .with("reads_data", reads_data)
        .with("user", source.text.as_str())
}

/// The text with f64 for f32 in types and literals. Integers stay, and become f64 where WGSL converts them.
fn widened(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if is_word(bytes[at]) && !bytes[at].is_ascii_digit() {
            let len = rest.find(|c: char| c.is_ascii() && !is_word(c as u8)).unwrap_or(rest.len());
            out.push_str(&wide_word(&rest[..len]));
            at += len;
            continue;
        } else if bytes[at].is_ascii_digit()
            || (bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
        {
            let len = number(rest.as_bytes());
            out.push_str(&wide_number(&rest[..len]));
            at += len;
            continue;
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        out.push_str(&rest[..len]);
        at += len;
    }
    out
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
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
fn number(text: &[u8]) -> usize {
    let hex = text.len() > 1 && text[0] == b'0' && matches!(text[1], b'x' | b'X');
    let exponent: &[u8] = if hex { b"pP" } else { b"eE" };
    let mut at = if hex { 2 } else { 0 };
    while at < text.len() {
        let sign = matches!(text[at], b'+' | b'-') && exponent.contains(&text[at - 1]);
        if !(is_word(text[at]) || text[at] == b'.' || sign) || (at == 0 && sign) {
            break;
        }
        at += 1;
    }
    at
}

fn wide_number(literal: &str) -> String {
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
    format!("{digits}{point}lf")
}

fn wide_word(word: &str) -> String {
    let short = word.strip_suffix('f').filter(|stem| {
        matches!(*stem, "vec2" | "vec3" | "vec4")
            || (stem.len() == 6 && stem.starts_with("mat") && stem.as_bytes()[4] == b'x')
    });
    match (word, short) {
        ("f32", _) => "f64".to_owned(),
        (_, Some(stem)) => format!("{stem}<f64>"),
        _ => word.to_owned(),
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
            ("a[1].x-1.0", "a[1].x-1.0lf"),
            ("é 1.0 ü", "é 1.0lf ü"),
        ] {
            assert_eq!(widened(narrow), wide);
        }
    }

    #[test]
    fn native_functions_are_declared_as_the_kernel_has_them() {
        let text = lwflow_shaders::render_text("include/likelihood_native", &Constants::new()).unwrap();
        for (name, body) in NATIVE {
            let signature = format!("fn {name}{} {{", body.split(" {").next().unwrap());
            assert!(text.contains(&signature), "{signature}");
        }
    }
}
