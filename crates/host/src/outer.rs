//! Chooses the outermost bijections and fits the standardisation on weighted points. A side of a bounded parameter
//! gets a soft edge where the weighted mass stays clear of the bound, a hard one (logarithm) where it piles up there.

use crate::HostError;
use lwflow_model::{Bijection, Bound, Edge, OuterTransform};
use serde::{Deserialize, Serialize};

/// How the edge of a bound is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeChoice {
    /// By the weighted mass near the bound.
    #[default]
    Auto,
    /// Soft.
    Soft,
    /// Hard.
    Hard,
}

/// Support of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Support {
    /// Lower bound.
    pub lower: Option<f64>,
    /// Upper bound.
    pub upper: Option<f64>,
    /// Edge of the lower bound.
    pub lower_edge: EdgeChoice,
    /// Edge of the upper bound.
    pub upper_edge: EdgeChoice,
}

/// A bound counts as clear if the weighted mass but one part in ten thousand on its side keeps at least this many
/// weighted standard deviations from it.
const CLEAR_SDS: f64 = 0.25;
/// A soft edge bends within 1 / `SOFT_DECADES` of the gap between the bound and the mass: exp(-12) = 6e-6 at the mass.
const SOFT_DECADES: f64 = 12.0;
/// Weighted share of the mass that may lie beyond the point from which the gap is measured.
const TAIL: f64 = 1e-4;

/// Fits bijections and standardisation to points `[n, D]` with self-normalised weights `[n]`; returns the transform and
/// one sentence per bounded parameter that says what was chosen.
///
/// # Errors
/// [`HostError::OutsideSupport`] for a point of positive weight on or outside a bound, naming row and parameter;
/// [`HostError::Invalid`] if a parameter has no spread.
pub fn fit_outer(
    theta: &[f64],
    weights: &[f64],
    names: &[String],
    supports: &[Support],
) -> Result<(OuterTransform, Vec<String>), HostError> {
    let d = supports.len();
    let mut bijections = Vec::with_capacity(d);
    let mut notes = Vec::new();
    for j in 0..d {
        let support = supports[j];
        let mut column: Vec<(f64, f64)> = Vec::new();
        for (i, &w) in weights.iter().enumerate() {
            let x = theta[i * d + j];
            let outside = support.lower.is_some_and(|b| x <= b) || support.upper.is_some_and(|b| x >= b);
            if w > 0.0 && outside {
                return Err(HostError::OutsideSupport {
                    row: i,
                    parameter: names[j].clone(),
                    value: x,
                    lower: support.lower.unwrap_or(f64::NEG_INFINITY),
                    upper: support.upper.unwrap_or(f64::INFINITY),
                });
            }
            if w > 0.0 {
                column.push((x, w));
            }
        }
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean: f64 = column.iter().map(|(x, w)| x * w).sum();
        let sd = column.iter().map(|(x, w)| w * (x - mean).powi(2)).sum::<f64>().sqrt();
        // A spread of the size of the rounding of the mean is none either.
        let scale = column.iter().fold(0.0_f64, |a, (x, _)| a.max(x.abs()));
        if !(sd > 1e-14 * scale && sd.is_finite()) {
            return Err(HostError::invalid(
                format!("parameter {}", names[j]),
                format!(
                    "the same value ({}) in every weighted point",
                    column.first().map_or(mean, |(x, _)| *x)
                ),
                "a parameter that varies; remove it from the fit",
            ));
        }
        let quantile = |points: &mut dyn Iterator<Item = &(f64, f64)>| {
            let mut sum = 0.0;
            for &(x, w) in points {
                sum += w;
                if sum >= TAIL {
                    return x;
                }
            }
            mean
        };
        let low_gap = support.lower.map(|b| quantile(&mut column.iter()) - b);
        let high_gap = support.upper.map(|b| b - quantile(&mut column.iter().rev()));
        let edge = |choice: EdgeChoice, gap: f64| match choice {
            EdgeChoice::Soft => Edge::Soft,
            EdgeChoice::Hard => Edge::Hard,
            EdgeChoice::Auto if gap > CLEAR_SDS * sd => Edge::Soft,
            EdgeChoice::Auto => Edge::Hard,
        };
        let lower =
            support.lower.zip(low_gap).map(|(value, g)| Bound { value, edge: edge(support.lower_edge, g) });
        let upper =
            support.upper.zip(high_gap).map(|(value, g)| Bound { value, edge: edge(support.upper_edge, g) });
        let soft_gap = [(lower, low_gap), (upper, high_gap)]
            .into_iter()
            .filter_map(|(b, g)| b.zip(g).filter(|(b, _)| b.edge == Edge::Soft).map(|(_, g)| g))
            .fold(f64::INFINITY, f64::min);
        let sharpness = SOFT_DECADES / soft_gap.min(10.0 * sd).max(1e-3 * sd);
        bijections.push(Bijection { lower, upper, sharpness });
        for (side, bound, gap) in [("lower", lower, low_gap), ("upper", upper, high_gap)] {
            if let (Some(bound), Some(gap)) = (bound, gap) {
                let edge = match bound.edge {
                    Edge::Soft => "soft (linear inside)",
                    Edge::Hard => "hard (logarithm)",
                };
                let name = &names[j];
                notes.push(format!(
                    "{name}: {side} bound {} gets a {edge} edge; the mass keeps {:.2} sd from it",
                    bound.value,
                    gap / sd
                ));
            }
        }
    }
    let mut outer = OuterTransform::new(bijections);
    let (mut mean, mut square) = (vec![0.0; d], vec![0.0; d]);
    let mut x = vec![0.0; d];
    let mut rows = Vec::new();
    for (i, &w) in weights.iter().enumerate() {
        if w > 0.0 && outer.to_flow(&theta[i * d..][..d], &mut x).is_some() {
            for j in 0..d {
                mean[j] += w * x[j];
            }
            rows.push((w, x.clone()));
        }
    }
    for (w, x) in &rows {
        for j in 0..d {
            square[j] += w * (x[j] - mean[j]).powi(2);
        }
    }
    outer.location = mean;
    outer.scale = square.iter().map(|s| s.sqrt()).collect();
    outer.validate(d)?;
    Ok((outer, notes))
}
