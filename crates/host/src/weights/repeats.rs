//! Rows that occur more than once: draws with multiplicities written out, or a table that was joined to itself. Their weights
//! add up, but repeating a point tells nothing new.

use super::{log_add, normalised_weights};
use crate::HostError;
use std::collections::HashMap;

/// Rows of which some are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeats {
    /// Number of the distinct point of each row, `[n]`, in the order of first occurrence.
    pub points: Vec<u32>,
    /// Distinct points.
    pub n_distinct: usize,
    /// Kish's effective sample size of the distinct points, each with the sum of its weights.
    pub effective: f64,
}

/// What is repeated in `rows`, `[n, width]`, to the last bit; `None` if nothing is.
///
/// # Errors
/// An illegal log weight, or all weights zero.
pub fn repeats(rows: &[f64], width: usize, log_weights: &[f64]) -> Result<Option<Repeats>, HostError> {
    let mut known: HashMap<Vec<u64>, u32> = HashMap::with_capacity(log_weights.len());
    let mut sums: Vec<f64> = Vec::new();
    let mut points = Vec::with_capacity(log_weights.len());
    for (row, log_weight) in rows.chunks_exact(width.max(1)).zip(log_weights) {
        // 0 and -0 are one point.
        let bits = row.iter().map(|x| (x + 0.0).to_bits()).collect();
        let point = *known.entry(bits).or_insert(sums.len() as u32);
        match sums.get_mut(point as usize) {
            Some(sum) => *sum = log_add(*sum, *log_weight),
            None => sums.push(*log_weight),
        }
        points.push(point);
    }
    if sums.len() == points.len() {
        return Ok(None);
    }
    let weights = normalised_weights(&sums, &[])?;
    let effective = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
    Ok(Some(Repeats { points, n_distinct: sums.len(), effective }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_points_count_once() {
        let rows = [1.0, 2.0, 0.0, 2.0, 1.0, 2.0, -0.0, 2.0];
        let log_weights = [0.0, 0.0, 0.0, f64::NEG_INFINITY];
        let found = repeats(&rows, 2, &log_weights).unwrap().unwrap();
        assert_eq!((found.points, found.n_distinct), (vec![0, 1, 0, 1], 2));
        // Weights 2/3 and 1/3.
        assert!((found.effective - 9.0 / 5.0).abs() < 1e-12, "{}", found.effective);
        assert_eq!(repeats(&rows[..4], 2, &log_weights[..2]).unwrap(), None);
        assert!(repeats(&rows, 2, &[f64::NAN; 4]).is_err());
    }
}
