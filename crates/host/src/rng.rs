//! Seeded random numbers by position: every number is a function of (seed, purpose, sample, coordinate), so sample i
//! is the same however many samples are drawn at once and on however many threads. Also scrambled Sobol points.
//! Bits come from ChaCha8; normals from Box and Muller, so they can differ in the last bit between maths libraries.

use lwflow_engine::SobolBlock;
pub use lwflow_engine::{SOBOL_BLOCK, SOBOL_MAX_DIM};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use statrs::function::erf::erfc_inv;
use std::f64::consts::{SQRT_2, TAU};

/// Rows filled by one task; it bounds the cost of seeking and changes no result.
const ROWS_PER_TASK: usize = 4096;

/// FNV-1a, 64 bits: turns a purpose into key bits.
fn purpose_bits(purpose: &str) -> u64 {
    purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The generator number `index` of `purpose` under `seed`: streams of different seeds, purposes or indices share no
/// bits.
///
/// ```
/// use rand_chacha::rand_core::Rng;
/// let a = lwflow_host::rng::stream(7, "shuffle", 0).next_u64();
/// assert_eq!(a, lwflow_host::rng::stream(7, "shuffle", 0).next_u64());
/// assert_ne!(a, lwflow_host::rng::stream(7, "shuffle", 1).next_u64());
/// ```
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&purpose_bits(purpose).to_le_bytes());
    key[16..24].copy_from_slice(b"lwflow-1");
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

/// Seed number `index` of `purpose` under `seed`, for what takes a seed of its own.
pub fn derived_seed(seed: u64, purpose: &str, index: u64) -> u64 {
    stream(seed, purpose, index).next_u64()
}

/// A uniform number strictly inside (0, 1), on a grid of 2^-53.
pub fn open_uniform<R: Rng>(rng: &mut R) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
}

/// Two independent standard normals (Box and Muller 1958).
pub fn normal_pair<R: Rng>(rng: &mut R) -> (f64, f64) {
    let radius = (-2.0 * open_uniform(rng).ln()).sqrt();
    let (sin, cos) = (TAU * open_uniform(rng)).sin_cos();
    (radius * cos, radius * sin)
}

/// Standard normal cumulative distribution function, to a relative 1e-12 however far out.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// Standard normal quantile of `u` in (0, 1); the ends give -inf and +inf.
pub fn normal_quantile(u: f64) -> f64 {
    -SQRT_2 * erfc_inv(2.0 * u)
}

/// A random-access array of random numbers, `[2^62, dim]`: entry (i, j) depends on seed, purpose, `dim`, i and j alone.
/// Uniforms and normals of one field come from the same bits: use two purposes where both are needed.
#[derive(Clone, Debug)]
pub struct CounterField {
    rng: ChaCha8Rng,
    dim: usize,
}

impl CounterField {
    /// The field of `purpose` under `seed` with rows of `dim` numbers (0 is read as 1).
    pub fn new(seed: u64, purpose: &str, dim: usize) -> Self {
        Self::numbered(seed, purpose, 0, dim)
    }

    /// Field number `index` of those of `purpose`: fields of different numbers share no bits, and number 0 is that of
    /// [`CounterField::new`].
    pub fn numbered(seed: u64, purpose: &str, index: u64, dim: usize) -> Self {
        Self { rng: stream(seed, purpose, index), dim: dim.max(1) }
    }

    /// Numbers per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// A generator at the start of pair `pair` of row `i`. A pair of coordinates takes two u64, that is four words.
    fn at(&self, i: u64, pair: usize) -> ChaCha8Rng {
        let mut rng = self.rng.clone();
        rng.set_word_pos(4 * (u128::from(i) * self.dim.div_ceil(2) as u128 + pair as u128));
        rng
    }

    /// Uniform number (i, j), strictly inside (0, 1).
    pub fn uniform(&self, i: u64, j: usize) -> f64 {
        let mut rng = self.at(i, j / 2);
        let first = open_uniform(&mut rng);
        if j.is_multiple_of(2) { first } else { open_uniform(&mut rng) }
    }

    /// Standard normal number (i, j).
    pub fn standard_normal(&self, i: u64, j: usize) -> f64 {
        let (a, b) = normal_pair(&mut self.at(i, j / 2));
        if j.is_multiple_of(2) { a } else { b }
    }

    /// Fills `out`, `[n, dim]`, with the uniforms of rows `first..first + n`.
    pub fn fill_uniform(&self, first: u64, out: &mut [f64]) {
        self.fill(first, out, |rng| (open_uniform(rng), open_uniform(rng)));
    }

