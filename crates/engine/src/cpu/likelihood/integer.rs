//! Integer operations on all lanes, as WGSL defines them: wrapping, division by zero gives the dividend.
//! Invariant: a truth value is 0 or all ones.

use super::LANES;
use crate::wgsl::bytecode::{I1, I2};

type Lanes = [u32; LANES];

#[inline(always)]
fn mask(truth: bool) -> u32 {
    0u32.wrapping_sub(u32::from(truth))
}

#[inline(always)]
fn s(x: u32) -> i32 {
    x.cast_signed()
}

/// Position of the highest bit that differs from the sign, all ones if there is none.
fn first_leading_signed(x: u32) -> u32 {
    first_leading(if s(x) < 0 { !x } else { x })
}

fn first_leading(x: u32) -> u32 {
    if x == 0 { u32::MAX } else { 31 - x.leading_zeros() }
}

#[inline(always)]
pub(super) fn one(f: I1, out: &mut Lanes, a: &Lanes) {
    #[inline(always)]
    fn map(out: &mut Lanes, a: &Lanes, f: impl Fn(u32) -> u32) {
        for l in 0..LANES {
            out[l] = f(a[l]);
        }
    }
    match f {
        I1::Neg => map(out, a, u32::wrapping_neg),
        I1::Not => map(out, a, |x| !x),
        I1::Abs => map(out, a, |x| s(x).wrapping_abs().cast_unsigned()),
        I1::Sign => map(out, a, |x| s(x).signum().cast_unsigned()),
        I1::CountOnes => map(out, a, u32::count_ones),
        I1::LeadingZeros => map(out, a, u32::leading_zeros),
        I1::TrailingZeros => map(out, a, u32::trailing_zeros),
        I1::Reverse => map(out, a, u32::reverse_bits),
        I1::FirstTrailing => map(out, a, |x| if x == 0 { u32::MAX } else { x.trailing_zeros() }),
        I1::FirstLeadingSigned => map(out, a, first_leading_signed),
        I1::FirstLeadingUnsigned => map(out, a, first_leading),
        I1::FromBool => map(out, a, |x| x & 1),
        I1::ToBool => map(out, a, |x| mask(x != 0)),
    }
}

#[inline(always)]
pub(super) fn two(f: I2, out: &mut Lanes, a: &Lanes, b: &Lanes) {
    #[inline(always)]
    fn map(out: &mut Lanes, a: &Lanes, b: &Lanes, f: impl Fn(u32, u32) -> u32) {
        for l in 0..LANES {
            out[l] = f(a[l], b[l]);
        }
    }
    match f {
        I2::Add => map(out, a, b, u32::wrapping_add),
        I2::Sub => map(out, a, b, u32::wrapping_sub),
        I2::Mul => map(out, a, b, u32::wrapping_mul),
        I2::DivS => map(out, a, b, |x, y| s(x).wrapping_div(if y == 0 { 1 } else { s(y) }).cast_unsigned()),
        I2::DivU => map(out, a, b, |x, y| x / y.max(1)),
        I2::RemS => map(out, a, b, |x, y| s(x).wrapping_rem(if y == 0 { 1 } else { s(y) }).cast_unsigned()),
        I2::RemU => map(out, a, b, |x, y| x % y.max(1)),
        I2::MinS => map(out, a, b, |x, y| s(x).min(s(y)).cast_unsigned()),
        I2::MinU => map(out, a, b, u32::min),
        I2::MaxS => map(out, a, b, |x, y| s(x).max(s(y)).cast_unsigned()),
        I2::MaxU => map(out, a, b, u32::max),
        I2::And => map(out, a, b, |x, y| x & y),
        I2::Or => map(out, a, b, |x, y| x | y),
        I2::Xor => map(out, a, b, |x, y| x ^ y),
        I2::Shl => map(out, a, b, |x, y| x << (y & 31)),
        I2::ShrS => map(out, a, b, |x, y| (s(x) >> (y & 31)).cast_unsigned()),
        I2::ShrU => map(out, a, b, |x, y| x >> (y & 31)),
        I2::Eq => map(out, a, b, |x, y| mask(x == y)),
        I2::Ne => map(out, a, b, |x, y| mask(x != y)),
        I2::LtS => map(out, a, b, |x, y| mask(s(x) < s(y))),
        I2::LtU => map(out, a, b, |x, y| mask(x < y)),
        I2::LeS => map(out, a, b, |x, y| mask(s(x) <= s(y))),
        I2::LeU => map(out, a, b, |x, y| mask(x <= y)),
    }
}
