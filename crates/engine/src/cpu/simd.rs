//! Vectors of sixteen f32 with one source for AVX-512, AVX2, NEON and plain Rust; the level is chosen at run time.
//! Invariant: a level's token exists only if the processor has its instructions, so the methods are safe to call; code
//! that uses them must be inlined into [`Level::run`], which is where the instructions are enabled.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

/// Values of one vector.
pub(super) const LANES: usize = 16;

/// Sixteen values in memory, aligned for the widest vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub [f32; LANES]);

impl Lanes {
    /// Sixteen zeros.
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// The operations of one level. `min` and `max` return the second argument if either is NaN, as x86 does.
pub(super) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen values in registers.
    type V: Copy;
    /// Rows of the tile of products that the registers hold: a multiple of 2.
    const ROWS: usize;
    /// Whether a tile is three vectors wide instead of one.
    const WIDE: bool;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &Lanes) -> Self::V;
    fn store(self, x: Self::V, to: &mut Lanes);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a b + c, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a b, rounded once where the processor can.
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Nearest integers of values within the range of i32.
    fn round(self, a: Self::V) -> Self::V;
    /// x 2^n of integral n from -126 to 127 (anything if n is NaN).
    fn scale(self, x: Self::V, n: Self::V) -> Self::V;
    /// Where a < b: x, elsewhere (also if one is NaN) y.
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// 1 / a of normal a whose reciprocal is normal, to 2 ulp; NaN of NaN.
    fn recip(self, a: Self::V) -> Self::V;
    /// Square root, rounded once.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a = m 2^n of positive normal a, m in [1, 2): (m, n).
    fn mantissa_exponent(self, a: Self::V) -> (Self::V, Self::V);

    /// Transposes a 16 x 16 matrix.
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; LANES]) {
        let from = self.stored(rows);
        for (j, row) in rows.iter_mut().enumerate() {
            let mut column = Lanes::ZERO;
            for i in 0..LANES {
                column.0[i] = from[i].0[j];
            }
            *row = self.load(&column);
        }
    }

    /// The sums of sixteen vectors, as one vector.
    #[inline(always)]
    fn sums(self, rows: &[Self::V; LANES]) -> Self::V {
        let from = self.stored(rows);
        let mut out = Lanes::ZERO;
        for i in 0..LANES {
            let r = &from[i].0;
            let mut four = [0.0; 4];
            for (j, f) in four.iter_mut().enumerate() {
                *f = (r[j] + r[j + 4]) + (r[j + 8] + r[j + 12]);
            }
            out.0[i] = (four[0] + four[1]) + (four[2] + four[3]);
        }
        self.load(&out)
    }

    /// Sixteen vectors in memory.
    #[inline(always)]
    fn stored(self, rows: &[Self::V; LANES]) -> [Lanes; LANES] {
        let mut out = [Lanes::ZERO; LANES];
        for i in 0..LANES {
            self.store(rows[i], &mut out[i]);
        }
        out
    }
}

/// Work that runs at any level. `run` must be `#[inline(always)]`, and everything with vectors that it calls.
pub(super) trait Job {
    /// What it returns.
    type Out;
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// A level that this processor has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// 512-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    /// 128-bit vectors of 64-bit Arm.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
    /// Whatever the compiler makes of arrays for the least processor of its target.
    Plain(plain::Plain),
}

impl Level {
    /// The levels of this processor, best first.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(x86::Avx512::detect().map(Self::Avx512));
            levels.extend(x86::Avx2::detect().map(Self::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        levels.extend(neon::Neon::detect().map(Self::Neon));
        levels.push(Self::Plain(plain::Plain));
        levels
    }

    /// The best level of this processor.
    pub fn detect() -> Self {
        Self::available().first().copied().unwrap_or(Self::Plain(plain::Plain))
    }

    /// Runs a job with the level's instructions.
    #[inline]
    pub(super) fn run<J: Job>(self, job: J) -> J::Out {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(s) => s.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(s) => s.run(job),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(s) => s.run(job),
            Self::Plain(s) => plain::run(s, job),
        }
    }

    /// Rows of the largest tile of products.
    pub(super) fn rows(self) -> usize {
        struct Rows;
        impl Job for Rows {
            type Out = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::ROWS
            }
        }
        self.run(Rows)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
            Self::Plain(_) => "plain",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transpositions and sums of whole numbers are exact at every level.
    #[test]
    fn levels_move_and_add_values_alike() {
        struct Move;
        impl Job for Move {
            type Out = Vec<f32>;
            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> Vec<f32> {
                let mut rows = [s.splat(0.0); LANES];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = s.load(&Lanes(std::array::from_fn(|j| ((i * i + 3) * (j + 1) % 101) as f32)));
                }
                let sums = s.sums(&rows);
                s.transpose(&mut rows);
                let mut out: Vec<f32> = s.stored(&rows).iter().flat_map(|r| r.0).collect();
                let (m, n) = s.mantissa_exponent(s.add(sums, s.splat(0.5)));
                for v in [
                    sums,
                    m,
                    n,
                    s.round(s.mul(sums, s.splat(0.1))),
                    s.scale(sums, s.splat(-3.0)),
                    s.sqrt(sums),
                ] {
                    let mut lanes = Lanes::ZERO;
                    s.store(v, &mut lanes);
                    out.extend(lanes.0);
                }
                out
            }
        }
        let value = |i: usize, j: usize| ((i * i + 3) * (j + 1) % 101) as f32;
        let mut expected: Vec<f32> = (0..256).map(|at| value(at % 16, at / 16)).collect();
        let sums: Vec<f32> = (0..16).map(|i| (0..16).map(|j| value(i, j)).sum()).collect();
        let exponent = |v: &f32| (v + 0.5).log2().floor();
        expected.extend(&sums);
        expected.extend(sums.iter().map(|v| (v + 0.5) / exponent(v).exp2()));
        expected.extend(sums.iter().map(exponent));
        expected.extend(sums.iter().map(|v| (v * 0.1).round_ties_even()));
        expected.extend(sums.iter().map(|v| v / 8.0));
        expected.extend(sums.iter().map(|v| v.sqrt()));
        for level in Level::available() {
            assert_eq!(level.run(Move), expected, "{level}");
        }
    }
}
