//! How far an observation lies from those that a conditional flow was trained on: where it lies outside, the flow only
//! extrapolates. Sets are measured by the features of the context network, which mean the same for any number of elements;
//! all else by the standardised values. Invariant: the score is a Mahalanobis distance in the training's own coordinates, and its tail share is
//! counted among the training's observations, not assumed.

use crate::HostError;
use lwflow_model::{ContextNetworkSpec, FlowSpec};
use serde::{Deserialize, Serialize};

/// Largest number of context values whose covariance is kept; with more, the distance takes them as independent.
const MAX_FULL: usize = 256;
/// Shares of the training's observations beyond the stored distances; the last is the largest distance itself.
const TAILS: [f64; 13] = [1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0];
/// An observation is called new if fewer of the training's lie as far out.
pub const NOVEL_TAIL: f64 = 0.001;
/// Added to the variances, so that a combination of values that never varied in training has a scale.
const RIDGE: f64 = 1e-6;

/// What the distances of the training's observations were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Novelty {
    /// Location and scale of a set's features, `[F]` each; not there of values that are standardised already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    location: Vec<f64>,
    /// See `location`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scale: Vec<f64>,
    /// Inverse of the lower Cholesky factor of the standardised values' covariance, rows of its lower triangle,
    /// `[C (C + 1) / 2]`; empty for many values, which are then taken as independent.
    whitening: Vec<f64>,
    /// Distances beyond which the shares [`TAILS`] of the training's observations lie, ascending.
    distances: Vec<f64>,
    /// Number of the training's observations.
    n: usize,
}

/// How new an observation is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NoveltyScore {
    /// Mahalanobis distance from the mean of the training's observations.
    pub distance: f64,
    /// Share of the training's observations that lie at least as far out; 0 if none does.
    pub tail: f64,
}

impl NoveltyScore {
    /// Whether fewer than [`NOVEL_TAIL`] of the training's observations lie as far out.
    #[must_use]
    pub fn is_novel(&self) -> bool {
        self.tail < NOVEL_TAIL
    }
}

impl Novelty {
    /// From standardised training contexts `[n, C]` of non-zero weight; `None` without context.
    #[must_use]
    pub fn fit(context: &[f32], c: usize) -> Option<Self> {
        let n = context.len().checked_div(c).filter(|n| *n > 0)?;
        let (location, scale) = (Vec::new(), Vec::new());
        let mut novelty = Self { location, scale, whitening: Vec::new(), distances: Vec::new(), n };
        if c <= MAX_FULL {
            novelty.whitening = whitening(context, c);
        }
        let mut distances: Vec<f64> =
            context.chunks_exact(c).map(|row| novelty.distance(row.iter().map(|&v| f64::from(v)))).collect();
        distances.sort_by(f64::total_cmp);
        let at = |tail: f64| distances[(((1.0 - tail) * n as f64) as usize).min(n - 1)];
        novelty.distances = TAILS.iter().map(|&tail| at(tail)).collect();
        Some(novelty)
    }

    /// From the features of a context network, `[n, F]`, at the training's contexts of non-zero weight.
    #[must_use]
    pub fn of_features(features: &[f32], f: usize) -> Option<Self> {
        let n = features.len().checked_div(f).filter(|n| *n > 0)? as f64;
        let rows = || features.chunks_exact(f);
        let value = |row: &[f32], j: usize| f64::from(row[j]);
        let location: Vec<f64> = (0..f).map(|j| rows().map(|row| value(row, j)).sum::<f64>() / n).collect();
        let spread = |j: usize| rows().map(|row| (value(row, j) - location[j]).powi(2)).sum::<f64>() / n;
        let scale =
            (0..f).map(|j| if spread(j) > 0.0 { spread(j).sqrt() } else { 1.0 }).collect::<Vec<f64>>();
        let standardised = rows().flat_map(|row| (0..f).map(|j| (value(row, j) - location[j]) / scale[j]));
        let standardised: Vec<f32> = standardised.map(|v| v as f32).collect();
        Self::fit(&standardised, f).map(|novelty| Self { location, scale, ..novelty })
    }

