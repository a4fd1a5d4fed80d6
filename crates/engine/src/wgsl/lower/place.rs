//! Pointers: where they point, loads and stores. Invariant: an index outside means the last element, as on the device.

use naga::{Expression, Handle, TypeInner};

use super::super::bytecode::{I2, Op, Reg};
use super::body::{Body, Place};
use super::{Refused, Value};

impl Body<'_, '_> {
    /// The place of a pointer expression.
    pub fn place(&mut self, handle: Handle<Expression>) -> Result<Place, Refused> {
        if let Some(place) = &self.places[handle.index()] {
            return Ok(place.clone());
        }
        let whole = |value: Value| Place { options: vec![value], index: None };
        let place = match self.function.expressions[handle] {
            Expression::LocalVariable(local) => whole(self.locals[local.index()].clone()),
            Expression::GlobalVariable(global) => match self.l.globals.get(&global) {
                Some(value) => whole(value.clone()),
                None => return self.refuse(handle, "this variable"),
            },
            Expression::FunctionArgument(at) => whole(self.arguments[at as usize].clone()),
            Expression::AccessIndex { base, index } => {
                let inner = self.place(base)?;
                self.spend(base);
                let range = self.element(base, index as usize)?;
                let options = inner.options.iter().map(|o| o[range.clone()].to_vec()).collect();
                Place { options, index: inner.index }
            }
            Expression::Access { base, index } => {
                let inner = self.place(base)?;
                self.spend(base);
                let mut at = self.integer_value(index)?;
                self.spend(index);
                if self.l.variables.contains(&Reg::I(at)) {
                    // The pointer stays where it is when the variable goes on.
                    let fixed = self.i();
                    self.op(Op::CopyI(fixed, at));
                    at = fixed;
                }
                self.indexed(base, inner, at)?
            }
            _ => return self.refuse(handle, "this pointer"),
        };
        self.places[handle.index()] = Some(place.clone());
        Ok(place)
    }

    /// Registers of element `index` within the value of `base` or what it points to.
    pub fn element(&self, base: Handle<Expression>, index: usize) -> Result<std::ops::Range<usize>, Refused> {
        let span = self.span(base);
        let types = &self.l.module.types;
        let mut inner = self.info[base].ty.inner_with(types);
        if let TypeInner::Pointer { base, .. } = inner {
            inner = &types[*base].inner;
        }
        if let TypeInner::Struct { members, .. } = inner {
            let mut begin = 0;
            for (i, member) in members.iter().enumerate() {
                let len = self.l.kinds(&types[member.ty].inner, span)?.len();
                if i == index {
                    return Ok(begin..begin + len);
                }
                begin += len;
            }
            return self.refuse(base, "this member");
        }
        let len = match *inner {
            TypeInner::Array { base, .. } => self.l.kinds(&types[base].inner, span)?.len(),
            TypeInner::Matrix { rows, .. } => rows as usize,
            TypeInner::ValuePointer { .. } | TypeInner::Vector { .. } => 1,
            _ => return self.refuse(base, "this access"),
        };
        Ok(index * len..(index + 1) * len)
    }

    /// The place of element `at` (an integer register) of the place of `base`.
    fn indexed(&mut self, base: Handle<Expression>, inner: Place, at: u32) -> Result<Place, Refused> {
        let len = self.element(base, 0)?.len().max(1);
        let n = inner.options.first().map_or(0, Vec::len) / len;
        let mut options = Vec::with_capacity(inner.options.len() * n);
        for option in &inner.options {
            options.extend(option.chunks_exact(len).map(<[Reg]>::to_vec));
        }
        let index = match inner.index {
            None => at,
            Some(outer) => {
                let (last, stride) = (self.constant_i(n.saturating_sub(1) as u32), self.constant_i(n as u32));
                let (clamped, scaled, sum, outer_last) =
                    (self.i(), self.i(), self.i(), self.constant_i(inner.options.len() as u32 - 1));
                let outer_clamped = self.i();
                self.op(Op::I2(I2::MinU, clamped, at, last));
                self.op(Op::I2(I2::MinU, outer_clamped, outer, outer_last));
                self.op(Op::I2(I2::Mul, scaled, outer_clamped, stride));
                self.op(Op::I2(I2::Add, sum, scaled, clamped));
                sum
            }
        };
        Ok(Place { options, index: Some(index) })
    }

    pub fn constant_i(&mut self, value: u32) -> u32 {
        match self.l.integer(value) {
            Reg::F(at) | Reg::I(at) => at,
        }
    }

    /// What is there: the variable's own registers, unless an index chooses.
    pub fn load(&mut self, place: &Place) -> Value {
        match place.index {
            None => place.options[0].clone(),
            Some(index) => self.gather(&place.options, index),
        }
    }

    /// Stores in the lanes at work. `moved`: nothing else asks for the value's registers.
    pub fn store(&mut self, place: &Place, value: &[Reg], moved: bool) {
        let touched: Vec<Reg> = place.options.iter().flatten().copied().collect();
        self.protect(Some(&touched));
        // A value that is made of the variable itself (v = v.yx) must not be overwritten half way.
        let value = if value.len() > 1 && value.iter().any(|reg| touched.contains(reg)) {
            self.copied(value)
        } else {
            value.to_vec()
        };
        for (c, source) in value.iter().enumerate() {
            match (place.index, place.options[0][c], *source) {
                (None, Reg::F(d), Reg::F(s)) if moved => self.op(Op::MoveF(d, s)),
                (None, Reg::I(d), Reg::I(s)) if moved => self.op(Op::MoveI(d, s)),
                (None, Reg::F(d), Reg::F(s)) => self.op(Op::StoreF(d, s)),
                (None, Reg::I(d), Reg::I(s)) => self.op(Op::StoreI(d, s)),
                (Some(index), Reg::F(_), Reg::F(s)) => {
                    let table = self.table(&place.options, c);
                    self.op(Op::ScatterF(table, index, s));
                }
                (Some(index), Reg::I(_), Reg::I(s)) => {
                    let table = self.table(&place.options, c);
                    self.op(Op::ScatterI(table, index, s));
                }
                // Both sides have one type, so this does not happen.
                _ => {}
            }
        }
    }
}
