//! Distances between samples: sliced Wasserstein-2 along fixed random directions, and Kolmogorov-Smirnov on a line.
//! Sorting is done on integers that keep the order of the floats: the same result, several times faster.
//! All values must be finite; a bad one is named by array, row and column.

use crate::HostError;
use crate::error::{check_length, n_rows};
use crate::rng::CounterField;
use rayon::prelude::*;

/// Sliced Wasserstein-2 distance of `a`, `[n, dim]`, and `b`, `[m, dim]`: the root of the mean squared W2 of the
/// projections on `n_directions` directions, uniform on the sphere, that are a function of `seed` and `dim` alone.
///
/// # Errors
/// Values that are not finite, empty samples, lengths that are not multiples of `dim`, or no direction.
pub fn sliced_wasserstein2(
    a: &[f64],
    b: &[f64],
    dim: usize,
    n_directions: usize,
    seed: u64,
) -> Result<f64, HostError> {
    Ok(sliced_to_reference(b, &[a], dim, n_directions, seed)?[0])
}

/// [`sliced_wasserstein2`] of each of `samples` to one reference, which is projected and sorted only once.
pub(super) fn sliced_to_reference(
    reference: &[f64],
    samples: &[&[f64]],
    dim: usize,
    n_directions: usize,
    seed: u64,
) -> Result<Vec<f64>, HostError> {
    for sample in samples.iter().copied().chain([reference]) {
        if n_rows("sliced_wasserstein2 sample", sample.len(), dim)? == 0 {
            let expected = "at least 1 row".into();
            return Err(HostError::Length { what: "sliced_wasserstein2 sample", got: 0, expected });
        }
        check_finite("sliced_wasserstein2 sample", sample, dim)?;
    }
    if n_directions == 0 {
        return Err(HostError::BadSetting {
            setting: "n_directions",
            got: "0".into(),
            expected: "at least 1",
        });
    }
    let mut directions = vec![0.0; n_directions * dim];
    CounterField::new(seed, "sliced/directions", dim).fill_standard_normal(0, &mut directions);
    let squares: Vec<Vec<f64>> = directions
        .par_chunks_exact(dim)
        .map(|direction| {
            let sorted = project(reference, direction);
            samples.iter().map(|sample| w2_squared(&project(sample, direction), &sorted)).collect()
        })
        .collect();
    let mean = |k: usize| squares.iter().map(|s| s[k]).sum::<f64>() / n_directions as f64;
    Ok((0..samples.len()).map(|k| mean(k).sqrt()).collect())
}

/// Sorted projections of the rows of `sample` on `direction`, which need not have length one.
fn project(sample: &[f64], direction: &[f64]) -> Vec<f64> {
    let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
    let unit: Vec<f64> = direction.iter().map(|d| d / length).collect();
    let dot = |row: &[f64]| row.iter().zip(&unit).map(|(x, d)| x * d).sum::<f64>();
    // The integer order of these keys is the total order of the floats.
    let flip = |bits: i64| bits ^ (((bits >> 63) as u64) >> 1) as i64;
    let mut keys: Vec<i64> =
        sample.chunks_exact(unit.len()).map(|row| flip(dot(row).to_bits() as i64)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| f64::from_bits(flip(key) as u64)).collect()
}

/// Squared W2 of two sorted samples of any sizes: the integral of the squared difference of their quantile functions.
fn w2_squared(a: &[f64], b: &[f64]) -> f64 {
    if a.len() == b.len() {
        return a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>() / a.len() as f64;
    }
    // In units of 1/(n m), point i of a covers (i m, (i+1) m) and point j of b covers (j n, (j+1) n).
    let (n, m) = (a.len() as u64, b.len() as u64);
    let (mut i, mut j, mut done, mut sum) = (0u64, 0u64, 0u64, 0.0);
    while i < n && j < m {
        let next = ((i + 1) * m).min((j + 1) * n);
        let difference = a[i as usize] - b[j as usize];
        sum += (next - done) as f64 * difference * difference;
        i += u64::from(next == (i + 1) * m);
        j += u64::from(next == (j + 1) * n);
        done = next;
    }
    sum / (n as f64 * m as f64)
}

