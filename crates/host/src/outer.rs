//! Chooses the outermost bijections and fits the standardisation on weighted points. A side of a bounded parameter
//! gets a soft edge where the weighted mass stays clear of the bound, a hard one (logarithm) where it piles up there. The
//! circle of a periodic one is cut open where least mass is, and the cut has edges in place of the bounds.

mod circle;

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
    /// Whether the bounds, both of them, are the same point: an angle or a phase, one period between them.
    pub periodic: bool,
    /// Edge of the lower bound, or above the cut of a circle.
    pub lower_edge: EdgeChoice,
    /// Edge of the upper bound, or below the cut of a circle.
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
/// sentences that say what was chosen for bounded parameters. Cuts of `earlier` are kept where they are still good.
///
/// # Errors
/// [`HostError::OutsideSupport`] for a point of positive weight on or outside a bound, naming row and parameter;
/// [`HostError::Invalid`] if a parameter has no spread, or is periodic without both bounds.
pub fn fit_outer(
    theta: &[f64],
    weights: &[f64],
    names: &[String],
    supports: &[Support],
    earlier: Option<&OuterTransform>,
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
        let side = |bound: Option<f64>| bound.map(|value| Bound { value, edge: Edge::Soft });
        let (lower, upper) = (side(support.lower), side(support.upper));
        let mut bijection = Bijection { lower, upper, ..Bijection::UNBOUNDED };
        let mut ends = (support.lower, support.upper);
        if support.periodic {
            let (Some(lower), Some(upper)) = ends else {
                let what = format!("periodic parameter {}", names[j]);
                return Err(HostError::invalid(what, "without both bounds", "bounds one period apart"));
            };
            let before = earlier.and_then(|outer| outer.bijections.get(j)?.cut);
            let cut = circle::cut((lower, upper), &column, before);
            bijection.cut = Some(cut);
            ends = (Some(cut), Some(cut + (upper - lower)));
            column.iter_mut().for_each(|(x, _)| *x = bijection.unrolled(*x));
        }
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean: f64 = column.iter().map(|(x, w)| x * w).sum();
        let sd = column.iter().map(|(x, w)| w * (x - mean).powi(2)).sum::<f64>().sqrt();
        // A spread of the size of the rounding of the mean is none either.
        let scale = column.iter().fold(0.0_f64, |a, (x, _)| a.max(x.abs()));
        if !(sd > 1e-14 * scale && sd.is_finite()) {
            return Err(no_spread(&names[j], weights, &column));
        }
        let low = ends.0.map(|b| Side::new(b, mean, &mut column.iter()));
        let high = ends.1.map(|b| Side::new(b, mean, &mut column.iter().rev()));
        let edge = |choice: EdgeChoice, side: &Side| match choice {
            EdgeChoice::Soft => Edge::Soft,
            EdgeChoice::Hard => Edge::Hard,
            EdgeChoice::Auto if side.few > CLEAR * side.some => Edge::Soft,
            EdgeChoice::Auto => Edge::Hard,
        };
        let mut sides = Vec::new();
        if let (Some(bound), Some(side)) = (&mut bijection.lower, low) {
            bound.edge = edge(support.lower_edge, &side);
            sides.push(("lower", *bound, side));
        }
        if let (Some(bound), Some(side)) = (&mut bijection.upper, high) {
            bound.edge = edge(support.upper_edge, &side);
            sides.push(("upper", *bound, side));
        }
        let soft_gap = sides
            .iter()
            .filter(|(_, bound, _)| bound.edge == Edge::Soft)
            .map(|(_, _, side)| side.tail)
            .fold(f64::INFINITY, f64::min);
        bijection.sharpness = SOFT_GAPS / soft_gap.min(10.0 * sd).max(1e-3 * sd);
        bijections.push(bijection);
        notes.extend(sentences(&names[j], bijection.cut, &sides));
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

/// What was chosen for the bounds of a parameter.
fn sentences(name: &str, cut: Option<f64>, sides: &[(&str, Bound, Side)]) -> Vec<String> {
    let words = |edge: Edge| match edge {
        Edge::Soft => "soft (linear inside)",
        Edge::Hard => "hard (logarithm)",
    };
    if let (Some(cut), [(_, lower, above), (_, upper, below)]) = (cut, sides) {
        return vec![format!(
            "{name}: periodic, cut at {cut} with a {} edge above and a {} one below; all but 0.1 % of the mass keeps \
             {:.3} and {:.3} from it",
            words(lower.edge),
            words(upper.edge),
            above.few,
            below.few
        )];
    }
    let sentence = |(which, bound, side): &(&str, Bound, Side)| {
        format!(
            "{name}: {which} bound {} gets a {} edge; all but 0.1 % of the mass keeps {:.3} from it",
            bound.value,
            words(bound.edge),
            side.few
        )
    };
    sides.iter().map(sentence).collect()
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
    tail: f64,
    few: f64,
    some: f64,
}

impl Side {
    /// From points (x, w) in order of their distance from the bound; `mean` stands where the weights run out.
    fn new(bound: f64, mean: f64, points: &mut dyn Iterator<Item = &(f64, f64)>) -> Self {
        let mut side = Self { tail: f64::NAN, few: f64::NAN, some: (mean - bound).abs() };
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
        let (outer, notes) = fit_outer(&theta, &weights, &["a".to_owned()], &[support], None).unwrap();
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

    /// The circle of an angle with a mode of half the mass across the bounds and the other at 2.
    #[test]
    fn a_mode_across_the_bounds_of_a_circle_stays_whole() {
        let tau = std::f64::consts::TAU;
        let theta: Vec<f64> = (0..4000)
            .map(|i| {
                let z = crate::rng::normal_quantile((f64::from(i / 2) + 0.5) / 2000.0);
                (if i % 2 == 0 { 0.2 * z } else { 2.0 + 0.1 * z }).rem_euclid(tau)
            })
            .collect();
        let weights = vec![1.0 / 4000.0; 4000];
        let names = ["phi".to_owned()];
        let support = Support { lower: Some(0.0), upper: Some(tau), periodic: true, ..Support::default() };
        let (outer, notes) = fit_outer(&theta, &weights, &names, &[support], None).unwrap();
        let b = outer.bijections[0];
        let cut = b.cut.unwrap();
        assert!((3.5..5.0).contains(&cut), "{cut}");
        assert_eq!((b.lower.unwrap().edge, b.upper.unwrap().edge), (Edge::Soft, Edge::Soft));
        assert!(
            notes.len() == 1 && notes[0].starts_with(&format!("phi: periodic, cut at {cut} with a soft"))
        );
        // Spreads are those on the circle: of a mixture at 0 and 2, not of one at 0, 2 and 6.3.
        assert!((outer.scale[0] - (1.0f64 + 0.025).sqrt()).abs() < 0.02, "{}", outer.scale[0]);
        let x = |theta: f64| {
            let mut x = [0.0];
            outer.to_flow(&[theta], &mut x).unwrap();
            x[0]
        };
        assert!((x(0.1) - x(tau - 0.1) - 0.2 / outer.scale[0]).abs() < 1e-3);
        // A cut that is still good is kept; the bounds are needed.
        let mut earlier = outer.clone();
        earlier.bijections[0].cut = Some(5.0);
        let (again, _) = fit_outer(&theta, &weights, &names, &[support], Some(&earlier)).unwrap();
        assert_eq!(again.bijections[0].cut, Some(5.0));
        let open = Support { lower: None, ..support };
        let error = fit_outer(&theta, &weights, &names, &[open], None).unwrap_err().to_string();
        assert_eq!(error, "periodic parameter phi is without both bounds, expected bounds one period apart");
    }

    #[test]
    fn standardised_points_have_zero_mean_and_unit_scale() {
        let theta: Vec<f64> = (0..1000).map(|i| 5.0 + f64::from(i % 37) * 0.2).collect();
        let weights: Vec<f64> = (0..1000).map(|i| f64::from(i % 7)).collect();
        let total: f64 = weights.iter().sum();
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let (outer, _) = fit_outer(&theta, &weights, &["a".to_owned()], &[Support::default()], None).unwrap();
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
            fit_outer(&[1.0, 2.0, -3.0], &[0.4, 0.3, 0.3], &names, &[support], None).unwrap_err().to_string();
        assert!(error.contains("row 2") && error.contains("mass = -3"), "{error}");
        assert!(fit_outer(&[1.0, 2.0, -3.0], &[0.4, 0.6, 0.0], &names, &[support], None).is_ok());
        let constant =
            fit_outer(&[1.0, 1.0], &[0.5, 0.5], &names, &[Support::default()], None).unwrap_err().to_string();
        assert!(constant.contains("mass") && constant.contains("same value"), "{constant}");
        let refuse = |theta: &[f64], weights: &[f64]| {
            fit_outer(theta, weights, &names, &[Support::default()], None).unwrap_err().to_string()
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
