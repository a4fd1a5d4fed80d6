//! A log likelihood written in WGSL: the user's file, checked and ready to run on a device or on the cores.
//! Invariant: what passes [`WgslProgram::new`] compiles for every device and has a bytecode for the cores; what does not is
//! told by the user's own file, line and column.

pub(crate) mod bytecode;
mod error;
mod lower;
mod splice;
mod widen;

use std::sync::Arc;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ArraySize, Module, ScalarKind, Span, TypeInner};

pub use error::WgslError;

use crate::EngineError;
use crate::scan::{N_CUBICS, SOBOL_BLOCK};
use bytecode::Bytecode;
use splice::Spliced;

/// Invocations of a workgroup.
pub(crate) const WORKGROUP: u32 = 64;

/// Observed data that a likelihood reads with `data(row, column)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WgslData {
    /// Values, `[n_rows, n_columns]`; the device and the f32 evaluator round them to f32.
    pub values: Vec<f64>,
    /// Columns of a row.
    pub n_columns: usize,
}

impl WgslData {
    /// Rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.n_columns.max(1)
    }
}

/// A user's WGSL file and what it is for. It defines `fn log_likelihood(theta: array<f32, D>) -> f32` and, where there are
/// derived quantities, `fn derived(theta: array<f32, D>) -> array<f32, M>`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WgslSource {
    /// The file's name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Number of parameters D.
    pub dim: usize,
    /// Number of derived quantities M.
    pub n_derived: usize,
    /// Observed data, if there is any.
    pub data: Option<WgslData>,
}

/// A log likelihood in WGSL that passed every check.
///
/// ```
/// use lwflow_engine::{DeviceChoice, Engine, EngineSettings, WgslProgram, WgslSource};
/// let text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return normal_log_pdf(theta[0], 1.0, 2.0); }";
/// let source = WgslSource { file: "normal.wgsl".into(), text: text.into(), dim: 1, ..Default::default() };
/// let program = WgslProgram::new(&source)?;
/// let cores = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
/// let (log_likelihood, _) = cores.likelihood(&program)?.evaluate(&[1.0, 3.0])?;
/// assert!((log_likelihood[0] - log_likelihood[1] - 0.5).abs() < 1e-6);
/// # Ok::<(), lwflow_engine::EngineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct WgslProgram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: WgslSource,
    narrow: Bytecode,
    /// The program in 64 bits, or why there is none.
    wide: Result<Bytecode, String>,
    reads_data: bool,
}

impl WgslProgram {
    /// Parses and checks a file. No device is needed.
    ///
    /// # Errors
    /// [`EngineError::Wgsl`] for text that is no valid WGSL, a missing or different signature, a name that is taken, and
    /// constructs that the cores cannot evaluate; [`EngineError::Length`] for data that is no whole number of rows.
    pub fn new(source: &WgslSource) -> Result<Self, EngineError> {
        if source.dim == 0 {
            return Err(EngineError::Length {
                what: "theta of a WGSL likelihood",
                got: 0,
                expected: "at least one parameter".into(),
            });
        }
        if let Some(data) = &source.data
            && (data.n_columns == 0 || data.values.is_empty() || data.values.len() % data.n_columns != 0)
        {
            let expected = format!("one or more rows of {} columns", data.n_columns);
            return Err(EngineError::Length {
                what: "data of a WGSL likelihood",
                got: data.values.len(),
                expected,
            });
        }
        let spliced = Spliced::for_cores(source, false)?;
        // Allowed here, so that the refusal is told by the function's name.
        let (module, info) = checked(&spliced, source, Capabilities::SHADER_FLOAT16_IN_FLOAT32)?;
        signature(&spliced, &module, source)?;
        let narrow = lower::lower(&module, &info, &spliced, source.n_derived > 0)
            .map_err(|(span, message)| WgslError::spliced(&spliced, [span], message))?;
        let reads_data = narrow.ops.iter().any(|op| matches!(op, bytecode::Op::Data(..)));
        let device = Spliced::for_device(source, reads_data)?;
        let (module, info) = checked(&device, source, Capabilities::empty())?;
        translated(&device, &module, &info)?;
        let wide = wide(source)?;
        Ok(Self { inner: Arc::new(Inner { source: source.clone(), narrow, wide, reads_data }) })
    }

    /// The file and what it is for.
    #[must_use]
    pub fn source(&self) -> &WgslSource {
        &self.inner.source
    }

    /// Why the program cannot be evaluated in 64 bits; `None` if it can.
    #[must_use]
    pub fn no_audit(&self) -> Option<&str> {
        self.inner.wide.as_ref().err().map(String::as_str)
    }

    /// The program in 32 bits.
    pub(crate) fn narrow(&self) -> &Bytecode {
        &self.inner.narrow
    }

    /// The program in 64 bits.
    pub(crate) fn wide(&self) -> Result<&Bytecode, &str> {
        self.inner.wide.as_ref().map_err(String::as_str)
    }

    /// Whether the program calls `data`.
    pub(crate) fn reads_data(&self) -> bool {
        self.inner.reads_data
    }

    /// The constants of the kernel.
    pub(crate) fn constants(&self) -> lwflow_shaders::Constants {
        splice::constants(&self.inner.source, self.inner.reads_data)
    }

    /// The constants of the kernel that draws theta itself.
    pub(crate) fn scan_constants(&self) -> lwflow_shaders::Constants {
        let constants = self.constants().with("scan", true).with("block", SOBOL_BLOCK as u32);
        constants.with("n_cubics", N_CUBICS as u32)
    }
}

