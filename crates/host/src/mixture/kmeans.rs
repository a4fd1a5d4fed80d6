//! Weighted k-means++ seeding (Arthur and Vassilvitskii 2007, greedy variant) and a few Lloyd steps: where a mixture
//! fit starts. Distances are measured in units of the weighted standard deviation of each coordinate.

use super::points::WeightedPoints;
use crate::rng::{open_uniform, stream};
use rand_chacha::ChaCha8Rng;

/// Squared distance in units of `inverse_sd`.
fn distance2(x: &[f64], y: &[f64], inverse_sd: &[f64]) -> f64 {
    x.iter().zip(y).zip(inverse_sd).map(|((x, y), s)| ((x - y) * s).powi(2)).sum()
}

/// An index drawn with probability proportional to `shares`.
fn draw(shares: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let target = open_uniform(rng) * shares.iter().sum::<f64>();
    let mut sum = 0.0;
    let mut last = 0;
    for (i, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        last = i;
        sum += share;
        if sum > target {
            break;
        }
    }
    last
}

/// Index of the nearest centre of `x`; ties go to the lower index.
fn nearest(x: &[f64], centres: &[f64], inverse_sd: &[f64]) -> usize {
    let mut best = (f64::INFINITY, 0);
    for (k, centre) in centres.chunks(x.len()).enumerate() {
        let d = distance2(x, centre, inverse_sd);
        if d < best.0 {
            best = (d, k);
        }
    }
    best.1
}

/// Cluster of every point, `[n]`, from restart number `restart` under `seed`: k-means++ and `n_lloyd` Lloyd steps.
pub(crate) fn kmeans(data: &WeightedPoints, k: usize, n_lloyd: usize, seed: u64, restart: u64) -> Vec<usize> {
    let dim = data.dim;
    let (_, covariance) = data.moments();
    let inverse_sd: Vec<f64> =
        (0..dim).map(|j| covariance[j * dim + j].sqrt()).map(inverse_or_zero).collect();
    let mut rng = stream(seed, "mixture/kmeans", restart);
    let row = |i: usize| &data.points[i * dim..(i + 1) * dim];
    let mut centres = row(draw(&data.weights, &mut rng)).to_vec();
    let mut cost: Vec<f64> = data.points.chunks(dim).map(|x| distance2(x, &centres, &inverse_sd)).collect();
    let n_candidates = 2 + (k as f64).ln() as usize;
    for _ in 1..k {
        let shares: Vec<f64> = cost.iter().zip(&data.weights).map(|(c, w)| c * w).collect();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for _ in 0..n_candidates {
            let candidate = draw(&shares, &mut rng);
            let reduced: Vec<f64> = (data.points.chunks(dim).zip(&cost))
                .map(|(x, c)| c.min(distance2(x, row(candidate), &inverse_sd)))
                .collect();
            let potential: f64 = reduced.iter().zip(&data.weights).map(|(c, w)| c * w).sum();
            if best.as_ref().is_none_or(|b| potential < b.0) {
                best = Some((potential, candidate, reduced));
            }
        }
        if let Some((_, candidate, reduced)) = best {
            centres.extend_from_slice(row(candidate));
            cost = reduced;
        }
    }
    let assign = |centres: &[f64]| -> Vec<usize> {
        data.points.chunks(dim).map(|x| nearest(x, centres, &inverse_sd)).collect()
    };
    let mut labels = assign(&centres);
    for _ in 0..n_lloyd {
        let mut sums = vec![0.0; k * dim];
        let mut mass = vec![0.0; k];
        for ((x, w), label) in data.points.chunks(dim).zip(&data.weights).zip(&labels) {
            mass[*label] += w;
            sums[label * dim..].iter_mut().zip(x).for_each(|(s, x)| *s += w * x);
        }
        for (c, (centre, sum)) in centres.chunks_mut(dim).zip(sums.chunks(dim)).enumerate() {
            // An empty cluster keeps its centre: it can win points back in a later step.
            if mass[c] > 0.0 {
                centre.iter_mut().zip(sum).for_each(|(centre, sum)| *centre = sum / mass[c]);
            }
        }
        let next = assign(&centres);
        if next == labels {
            break;
        }
        labels = next;
    }
    labels
}

/// A coordinate without spread does not count in distances.
fn inverse_or_zero(sd: f64) -> f64 {
    if sd > 0.0 { 1.0 / sd } else { 0.0 }
}
