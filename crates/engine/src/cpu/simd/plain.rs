//! The level that every processor has: arrays, which the compiler turns into what vectors its target has.
//! Invariant: no fused multiply-add, which is a slow library call where the processor has none.

use super::{Job, LANES, Lanes, Simd};

/// Token of this level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

type V = [f32; LANES];

/// Runs a job at this level.
pub(super) fn run<J: Job>(s: Plain, job: J) -> J::Out {
    job.run(s)
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = a;
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Plain {
    type V = V;
    const ROWS: usize = 2;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &Lanes) -> V {
        x.0
    }
    #[inline(always)]
    fn store(self, x: V, to: &mut Lanes) {
        to.0 = x;
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn fnma(self, a: V, b: V, c: V) -> V {
        self.sub(c, self.mul(a, b))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // Adding and subtracting 1.5 * 2^23 leaves the nearest integer of a value below 2^22.
        zip(a, a, |a, _| (a + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    fn scale(self, x: V, n: V) -> V {
        zip(x, n, |x, n| x * f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32))
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, x: V, y: V) -> V {
        let mut out = y;
        for i in 0..LANES {
            if a[i] < b[i] {
                out[i] = x[i];
            }
        }
        out
    }
    #[inline(always)]
    fn recip(self, a: V) -> V {
        zip(a, a, |a, _| 1.0 / a)
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        zip(a, a, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn mantissa_exponent(self, a: V) -> (V, V) {
        (
            zip(a, a, |a, _| f32::from_bits(a.to_bits() & 0x007f_ffff | 0x3f80_0000)),
            zip(a, a, |a, _| ((a.to_bits() >> 23 & 0xff) as i32 - 127) as f32),
        )
    }
}
