//! AVX-512 and AVX2 with fused multiply-add. The only unsafe code of the x86-64 build: instructions that the compiler
//! cannot know to be there. Invariant: a token is made by `detect` alone, after asking the processor.
#![expect(unsafe_code, reason = "instructions beyond the target's baseline are unsafe to call")]

use std::arch::x86_64::*;

use super::{Job, LANES, Lanes, Simd};

/// Token: the processor has AVX-512F.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// Token: the processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx512 {
    /// The token, if the processor has the instructions.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Runs a job at this level.
    #[inline]
    pub(in crate::cpu) fn run<J: Job>(self, job: J) -> J::Out {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn inner<J: Job>(s: Avx512, job: J) -> J::Out {
            job.run(s)
        }
        // SAFETY: the token says that the processor has the features of `inner`.
        unsafe { inner(self, job) }
    }
}

impl Avx2 {
    /// The token, if the processor has the instructions.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Runs a job at this level.
    #[inline]
    pub(in crate::cpu) fn run<J: Job>(self, job: J) -> J::Out {
        #[target_feature(enable = "avx2,fma")]
        fn inner<J: Job>(s: Avx2, job: J) -> J::Out {
            job.run(s)
        }
        // SAFETY: the token says that the processor has the features of `inner`.
        unsafe { inner(self, job) }
    }
}

/// An expression of intrinsics in a method of a token.
macro_rules! x86 {
    ($e:expr) => {
        // SAFETY: `self` is a token, so the processor has the instructions; memory is accessed through references to
        // whole `Lanes` only.
        unsafe { $e }
    };
}

