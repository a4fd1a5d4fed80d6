//! Values of expressions. Invariant: an expression that naga emits is evaluated where it is emitted and nowhere else;
//! constants, arguments and pointers to whole variables are there at any time.

use naga::{Expression, Handle, ScalarKind, TypeInner};

use super::super::bytecode::{FtoI, I1, I2, ItoF, Op, Reg};
use super::body::Body;
use super::{Refused, Value};

/// Calls `f` with every operand of an expression.
pub(super) fn operands(expression: &Expression, f: &mut impl FnMut(Handle<Expression>)) {
    use Expression as E;
    match expression {
        E::Compose { components, .. } => components.iter().for_each(|c| f(*c)),
        E::Access { base, index } => [*base, *index].into_iter().for_each(f),
        E::AccessIndex { base: a, .. }
        | E::Splat { value: a, .. }
        | E::Swizzle { vector: a, .. }
        | E::Load { pointer: a }
        | E::Unary { expr: a, .. }
        | E::Relational { argument: a, .. }
        | E::As { expr: a, .. }
        | E::ArrayLength(a) => f(*a),
        E::Binary { left, right, .. } => [*left, *right].into_iter().for_each(f),
        E::Select { condition, accept, reject } => [*condition, *accept, *reject].into_iter().for_each(f),
        E::Math { arg, arg1, arg2, arg3, .. } => {
            f(*arg);
            [arg1, arg2, arg3].into_iter().flatten().for_each(|a| f(*a));
        }
        _ => {}
    }
}

impl Body<'_, '_> {
    /// The value of an expression that is there: emitted before, or one that needs no emitting.
    pub fn value(&mut self, handle: Handle<Expression>) -> Result<Value, Refused> {
        if let Some(value) = &self.values[handle.index()] {
            return Ok(value.clone());
        }
        let value = self.computed(handle)?;
        self.set(handle, value.clone());
        Ok(value)
    }

    /// The value of an operand, which is asked for once less from here on.
    pub fn operand(&mut self, handle: Handle<Expression>) -> Result<Value, Refused> {
        let value = self.value(handle)?;
        self.spend(handle);
        Ok(value)
    }

    /// Evaluates an expression where naga emits it.
    pub fn emit(&mut self, handle: Handle<Expression>) -> Result<(), Refused> {
        let types = &self.l.module.types;
        match self.info[handle].ty.inner_with(types) {
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => {
                self.places[handle.index()] = None;
                self.place(handle).map(|_| ())
            }
            _ => {
                let value = self.computed(handle)?;
                self.set(handle, value);
                Ok(())
            }
        }
    }

    /// The single integer register of a scalar.
    pub fn integer_value(&mut self, handle: Handle<Expression>) -> Result<u32, Refused> {
        match self.value(handle)?.as_slice() {
            [Reg::I(at)] => Ok(*at),
            _ => self.refuse(handle, "this index or condition"),
        }
    }

    /// Kind of the scalars of an expression.
    pub fn scalar_kind(&self, handle: Handle<Expression>) -> ScalarKind {
        let inner = self.info[handle].ty.inner_with(&self.l.module.types);
        inner.scalar().map_or(ScalarKind::Bool, |s| s.kind)
    }

