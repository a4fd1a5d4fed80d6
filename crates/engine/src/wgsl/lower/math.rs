//! The built-in functions of WGSL and those of the likelihood's own prelude.
//! Invariant: a function that is not in these tables is refused by its WGSL name.

use naga::{Expression, Handle, MathFunction, ScalarKind, TypeInner};

use super::super::bytecode::{Compare, F1, F2, FtoI, I1, I2, Op, Reg};
use super::body::Body;
use super::{Refused, Value};

/// Functions of one float, component by component.
fn f1_of(fun: MathFunction) -> Option<F1> {
    use MathFunction as M;
    Some(match fun {
        M::Abs => F1::Abs,
        M::Sign => F1::Sign,
        M::Ceil => F1::Ceil,
        M::Floor => F1::Floor,
        M::Round => F1::Round,
        M::Trunc => F1::Trunc,
        M::Fract => F1::Fract,
        M::Sqrt => F1::Sqrt,
        M::InverseSqrt => F1::InverseSqrt,
        M::Exp => F1::Exp,
        M::Exp2 => F1::Exp2,
        M::Log => F1::Log,
        M::Log2 => F1::Log2,
        M::Sin => F1::Sin,
        M::Cos => F1::Cos,
        M::Tan => F1::Tan,
        M::Asin => F1::Asin,
        M::Acos => F1::Acos,
        M::Atan => F1::Atan,
        M::Sinh => F1::Sinh,
        M::Cosh => F1::Cosh,
        M::Tanh => F1::Tanh,
        M::Asinh => F1::Asinh,
        M::Acosh => F1::Acosh,
        M::Atanh => F1::Atanh,
        _ => return None,
    })
}

/// The name in WGSL: naga's own with a small first letter.
fn wgsl_name(fun: MathFunction) -> String {
    let name = format!("{fun:?}");
    name[..1].to_lowercase() + &name[1..]
}

impl Body<'_, '_> {
    /// `fun` of values; `first` is the expression of the first, for its type.
    pub fn math(
        &mut self,
        handle: Handle<Expression>,
        fun: MathFunction,
        first: Handle<Expression>,
        args: &[Value],
    ) -> Result<Value, Refused> {
        use MathFunction as M;
        let is_float = self.scalar_kind(first) == ScalarKind::Float;
        let a = &args[0];
        match fun {
            M::Dot => return Ok(vec![self.dot(a, &args[1])]),
            M::Length => return Ok(vec![self.length(a)]),
            M::Distance => {
                let difference = self.each2(F2::Sub, a, &args[1]);
                return Ok(vec![self.length(&difference)]);
            }
            M::Normalize => {
                let length = self.length(a);
                return Ok(a.iter().map(|x| self.f2(F2::Div, *x, length)).collect());
            }
            M::Cross => return Ok(self.cross(a, &args[1])),
            M::Reflect => {
                let d = self.dot(&args[1], a);
                let twice = self.f2(F2::Add, d, d);
                let along: Value = args[1].iter().map(|n| self.f2(F2::Mul, twice, *n)).collect();
                return Ok(self.each2(F2::Sub, a, &along));
            }
            M::FaceForward => {
                let d = self.dot(&args[1], &args[2]);
                let zero = self.l.float(0.0);
                let mask = self.compare(Compare::Lt, d, zero);
                let mut value = Value::new();
                for x in a {
                    let negative = self.f1(F1::Neg, *x);
                    value.push(self.select(mask, *x, negative));
                }
                return Ok(value);
            }
            M::Transpose | M::Determinant => {
                let types = &self.l.module.types;
                let TypeInner::Matrix { columns, rows, .. } = *self.info[first].ty.inner_with(types) else {
                    return self.refuse(handle, "this matrix");
                };
                let (n_columns, n_rows) = (columns as usize, rows as usize);
                if fun == M::Determinant {
                    return Ok(vec![self.determinant(a, n_columns)]);
                }
                return Ok((0..n_rows)
                    .flat_map(|r| (0..n_columns).map(move |c| a[c * n_rows + r]))
                    .collect());
            }
            // The fraction and the whole or exponent: two members of a struct.
            M::Modf => {
                let whole: Value = a.iter().map(|x| self.f1(F1::Trunc, *x)).collect();
                let fraction = self.each2(F2::Sub, a, &whole);
                return Ok([fraction, whole].concat());
            }
            M::Frexp => {
                let fraction: Value = a.iter().map(|x| self.f1(F1::FrexpFraction, *x)).collect();
                let exponent = a.iter().filter_map(|x| match x {
                    Reg::F(s) => Some(*s),
                    Reg::I(_) => None,
                });
                let exponent: Value = exponent.map(|s| self.f_to_i(FtoI::FrexpExponent, s)).collect();
                return Ok([fraction, exponent].concat());
            }
            _ => {}
        }
        let n = a.len();
        let mut value = Value::with_capacity(n);
        for c in 0..n {
            let scalars: Vec<Reg> = args.iter().map(|v| v[if v.len() == 1 { 0 } else { c }]).collect();
            value.push(match is_float {
                true => self.float_math(handle, fun, &scalars)?,
                false => {
                    let signed = self.scalar_kind(first) == ScalarKind::Sint;
                    self.integer_math(handle, fun, signed, &scalars)?
                }
            });
        }
        Ok(value)
    }

