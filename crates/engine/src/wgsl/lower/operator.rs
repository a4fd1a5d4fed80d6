//! Unary and binary operators, component by component and for matrices.
//! Invariant: sums of products run from the first component to the last.

use naga::{BinaryOperator, Expression, Handle, ScalarKind, TypeInner, UnaryOperator};

use super::super::bytecode::{Compare, F1, F2, I1, I2, Op, Reg};
use super::body::Body;
use super::{Refused, Value};

fn at(reg: Reg) -> u32 {
    let (Reg::F(at) | Reg::I(at)) = reg;
    at
}

impl Body<'_, '_> {
    pub fn f1(&mut self, f: F1, a: Reg) -> Reg {
        let d = self.f();
        self.op(Op::F1(f, d, at(a)));
        Reg::F(d)
    }

    pub fn f2(&mut self, f: F2, a: Reg, b: Reg) -> Reg {
        let d = self.f();
        self.op(Op::F2(f, d, at(a), at(b)));
        Reg::F(d)
    }

    pub fn i1(&mut self, f: I1, a: Reg) -> Reg {
        let d = self.i();
        self.op(Op::I1(f, d, at(a)));
        Reg::I(d)
    }

    pub fn i2(&mut self, f: I2, a: Reg, b: Reg) -> Reg {
        let d = self.i();
        self.op(Op::I2(f, d, at(a), at(b)));
        Reg::I(d)
    }

    pub fn compare(&mut self, f: Compare, a: Reg, b: Reg) -> Reg {
        let d = self.i();
        self.op(Op::Compare(f, d, at(a), at(b)));
        Reg::I(d)
    }

    pub fn unary(
        &mut self,
        handle: Handle<Expression>,
        op: UnaryOperator,
        expr: Handle<Expression>,
    ) -> Result<Value, Refused> {
        let source = self.operand(expr)?;
        let mut value = Value::with_capacity(source.len());
        for reg in source {
            value.push(match (op, reg) {
                (UnaryOperator::Negate, Reg::F(_)) => self.f1(F1::Neg, reg),
                (UnaryOperator::Negate, Reg::I(_)) => self.i1(I1::Neg, reg),
                (UnaryOperator::LogicalNot | UnaryOperator::BitwiseNot, Reg::I(_)) => self.i1(I1::Not, reg),
                _ => return self.refuse(handle, "this operator"),
            });
        }
        Ok(value)
    }

    pub fn binary(
        &mut self,
        handle: Handle<Expression>,
        op: BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
    ) -> Result<Value, Refused> {
        let kind = self.scalar_kind(left);
        let (a, b) = (self.operand(left)?, self.operand(right)?);
        let types = &self.l.module.types;
        let shapes = (self.info[left].ty.inner_with(types), self.info[right].ty.inner_with(types));
        if op == BinaryOperator::Multiply {
            match shapes {
                (&TypeInner::Matrix { rows, .. }, &TypeInner::Matrix { rows: inner, .. }) => {
                    let columns = b.chunks_exact(inner as usize);
                    return Ok(columns.flat_map(|c| self.matrix_vector(&a, rows as usize, c)).collect());
                }
                (&TypeInner::Matrix { rows, .. }, TypeInner::Vector { .. }) => {
                    return Ok(self.matrix_vector(&a, rows as usize, &b));
                }
                (TypeInner::Vector { .. }, &TypeInner::Matrix { rows, .. }) => {
                    return Ok(b.chunks_exact(rows as usize).map(|column| self.dot(&a, column)).collect());
                }
                _ => {}
            }
        }
        let n = a.len().max(b.len());
        let mut value = Value::with_capacity(n);
        for c in 0..n {
            let (x, y) = (a[if a.len() == 1 { 0 } else { c }], b[if b.len() == 1 { 0 } else { c }]);
            value.push(self.scalar_binary(handle, op, kind, x, y)?);
        }
        Ok(value)
    }

