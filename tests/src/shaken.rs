//! A number whose every operation makes a random rounding error of the size that f32 would: Monte Carlo arithmetic (Parker,
//! Pierce & Eggert 2000, Computing in Science & Engineering 2, 58). The value is f64, so what comes out is the first order.
//! Invariant: errors that share an origin stay together, so that the spread is not wider where terms share a point.

use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

use lwflow_model::Real;

use crate::bounded::{Bounded, FUNCTION, QUOTIENT, U};

/// Allowed error in units of the root mean square of [`RUNS`] random ones: of a normal variable, one in two million lies
/// beyond (Student's t with 16 degrees of freedom).
const WIDTH: f64 = 8.0;
/// Runs of the computation.
const RUNS: usize = 16;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// Uniform in [-1, 1).
fn random() -> f64 {
    STATE.with(|state| {
        let mut s = state.get();
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        state.set(s);
        (s >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

/// A value with the errors of its history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shaken(f64);

impl Shaken {
    /// `v` with an error of up to `size`.
    fn new(v: f64, size: f64) -> Self {
        Self(if v.is_finite() { v + size * random() } else { v })
    }

    fn rounded(v: f64) -> Self {
        Self::new(v, U * v.abs())
    }
}

/// What first-order propagation allows for a computation whose exact result is `exact` and whose every `run` on numbers
/// of this kind gives one sample of its errors.
///
/// # Panics
/// If lengths differ.
pub fn propagated(exact: &[f64], mut run: impl FnMut() -> Vec<Shaken>) -> Vec<Bounded> {
    let mut squares = vec![0.0; exact.len()];
    for _ in 0..RUNS {
        let values = run();
        assert_eq!(values.len(), exact.len(), "length of a run");
        for ((square, got), exact) in squares.iter_mut().zip(values).zip(exact) {
            *square += (got.0 - exact).powi(2);
        }
    }
    let bounded =
        |(&value, square): (&f64, f64)| Bounded { value, error: WIDTH * (square / RUNS as f64).sqrt() };
    exact.iter().zip(squares).map(bounded).collect()
}

impl PartialOrd for Shaken {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl Add for Shaken {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        Self::rounded(self.0 + b.0)
    }
}

impl Sub for Shaken {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        Self::rounded(self.0 - b.0)
    }
}

impl Mul for Shaken {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        Self::rounded(self.0 * b.0)
    }
}

impl Div for Shaken {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let v = self.0 / b.0;
        Self::new(v, QUOTIENT * v.abs())
    }
}

impl Neg for Shaken {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign for Shaken {
    fn add_assign(&mut self, b: Self) {
        *self = *self + b;
    }
}

impl SubAssign for Shaken {
    fn sub_assign(&mut self, b: Self) {
        *self = *self - b;
    }
}

impl Real for Shaken {
    fn from_f64(x: f64) -> Self {
        Self::new(x, f64::from(x as f32) - x)
    }

    fn to_f64(self) -> f64 {
        self.0
    }

    fn exp(self) -> Self {
        let v = self.0.exp();
        Self::new(v, FUNCTION * v)
    }

    fn ln(self) -> Self {
        let v = self.0.ln();
        Self::new(v, FUNCTION * v.abs())
    }

    fn ln_1p(self) -> Self {
        let v = self.0.ln_1p();
        Self::new(v, FUNCTION * v.abs())
    }

    fn sqrt(self) -> Self {
        let v = self.0.sqrt();
        Self::new(v, QUOTIENT * v)
    }

    fn tanh(self) -> Self {
        Self::new(self.0.tanh(), FUNCTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f32 arithmetic stays within, and comes within a factor of a hundred: the allowance is neither wrong nor empty.
    #[test]
    fn f32_stays_within_what_is_propagated() {
        fn sum<T: Real>() -> Vec<T> {
            let mut out = Vec::new();
            let mut sum = T::zero();
            for i in 1..300 {
                let (a, b) = (f64::from((0.37 * i as f32).sin()), f64::from((0.11 * i as f32).cos()));
                sum += T::from_f64(a) * T::from_f64(b).exp().tanh();
                out.push(sum);
            }
            out
        }
        let allowed = propagated(&sum::<f64>(), sum);
        let (worst, _) = crate::error_in_bounds("sum", &sum::<f32>(), &allowed);
        assert!((0.01..1.0).contains(&worst), "{worst}");
    }

    /// Errors that cancel do so, which a bound of independent ones does not see.
    #[test]
    fn what_is_taken_away_again_leaves_no_error() {
        fn twice<T: Real>() -> Vec<T> {
            let x = (0..100).fold(T::one(), |x, _| x * T::from_f64(1.1).exp().tanh());
            vec![x - x]
        }
        assert_eq!(propagated(&twice::<f64>(), twice)[0].error, 0.0);
        assert!(twice::<Bounded>()[0].error > 0.0);
    }
}