impl Simd for Avx512 {
    type V = __m512;
    const ROWS: usize = 8;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        x86!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &Lanes) -> __m512 {
        x86!(_mm512_load_ps(x.0.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: __m512, to: &mut Lanes) {
        x86!(_mm512_store_ps(to.0.as_mut_ptr(), x));
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        x86!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        x86!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        x86!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        x86!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        x86!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        x86!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        x86!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        x86!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale(self, x: __m512, n: __m512) -> __m512 {
        x86!(_mm512_scalef_ps(x, n))
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        x86!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn recip(self, a: __m512) -> __m512 {
        x86!({
            let y = _mm512_rcp14_ps(a);
            _mm512_fmadd_ps(y, _mm512_fnmadd_ps(a, y, _mm512_set1_ps(1.0)), y)
        })
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        x86!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn mantissa_exponent(self, a: __m512) -> (__m512, __m512) {
        x86!((_mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(a), _mm512_getexp_ps(a)))
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [__m512; LANES]) {
        x86!({
            let r = *rows;
            let mut quads = r;
            for i in 0..4 {
                let [a, b, c, d] = [r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]];
                let (ab, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                quads[4 * i] = _mm512_shuffle_ps::<0x44>(ab, cd);
                quads[4 * i + 1] = _mm512_shuffle_ps::<0xee>(ab, cd);
                quads[4 * i + 2] = _mm512_shuffle_ps::<0x44>(ab_high, cd_high);
                quads[4 * i + 3] = _mm512_shuffle_ps::<0xee>(ab_high, cd_high);
            }
            for j in 0..4 {
                let [a, b, c, d] = [quads[j], quads[4 + j], quads[8 + j], quads[12 + j]];
                let (ab, ab_odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (cd, cd_odd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                rows[j] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                rows[4 + j] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
                rows[8 + j] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
                rows[12 + j] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
            }
        });
    }

    #[inline(always)]
    fn sums(self, rows: &[__m512; LANES]) -> __m512 {
        x86!({
            // Each step adds two halves of every sum while it packs two vectors into one.
            let mut quads = [_mm512_setzero_ps(); 4];
            for (i, quad) in quads.iter_mut().enumerate() {
                let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
                let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                *quad = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
            }
            let [a, b, c, d] = quads;
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd))
        })
    }
}

/// An operation on both halves.
macro_rules! halves {
    ($f:expr, $($a:expr),+) => {
        x86!([$f($($a[0]),+), $f($($a[1]),+)])
    };
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    const ROWS: usize = 4;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        x86!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &Lanes) -> [__m256; 2] {
        let (low, high) = x.0.split_at(8);
        x86!([_mm256_load_ps(low.as_ptr()), _mm256_load_ps(high.as_ptr())])
    }
    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut Lanes) {
        let (low, high) = to.0.split_at_mut(8);
        x86!({
            _mm256_store_ps(low.as_mut_ptr(), x[0]);
            _mm256_store_ps(high.as_mut_ptr(), x[1]);
        });
    }
    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn fnma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_fnmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn round(self, a: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>, a)
    }
    #[inline(always)]
    fn scale(self, x: [__m256; 2], n: [__m256; 2]) -> [__m256; 2] {
        let mut out = x;
        for i in 0..2 {
            x86!({
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n[i]), _mm256_set1_epi32(127));
                out[i] = _mm256_mul_ps(x[i], _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)));
            });
        }
        out
    }
    #[inline(always)]
    fn select_lt(self, a: [__m256; 2], b: [__m256; 2], x: [__m256; 2], y: [__m256; 2]) -> [__m256; 2] {
        x86!([
            _mm256_blendv_ps(y[0], x[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(y[1], x[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1]))
        ])
    }
    #[inline(always)]
    fn recip(self, a: [__m256; 2]) -> [__m256; 2] {
        x86!({
            let one = _mm256_set1_ps(1.0);
            let (y, z) = (_mm256_rcp_ps(a[0]), _mm256_rcp_ps(a[1]));
            [
                _mm256_fmadd_ps(y, _mm256_fnmadd_ps(a[0], y, one), y),
                _mm256_fmadd_ps(z, _mm256_fnmadd_ps(a[1], z, one), z),
            ]
        })
    }
    #[inline(always)]
    fn sqrt(self, a: [__m256; 2]) -> [__m256; 2] {
        halves!(_mm256_sqrt_ps, a)
    }
    #[inline(always)]
    fn mantissa_exponent(self, a: [__m256; 2]) -> ([__m256; 2], [__m256; 2]) {
        let (mut m, mut n) = (a, a);
        for i in 0..2 {
            x86!({
                let bits = _mm256_castps_si256(a[i]);
                let fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
                let one = _mm256_set1_epi32(0x3f80_0000);
                m[i] = _mm256_castsi256_ps(_mm256_or_si256(fraction, one));
                let biased = _mm256_and_si256(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(0xff));
                n[i] = _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
            });
        }
        (m, n)
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [[__m256; 2]; LANES]) {
        let from = *rows;
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            x86!({
                // The 8 x 8 block of rows 8 i and columns 8 j.
                let mut quads = [_mm256_setzero_ps(); 8];
                for q in 0..2 {
                    let at = 8 * i + 4 * q;
                    let [a, b, c, d] = [from[at][j], from[at + 1][j], from[at + 2][j], from[at + 3][j]];
                    let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                    let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                    quads[4 * q] = _mm256_shuffle_ps::<0x44>(ab, cd);
                    quads[4 * q + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
                    quads[4 * q + 2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
                    quads[4 * q + 3] = _mm256_shuffle_ps::<0xee>(ab_high, cd_high);
                }
                for q in 0..4 {
                    rows[8 * j + q][i] = _mm256_permute2f128_ps::<0x20>(quads[q], quads[4 + q]);
                    rows[8 * j + 4 + q][i] = _mm256_permute2f128_ps::<0x31>(quads[q], quads[4 + q]);
                }
            });
        }
    }

    #[inline(always)]
    fn sums(self, rows: &[[__m256; 2]; LANES]) -> [__m256; 2] {
        let mut out = self.splat(0.0);
        for (i, out) in out.iter_mut().enumerate() {
            x86!({
                let mut quads = [_mm256_setzero_ps(); 2];
                for (q, quad) in quads.iter_mut().enumerate() {
                    let r = &rows[8 * i + 4 * q..][..4];
                    let ab = _mm256_hadd_ps(_mm256_add_ps(r[0][0], r[0][1]), _mm256_add_ps(r[1][0], r[1][1]));
                    let cd = _mm256_hadd_ps(_mm256_add_ps(r[2][0], r[2][1]), _mm256_add_ps(r[3][0], r[3][1]));
                    *quad = _mm256_hadd_ps(ab, cd);
                }
                *out = _mm256_add_ps(
                    _mm256_permute2f128_ps::<0x20>(quads[0], quads[1]),
                    _mm256_permute2f128_ps::<0x31>(quads[0], quads[1]),
                );
            });
        }
        out
    }
}
