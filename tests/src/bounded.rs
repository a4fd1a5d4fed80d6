//! A number with a first-order bound of the rounding error that f32 arithmetic would have made on the way to it.
//! The value itself is f64 and serves as the exact one; every operation adds the rounding of its own result.

use lwflow_model::Real;
use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// Unit roundoff of f32: half the distance from 1 to the next number.
pub(crate) const U: f64 = 1.0 / (1u64 << 24) as f64;
/// Relative error of a device's exp, ln and tanh in units of [`U`]: 4 ulp, twice what shaders/wgsl/include/safe_math
/// states. tanh is computed from an exponential near 1, so its error is relative to 1.
pub(crate) const FUNCTION: f64 = 8.0 * U;
/// Relative error of a quotient: 2.5 ulp, as WGSL allows.
pub(crate) const QUOTIENT: f64 = 5.0 * U;

/// Value and bound of its absolute error.
#[derive(Debug, Clone, Copy)]
pub struct Bounded {
    /// Exact value (f64).
    pub value: f64,
    /// Bound of |computed in f32 - value|, to first order.
    pub error: f64,
}

impl Bounded {
    fn new(value: f64, error: f64) -> Self {
        // Where the value is not finite there is nothing to bound, and no NaN may spread.
        Self { value, error: if value.is_finite() { error } else { 0.0 } }
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for Bounded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Bounded {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        let v = self.value + b.value;
        Self::new(v, self.error + b.error + U * v.abs())
    }
}

impl Sub for Bounded {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        let v = self.value - b.value;
        Self::new(v, self.error + b.error + U * v.abs())
    }
}

impl Mul for Bounded {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let v = self.value * b.value;
        Self::new(v, self.value.abs() * b.error + b.value.abs() * self.error + U * v.abs())
    }
}

impl Div for Bounded {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let v = self.value / b.value;
        Self::new(v, (self.error + v.abs() * b.error) / b.value.abs() + QUOTIENT * v.abs())
    }
}

impl Neg for Bounded {
    type Output = Self;
    fn neg(self) -> Self {
        Self::new(-self.value, self.error)
    }
}

impl AddAssign for Bounded {
    fn add_assign(&mut self, b: Self) {
        *self = *self + b;
    }
}

impl SubAssign for Bounded {
    fn sub_assign(&mut self, b: Self) {
        *self = *self - b;
    }
}

impl Real for Bounded {
    fn from_f64(x: f64) -> Self {
        Self::new(x, (f64::from(x as f32) - x).abs())
    }

    fn to_f64(self) -> f64 {
        self.value
    }

    fn exp(self) -> Self {
        let v = self.value.exp();
        Self::new(v, v * self.error + FUNCTION * v)
    }

    fn ln(self) -> Self {
        let v = self.value.ln();
        Self::new(v, self.error / self.value.abs() + FUNCTION * v.abs())
    }

    fn ln_1p(self) -> Self {
        let v = self.value.ln_1p();
        Self::new(v, self.error / (1.0 + self.value).abs() + FUNCTION * v.abs())
    }

    fn sqrt(self) -> Self {
        let v = self.value.sqrt();
        Self::new(v, self.error / (2.0 * v) + QUOTIENT * v)
    }

    fn tanh(self) -> Self {
        let v = self.value.tanh();
        Self::new(v, (1.0 - v * v) * self.error + FUNCTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum of products in f32 stays within its bound and comes within a factor of a thousand of it: the bound is
    /// neither wrong nor empty.
    #[test]
    fn bound_holds_and_is_not_empty() {
        let (mut exact, mut rounded) = (Bounded::zero(), 0.0_f32);
        for i in 1..1000 {
            let (a, b) = ((0.37 * i as f32).sin(), (0.11 * i as f32).cos().exp());
            rounded += a * b.tanh();
            exact += Bounded::from_f64(f64::from(a)) * Bounded::from_f64(f64::from(b)).tanh();
            let error = (f64::from(rounded) - exact.value).abs();
            assert!(error <= exact.error, "{error} {}", exact.error);
        }
        let error = (f64::from(rounded) - exact.value).abs();
        assert!(error > 0.0 && exact.error < 1e-2, "{error} {}", exact.error);
    }

    #[test]
    fn infinities_carry_no_bound() {
        let x = Bounded::from_f64(f64::NEG_INFINITY) + Bounded::one();
        assert!(x.value == f64::NEG_INFINITY && x.error == 0.0 && x.exp().value == 0.0);
    }
}