    /// Number of values that the distance of a flow's observations is measured in.
    #[must_use]
    pub fn width(spec: &FlowSpec) -> usize {
        match spec.context_network {
            Some(ContextNetworkSpec::Set(_)) => spec.n_features(),
            Some(ContextNetworkSpec::Mlp(_)) | None => spec.context_dim,
        }
    }

    /// Checks what a file says of distances in `c` values.
    ///
    /// # Errors
    /// [`HostError::Invalid`] naming the field that is wrong.
    pub fn validate(&self, c: usize) -> Result<(), HostError> {
        let full = c * (c + 1) / 2;
        if !self.whitening.is_empty() && (c > MAX_FULL || self.whitening.len() != full) {
            return Err(HostError::invalid(
                "novelty.whitening",
                self.whitening.len(),
                format!("0 or {full} values"),
            ));
        }
        let scaled = [0, c].contains(&self.location.len()) && self.scale.len() == self.location.len();
        if !scaled || !self.location.iter().all(|v| v.is_finite()) || !self.scale.iter().all(|v| *v > 0.0) {
            let got = format!("{} and {} values", self.location.len(), self.scale.len());
            let expected = format!("0 or {c} finite ones, the scales positive");
            return Err(HostError::invalid("novelty.location and scale", got, expected));
        }
        let ascending = self.distances.windows(2).all(|w| w[0] <= w[1]);
        let finite = self.whitening.iter().chain(&self.distances).all(|v| v.is_finite());
        if self.distances.len() != TAILS.len() || !ascending || !finite || self.n == 0 {
            let expected = format!("{} ascending finite distances of at least one observation", TAILS.len());
            return Err(HostError::invalid("novelty.distances", format!("{:?}", self.distances), expected));
        }
        Ok(())
    }

    /// Number of the training's observations.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Largest distance of the training's observations.
    #[must_use]
    pub fn largest(&self) -> f64 {
        self.distances.last().copied().unwrap_or(f64::INFINITY)
    }

    /// The score of a standardised observation, `[C]`, or of the features of a set, `[F]`. Between the stored distances the logarithm of the tail share is
    /// interpolated.
    #[must_use]
    pub fn score(&self, context: &[f64]) -> NoveltyScore {
        let standardised = |(j, &x): (usize, &f64)| match (self.location.get(j), self.scale.get(j)) {
            (Some(location), Some(scale)) => (x - location) / scale,
            _ => x,
        };
        let distance = self.distance(context.iter().enumerate().map(standardised));
        let above = self.distances.partition_point(|d| *d < distance);
        let tail = match above {
            0 => 1.0,
            k if k == self.distances.len() => 0.0,
            k => {
                let (low, high) = (self.distances[k - 1], self.distances[k]);
                // Beyond the last share of thousands lie a few observations at most.
                let floor = TAILS[k].max(1.0 / self.n as f64).min(TAILS[k - 1]);
                let part = (distance - low) / (high - low);
                TAILS[k - 1] * (floor / TAILS[k - 1]).powf(part)
            }
        };
        NoveltyScore { distance, tail }
    }

    fn distance(&self, context: impl Iterator<Item = f64>) -> f64 {
        let x: Vec<f64> = context.collect();
        if self.whitening.is_empty() {
            return x.iter().map(|v| v * v).sum::<f64>().sqrt();
        }
        let mut rest = &self.whitening[..];
        let mut sum = 0.0;
        for i in 0..x.len() {
            let (row, after) = rest.split_at(i + 1);
            rest = after;
            sum += row.iter().zip(&x).map(|(w, v)| w * v).sum::<f64>().powi(2);
        }
        sum.sqrt()
    }
}

