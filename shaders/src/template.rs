//! Renders one WGSL template with its constants, so that a kernel can unroll loops and size private arrays,
//! which WGSL's `override` cannot. Shared by build.rs and the library; every line of a traced rendering
//! carries the file and line it came from, so that an error can name the true place.

use std::collections::BTreeMap;
use std::fmt;

use minijinja::value::Kwargs;
use minijinja::{Environment, UndefinedBehavior, Value};

/// A value a template may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constant {
    /// A switch.
    Bool(bool),
    /// A size, a count or a tile width.
    U32(u32),
    /// A choice by name, for instance the activation.
    Text(String),
}

impl From<bool> for Constant {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Constant {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<&str> for Constant {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// The named constants of one rendering; ordered, so that equal sets compare and hash equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constants(BTreeMap<String, Constant>);

impl Constants {
    /// No constants.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one constant.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Constant>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
}

impl fmt::Display for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match value {
                Constant::Bool(v) => write!(f, "{comma}{name}={v}")?,
                Constant::U32(v) => write!(f, "{comma}{name}={v}")?,
                Constant::Text(v) => write!(f, "{comma}{name}={v}")?,
            }
        }
        Ok(())
    }
}

const MARK: &str = "//@";

/// Renders `kernel` from `sources`; with `traced`, each line ends in a `//@file:line` comment.
pub fn render_template(
    sources: &[(&str, &str)],
    kernel: &str,
    constants: &Constants,
    traced: bool,
) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    for (name, source) in sources {
        let text = if traced { trace(name, source) } else { (*source).to_owned() };
        environment.add_template_owned((*name).to_owned(), text).map_err(|e| template_error(name, &e))?;
    }
    let file = format!("{kernel}.wgsl");
    let template = environment.get_template(&file).map_err(|e| template_error(&file, &e))?;
    let context: Kwargs = constants
        .0
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Constant::Bool(v) => Value::from(*v),
                Constant::U32(v) => Value::from(*v),
                Constant::Text(v) => Value::from(v.as_str()),
            };
            (name.as_str(), value)
        })
        .collect();
    template.render(Value::from(context)).map_err(|e| template_error(&file, &e))
}

/// Parses and validates WGSL; the error names the template's file and line when `source` is traced.
pub fn validate_wgsl(source: &str) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| {
        let place =
            error.location(source).map_or_else(String::new, |l| origin(source, l.line_number as usize));
        format!("{place}{}", error.emit_to_string(source))
    })?;
    let capabilities = naga::valid::Capabilities::SUBGROUP
        | naga::valid::Capabilities::SUBGROUP_BARRIER
        | naga::valid::Capabilities::SHADER_FLOAT16;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|error| {
        let place =
            error.location(source).map_or_else(String::new, |l| origin(source, l.line_number as usize));
        format!("{place}{}", error.emit_to_string(source))
    })?;
    Ok((module, info))
}

fn trace(name: &str, source: &str) -> String {
    source.lines().enumerate().map(|(i, line)| format!("{line} {MARK}{name}:{}\n", i + 1)).collect()
}

fn origin(source: &str, line: usize) -> String {
    let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    match text.find(MARK) {
        Some(at) => {
            let place = text[at + MARK.len()..].split_whitespace().next().unwrap_or_default();
            format!("shaders/wgsl/{place}: ")
        }
        None => format!("rendered line {line}: "),
    }
}

/// Names the innermost template: the cause of a failed include, not the include.
fn template_error(file: &str, error: &minijinja::Error) -> String {
    let mut inner = error;
    while let Some(cause) =
        std::error::Error::source(inner).and_then(|c| c.downcast_ref::<minijinja::Error>())
    {
        inner = cause;
    }
    let name = inner.name().unwrap_or(file);
    let line = inner.line().map_or_else(String::new, |l| format!(":{l}"));
    format!("shaders/wgsl/{name}{line}: {inner}")
}