    fn float_math(
        &mut self,
        handle: Handle<Expression>,
        fun: MathFunction,
        s: &[Reg],
    ) -> Result<Reg, Refused> {
        use MathFunction as M;
        if let Some(f) = f1_of(fun) {
            return Ok(self.f1(f, s[0]));
        }
        let (zero, one) = (self.l.float(0.0), self.l.float(1.0));
        Ok(match fun {
            M::Min => self.f2(F2::Min, s[0], s[1]),
            M::Max => self.f2(F2::Max, s[0], s[1]),
            M::Atan2 => self.f2(F2::Atan2, s[0], s[1]),
            M::Pow => self.f2(F2::Pow, s[0], s[1]),
            M::Clamp => {
                let low = self.f2(F2::Max, s[0], s[1]);
                self.f2(F2::Min, low, s[2])
            }
            M::Saturate => {
                let low = self.f2(F2::Max, s[0], zero);
                self.f2(F2::Min, low, one)
            }
            M::Radians => {
                let factor = self.l.float(std::f64::consts::PI / 180.0);
                self.f2(F2::Mul, s[0], factor)
            }
            M::Degrees => {
                let factor = self.l.float(180.0 / std::f64::consts::PI);
                self.f2(F2::Mul, s[0], factor)
            }
            M::Fma => {
                let product = self.f2(F2::Mul, s[0], s[1]);
                self.f2(F2::Add, product, s[2])
            }
            M::Mix => {
                let rest = self.f2(F2::Sub, one, s[2]);
                let (x, y) = (self.f2(F2::Mul, s[0], rest), self.f2(F2::Mul, s[1], s[2]));
                self.f2(F2::Add, x, y)
            }
            M::Step => {
                let mask = self.compare(Compare::Le, s[0], s[1]);
                self.select(mask, one, zero)
            }
            M::SmoothStep => {
                let (x, width) = (self.f2(F2::Sub, s[2], s[0]), self.f2(F2::Sub, s[1], s[0]));
                let t = self.f2(F2::Div, x, width);
                let t = self.f2(F2::Max, t, zero);
                let t = self.f2(F2::Min, t, one);
                let (two, three) = (self.l.float(2.0), self.l.float(3.0));
                let twice = self.f2(F2::Mul, two, t);
                let slope = self.f2(F2::Sub, three, twice);
                let square = self.f2(F2::Mul, t, t);
                self.f2(F2::Mul, square, slope)
            }
            M::Ldexp => match (s[0], s[1]) {
                (Reg::F(x), Reg::I(n)) => {
                    let d = self.f();
                    self.op(Op::Ldexp(d, x, n));
                    Reg::F(d)
                }
                _ => return self.refuse(handle, "ldexp of these"),
            },
            _ => return self.refuse(handle, &format!("function {}", wgsl_name(fun))),
        })
    }