/// Parses and validates.
fn checked(
    spliced: &Spliced,
    source: &WgslSource,
    capabilities: Capabilities,
) -> Result<(Module, naga::valid::ModuleInfo), WgslError> {
    let module = naga::front::wgsl::parse_str(spliced.text()).map_err(|error| {
        let mut told = WgslError::parse(spliced, &error);
        if source.data.is_none()
            && ["`data`", "`n_rows`", "`n_columns`"].iter().any(|name| told.message.contains(name))
        {
            told.message.push_str("; the task names no data");
        }
        told
    })?;
    let refuse = |span: Span, message: &str| Err(WgslError::spliced(spliced, [span], message));
    for (handle, variable) in module.global_variables.iter() {
        let span = module.global_variables.get_span(handle);
        let ours = span.to_range().is_some_and(|range| !spliced.user().contains(&range.start));
        if !ours && variable.space != naga::AddressSpace::Private {
            return refuse(
                span,
                "a likelihood has no buffers or workgroup variables of its own; use data(row, column)",
            );
        }
    }
    for point in &module.entry_points {
        let text = &spliced.text()[spliced.user().clone()];
        if let Some(at) = text.find(point.name.as_str()).filter(|_| point.name != "evaluate_likelihood") {
            let begin = (spliced.user().start + at) as u32;
            return refuse(Span::new(begin, begin + 1), "a likelihood has no entry points of its own");
        }
    }
    if let Some((handle, _)) = module.overrides.iter().next() {
        return refuse(module.overrides.get_span(handle), "an override is not supported in a likelihood");
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|error| WgslError::validation(spliced, &error))?;
    Ok((module, info))
}

/// Translates for a device, as the driver's front end will. naga may panic where its validation has a gap.
fn translated(spliced: &Spliced, module: &Module, info: &naga::valid::ModuleInfo) -> Result<(), WgslError> {
    let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    let translate = || naga::back::spv::write_vec(module, info, &options, None);
    let message = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(translate)) {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => (*text).to_owned(),
            _ => "the translator failed".to_owned(),
        },
    };
    Err(WgslError::spliced(spliced, [], format!("cannot be translated for devices: {message}")))
}

/// The program in 64 bits. What compiles in 32 bits and not in 64 (a bitcast) is no mistake of the user.
fn wide(source: &WgslSource) -> Result<Result<Bytecode, String>, EngineError> {
    let spliced = Spliced::for_cores(source, true)?;
    // The exponent that frexp takes out of an f64 is an i64 to naga.
    let capabilities = Capabilities::FLOAT64 | Capabilities::SHADER_INT64;
    Ok(checked(&spliced, source, capabilities)
        .and_then(|(module, info)| {
            lower::lower(&module, &info, &spliced, source.n_derived > 0)
                .map_err(|(span, message)| WgslError::spliced(&spliced, [span], message))
        })
        .map_err(|error| {
            format!("{}:{} has no meaning in 64 bits: {}", error.file, error.line, error.message)
        }))
}

/// Compares the user's functions with what is asked for.
fn signature(spliced: &Spliced, module: &Module, source: &WgslSource) -> Result<(), WgslError> {
    let find = |name: &str| module.functions.iter().find(|(_, f)| f.name.as_deref() == Some(name));
    let is_array = |ty: naga::Handle<naga::Type>, n: usize| match module.types[ty].inner {
        TypeInner::Array { base, size: ArraySize::Constant(len), .. } => {
            is_f32(module, base) && len.get() as usize == n
        }
        _ => false,
    };
    let (dim, n_derived) = (source.dim, source.n_derived);
    let expected = [
        ("log_likelihood", "f32".to_owned(), true),
        ("derived", format!("array<f32, {n_derived}>"), n_derived > 0),
    ];
    for (name, result, wanted) in expected {
        let signature = format!("fn {name}(theta: array<f32, {dim}>) -> {result}");
        let (handle, function) = match (find(name), wanted) {
            (Some(found), true) => found,
            (None, false) => continue,
            (None, true) => {
                let message = format!("function `{name}` is missing, expected `{signature}`");
                return Err(WgslError::at(spliced.file(), "", 0, message));
            }
            (Some((handle, _)), false) => {
                let message = "function `derived` is there, but the task names no derived quantities";
                return Err(WgslError::spliced(spliced, [module.functions.get_span(handle)], message));
            }
        };
        let takes = matches!(function.arguments.as_slice(), [a] if is_array(a.ty, dim));
        let gives = function.result.as_ref().is_some_and(|r| match name {
            "log_likelihood" => is_f32(module, r.ty),
            _ => is_array(r.ty, n_derived),
        });
        if !takes || !gives {
            let span = module.functions.get_span(handle);
            let found = span.to_range().and_then(|range| spliced.text().get(range));
            let found = found.and_then(|text| text.split('{').next()).unwrap_or(name).trim();
            let message = format!("function `{name}` is declared as `{found}`, expected `{signature}`");
            return Err(WgslError::spliced(spliced, [span], message));
        }
    }
    Ok(())
}

fn is_f32(module: &Module, ty: naga::Handle<naga::Type>) -> bool {
    matches!(module.types[ty].inner, TypeInner::Scalar(s) if s.kind == ScalarKind::Float && s.width == 4)
}
