//! NEON, which every 64-bit Arm processor has. The only unsafe code of that build: intrinsics.
//! Invariant: a token is made by `detect` alone, after asking the processor.
#![expect(unsafe_code, reason = "intrinsics are unsafe to call outside functions that enable their feature")]

use std::arch::aarch64::*;

use super::{Job, LANES, Lanes, Simd};

/// Token: the processor has NEON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

type V = [float32x4_t; 4];

impl Neon {
    /// The token, if the processor has the instructions.
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs a job at this level.
    #[inline]
    pub(in crate::cpu) fn run<J: Job>(self, job: J) -> J::Out {
        #[target_feature(enable = "neon")]
        fn inner<J: Job>(s: Neon, job: J) -> J::Out {
            job.run(s)
        }
        // SAFETY: the token says that the processor has the feature of `inner`.
        unsafe { inner(self, job) }
    }
}

/// An expression of intrinsics for each of the four quarters.
macro_rules! quarters {
    ($i:ident => $e:expr) => {{
        // SAFETY: `self` is a token, so the processor has the instructions; memory is accessed within whole `Lanes`.
        unsafe {
            let mut out = [vdupq_n_f32(0.0); 4];
            for $i in 0..4 {
                out[$i] = $e;
            }
            out
        }
    }};
}

impl Simd for Neon {
    type V = V;
    const ROWS: usize = 4;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        quarters!(_i => vdupq_n_f32(x))
    }
    #[inline(always)]
    fn load(self, x: &Lanes) -> V {
        quarters!(i => vld1q_f32(x.0[4 * i..4 * i + 4].as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: V, to: &mut Lanes) {
        for i in 0..4 {
            let to = &mut to.0[4 * i..4 * i + 4];
            // SAFETY: the slice has the four values that the instruction writes.
            unsafe { vst1q_f32(to.as_mut_ptr(), x[i]) };
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        quarters!(i => vaddq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        quarters!(i => vsubq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        quarters!(i => vmulq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        quarters!(i => vfmaq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    fn fnma(self, a: V, b: V, c: V) -> V {
        quarters!(i => vfmsq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        quarters!(i => vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        quarters!(i => vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        quarters!(i => vrndnq_f32(a[i]))
    }
    #[inline(always)]
    fn scale(self, x: V, n: V) -> V {
        quarters!(i => {
            let biased = vaddq_s32(vcvtq_s32_f32(n[i]), vdupq_n_s32(127));
            vmulq_f32(x[i], vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        })
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, x: V, y: V) -> V {
        quarters!(i => vbslq_f32(vcltq_f32(a[i], b[i]), x[i], y[i]))
    }
    #[inline(always)]
    fn recip(self, a: V) -> V {
        quarters!(i => vdivq_f32(vdupq_n_f32(1.0), a[i]))
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        quarters!(i => vsqrtq_f32(a[i]))
    }
    #[inline(always)]
    fn mantissa_exponent(self, a: V) -> (V, V) {
        let m = quarters!(i => {
            let fraction = vandq_u32(vreinterpretq_u32_f32(a[i]), vdupq_n_u32(0x007f_ffff));
            vreinterpretq_f32_u32(vorrq_u32(fraction, vdupq_n_u32(0x3f80_0000)))
        });
        let n = quarters!(i => {
            let biased = vandq_u32(vshrq_n_u32::<23>(vreinterpretq_u32_f32(a[i])), vdupq_n_u32(0xff));
            vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(biased), vdupq_n_s32(127)))
        });
        (m, n)
    }

    #[inline(always)]
    fn sums(self, rows: &[V; LANES]) -> V {
        quarters!(i => {
            let mut four = [vdupq_n_f32(0.0); 4];
            for j in 0..4 {
                let r = rows[4 * i + j];
                four[j] = vaddq_f32(vaddq_f32(r[0], r[1]), vaddq_f32(r[2], r[3]));
            }
            vpaddq_f32(vpaddq_f32(four[0], four[1]), vpaddq_f32(four[2], four[3]))
        })
    }
}