    fn computed(&mut self, handle: Handle<Expression>) -> Result<Value, Refused> {
        use Expression as E;
        let span = self.span(handle);
        match self.function.expressions[handle] {
            E::Literal(ref literal) => Ok(vec![self.l.literal(literal, span)?]),
            E::Constant(c) => self.l.constant(self.l.module.constants[c].init, span),
            E::ZeroValue(ty) => self.l.zero(ty, span),
            E::FunctionArgument(at) => Ok(self.arguments[at as usize].clone()),
            E::Compose { ref components, .. } => {
                let mut value = Value::new();
                for component in components {
                    value.extend(self.operand(*component)?);
                }
                Ok(value)
            }
            E::Splat { size, value } => Ok(self.operand(value)?.repeat(size as usize)),
            E::Swizzle { size, vector, pattern } => {
                let value = self.operand(vector)?;
                Ok(pattern[..size as usize].iter().map(|c| value[*c as usize]).collect())
            }
            E::AccessIndex { base, index } => {
                let range = self.element(base, index as usize)?;
                Ok(self.operand(base)?[range].to_vec())
            }
            E::Access { base, index } => {
                let at = self.integer_value(index)?;
                self.spend(index);
                let len = self.element(base, 0)?.len().max(1);
                let value = self.operand(base)?;
                let options: Vec<Value> = value.chunks_exact(len).map(<[Reg]>::to_vec).collect();
                Ok(self.gather(&options, at))
            }
            E::Load { pointer } => {
                let place = self.place(pointer)?;
                Ok(self.load(&place))
            }
            E::Unary { op, expr } => self.unary(handle, op, expr),
            E::Binary { op, left, right } => self.binary(handle, op, left, right),
            E::Select { condition, accept, reject } => {
                let condition = self.operand(condition)?;
                let (accept, reject) = (self.operand(accept)?, self.operand(reject)?);
                let n = accept.len();
                let mut value = Value::with_capacity(n);
                for c in 0..n {
                    let mask = condition[if condition.len() == 1 { 0 } else { c }];
                    value.push(self.select(mask, accept[c], reject[c]));
                }
                Ok(value)
            }
            E::Relational { fun, argument } => {
                let parts = self.operand(argument)?;
                let op = match fun {
                    naga::RelationalFunction::All => I2::And,
                    naga::RelationalFunction::Any => I2::Or,
                    _ => return self.refuse(handle, &format!("function {fun:?}")),
                };
                let mut sum = parts[0];
                for part in &parts[1..] {
                    sum = self.i2(op, sum, *part);
                }
                Ok(vec![sum])
            }
            E::Math { fun, arg, arg1, arg2, arg3 } => {
                let mut arguments = vec![self.operand(arg)?];
                for a in [arg1, arg2, arg3].into_iter().flatten() {
                    arguments.push(self.operand(a)?);
                }
                self.math(handle, fun, arg, &arguments)
            }
            E::As { expr, kind, convert } => self.cast(handle, expr, kind, convert),
            E::CallResult(_) => self.refuse(handle, "a call in this place"),
            E::Override(_) => self.refuse(handle, "an override"),
            E::ArrayLength(_) => self.refuse(handle, "arrayLength"),
            E::ImageSample { .. } | E::ImageLoad { .. } | E::ImageQuery { .. } => {
                self.refuse(handle, "a texture")
            }
            E::Derivative { .. } => self.refuse(handle, "a derivative (dpdx, dpdy, fwidth)"),
            E::AtomicResult { .. } => self.refuse(handle, "an atomic operation"),
            E::SubgroupBallotResult | E::SubgroupOperationResult { .. } => {
                self.refuse(handle, "a subgroup operation")
            }
            _ => self.refuse(handle, "this expression"),
        }
    }

    pub fn select(&mut self, mask: Reg, accept: Reg, reject: Reg) -> Reg {
        let (Reg::F(m) | Reg::I(m)) = mask;
        match (accept, reject) {
            (Reg::F(a), Reg::F(r) | Reg::I(r)) => {
                let d = self.f();
                self.op(Op::SelectF(d, m, a, r));
                Reg::F(d)
            }
            (Reg::I(a), Reg::I(r) | Reg::F(r)) => {
                let d = self.i();
                self.op(Op::SelectI(d, m, a, r));
                Reg::I(d)
            }
        }
    }

    fn cast(
        &mut self,
        handle: Handle<Expression>,
        expr: Handle<Expression>,
        kind: ScalarKind,
        convert: Option<naga::Bytes>,
    ) -> Result<Value, Refused> {
        use ScalarKind as K;
        let from = self.scalar_kind(expr);
        let source = self.operand(expr)?;
        if convert.is_some_and(|width| width == 2 || (width == 8 && kind != K::Float)) {
            return self.refuse(handle, "a scalar of this width");
        }
        let inner = self.info[expr].ty.inner_with(&self.l.module.types);
        if convert.is_none() && inner.scalar_width() == Some(8) {
            return self.refuse(handle, "a bitcast of 64 bits");
        }
        let mut value = Value::with_capacity(source.len());
        for reg in source {
            value.push(match (reg, kind, convert.is_some()) {
                (Reg::F(_), K::Float, _) => reg,
                (Reg::F(s), K::Sint | K::Uint, false) => self.f_to_i(FtoI::Bits, s),
                (Reg::F(s), K::Sint, true) => self.f_to_i(FtoI::ToI32, s),
                (Reg::F(s), K::Uint, true) => self.f_to_i(FtoI::ToU32, s),
                (Reg::F(s), K::Bool, _) => self.f_to_i(FtoI::NotZero, s),
                (Reg::I(s), K::Float, false) => self.i_to_f(ItoF::Bits, s),
                (Reg::I(s), K::Float, true) => {
                    let how = match from {
                        K::Sint => ItoF::OfI32,
                        K::Bool => ItoF::OfBool,
                        _ => ItoF::OfU32,
                    };
                    self.i_to_f(how, s)
                }
                (Reg::I(_), K::Bool, _) if from == K::Bool => reg,
                (Reg::I(_), K::Bool, _) => self.i1(I1::ToBool, reg),
                (Reg::I(_), K::Sint | K::Uint, true) if from == K::Bool => self.i1(I1::FromBool, reg),
                (Reg::I(_), K::Sint | K::Uint, _) => reg,
                _ => return self.refuse(handle, "this conversion"),
            });
        }
        Ok(value)
    }

    pub fn f_to_i(&mut self, how: FtoI, source: u32) -> Reg {
        let d = self.i();
        self.op(Op::FtoI(how, d, source));
        Reg::I(d)
    }

    pub fn i_to_f(&mut self, how: ItoF, source: u32) -> Reg {
        let d = self.f();
        self.op(Op::ItoF(how, d, source));
        Reg::F(d)
    }
}
