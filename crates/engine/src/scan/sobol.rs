//! Owen-scrambled Sobol points in independent blocks (Burley 2020, "Practical hash-based Owen scrambling"): block b is the
//! net of its own scrambling. Invariant: the integers are the same wherever they are made; the device has the same formula
//! in shaders/wgsl/evaluate_likelihood.wgsl.

use sobol_burley::parts::{hash, owen_scramble_rev, sobol_rev};

/// Points per independent scrambling; a power of two, below the 2^16 that the directions reach.
pub const SOBOL_BLOCK: usize = 8192;

/// Largest dimension with Sobol points.
pub const SOBOL_MAX_DIM: usize = sobol_burley::NUM_DIMENSIONS as usize;

/// Directions of a dimension: Sobol points are linear over the bits of their index.
const N_DIRECTIONS: u32 = 16;

/// The scramblings of one block.
#[derive(Debug, Clone)]
pub struct SobolBlock {
    index: u32,
    /// `[D]`
    coordinates: Vec<u32>,
}

impl SobolBlock {
    /// Block `block` of the sequence `key`, in up to [`SOBOL_MAX_DIM`] dimensions.
    #[must_use]
    pub fn new(key: u32, block: u32, dim: usize) -> Self {
        // The hash is a bijection, so no two blocks of one key share a scrambling.
        let seed = hash(key ^ block);
        let coordinates = (0..dim as u32).map(|j| hash(seed.wrapping_mul(0x9c8f_2d3b) ^ hash(j)));
        Self { index: hash(seed ^ 0x79c6_8e4a), coordinates: coordinates.collect() }
    }

    /// Point `row` of the block into `bits`, `[D]`: coordinate j is (bits + 1/2) / 2^32.
    pub fn point(&self, row: u32, bits: &mut [u32]) {
        let index = owen_scramble_rev(row.reverse_bits(), self.index);
        for ((j, scramble), bits) in (0..).zip(&self.coordinates).zip(bits) {
            *bits = owen_scramble_rev(sobol_rev(index, j), *scramble).reverse_bits();
        }
    }
}

/// The directions of the upper 16 bits of a reversed index, `[D, 16]`.
pub(crate) fn directions(dim: usize) -> Vec<u32> {
    let of = |j: u32| (0..N_DIRECTIONS).map(move |k| sobol_rev(1 << (32 - N_DIRECTIONS + k), j));
    (0..dim as u32).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_span_the_points() {
        let table = directions(SOBOL_MAX_DIM);
        for index in [0x0001_0000, 0x8000_0000, 0xdead_beef, 0xffff_0000, 0x1234_5678] {
            for (j, row) in table.chunks_exact(N_DIRECTIONS as usize).enumerate() {
                let sum = (0..N_DIRECTIONS as usize)
                    .filter(|k| index >> (16 + k) & 1 == 1)
                    .fold(0, |sum, k| sum ^ row[k]);
                assert_eq!(sum, sobol_rev(index, j as u32), "index {index:x}, dimension {j}");
            }
        }
    }
}
