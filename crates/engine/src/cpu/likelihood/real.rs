//! The two kinds of numbers a likelihood is evaluated in. f32 has its own exp and ln, written so that the compiler makes
//! vectors of them; f64 has the standard library's. Invariant: outside its domain a function is NaN, as on a device.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};

use super::super::simd::Job;
use super::Level;
use super::ops::Run;

/// f32 or f64.
pub(super) trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Rem<Output = Self>
    + Neg<Output = Self>
{
    fn of_f64(x: f64) -> Self;
    fn of_i32(x: i32) -> Self;
    fn of_u32(x: u32) -> Self;
    fn to_i32(self) -> i32;
    fn to_u32(self) -> u32;
    fn bits(self) -> u32;
    fn of_bits(bits: u32) -> Self;
    fn is_finite(self) -> bool;
    fn abs(self) -> Self;
    fn sign(self) -> Self;
    fn ceil(self) -> Self;
    fn floor(self) -> Self;
    /// To the nearest whole number, halves to even.
    fn round(self) -> Self;
    fn trunc(self) -> Self;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn exp2(self) -> Self;
    fn ln(self) -> Self;
    fn log2(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn tanh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn atan2(self, x: Self) -> Self;
    fn powf(self, y: Self) -> Self;
    fn safe_exp(self) -> Self;
    /// log(1 + x) of x in [0, 1], exact where the sum of it and a number of its size is.
    fn log_of_one_and(self) -> Self;
    fn erf(self) -> Self;
    fn erfc(self) -> Self;
    fn log_erfc(self) -> Self;
    fn lgamma(self) -> Self;
    /// Fraction in [0.5, 1) and exponent.
    fn frexp(self) -> (Self, i32);
    fn ldexp(self, n: i32) -> Self;
    /// Runs operations with the level's instructions.
    fn run(level: Level, run: Run<'_, Self>);

    /// x^y as WGSL has it, 2^(y log2 x): NaN for negative x, and for 0 unless y is positive.
    #[inline(always)]
    fn power(self, y: Self) -> Self {
        let zero = Self::of_f64(0.0);
        if self < zero || (self == zero && y <= zero) {
            return Self::of_f64(f64::NAN);
        }
        self.powf(y)
    }
}

macro_rules! shared {
    ($f:ty) => {
        #[inline(always)]
        fn of_f64(x: f64) -> Self {
            x as Self
        }
        #[inline(always)]
        fn of_i32(x: i32) -> Self {
            x as Self
        }
        #[inline(always)]
        fn of_u32(x: u32) -> Self {
            x as Self
        }
        #[inline(always)]
        fn to_i32(self) -> i32 {
            self as i32
        }
        #[inline(always)]
        fn to_u32(self) -> u32 {
            self as u32
        }
        #[inline(always)]
        fn is_finite(self) -> bool {
            <$f>::is_finite(self)
        }
        #[inline(always)]
        fn sign(self) -> Self {
            if self > 0.0 {
                1.0
            } else if self < 0.0 {
                -1.0
            } else {
                self
            }
        }
        #[inline(always)]
        fn round(self) -> Self {
            self.round_ties_even()
        }
        #[inline(always)]
        fn powf(self, y: Self) -> Self {
            <$f>::powf(self, y)
        }
        #[inline(always)]
        fn atan2(self, x: Self) -> Self {
            <$f>::atan2(self, x)
        }
        shared!(@same $f: abs ceil floor trunc sqrt log2 sin cos tan asin acos atan sinh cosh asinh acosh atanh tanh);
    };
    (@same $f:ty: $($name:ident)*) => {
        $(#[inline(always)]
        fn $name(self) -> Self {
            <$f>::$name(self)
        })*
    };
}

impl Real for f64 {
    shared!(f64);
    fn bits(self) -> u32 {
        (self as f32).to_bits()
    }
    fn of_bits(bits: u32) -> Self {
        f32::from_bits(bits).into()
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn exp2(self) -> Self {
        self.exp2()
    }
    fn ln(self) -> Self {
        self.ln()
    }
    fn safe_exp(self) -> Self {
        self.exp()
    }
    fn log_of_one_and(self) -> Self {
        self.ln_1p()
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    fn erfc(self) -> Self {
        libm::erfc(self)
    }
    fn log_erfc(self) -> Self {
        log_erfc(self)
    }
    fn lgamma(self) -> Self {
        if self > 0.0 { libm::lgamma(self) } else { f64::NAN }
    }
    fn frexp(self) -> (Self, i32) {
        libm::frexp(self)
    }
    fn ldexp(self, n: i32) -> Self {
        libm::ldexp(self, n)
    }
    fn run(_: Level, run: Run<'_, Self>) {
        run.execute();
    }
}

/// log erfc(x): above 6 by the continued fraction of the complementary error function (NIST DLMF 7.9.1), which has
/// converged there after 40 terms.
fn log_erfc(x: f64) -> f64 {
    if x <= 6.0 || x.is_nan() {
        return libm::erfc(x).ln();
    }
    if x == f64::INFINITY {
        return f64::NEG_INFINITY;
    }
    let tail = (1..=40).rev().fold(x, |tail, k| x + 0.5 * f64::from(k) / tail);
    -x * x - (tail * std::f64::consts::PI.sqrt()).ln()
}

impl Real for f32 {
    shared!(f32);
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn of_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp(self)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        exp2(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        ln(self)
    }
    #[inline(always)]
    fn safe_exp(self) -> Self {
        let e = exp(if self > 88.0 { 88.0 } else { self });
        if self < -87.0 { 0.0 } else { e }
    }
    #[inline(always)]
    fn log_of_one_and(self) -> Self {
        ln(1.0 + self)
    }
    fn erf(self) -> Self {
        libm::erff(self)
    }
    fn erfc(self) -> Self {
        libm::erfcf(self)
    }
    fn log_erfc(self) -> Self {
        log_erfc(self.into()) as f32
    }
    fn lgamma(self) -> Self {
        if self > 0.0 { libm::lgammaf(self) } else { f32::NAN }
    }
    fn frexp(self) -> (Self, i32) {
        libm::frexpf(self)
    }
    fn ldexp(self, n: i32) -> Self {
        libm::ldexpf(self, n)
    }
    fn run(level: Level, run: Run<'_, Self>) {
        struct Leveled<'a>(Run<'a, f32>);
        impl Job for Leveled<'_> {
            type Out = ();
            #[inline(always)]
            fn run<S: super::super::simd::Simd>(self, _: S) {
                self.0.execute();
            }
        }
        level.run(Leveled(run));
    }
}

/// 1.5 2^23: a sum with it has the nearest whole number in its low bits.
const SHIFT: f32 = 12_582_912.0;

/// 2^n e^r for n as [`SHIFT`] gives it; the power in two steps, so that neither overflows before the result does.
#[inline(always)]
fn scaled(shifted: f32, r: f32) -> f32 {
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (0.166_665_76 + r * (0.041_666_556 + r * (0.008_363_179 + r * 0.001_392_618_4)))));
    let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * power(half) * power(n.wrapping_sub(half))
}

