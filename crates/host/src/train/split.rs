//! Which points are held out for validation.
//! Invariant: rows that depend on each other (one scrambling, neighbours in a chain) lie on one side, where blocks say so.

use super::TrainingData;
use crate::rng::stream;
use rand::RngExt;
use rand::seq::SliceRandom;

/// Splits points into training and validation: by whole independent blocks where the data has at least eight of them,
/// so that both sides keep the evenness of their points; otherwise one of every 1 / share points in order of weight.
pub(super) fn split(data: &TrainingData, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    if share <= 0.0 {
        return ((0..data.n).collect(), Vec::new());
    }
    let mut rng = stream(seed, "split", 0);
    if let Some(blocks) = &data.blocks {
        let n_blocks = blocks.iter().copied().max().map_or(0, |b| b as usize + 1);
        if n_blocks >= 8 {
            let held = ((share * n_blocks as f64).round() as usize).clamp(1, n_blocks - 1);
            let mut order: Vec<usize> = (0..n_blocks).collect();
            order.shuffle(&mut rng);
            let mut is_held = vec![false; n_blocks];
            for &b in &order[..held] {
                is_held[b] = true;
            }
            return (0..data.n).partition(|&i| !is_held[blocks[i] as usize]);
        }
    }
    let mut order: Vec<usize> = (0..data.n).collect();
    order.sort_by(|&a, &b| data.weights[b].total_cmp(&data.weights[a]).then(a.cmp(&b)));
    let every = (1.0 / share).round().max(2.0) as usize;
    let mut is_held = vec![false; data.n];
    for group in order.chunks(every) {
        if group.len() == every {
            is_held[group[rng.random_range(0..every)]] = true;
        }
    }
    (0..data.n).partition(|&i| !is_held[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stay_whole_and_single_rows_go_by_weight() {
        let n = 200;
        let mut data = TrainingData { n, weights: vec![1.0 / n as f64; n], ..TrainingData::default() };
        data.blocks = Some((0..n as u32).map(|i| i / 10).collect());
        let (train, held) = split(&data, 0.1, 3);
        assert_eq!((train.len(), held.len()), (180, 20));
        let held_blocks: std::collections::BTreeSet<usize> = held.iter().map(|i| i / 10).collect();
        assert!(train.iter().all(|i| !held_blocks.contains(&(i / 10))), "{held:?}");
        data.blocks = None;
        let (train, held) = split(&data, 0.1, 3);
        assert_eq!((train.len(), held.len()), (180, 20));
        assert_eq!(split(&data, 0.0, 3).1, [] as [usize; 0]);
    }
}
