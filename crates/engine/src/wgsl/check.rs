//! What a user's file must be, for a likelihood and for a simulator: valid WGSL, the right signatures, nothing that the cores
//! cannot evaluate, and nothing that a driver's front end will refuse. Invariant: every refusal is told by the user's own place.

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, ArraySize, Handle, Module, ScalarKind, Span, Type, TypeInner};

use super::bytecode::{Bytecode, Op};
use super::splice::Spliced;
use super::{WgslError, WgslSource, lower};
use crate::EngineError;

/// What a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Likelihood,
    Simulator,
}

impl Purpose {
    /// The kernel that runs it.
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Likelihood => "evaluate_likelihood",
            Self::Simulator => "evaluate_simulator",
        }
    }

    /// The function that it is.
    fn entry(self) -> &'static str {
        match self {
            Self::Likelihood => "log_likelihood",
            Self::Simulator => "simulate",
        }
    }

    /// Data and arrays of theta, for messages.
    fn arrays(self) -> (&'static str, &'static str) {
        match self {
            Self::Likelihood => ("theta of a WGSL likelihood", "data of a WGSL likelihood"),
            Self::Simulator => ("theta of a WGSL simulator", "data of a WGSL simulator"),
        }
    }

    /// An error in the words of the purpose; the checks speak of likelihoods.
    fn told(self, mut error: WgslError) -> WgslError {
        if self == Self::Simulator {
            error.message = error.message.replace("a likelihood", "a simulator");
        }
        error
    }
}

/// A file that passed every check, in 32 bits.
pub(super) struct Compiled {
    pub code: Bytecode,
    /// Whether it calls `data`.
    pub reads_data: bool,
}

/// Checks a file for its purpose.
pub(super) fn compile(source: &WgslSource, purpose: Purpose) -> Result<Compiled, EngineError> {
    let (theta, values) = purpose.arrays();
    if source.dim == 0 {
        let expected = "at least one parameter".into();
        return Err(EngineError::Length { what: theta, got: 0, expected });
    }
    if let Some(data) = &source.data
        && (data.n_columns == 0 || data.values.is_empty() || data.values.len() % data.n_columns != 0)
    {
        let expected = format!("one or more rows of {} columns", data.n_columns);
        return Err(EngineError::Length { what: values, got: data.values.len(), expected });
    }
    let spliced = Spliced::for_cores(source, purpose, false)?;
    // Allowed here, so that the refusal is told by the function's name.
    let (module, info) = checked(&spliced, source, purpose, Capabilities::SHADER_FLOAT16_IN_FLOAT32)
        .map_err(|e| purpose.told(e))?;
    signatures(&spliced, &module, source, purpose)?;
    let code = lowered(&spliced, &module, &info, source, purpose).map_err(|e| purpose.told(e))?;
    let reads_data = code.ops.iter().any(|op| matches!(op, Op::Data(..)));
    let device = Spliced::for_device(source, purpose, reads_data)?;
    let (module, info) =
        checked(&device, source, purpose, Capabilities::empty()).map_err(|e| purpose.told(e))?;
    translated(&device, &module, &info)?;
    Ok(Compiled { code, reads_data })
}

/// A likelihood in 64 bits. What compiles in 32 bits and not in 64 (a bitcast) is no mistake of the user.
pub(super) fn wide(source: &WgslSource) -> Result<Result<Bytecode, String>, EngineError> {
    let purpose = Purpose::Likelihood;
    let spliced = Spliced::for_cores(source, purpose, true)?;
    // The exponent that frexp takes out of an f64 is an i64 to naga.
    let capabilities = Capabilities::FLOAT64 | Capabilities::SHADER_INT64;
    Ok(checked(&spliced, source, purpose, capabilities)
        .and_then(|(module, info)| lowered(&spliced, &module, &info, source, purpose))
        .map_err(|error| {
            format!("{}:{} has no meaning in 64 bits: {}", error.file, error.line, error.message)
        }))
}

fn lowered(
    spliced: &Spliced,
    module: &Module,
    info: &ModuleInfo,
    source: &WgslSource,
    purpose: Purpose,
) -> Result<Bytecode, WgslError> {
    let derived = purpose == Purpose::Likelihood && source.n_derived > 0;
    lower::lower(module, info, spliced, purpose.entry(), derived)
        .map_err(|(span, message)| WgslError::spliced(spliced, [span], message))
}

/// Constants that are only there where the task names what they count.
const COUNTS: [(&str, &str); 5] = [
    ("`data`", "; the task names no data"),
    ("`n_rows`", "; the task names no data"),
    ("`n_columns`", "; the task names no data"),
    ("`X`", "; the task has no [simulator], which says how many there are"),
    ("`M`", "; the task names no derived quantities"),
];

