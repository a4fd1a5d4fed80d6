//! A scan of a prior: block after block of scrambled Sobol points is drawn, mapped through the prior's quantiles, evaluated and
//! summed where the likelihood runs. Invariant: only the sums of a block and the draws above a threshold come back; what
//! they are does not depend on how many blocks are asked for at once.

mod quantiles;
mod sobol;

pub(crate) use quantiles::N_CUBICS;
pub use quantiles::QuantileTable;
pub(crate) use sobol::directions;
pub use sobol::{SOBOL_BLOCK, SOBOL_MAX_DIM, SobolBlock};

/// What is left of a block of draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSums {
    /// log of the sum of L; -inf if no draw has any.
    pub log_sum: f64,
    /// log of the sum of L^2.
    pub log_sum_squares: f64,
}

/// A draw by its place, from which it can be made again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanDraw {
    /// Its block.
    pub block: u32,
    /// Its row in the block.
    pub row: u32,
    /// Its log L.
    pub log_likelihood: f64,
}

/// What is left of consecutive blocks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scanned {
    /// Sums of each block.
    pub blocks: Vec<BlockSums>,
    /// Draws above the threshold, in order.
    pub kept: Vec<ScanDraw>,
    /// The first draw whose log L is NaN or +inf; the sums of its block mean nothing.
    pub illegal: Option<ScanDraw>,
}

impl Scanned {
    /// Appends block `block` with the log L of its draws: f64 sums, and draws above `threshold`.
    pub fn push(&mut self, block: u32, log_likelihood: impl Iterator<Item = f64> + Clone, threshold: f64) {
        let draws = || {
            let rows = (0..).zip(log_likelihood.clone());
            rows.map(|(row, log_likelihood)| ScanDraw { block, row, log_likelihood })
        };
        let is_illegal = |d: &ScanDraw| d.log_likelihood.is_nan() || d.log_likelihood == f64::INFINITY;
        self.illegal = self.illegal.or_else(|| draws().find(is_illegal));
        let max = log_likelihood.clone().fold(f64::NEG_INFINITY, f64::max);
        let (sum, squares) = log_likelihood.clone().fold((0.0, 0.0), |(sum, squares), l| {
            let w = if l > f64::NEG_INFINITY { (l - max).exp() } else { 0.0 };
            (sum + w, squares + w * w)
        });
        self.blocks.push(BlockSums::new(max, sum, squares));
        self.kept.extend(draws().filter(|d| d.log_likelihood > threshold));
    }
}

impl Scanned {
    /// Appends what is left of the blocks that follow.
    pub(crate) fn append(&mut self, next: Self) {
        self.blocks.extend(next.blocks);
        self.kept.extend(next.kept);
        self.illegal = self.illegal.or(next.illegal);
    }
}

impl BlockSums {
    /// Of sums of L and L^2 in units of the largest L, whose logarithm is `max`.
    pub(crate) fn new(max: f64, sum: f64, squares: f64) -> Self {
        let log = |scale: f64, sum: f64| if sum > 0.0 { scale + sum.ln() } else { f64::NEG_INFINITY };
        Self { log_sum: log(max, sum), log_sum_squares: log(2.0 * max, squares) }
    }
}

#[cfg(test)]
mod tests;
