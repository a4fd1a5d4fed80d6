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

/// Quantiles of the weighted mass, counted from a bound, whose distances to it tell whether mass piles up there.
const FEW: f64 = 1e-3;
const SOME: f64 = 0.05;
/// The bound counts as clear if the first lies at more than this share of the second's distance: a density that is
/// constant, linear or quadratic at its bound gives 0.02, 0.14 and 0.27, a normal four sigma away from it 0.39.
const CLEAR: f64 = 0.33;
/// Weighted share of the mass that may lie beyond the point from which the gap is measured.
const TAIL: f64 = 1e-4;
/// A soft edge bends within a twelfth of the gap between bound and mass: exp(-12) = 6e-6 is left at the mass.
const SOFT_GAPS: f64 = 12.0;

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
            return Err(no_spread(&names[j], weights, &column));
        }
        let low = support.lower.map(|b| Side::new(b, mean, &mut column.iter()));
        let high = support.upper.map(|b| Side::new(b, mean, &mut column.iter().rev()));
        let edge = |choice: EdgeChoice, side: &Side| match choice {
            EdgeChoice::Soft => Edge::Soft,
            EdgeChoice::Hard => Edge::Hard,
            EdgeChoice::Auto if side.few > CLEAR * side.some => Edge::Soft,
            EdgeChoice::Auto => Edge::Hard,
        };
        let lower = low.as_ref().map(|s| Bound { value: s.bound, edge: edge(support.lower_edge, s) });
        let upper = high.as_ref().map(|s| Bound { value: s.bound, edge: edge(support.upper_edge, s) });
        let sides = [(lower, low), (upper, high)];
        let soft_gap = sides
            .iter()
            .filter_map(|(bound, side)| bound.as_ref().zip(side.as_ref()))
            .filter(|(bound, _)| bound.edge == Edge::Soft)
            .map(|(_, side)| side.tail)
            .fold(f64::INFINITY, f64::min);
        let sharpness = SOFT_GAPS / soft_gap.min(10.0 * sd).max(1e-3 * sd);
        bijections.push(Bijection { lower, upper, sharpness });
        for (name, (bound, side)) in ["lower", "upper"].into_iter().zip(&sides) {
            if let (Some(bound), Some(side)) = (bound, side) {
                let edge = match bound.edge {
                    Edge::Soft => "soft (linear inside)",
                    Edge::Hard => "hard (logarithm)",
                };
                notes.push(format!(
                    "{}: {name} bound {} gets a {edge} edge; all but 0.1 % of the mass keeps {:.3} from it",
                    names[j], bound.value, side.few
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

/// Why a parameter cannot be standardised; `column` holds its weighted values in ascending order.
fn no_spread(name: &str, weights: &[f64], column: &[(f64, f64)]) -> HostError {
    let what = format!("parameter {name}");
    let (least, largest) = match (column.first(), column.last()) {
        (Some((least, _)), Some((largest, _))) => (*least, *largest),
        _ => (f64::NAN, f64::NAN),
    };
    if column.len() == 1 {
        let row = weights.iter().position(|w| *w > 0.0).unwrap_or(0);
        let got = format!("known at a single point, because only row {row} carries weight");
        return HostError::invalid(what, got, "at least two weighted points; draw more of them");
    }
    if least < largest {
        let got = format!("between {least:e} and {largest:e}, where 64-bit numbers lose its spread");
        return HostError::invalid(what, got, "a parameter in other units, or less a constant");
    }
    let got = format!("the same value ({least}) in every weighted point");
    HostError::invalid(what, got, "a parameter that varies; remove it from the fit")
}

/// Distances of the weighted mass from a bound.
struct Side {
    bound: f64,
    tail: f64,
    few: f64,
    some: f64,
}

impl Side {
    /// From points (x, w) in order of their distance from the bound; `mean` stands where the weights run out.
    fn new(bound: f64, mean: f64, points: &mut dyn Iterator<Item = &(f64, f64)>) -> Self {
        let mut side = Self { bound, tail: f64::NAN, few: f64::NAN, some: (mean - bound).abs() };
        let mut sum = 0.0;
        for &(x, w) in points {
            sum += w;
            let distance = (x - bound).abs();
            for (share, at) in [(TAIL, &mut side.tail), (FEW, &mut side.few)] {
                if sum >= share && at.is_nan() {
                    *at = distance;
                }
            }
            if sum >= SOME {
                side.some = distance;
                break;
            }
        }
        side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges chosen for equally weighted quantiles of a distribution on (0, 1), or (0, inf) if one-sided.
    fn edges(quantile: impl Fn(f64) -> f64, upper: Option<f64>) -> Vec<Edge> {
        let n = 20_000;
        let theta: Vec<f64> = (0..n).map(|i| quantile((f64::from(i) + 0.5) / f64::from(n))).collect();
        let weights = vec![1.0 / f64::from(n); theta.len()];
        let support = Support { lower: Some(0.0), upper, ..Support::default() };
        let (outer, notes) = fit_outer(&theta, &weights, &["a".to_owned()], &[support]).unwrap();
        assert_eq!(notes.len(), 1 + usize::from(upper.is_some()));
        let b = outer.bijections[0];
        b.lower.iter().chain(&b.upper).map(|b| b.edge).collect()
    }

    #[test]
    fn edges_follow_the_mass_at_the_bound() {
        use Edge::{Hard, Soft};
        let normal = |mean: f64, sd: f64| move |u: f64| mean + sd * crate::rng::normal_quantile(u);
        assert_eq!(edges(|u| u, Some(1.0)), [Hard, Hard]);
        assert_eq!(edges(f64::sqrt, Some(1.0)), [Hard, Hard]);
        assert_eq!(edges(|u| -(1.0 - u).ln(), None), [Hard]);
        assert_eq!(edges(normal(0.5, 0.1), Some(1.0)), [Soft, Soft]);
        assert_eq!(edges(normal(0.7, 0.07), Some(1.0)), [Soft, Soft]);
        // Two separated modes, each four of its own sigmas from a bound, though close to it on the scale of the whole.
        let two =
            |u: f64| if u < 0.5 { normal(0.1, 0.0245)(2.0 * u) } else { normal(0.9, 0.0245)(2.0 * u - 1.0) };
        assert_eq!(edges(two, Some(1.0)), [Soft, Soft]);
        // Mixed: piled up below, clear above.
        assert_eq!(edges(|u| 0.05 * -(1.0 - u * (1.0 - 1e-5)).ln(), Some(1.0)), [Hard, Soft]);
    }

    #[test]
    fn standardised_points_have_zero_mean_and_unit_scale() {
        let theta: Vec<f64> = (0..1000).map(|i| 5.0 + f64::from(i % 37) * 0.2).collect();
        let weights: Vec<f64> = (0..1000).map(|i| f64::from(i % 7)).collect();
        let total: f64 = weights.iter().sum();
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let (outer, _) = fit_outer(&theta, &weights, &["a".to_owned()], &[Support::default()]).unwrap();
        let (mut mean, mut square) = (0.0, 0.0);
        for (t, w) in theta.iter().zip(&weights) {
            let mut x = [0.0];
            outer.to_flow(&[*t], &mut x).unwrap();
            mean += w * x[0];
            square += w * x[0] * x[0];
        }
        assert!(mean.abs() < 1e-12 && (square - 1.0).abs() < 1e-9);
    }

    #[test]
    fn weighted_points_outside_are_named() {
        let support = Support { lower: Some(0.0), ..Support::default() };
        let names = ["mass".to_owned()];
        let error =
            fit_outer(&[1.0, 2.0, -3.0], &[0.4, 0.3, 0.3], &names, &[support]).unwrap_err().to_string();
        assert!(error.contains("row 2") && error.contains("mass = -3"), "{error}");
        assert!(fit_outer(&[1.0, 2.0, -3.0], &[0.4, 0.6, 0.0], &names, &[support]).is_ok());
        let constant =
            fit_outer(&[1.0, 1.0], &[0.5, 0.5], &names, &[Support::default()]).unwrap_err().to_string();
        assert!(constant.contains("mass") && constant.contains("same value"), "{constant}");
        let refuse = |theta: &[f64], weights: &[f64]| {
            fit_outer(theta, weights, &names, &[Support::default()]).unwrap_err().to_string()
        };
        let single = refuse(&[1.0, 2.0, 3.0], &[0.0, 1.0, 0.0]);
        assert!(single.contains("only row 1 carries weight"), "{single}");
        for scale in [1e200, 1e-200] {
            let lost = refuse(&[-scale, scale], &[0.5, 0.5]);
            assert!(lost.contains("other units") && !lost.contains("same value"), "{lost}");
        }
        let close = refuse(&[1e9, 1e9 + 1e-6], &[0.5, 0.5]);
        assert!(close.contains("less a constant"), "{close}");
    }
}