    /// Fills `out`, `[n, dim]`, with the standard normals of rows `first..first + n`.
    pub fn fill_standard_normal(&self, first: u64, out: &mut [f64]) {
        self.fill(first, out, normal_pair);
    }

    fn fill(&self, first: u64, out: &mut [f64], pair: impl Fn(&mut ChaCha8Rng) -> (f64, f64) + Sync) {
        out.par_chunks_mut(ROWS_PER_TASK * self.dim).enumerate().for_each(|(task, rows)| {
            let mut rng = self.at(first + (task * ROWS_PER_TASK) as u64, 0);
            for row in rows.chunks_mut(self.dim) {
                for values in row.chunks_mut(2) {
                    let (a, b) = pair(&mut rng);
                    values[0] = a;
                    if let Some(second) = values.get_mut(1) {
                        *second = b;
                    }
                }
            }
        });
    }
}

/// Points of a unit cube with the id of the independent scrambling each belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct SobolPoints {
    /// `[n, dim]`, strictly inside (0, 1).
    pub points: Vec<f64>,
    /// `[n]`: block id; estimates of different blocks are independent, which gives error bars.
    pub blocks: Vec<u32>,
}

/// `n` Owen-scrambled Sobol points in `dim` dimensions, in blocks of [`SOBOL_BLOCK`] points: block b is the net of its
/// own scrambling, seeded by (seed, b) (Burley 2020, "Practical hash-based Owen scrambling"). Within a block a smooth
/// integrand has a far smaller error than with independent draws; between blocks errors are independent.
/// Above [`SOBOL_MAX_DIM`] dimensions the points are independent uniforms, in blocks all the same.
pub fn sobol_blocks(seed: u64, n: usize, dim: usize) -> SobolPoints {
    let dim = dim.max(1);
    let mut points = vec![0.0; n * dim];
    let blocks = (0..n).map(|i| (i / SOBOL_BLOCK) as u32).collect();
    let each = points.par_chunks_mut(SOBOL_BLOCK * dim).enumerate();
    each.for_each(|(block, points)| sobol_rows(seed, block as u32, 0, dim, points));
    SobolPoints { points, blocks }
}

/// Points `row..` of block `block` of [`sobol_blocks`] into `points`, `[n, dim]`; a block has [`SOBOL_BLOCK`] of them.
pub fn sobol_rows(seed: u64, block: u32, row: u32, dim: usize, points: &mut [f64]) {
    if dim > SOBOL_MAX_DIM {
        let first = u64::from(block) * SOBOL_BLOCK as u64 + u64::from(row);
        return CounterField::new(seed, "sobol/fallback", dim).fill_uniform(first, points);
    }
    let scrambled = SobolBlock::new(sobol_key(seed), block, dim);
    let mut bits = vec![0; dim];
    for (row, point) in (row..).zip(points.chunks_exact_mut(dim)) {
        scrambled.point(row, &mut bits);
        for (value, bits) in point.iter_mut().zip(&bits) {
            *value = (f64::from(*bits) + 0.5) * (1.0 / 4_294_967_296.0);
        }
    }
}