    fn scalar_binary(
        &mut self,
        handle: Handle<Expression>,
        op: BinaryOperator,
        kind: ScalarKind,
        x: Reg,
        y: Reg,
    ) -> Result<Reg, Refused> {
        use BinaryOperator as B;
        let signed = kind == ScalarKind::Sint;
        let either = |s: I2, u: I2| if signed { s } else { u };
        Ok(match (op, x) {
            (B::Add, Reg::F(_)) => self.f2(F2::Add, x, y),
            (B::Subtract, Reg::F(_)) => self.f2(F2::Sub, x, y),
            (B::Multiply, Reg::F(_)) => self.f2(F2::Mul, x, y),
            (B::Divide, Reg::F(_)) => self.f2(F2::Div, x, y),
            (B::Modulo, Reg::F(_)) => self.f2(F2::Rem, x, y),
            (B::Equal, Reg::F(_)) => self.compare(Compare::Eq, x, y),
            (B::NotEqual, Reg::F(_)) => self.compare(Compare::Ne, x, y),
            (B::Less, Reg::F(_)) => self.compare(Compare::Lt, x, y),
            (B::LessEqual, Reg::F(_)) => self.compare(Compare::Le, x, y),
            (B::Greater, Reg::F(_)) => self.compare(Compare::Lt, y, x),
            (B::GreaterEqual, Reg::F(_)) => self.compare(Compare::Le, y, x),
            (B::Add, Reg::I(_)) => self.i2(I2::Add, x, y),
            (B::Subtract, Reg::I(_)) => self.i2(I2::Sub, x, y),
            (B::Multiply, Reg::I(_)) => self.i2(I2::Mul, x, y),
            (B::Divide, Reg::I(_)) => self.i2(either(I2::DivS, I2::DivU), x, y),
            (B::Modulo, Reg::I(_)) => self.i2(either(I2::RemS, I2::RemU), x, y),
            (B::Equal, Reg::I(_)) => self.i2(I2::Eq, x, y),
            (B::NotEqual, Reg::I(_)) => self.i2(I2::Ne, x, y),
            (B::Less, Reg::I(_)) => self.i2(either(I2::LtS, I2::LtU), x, y),
            (B::LessEqual, Reg::I(_)) => self.i2(either(I2::LeS, I2::LeU), x, y),
            (B::Greater, Reg::I(_)) => self.i2(either(I2::LtS, I2::LtU), y, x),
            (B::GreaterEqual, Reg::I(_)) => self.i2(either(I2::LeS, I2::LeU), y, x),
            (B::And | B::LogicalAnd, Reg::I(_)) => self.i2(I2::And, x, y),
            (B::InclusiveOr | B::LogicalOr, Reg::I(_)) => self.i2(I2::Or, x, y),
            (B::ExclusiveOr, Reg::I(_)) => self.i2(I2::Xor, x, y),
            (B::ShiftLeft, Reg::I(_)) => self.i2(I2::Shl, x, y),
            (B::ShiftRight, Reg::I(_)) => self.i2(either(I2::ShrS, I2::ShrU), x, y),
            _ => return self.refuse(handle, &format!("operator {op:?}")),
        })
    }

    pub fn dot(&mut self, a: &[Reg], b: &[Reg]) -> Reg {
        let is_float = matches!(a[0], Reg::F(_));
        let mut sum = None;
        for (&x, &y) in a.iter().zip(b) {
            let product = if is_float { self.f2(F2::Mul, x, y) } else { self.i2(I2::Mul, x, y) };
            sum = Some(match sum {
                None => product,
                Some(sum) if is_float => self.f2(F2::Add, sum, product),
                Some(sum) => self.i2(I2::Add, sum, product),
            });
        }
        sum.unwrap_or(a[0])
    }

    fn matrix_vector(&mut self, matrix: &[Reg], rows: usize, vector: &[Reg]) -> Value {
        (0..rows)
            .map(|r| {
                let row: Value = matrix.iter().skip(r).step_by(rows).copied().collect();
                self.dot(&row, vector)
            })
            .collect()
    }
}