    fn integer_math(
        &mut self,
        handle: Handle<Expression>,
        fun: MathFunction,
        signed: bool,
        s: &[Reg],
    ) -> Result<Reg, Refused> {
        use MathFunction as M;
        let (min, max) = if signed { (I2::MinS, I2::MaxS) } else { (I2::MinU, I2::MaxU) };
        Ok(match fun {
            M::Abs if signed => self.i1(I1::Abs, s[0]),
            M::Abs => self.i2(I2::MaxU, s[0], s[0]),
            M::Sign => self.i1(I1::Sign, s[0]),
            M::Min => self.i2(min, s[0], s[1]),
            M::Max => self.i2(max, s[0], s[1]),
            M::Clamp => {
                let low = self.i2(max, s[0], s[1]);
                self.i2(min, low, s[2])
            }
            M::CountOneBits => self.i1(I1::CountOnes, s[0]),
            M::CountLeadingZeros => self.i1(I1::LeadingZeros, s[0]),
            M::CountTrailingZeros => self.i1(I1::TrailingZeros, s[0]),
            M::ReverseBits => self.i1(I1::Reverse, s[0]),
            M::FirstTrailingBit => self.i1(I1::FirstTrailing, s[0]),
            M::FirstLeadingBit if signed => self.i1(I1::FirstLeadingSigned, s[0]),
            M::FirstLeadingBit => self.i1(I1::FirstLeadingUnsigned, s[0]),
            _ => return self.refuse(handle, &format!("function {}", wgsl_name(fun))),
        })
    }

    fn each2(&mut self, f: F2, a: &[Reg], b: &[Reg]) -> Value {
        a.iter().zip(b).map(|(x, y)| self.f2(f, *x, *y)).collect()
    }

    fn length(&mut self, a: &[Reg]) -> Reg {
        if a.len() == 1 {
            return self.f1(F1::Abs, a[0]);
        }
        let square = self.dot(a, a);
        self.f1(F1::Sqrt, square)
    }

    fn cross(&mut self, a: &[Reg], b: &[Reg]) -> Value {
        [(1, 2), (2, 0), (0, 1)]
            .into_iter()
            .map(|(i, j)| {
                let (x, y) = (self.f2(F2::Mul, a[i], b[j]), self.f2(F2::Mul, b[i], a[j]));
                self.f2(F2::Sub, x, y)
            })
            .collect()
    }

    /// By the first column, of an n x n matrix.
    fn determinant(&mut self, m: &[Reg], n: usize) -> Reg {
        if n == 1 {
            return m[0];
        }
        let mut sum = None;
        for r in 0..n {
            let minor: Value = (n..n * n).filter(|at| at % n != r).map(|at| m[at]).collect();
            let minor = self.determinant(&minor, n - 1);
            let term = self.f2(F2::Mul, m[r], minor);
            sum = Some(match sum {
                None => term,
                Some(sum) => self.f2(if r % 2 == 0 { F2::Add } else { F2::Sub }, sum, term),
            });
        }
        sum.unwrap_or(m[0])
    }

    /// A function of the prelude that the cores have as an operation.
    pub fn native(&mut self, name: &str, args: &[Value]) -> Option<Value> {
        let scalar = |at: usize| args.get(at).and_then(|v| v.first()).copied();
        let f1 = match name {
            "safe_exp" => Some(F1::SafeExp),
            "safe_log" => Some(F1::Log),
            "safe_tanh" => Some(F1::Tanh),
            "erf" => Some(F1::Erf),
            "erfc" => Some(F1::Erfc),
            "log_erfc" => Some(F1::LogErfc),
            "lgamma" => Some(F1::Lgamma),
            _ => None,
        };
        if let Some(f) = f1 {
            return Some(vec![self.f1(f, scalar(0)?)]);
        }
        match (name, scalar(0), scalar(1)) {
            ("minus_infinity", None, None) => Some(vec![self.l.float(f64::NEG_INFINITY)]),
            ("is_finite", Some(Reg::F(x)), None) => Some(vec![self.f_to_i(FtoI::IsFinite, x)]),
            ("log_add", Some(a), Some(b)) => Some(vec![self.f2(F2::LogAdd, a, b)]),
            ("data", Some(Reg::I(row)), Some(Reg::I(column))) => {
                let d = self.f();
                self.op(Op::Data(d, row, column));
                Some(vec![Reg::F(d)])
            }
            _ => None,
        }
    }
}