/// Parses and validates.
fn checked(
    spliced: &Spliced,
    source: &WgslSource,
    purpose: Purpose,
    capabilities: Capabilities,
) -> Result<(Module, ModuleInfo), WgslError> {
    let module = naga::front::wgsl::parse_str(spliced.text()).map_err(|error| {
        let mut told = WgslError::parse(spliced, &error);
        let is_absent = |name: &str| match name {
            "`X`" => source.n_observed == 0,
            "`M`" => source.n_derived == 0,
            _ => source.data.is_none(),
        };
        if let Some((_, why)) = COUNTS.iter().find(|(name, _)| told.message.contains(name) && is_absent(name))
        {
            told.message.push_str(why);
        }
        told
    })?;
    let refuse = |span: Span, message: &str| Err(WgslError::spliced(spliced, [span], message));
    for (handle, variable) in module.global_variables.iter() {
        let span = module.global_variables.get_span(handle);
        let ours = span.to_range().is_some_and(|range| !spliced.user().contains(&range.start));
        if !ours && variable.space != AddressSpace::Private {
            return refuse(
                span,
                "a likelihood has no buffers or workgroup variables of its own; use data(row, column)",
            );
        }
    }
    for point in &module.entry_points {
        let text = &spliced.text()[spliced.user().clone()];
        if let Some(at) = text.find(point.name.as_str()).filter(|_| point.name != purpose.kernel()) {
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
fn translated(spliced: &Spliced, module: &Module, info: &ModuleInfo) -> Result<(), WgslError> {
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

/// Compares the user's functions with what is asked for.
fn signatures(
    spliced: &Spliced,
    module: &Module,
    source: &WgslSource,
    purpose: Purpose,
) -> Result<(), WgslError> {
    let (dim, n_derived, n_observed) = (source.dim, source.n_derived, source.n_observed);
    let theta = |ty| is_array(module, ty, dim);
    let stream = |ty| is_stream(module, ty);
    let number = |ty| is_f32(module, ty);
    let derived = |ty| is_array(module, ty, n_derived);
    let observed = |ty| is_array(module, ty, n_observed);
    let of_theta = format!("theta: array<f32, {dim}>");
    match purpose {
        Purpose::Likelihood => {
            let expected = format!("fn log_likelihood({of_theta}) -> f32");
            signature(spliced, module, "log_likelihood", &expected, &[&theta], &number)?;
            if n_derived > 0 {
                let expected = format!("fn derived({of_theta}) -> array<f32, {n_derived}>");
                return signature(spliced, module, "derived", &expected, &[&theta], &derived);
            }
            match named(module, "derived") {
                None => Ok(()),
                Some((handle, _)) => {
                    let message = "function `derived` is there, but the task names no derived quantities";
                    Err(WgslError::spliced(spliced, [module.functions.get_span(handle)], message))
                }
            }
        }
        Purpose::Simulator => {
            let expected =
                format!("fn simulate({of_theta}, stream: ptr<function, Random>) -> array<f32, {n_observed}>");
            signature(spliced, module, "simulate", &expected, &[&theta, &stream], &observed)
        }
    }
}

type Named<'m> = (Handle<naga::Function>, &'m naga::Function);

fn named<'m>(module: &'m Module, name: &str) -> Option<Named<'m>> {
    module.functions.iter().find(|(_, f)| f.name.as_deref() == Some(name))
}

type Accepts<'a> = &'a dyn Fn(Handle<Type>) -> bool;

/// Checks that a function is there, takes these arguments and gives this result.
fn signature(
    spliced: &Spliced,
    module: &Module,
    name: &str,
    expected: &str,
    arguments: &[Accepts<'_>],
    result: Accepts<'_>,
) -> Result<(), WgslError> {
    let Some((handle, function)) = named(module, name) else {
        let message = format!("function `{name}` is missing, expected `{expected}`");
        return Err(WgslError::at(spliced.file(), "", 0, message));
    };
    let takes = function.arguments.len() == arguments.len()
        && function.arguments.iter().zip(arguments).all(|(argument, accepts)| accepts(argument.ty));
    if takes && function.result.as_ref().is_some_and(|r| result(r.ty)) {
        return Ok(());
    }
    let span = module.functions.get_span(handle);
    let found = span.to_range().and_then(|range| spliced.text().get(range));
    let found = found.and_then(|text| text.split('{').next()).unwrap_or(name).trim();
    let message = format!("function `{name}` is declared as `{found}`, expected `{expected}`");
    Err(WgslError::spliced(spliced, [span], message))
}

fn is_array(module: &Module, ty: Handle<Type>, n: usize) -> bool {
    match module.types[ty].inner {
        TypeInner::Array { base, size: ArraySize::Constant(len), .. } => {
            is_f32(module, base) && len.get() as usize == n
        }
        _ => false,
    }
}

/// A pointer to our struct of random numbers.
fn is_stream(module: &Module, ty: Handle<Type>) -> bool {
    match module.types[ty].inner {
        TypeInner::Pointer { base, space: AddressSpace::Function } => {
            module.types[base].name.as_deref() == Some("Random")
        }
        _ => false,
    }
}

fn is_f32(module: &Module, ty: Handle<Type>) -> bool {
    matches!(module.types[ty].inner, TypeInner::Scalar(s) if s.kind == ScalarKind::Float && s.width == 4)
}
