//! exp, ln, tanh and the activations on vectors. The polynomials interpolate at Chebyshev nodes (exp, ln: the remainder
//! behind the leading terms; tanh: x P(x^2) / Q(x^2) up to 9) and hold 3 ulp. Invariant: NaN stays NaN, nothing else
//! becomes NaN, and exp of -inf is zero.

use super::simd::Simd;

/// Horner's scheme, highest power last.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut sum = s.splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(coefficients[i]));
    }
    sum
}

/// x of -87 to 88: 2^n P(r) with n ln 2 + r = x.
#[inline(always)]
fn exp_in_range<S: Simd>(s: S, x: S::V) -> S::V {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: the product with the first is exact.
    let r = s.fnma(n, s.splat(-2.121_944_4e-4), s.fnma(n, s.splat(0.693_359_4), x));
    let p = polynomial(s, r, [1.0, 1.0, 0.5, 0.166_665_76, 0.041_666_556, 0.008_363_179, 0.001_392_618_4]);
    s.scale(p, n)
}

/// e^x; zero below the least normal number, clamped above 88.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let least = s.splat(-87.0);
    let e = exp_in_range(s, s.max(least, s.min(s.splat(88.0), x)));
    s.select_lt(x, least, s.splat(0.0), e)
}

/// 1 / (1 + e^-x) and 1 / (1 + e^x).
#[inline(always)]
pub(super) fn sigmoids<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let e = exp_in_range(s, s.max(s.splat(-80.0), s.min(s.splat(80.0), x)));
    let complement = s.recip(s.add(s.splat(1.0), e));
    (s.mul(e, complement), complement)
}

/// Natural logarithm of positive normal x.
#[inline(always)]
pub(super) fn ln<S: Simd>(s: S, x: S::V) -> S::V {
    let (m, n) = s.mantissa_exponent(x);
    // m in [1 / sqrt 2, sqrt 2).
    let root = s.splat(std::f32::consts::SQRT_2);
    let n = s.select_lt(m, root, n, s.add(n, s.splat(1.0)));
    let f = s.sub(s.select_lt(m, root, m, s.mul(m, s.splat(0.5))), s.splat(1.0));
    let p = polynomial(
        s,
        f,
        [
            0.333_333_3,
            -0.250_003_07,
            0.200_010_45,
            -0.166_412_82,
            0.142_144_96,
            -0.129_981_83,
            0.126_223_19,
            -0.079_027_44,
        ],
    );
    let square = s.mul(f, f);
    let tail = s.fnma(square, s.splat(0.5), s.mul(s.mul(square, f), p));
    let low = s.fma(n, s.splat(-2.121_944_4e-4), tail);
    s.fma(n, s.splat(0.693_359_4), s.add(f, low))
}

/// ln(1 + e) of e in [0, 1], relative to itself: 2 atanh(t) with t = e / (2 + e).
#[inline(always)]
pub(super) fn ln_1p<S: Simd>(s: S, e: S::V) -> S::V {
    let t = s.mul(e, s.recip(s.add(s.splat(2.0), e)));
    let y = s.mul(t, t);
    let p = polynomial(s, y, [0.333_333_2, 0.200_037_81, 0.141_183_09, 0.134_257_5]);
    let half = s.fma(s.mul(t, y), p, t);
    s.add(half, half)
}

/// ln(1 + e^x) and its derivative.
#[inline(always)]
pub(super) fn softplus<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let zero = s.splat(0.0);
    let e = exp(s, s.min(x, s.sub(zero, x)));
    let one = s.splat(1.0);
    let numerator = s.select_lt(zero, x, one, e);
    (s.add(s.max(x, zero), ln_1p(s, e)), s.mul(numerator, s.recip(s.add(one, e))))
}

/// Hyperbolic tangent, at most 1 in magnitude.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let c = s.max(s.splat(-9.0), s.min(s.splat(9.0), x));
    let y = s.mul(c, c);
    let p = polynomial(
        s,
        y,
        [1.0, 0.130_669_09, 0.003_084_878_2, 1.095_687_3e-5, -1.944_544e-8, 4.917_956_3e-11, -7.611_367e-14],
    );
    let q = polynomial(s, y, [1.0, 0.464_002_37, 0.024_419_112, 0.000_251_846_24]);
    let t = s.mul(s.mul(c, p), s.recip(q));
    s.max(s.splat(-1.0), s.min(s.splat(1.0), t))
}

/// An activation of hidden layers.
pub(super) trait Activate: Copy {
    /// Whether the derivative is kept beside the value; if not it follows from the value.
    const KEEPS_DERIVATIVE: bool;
    /// Value and derivative (not used where it follows from the value).
    fn value<S: Simd>(s: S, x: S::V) -> (S::V, S::V);
    /// g times the derivative, from what was kept.
    fn backward<S: Simd>(s: S, g: S::V, kept: S::V) -> S::V;
}

