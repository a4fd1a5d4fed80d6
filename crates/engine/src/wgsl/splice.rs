//! Puts a user's file behind the functions it may use, for the device and for the cores, in 32 and in 64 bits.
//! Invariant: the user's text stands in the result as it is, so that places in it map back; the text for 64 bits keeps the
//! line of every token.

use std::ops::Range;

use lwflow_shaders::Constants;

use super::widen::{ONE, Widening};
use super::{Purpose, WgslSource};
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
    pub fn for_cores(source: &WgslSource, purpose: Purpose, wide: bool) -> Result<Self, EngineError> {
        let constants = constants(source, purpose, false);
        let mut text = lwflow_shaders::render_text("include/likelihood_data", &constants)?;
        for (name, body) in NATIVE {
            text.push_str(&format!("\nfn {name}{body}"));
        }
        if source.data.is_some() {
            text.push_str("\nfn data(row: u32, column: u32) -> f32 { return 0.0; }\n");
        }
        text.push_str(&lwflow_shaders::render_text("include/likelihood_math", &Constants::new())?);
        text.push('\n');
        if has_random(source, purpose) {
            text.push_str(&lwflow_shaders::render_text("include/random", &Constants::new())?);
            text.push('\n');
        }
        let mut user = source.text.clone();
        if wide {
            let mut widening = Widening::default();
            text = widening.widen(&text);
            text.push_str(&format!("var<private> {ONE}: f64 = 1.0;\n"));
            user = widening.widen(&user);
        }
        let begin = text.len();
        text.push_str(&user);
        Ok(Self { file: source.file.clone(), user: begin..text.len(), text })
    }

    /// The text for a device.
    pub fn for_device(source: &WgslSource, purpose: Purpose, reads_data: bool) -> Result<Self, EngineError> {
        let text = lwflow_shaders::render_text(purpose.kernel(), &constants(source, purpose, reads_data))?;
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

/// Whether the text has random numbers. A likelihood's has them only for a simulator in the same file, so that their names are
/// free in all others.
fn has_random(source: &WgslSource, purpose: Purpose) -> bool {
    let is_ours = source.text.contains("Random") && !source.text.contains("struct Random");
    purpose == Purpose::Simulator || is_ours
}

/// The constants of the kernel.
pub(super) fn constants(source: &WgslSource, purpose: Purpose, reads_data: bool) -> Constants {
    let (n_rows, n_columns) = source.data.as_ref().map_or((0, 0), |d| (d.n_rows(), d.n_columns));
    let constants = Constants::new()
        .with("workgroup", super::WORKGROUP)
        .with("dim", source.dim as u32)
        .with("n_derived", source.n_derived as u32)
        .with("n_observed", source.n_observed as u32)
        .with("n_rows", n_rows as u32)
        .with("n_columns", n_columns as u32)
        .with("reads_data", reads_data)
        .with("user", source.text.as_str());
    match purpose {
        Purpose::Likelihood => constants.with("scan", false).with("random", has_random(source, purpose)),
        Purpose::Simulator => constants,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_functions_are_declared_as_the_kernel_has_them() {
        let text = lwflow_shaders::render_text("include/likelihood_native", &Constants::new()).unwrap();
        for (name, body) in NATIVE {
            let signature = format!("fn {name}{} {{", body.split(" {").next().unwrap());
            assert!(text.contains(&signature), "{signature}");
        }
    }
}