/// What the scramblings of all blocks under `seed` follow from.
pub fn sobol_key(seed: u64) -> u32 {
    stream(seed, "sobol", 0).next_u32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_not_depend_on_the_batch_it_is_drawn_in() {
        for dim in [1, 2, 3, 5] {
            let field = CounterField::new(11, "test", dim);
            let mut whole = vec![0.0; 10_000 * dim];
            field.fill_standard_normal(0, &mut whole);
            let mut part = vec![0.0; 37 * dim];
            field.fill_standard_normal(4090, &mut part);
            assert_eq!(part, whole[4090 * dim..4127 * dim]);
            for (i, j) in [(0, 0), (4095, dim - 1), (4096, 0), (9999, dim / 2)] {
                assert_eq!(field.standard_normal(i as u64, j), whole[i * dim + j]);
            }
            let mut uniform = vec![0.0; 5000 * dim];
            field.fill_uniform(0, &mut uniform);
            assert_eq!(field.uniform(4999, dim - 1), uniform[5000 * dim - 1]);
            assert!(uniform.iter().all(|u| *u > 0.0 && *u < 1.0));
        }
    }

    #[test]
    fn normals_have_the_moments_and_the_quantiles_of_a_normal() {
        let n = 200_000;
        let mut z = vec![0.0; n];
        CounterField::new(3, "moments", 2).fill_standard_normal(0, &mut z);
        let moment = |p: i32| z.iter().map(|v| v.powi(p)).sum::<f64>() / n as f64;
        let se = |variance: f64| 4.0 * (variance / n as f64).sqrt();
        assert!(moment(1).abs() < se(1.0), "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < se(2.0), "variance {}", moment(2));
        assert!(moment(3).abs() < se(15.0), "skewness {}", moment(3));
        assert!((moment(4) - 3.0).abs() < se(96.0), "kurtosis {}", moment(4));
        let pairs: f64 = z.chunks(2).map(|p| p[0] * p[1]).sum::<f64>() / (n / 2) as f64;
        assert!(pairs.abs() < 4.0 / ((n / 2) as f64).sqrt(), "correlation {pairs}");
        let below = z.iter().filter(|v| **v < normal_quantile(0.01)).count() as f64 / n as f64;
        assert!((below - 0.01).abs() < se(0.0099), "share below the 1 % quantile {below}");
    }

    #[test]
    fn quantile_inverts_the_cdf_far_into_the_tails() {
        for u in [1e-12, 1e-5, 0.02, 0.5, 0.77, 1.0 - 1e-9] {
            let back = normal_cdf(normal_quantile(u));
            assert!((back / u - 1.0).abs() < 1e-9, "{u} came back as {back}");
        }
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
    }

    #[test]
    fn streams_differ_by_seed_purpose_and_index() {
        let first = |seed, purpose, index| stream(seed, purpose, index).next_u64();
        let all = [first(1, "a", 0), first(2, "a", 0), first(1, "b", 0), first(1, "a", 1)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn each_sobol_block_is_stratified_in_every_dimension_and_pair() {
        let SobolPoints { points, blocks } = sobol_blocks(5, 2 * SOBOL_BLOCK, 3);
        assert_eq!((blocks[SOBOL_BLOCK - 1], blocks[SOBOL_BLOCK]), (0, 1));
        for block in points.chunks(SOBOL_BLOCK * 3) {
            for j in 0..3 {
                let mut counts = vec![0; SOBOL_BLOCK];
                for row in block.chunks(3) {
                    assert!(row[j] > 0.0 && row[j] < 1.0);
                    counts[(row[j] * SOBOL_BLOCK as f64) as usize] += 1;
                }
                assert!(counts.iter().all(|c| *c == 1), "dimension {j} is not a stratified set");
            }
            // The first two dimensions form a (0, 13, 2)-net: a 128 x 64 grid holds one point per cell.
            let mut cells = vec![0; 128 * 64];
            for row in block.chunks(3) {
                cells[(row[0] * 128.0) as usize * 64 + (row[1] * 64.0) as usize] += 1;
            }
            assert!(cells.iter().all(|c| *c == 1));
        }
        assert_ne!(points[..30], points[SOBOL_BLOCK * 3..SOBOL_BLOCK * 3 + 30]);
    }

    #[test]
    fn rows_of_a_block_are_those_of_the_whole() {
        for dim in [3, SOBOL_MAX_DIM + 1] {
            let whole = sobol_blocks(5, SOBOL_BLOCK + 50, dim).points;
            let mut rows = vec![0.0; 7 * dim];
            sobol_rows(5, 1, 40, dim, &mut rows);
            assert_eq!(rows, whole[(SOBOL_BLOCK + 40) * dim..][..7 * dim]);
        }
    }

    #[test]
    fn sobol_integrates_a_smooth_function_far_better_than_its_iid_error() {
        let n = 4 * SOBOL_BLOCK;
        let points = sobol_blocks(9, n, 4).points;
        let mean = points.chunks(4).map(|p| p.iter().map(|u| 1.5 * u.sqrt()).product::<f64>()).sum::<f64>()
            / n as f64;
        let iid_sd = ((1.125f64.powi(4) - 1.0) / n as f64).sqrt();
        assert!((mean - 1.0).abs() < 0.05 * iid_sd, "error {} iid sd {iid_sd}", mean - 1.0);
    }

    #[test]
    fn sobol_beyond_the_table_falls_back_to_uniforms() {
        let sobol = sobol_blocks(1, 100, SOBOL_MAX_DIM + 1);
        assert_eq!(sobol.points.len(), 100 * (SOBOL_MAX_DIM + 1));
        let mean = sobol.points.iter().sum::<f64>() / sobol.points.len() as f64;
        assert!((mean - 0.5).abs() < 4.0 / (12.0 * sobol.points.len() as f64).sqrt());
    }
}