/// Rows of the inverse Cholesky factor of the covariance of `context`, `[n, c]`, around zero, which is its mean.
fn whitening(context: &[f32], c: usize) -> Vec<f64> {
    let n = (context.len() / c) as f64;
    let mut factor = vec![0.0; c * c];
    for row in context.chunks_exact(c) {
        for i in 0..c {
            for j in 0..=i {
                factor[i * c + j] += f64::from(row[i]) * f64::from(row[j]) / n;
            }
        }
    }
    for i in 0..c {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|m| factor[i * c + m] * factor[j * c + m]).sum();
            factor[i * c + j] = if i == j {
                (factor[i * c + i] + RIDGE - dot).max(RIDGE).sqrt()
            } else {
                (factor[i * c + j] - dot) / factor[j * c + j]
            };
        }
    }
    let mut inverse = vec![0.0; c * c];
    for j in 0..c {
        inverse[j * c + j] = 1.0 / factor[j * c + j];
        for i in j + 1..c {
            let sum: f64 = (j..i).map(|m| factor[i * c + m] * inverse[m * c + j]).sum();
            inverse[i * c + j] = -sum / factor[i * c + i];
        }
    }
    (0..c).flat_map(|i| inverse[i * c..][..i + 1].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterField;

    /// Standardised pairs with correlation 0.99.
    fn correlated(n: usize, seed: u64) -> Vec<f32> {
        let mut normal = vec![0.0; 2 * n];
        CounterField::new(seed, "novelty", 2).fill_standard_normal(0, &mut normal);
        normal
            .chunks_exact(2)
            .flat_map(|z| [z[0] as f32, (0.99 * z[0] + 0.02f64.sqrt() * z[1]) as f32])
            .collect()
    }

    #[test]
    fn tails_are_those_of_fresh_observations_of_the_same_kind() {
        let novelty = Novelty::fit(&correlated(20_000, 1), 2).unwrap();
        let fresh = correlated(20_000, 2);
        let scores: Vec<NoveltyScore> =
            fresh.chunks_exact(2).map(|x| novelty.score(&[f64::from(x[0]), f64::from(x[1])])).collect();
        for level in [0.5, 0.1, 0.01] {
            let share = scores.iter().filter(|s| s.tail < level).count() as f64 / 20_000.0;
            assert!((share / level - 1.0).abs() < 0.25, "{share} of the observations below {level}");
        }
        // In two dimensions the tail at distance r is exp(-r^2 / 2).
        let median = scores.iter().find(|s| (s.tail - 0.5).abs() < 0.02).unwrap();
        assert!((median.distance - 2f64.ln().sqrt() * 2f64.sqrt()).abs() < 0.1, "{median:?}");
    }

    #[test]
    fn what_is_ordinary_value_by_value_can_be_new_together() {
        let novelty = Novelty::fit(&correlated(5_000, 1), 2).unwrap();
        assert!(!novelty.score(&[1.5, 1.5]).is_novel());
        let against = novelty.score(&[1.5, -1.5]);
        assert!(
            against.is_novel() && against.tail == 0.0 && against.distance > novelty.largest(),
            "{against:?}"
        );
        // A value that never varied has a scale all the same.
        let constant: Vec<f32> = (0..200).flat_map(|i| [(i as f32 - 99.5) / 57.7, 0.0]).collect();
        let novelty = Novelty::fit(&constant, 2).unwrap();
        assert!(!novelty.score(&[0.3, 0.0]).is_novel() && novelty.score(&[0.3, 0.5]).is_novel());
        assert!(Novelty::fit(&[], 0).is_none() && Novelty::fit(&[], 3).is_none());
    }

    #[test]
    fn many_values_are_taken_as_independent_and_damage_is_named() {
        let wide: Vec<f32> = (0..300 * 40).map(|i| ((i * 7919) % 1013) as f32 / 292.0 - 1.73).collect();
        let novelty = Novelty::fit(&wide, 300).unwrap();
        assert!(novelty.whitening.is_empty() && novelty.score(&vec![9.0; 300]).is_novel());
        novelty.validate(300).unwrap();
        let small = Novelty::fit(&correlated(100, 3), 2).unwrap();
        assert!(small.validate(3).unwrap_err().to_string().contains("novelty.whitening"));
        let damaged = Novelty { distances: vec![f64::NAN; TAILS.len()], ..small };
        assert!(damaged.validate(2).unwrap_err().to_string().contains("novelty.distances"));
    }
}
