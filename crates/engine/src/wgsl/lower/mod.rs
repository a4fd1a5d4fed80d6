//! From naga's IR to bytecode. Composite values are lists of registers, so that taking them apart costs nothing.
//! Invariant: what cannot be evaluated is refused here, by name and place; the evaluator meets only what it can do.

mod body;
mod expression;
mod inline;
mod math;
mod operator;
mod place;
mod statement;

use std::collections::{HashMap, HashSet};

use naga::{ArraySize, Handle, Module, ScalarKind, Span, Type, TypeInner};

use super::bytecode::{Bytecode, Function, Op, Reg};
use super::splice::{NATIVE, Spliced};
use body::Body;

/// A refusal: where, and why.
pub(super) type Refused = (Span, String);

/// Registers of all scalars of a value, in order.
pub(super) type Value = Vec<Reg>;

/// The file of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F,
    I,
}

/// State of one program's lowering.
pub(super) struct Lowering<'m> {
    module: &'m Module,
    info: &'m naga::valid::ModuleInfo,
    spliced: &'m Spliced,
    code: Bytecode,
    known_f: HashMap<u64, u32>,
    known_i: HashMap<u32, u32>,
    globals: HashMap<Handle<naga::GlobalVariable>, Value>,
    functions: HashMap<Handle<naga::Function>, usize>,
    /// Registers that are written more than once: variables and results.
    variables: HashSet<Reg>,
}

/// The bytecode of the function `entry` and, if wanted, `derived` of a module.
pub(super) fn lower(
    module: &Module,
    info: &naga::valid::ModuleInfo,
    spliced: &Spliced,
    entry: &str,
    with_derived: bool,
) -> Result<Bytecode, Refused> {
    let mut lowering = Lowering {
        module,
        info,
        spliced,
        code: Bytecode::default(),
        known_f: HashMap::new(),
        known_i: HashMap::new(),
        globals: HashMap::new(),
        functions: HashMap::new(),
        variables: HashSet::new(),
    };
    lowering.private_variables()?;
    let entry = lowering.named(entry)?;
    let derived = if with_derived { Some(lowering.named("derived")?) } else { None };
    let mut code = lowering.code;
    (code.entry, code.derived) = (entry, derived);
    Ok(code)
}

impl<'m> Lowering<'m> {
    fn named(&mut self, name: &str) -> Result<usize, Refused> {
        let found = self.module.functions.iter().find(|(_, f)| f.name.as_deref() == Some(name));
        let (handle, _) = found.ok_or_else(|| (Span::UNDEFINED, format!("function `{name}` is missing")))?;
        self.function(handle)
    }

    /// The index of a function, lowered now or before.
    fn function(&mut self, handle: Handle<naga::Function>) -> Result<usize, Refused> {
        if let Some(&at) = self.functions.get(&handle) {
            return Ok(at);
        }
        let function = &self.module.functions[handle];
        let span = self.module.functions.get_span(handle);
        let mut lowered = Function::default();
        for argument in &function.arguments {
            let by_pointer = match self.module.types[argument.ty].inner {
                TypeInner::Pointer { base, .. } => Some(base),
                _ => None,
            };
            let value = self.fresh_of(by_pointer.unwrap_or(argument.ty), span)?;
            if by_pointer.is_some() {
                self.variables.extend(&value);
            }
            lowered.arguments.push(value);
        }
        if let Some(result) = &function.result {
            lowered.result = self.fresh_of(result.ty, span)?;
            self.variables.extend(&lowered.result);
        }
        let body = Body::new(self, handle, &lowered.arguments, &lowered.result)?.lower()?;
        lowered.body = body;
        self.code.functions.push(lowered);
        let at = self.code.functions.len() - 1;
        self.functions.insert(handle, at);
        Ok(at)
    }

    /// Registers of `var<private>`, and the operations that begin them.
    fn private_variables(&mut self) -> Result<(), Refused> {
        let begin = self.code.ops.len();
        for (handle, variable) in self.module.global_variables.iter() {
            let span = self.module.global_variables.get_span(handle);
            if variable.space != naga::AddressSpace::Private {
                let name = variable.name.as_deref().unwrap_or_default();
                return Err((span, format!("variable `{name}` must be in address space private")));
            }
            let value = self.fresh_of(variable.ty, span)?;
            self.variables.extend(&value);
            let init = match variable.init {
                Some(init) => self.constant(init, span)?,
                None => self.zero(variable.ty, span)?,
            };
            self.copy(&value, &init);
            self.globals.insert(handle, value);
        }
        self.code.prologue = (begin, self.code.ops.len());
        Ok(())
    }

    /// Unmasked copies, register by register.
    fn copy(&mut self, to: &[Reg], from: &[Reg]) {
        for pair in to.iter().zip(from) {
            self.code.ops.push(match pair {
                (Reg::F(d), Reg::F(s)) => Op::CopyF(*d, *s),
                (Reg::I(d), Reg::I(s)) => Op::CopyI(*d, *s),
                // Both sides have one type, so this does not happen.
                _ => continue,
            });
        }
    }

    fn fresh(&mut self, kind: Kind) -> Reg {
        let count = match kind {
            Kind::F => &mut self.code.n_f,
            Kind::I => &mut self.code.n_i,
        };
        *count += 1;
        let at = *count as u32 - 1;
        match kind {
            Kind::F => Reg::F(at),
            Kind::I => Reg::I(at),
        }
    }