/// Kolmogorov-Smirnov distance of a sample, `[n]`, weighted by `weights`, `[n]`, where given, to a continuous `cdf`.
///
/// ```
/// let distance = lwflow_host::diagnostics::ks_distance(&[0.25, 0.75], None, |x| x)?;
/// assert!((distance - 0.25).abs() < 1e-15);
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
///
/// # Errors
/// Values that are not finite, negative weights, weights that sum to zero, unequal lengths.
pub fn ks_distance(
    samples: &[f64],
    weights: Option<&[f64]>,
    cdf: impl Fn(f64) -> f64,
) -> Result<f64, HostError> {
    let steps = steps(samples, weights)?;
    let mut below = 0.0;
    let mut largest: f64 = 0.0;
    for (x, above) in steps {
        let truth = cdf(x);
        largest = largest.max((truth - below).abs()).max((truth - above).abs());
        below = above;
    }
    Ok(largest)
}

/// Kolmogorov-Smirnov distance of two samples, `[n]` and `[m]`, each weighted where weights are given.
///
/// # Errors
/// As [`ks_distance`].
pub fn ks_two_sample(
    a: &[f64],
    weights_a: Option<&[f64]>,
    b: &[f64],
    weights_b: Option<&[f64]>,
) -> Result<f64, HostError> {
    let (a, b) = (steps(a, weights_a)?, steps(b, weights_b)?);
    let (mut i, mut j, mut largest) = (0, 0, 0.0f64);
    let (mut at_a, mut at_b) = (0.0, 0.0);
    while i < a.len() && j < b.len() {
        // Equal values step together: between them lies no point at which the functions could differ.
        let x = a[i].0.min(b[j].0);
        if a[i].0 == x {
            at_a = a[i].1;
            i += 1;
        }
        if b[j].0 == x {
            at_b = b[j].1;
            j += 1;
        }
        largest = largest.max((at_a - at_b).abs());
    }
    Ok(largest)
}

/// The empirical distribution function: distinct values in order, each with the share at or below it.
fn steps(samples: &[f64], weights: Option<&[f64]>) -> Result<Vec<(f64, f64)>, HostError> {
    let n = samples.len();
    if n == 0 {
        return Err(HostError::Length { what: "ks samples", got: 0, expected: "at least 1 value".into() });
    }
    check_finite("ks samples", samples, 1)?;
    if let Some(w) = weights {
        check_length("ks weights", w.len(), n, "one per sample")?;
        check_finite("ks weights", w, 1)?;
        if let Some(row) = w.iter().position(|v| *v < 0.0) {
            let expected = "a weight of at least 0";
            return Err(HostError::BadValue { what: "ks weights", row, column: 0, value: w[row], expected });
        }
    }
    let mut pairs: Vec<(f64, f64)> =
        samples.iter().enumerate().map(|(i, x)| (*x, weights.map_or(1.0, |w| w[i]))).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = pairs.iter().map(|p| p.1).sum();
    if total <= 0.0 {
        return Err(HostError::AllWeightsZero { what: "ks weights", n });
    }
    let mut steps: Vec<(f64, f64)> = Vec::with_capacity(n);
    let mut sum = 0.0;
    for (x, w) in pairs {
        sum += w;
        match steps.last_mut() {
            Some(last) if last.0 == x => last.1 = sum / total,
            _ => steps.push((x, sum / total)),
        }
    }
    Ok(steps)
}

fn check_finite(what: &'static str, values: &[f64], dim: usize) -> Result<(), HostError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(HostError::BadValue {
            what,
            row: i / dim,
            column: i % dim,
            value: values[i],
            expected: "a finite number",
        }),
    }
}