#[inline(always)]
fn limited(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// e^x to 2 ulp; NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let c = limited(x, -110.0, 95.0);
    let shifted = c * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (c - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let e = scaled(shifted, r);
    if x.is_nan() { x } else { e }
}

/// 2^x to 2 ulp.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    let c = limited(x, -160.0, 140.0);
    let shifted = c + SHIFT;
    let e = scaled(shifted, (c - (shifted - SHIFT)) * std::f32::consts::LN_2);
    if x.is_nan() { x } else { e }
}

/// Natural logarithm to 2 ulp: -inf at 0, NaN below.
#[inline(always)]
fn ln(x: f32) -> f32 {
    let small = x < f32::MIN_POSITIVE;
    let scaled = if small { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    let shift = if small { 23 } else { 0 };
    let up = (bits & 0x007f_ffff) > 0x0035_04f3;
    let m = f32::from_bits((bits & 0x007f_ffff) | if up { 0x3f00_0000 } else { 0x3f80_0000 });
    let n = ((bits >> 23) as i32).wrapping_sub(127 + shift).wrapping_add(i32::from(up)) as f32;
    let f = m - 1.0;
    let p = -0.079_027_44;
    let p = p * f + 0.126_223_19;
    let p = p * f - 0.129_981_83;
    let p = p * f + 0.142_144_96;
    let p = p * f - 0.166_412_82;
    let p = p * f + 0.200_010_45;
    let p = p * f - 0.250_003_07;
    let p = p * f + 0.333_333_3;
    let square = f * f;
    let tail = square * f * p - 0.5 * square;
    let value = n * 0.693_359_4 + (f + (tail - n * 2.121_944_4e-4));
    let value = if x > 0.0 { value } else { f32::NAN };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x == f32::INFINITY { x } else { value }
}