    fn fresh_of(&mut self, ty: Handle<Type>, span: Span) -> Result<Value, Refused> {
        let kinds = self.kinds(&self.module.types[ty].inner, span)?;
        Ok(kinds.into_iter().map(|kind| self.fresh(kind)).collect())
    }

    fn float(&mut self, value: f64) -> Reg {
        let next = self.code.n_f as u32;
        let at = *self.known_f.entry(value.to_bits()).or_insert(next);
        if at == next {
            self.code.n_f += 1;
            self.code.constants_f.push((at, value));
        }
        Reg::F(at)
    }

    fn integer(&mut self, value: u32) -> Reg {
        let next = self.code.n_i as u32;
        let at = *self.known_i.entry(value).or_insert(next);
        if at == next {
            self.code.n_i += 1;
            self.code.constants_i.push((at, value));
        }
        Reg::I(at)
    }

    fn is_constant(&self, reg: Reg) -> bool {
        match reg {
            Reg::F(at) => self.known_f.values().any(|c| *c == at),
            Reg::I(at) => self.known_i.values().any(|c| *c == at),
        }
    }

    fn zero(&mut self, ty: Handle<Type>, span: Span) -> Result<Value, Refused> {
        let kinds = self.kinds(&self.module.types[ty].inner, span)?;
        Ok(kinds
            .into_iter()
            .map(|kind| match kind {
                Kind::F => self.float(0.0),
                Kind::I => self.integer(0),
            })
            .collect())
    }

    /// The files of a type's scalars.
    fn kinds(&self, inner: &TypeInner, span: Span) -> Result<Vec<Kind>, Refused> {
        let refuse = |what: &str| Err((span, format!("{what} is not supported in a likelihood")));
        let scalar = |s: naga::Scalar| match (s.kind, s.width) {
            (ScalarKind::Float, 4 | 8) => Ok(Kind::F),
            // Eight bytes: what naga makes of frexp in 64 bits.
            (ScalarKind::Sint, 4 | 8) | (ScalarKind::Uint, 4) | (ScalarKind::Bool, _) => Ok(Kind::I),
            (kind, width) => Err((
                span,
                format!("a scalar of kind {kind:?} with {width} bytes is not supported in a likelihood"),
            )),
        };
        match *inner {
            TypeInner::Scalar(s) => Ok(vec![scalar(s)?]),
            TypeInner::Vector { size, scalar: s } => Ok(vec![scalar(s)?; size as usize]),
            TypeInner::Matrix { columns, rows, scalar: s } => {
                Ok(vec![scalar(s)?; columns as usize * rows as usize])
            }
            TypeInner::Array { base, size: ArraySize::Constant(n), .. } => {
                let element = self.kinds(&self.module.types[base].inner, span)?;
                let n = n.get() as usize;
                if n * element.len() > MAX_SCALARS {
                    return Err((
                        span,
                        format!("an array of {} scalars, expected at most {MAX_SCALARS}", n * element.len()),
                    ));
                }
                Ok(element.repeat(n))
            }
            TypeInner::Struct { ref members, .. } => {
                let mut kinds = Vec::new();
                for member in members {
                    kinds.extend(self.kinds(&self.module.types[member.ty].inner, span)?);
                }
                Ok(kinds)
            }
            TypeInner::Atomic(_) => refuse("an atomic"),
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => refuse("a pointer as a value"),
            TypeInner::Array { .. } => refuse("an array without a constant size"),
            TypeInner::Image { .. } | TypeInner::Sampler { .. } => refuse("a texture or sampler"),
            _ => refuse("this type"),
        }
    }

    /// A constant expression of the module.
    fn constant(&mut self, handle: Handle<naga::Expression>, span: Span) -> Result<Value, Refused> {
        use naga::Expression as E;
        match &self.module.global_expressions[handle] {
            E::Literal(literal) => Ok(vec![self.literal(literal, span)?]),
            E::Constant(c) => self.constant(self.module.constants[*c].init, span),
            E::ZeroValue(ty) => self.zero(*ty, span),
            E::Compose { components, .. } => {
                let mut value = Vec::new();
                for component in components {
                    value.extend(self.constant(*component, span)?);
                }
                Ok(value)
            }
            E::Splat { size, value } => {
                let value = self.constant(*value, span)?;
                Ok(value.repeat(*size as usize))
            }
            E::Override(_) => Err((span, "an override is not supported in a likelihood".into())),
            _ => Err((span, "this constant expression is not supported in a likelihood".into())),
        }
    }

    fn literal(&mut self, literal: &naga::Literal, span: Span) -> Result<Reg, Refused> {
        use naga::Literal as L;
        Ok(match *literal {
            L::F64(v) | L::AbstractFloat(v) => self.float(v),
            L::F32(v) => self.float(f64::from(v)),
            L::U32(v) => self.integer(v),
            L::I32(v) => self.integer(v.cast_unsigned()),
            L::AbstractInt(v) => self.integer(v as u32),
            L::Bool(v) => self.integer(if v { u32::MAX } else { 0 }),
            other => return Err((span, format!("literal {other:?} is not supported in a likelihood"))),
        })
    }

    /// The name of a function that the cores have as an operation.
    fn native(&self, handle: Handle<naga::Function>) -> Option<&'m str> {
        let name = self.module.functions[handle].name.as_deref()?;
        let range = self.module.functions.get_span(handle).to_range()?;
        let ours = !self.spliced.user().contains(&range.start);
        (ours && (name == "data" || NATIVE.iter().any(|(n, _)| *n == name))).then_some(name)
    }
}

/// Most scalars of one array: each takes a register of every lane.
const MAX_SCALARS: usize = 4096;