/// max(x, 0)
#[derive(Clone, Copy)]
pub(super) struct Relu;

/// x / (1 + e^-x)
#[derive(Clone, Copy)]
pub(super) struct Silu;

/// tanh x
#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl Activate for Relu {
    const KEEPS_DERIVATIVE: bool = false;
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        (s.max(s.splat(0.0), x), x)
    }
    #[inline(always)]
    fn backward<S: Simd>(s: S, g: S::V, kept: S::V) -> S::V {
        s.select_lt(s.splat(0.0), kept, g, s.splat(0.0))
    }
}

impl Activate for Silu {
    const KEEPS_DERIVATIVE: bool = true;
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        let (sigma, complement) = sigmoids(s, x);
        let value = s.mul(x, sigma);
        // sigma (1 + x (1 - sigma)) = sigma + value (1 - sigma)
        (value, s.fma(value, complement, sigma))
    }
    #[inline(always)]
    fn backward<S: Simd>(s: S, g: S::V, kept: S::V) -> S::V {
        s.mul(g, kept)
    }
}

impl Activate for Tanh {
    const KEEPS_DERIVATIVE: bool = false;
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        (tanh(s, x), x)
    }
    #[inline(always)]
    fn backward<S: Simd>(s: S, g: S::V, kept: S::V) -> S::V {
        s.fnma(s.mul(kept, kept), g, g)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Job, LANES, Lanes, Level};
    use super::*;

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Sigmoid,
        Complement,
        Ln,
        Ln1p,
        Softplus,
        Tanh,
    }

    struct Apply(Function, Lanes);
    impl Job for Apply {
        type Out = [f32; LANES];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; LANES] {
            let x = s.load(&self.1);
            let y = match self.0 {
                Function::Exp => exp(s, x),
                Function::Sigmoid => sigmoids(s, x).0,
                Function::Complement => sigmoids(s, x).1,
                Function::Ln => ln(s, x),
                Function::Ln1p => ln_1p(s, x),
                Function::Softplus => softplus(s, x).0,
                Function::Tanh => tanh(s, x),
            };
            let mut out = Lanes::ZERO;
            s.store(y, &mut out);
            out.0
        }
    }

    fn apply(level: Level, function: Function, x: f32) -> f32 {
        level.run(Apply(function, Lanes([x; LANES])))[7]
    }

    /// 3 units in the last place over the whole range, at every level.
    #[test]
    fn functions_hold_their_error() {
        for level in Level::available() {
            let check = |function, lo: f64, hi: f64, exact: fn(f64) -> f64| {
                let mut worst = 0.0_f64;
                for i in 0..20_000 {
                    let x = (lo + (hi - lo) * f64::from(i) / 20_000.0) as f32;
                    let (got, want) = (f64::from(apply(level, function, x)), exact(f64::from(x)));
                    worst = worst.max(((got - want) / want.abs().max(1e-37)).abs() / f64::from(f32::EPSILON));
                }
                assert!(worst <= 3.0, "{level}: {worst} ulp between {lo} and {hi}");
            };
            check(Function::Exp, -87.0, 88.0, f64::exp);
            check(Function::Exp, -1.0, 1.0, f64::exp);
            check(Function::Sigmoid, -79.0, 79.0, |x| 1.0 / (1.0 + (-x).exp()));
            check(Function::Complement, -79.0, 79.0, |x| 1.0 / (1.0 + x.exp()));
            check(Function::Ln, 0.5, 4096.0, f64::ln);
            check(Function::Ln, 0.9, 1.1001, f64::ln);
            check(Function::Ln1p, 0.0, 1.0, f64::ln_1p);
            check(Function::Ln1p, 0.0, 1e-3, f64::ln_1p);
            check(Function::Softplus, -80.0, 80.0, |x| x.exp().ln_1p());
            check(Function::Tanh, -10.0, 10.0001, f64::tanh);
            check(Function::Tanh, -0.1, 0.10001, f64::tanh);
        }
    }

    #[test]
    fn extremes_are_safe() {
        let inf = f32::INFINITY;
        for level in Level::available() {
            for function in [Function::Exp, Function::Sigmoid, Function::Tanh] {
                assert!(apply(level, function, f32::NAN).is_nan(), "{level}");
                assert!(apply(level, function, inf).is_finite(), "{level}");
            }
            assert_eq!(apply(level, Function::Exp, -inf), 0.0);
            assert_eq!(apply(level, Function::Exp, -1e30), 0.0);
            assert!(apply(level, Function::Exp, 1e30) > 1e38);
            assert!((apply(level, Function::Tanh, -inf) + 1.0).abs() < 1e-7, "{level}");
            assert!(apply(level, Function::Sigmoid, -inf) < 1e-30);
            assert!((apply(level, Function::Sigmoid, inf) - 1.0).abs() < 1e-7, "{level}");
        }
    }
}
