//! The fixed bijection of one parameter from its support to the real line, in `f64`. Inside a bounded support it is
//! linear wherever it can be; a soft edge bends only near its bound, a hard edge takes the logarithm of the distance.
//! Forward (`from_real`) always lands strictly inside the support. A circle is cut open at one of its points.

use serde::{Deserialize, Serialize};

/// How a bounded side is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// Softclip: linear away from the bound. For mass that stays clear of it.
    Soft,
    /// Logarithm of the distance (logit if both sides are hard). For mass that piles up at it.
    Hard,
}

/// A bound with its edge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Position in the parameter's units.
    pub value: f64,
    /// How the side is mapped.
    pub edge: Edge,
}

/// Map between the support of one parameter and the real line.
///
/// ```
/// use lwflow_model::{Bijection, Bound, Edge};
/// let lower = Some(Bound { value: 0.0, edge: Edge::Hard });
/// let b = Bijection { lower, ..Bijection::UNBOUNDED };
/// let (x, log_det) = b.from_real(2.0);
/// assert!((x - 2f64.exp()).abs() < 1e-12 && (log_det - 2.0).abs() < 1e-12);
/// assert_eq!(b.to_real(-1.0), None);
/// // A circle of circumference one, cut open at 0.5: 0.9 and 0.1 are neighbours.
/// let upper = Some(Bound { value: 1.0, edge: Edge::Hard });
/// let circle = Bijection { lower, upper, cut: Some(0.5), sharpness: 1.0 };
/// let (a, b) = (circle.to_real(0.9).unwrap().0, circle.to_real(0.1).unwrap().0);
/// assert!(a < 0.0 && b > 0.0 && (a + b).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bijection {
    /// Lower bound.
    pub lower: Option<Bound>,
    /// Upper bound.
    pub upper: Option<Bound>,
    /// Where the circle is cut open, in \[lower, upper), if the bounds are the same point. The edges then lie at the cut, and
    /// everything is measured from there; the support stays the open interval between the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<f64>,
    /// Sharpness c of the soft edges, in inverse units of the parameter: an edge bends within a few 1/c of its bound.
    pub sharpness: f64,
}

fn softplus(t: f64) -> f64 {
    t.max(0.0) + (-t.abs()).exp().ln_1p()
}

fn log_sigmoid(t: f64) -> f64 {
    -softplus(-t)
}

/// log(1 - exp(-x)) for x > 0.
fn log1mexp(x: f64) -> f64 {
    if x < std::f64::consts::LN_2 { (-(-x).exp_m1()).ln() } else { (-(-x).exp()).ln_1p() }
}

impl Bijection {
    /// The identity on the real line.
    pub const UNBOUNDED: Self = Self { lower: None, upper: None, cut: None, sharpness: 1.0 };

    /// Whether the bounds are finite and in order, a cut lies between two of them, and the sharpness is positive.
    pub fn is_valid(&self) -> bool {
        let ordered = match (self.lower, self.upper) {
            (Some(l), Some(u)) => l.value < u.value && (u.value - l.value).is_finite(),
            _ => true,
        };
        let finite = self.lower.iter().chain(&self.upper).all(|b| b.value.is_finite());
        let cut = self.cut.is_none_or(|cut| {
            self.lower.is_some_and(|l| l.value <= cut) && self.upper.is_some_and(|u| cut < u.value)
        });
        ordered && finite && cut && self.sharpness > 0.0 && self.sharpness.is_finite()
    }

    /// Whether `x` lies strictly inside the support.
    pub fn contains(&self, x: f64) -> bool {
        x.is_finite() && self.lower.is_none_or(|b| x > b.value) && self.upper.is_none_or(|b| x < b.value)
    }

    /// Real line to support: x, strictly inside, and log |dx/dy|.
    pub fn from_real(&self, y: f64) -> (f64, f64) {
        let (x, log_det) = match (self.lower, self.upper) {
            (None, None) => (y, 0.0),
            (Some(l), None) => {
                let (distance, log_det) = one_sided(l.edge, self.sharpness, y - l.offset());
                (l.value + distance, log_det)
            }
            (None, Some(u)) => {
                let (distance, log_det) = one_sided(u.edge, self.sharpness, u.offset() - y);
                (u.value - distance, log_det)
            }
            (Some(l), Some(u)) => {
                let w = u.value - l.value;
                let (from_lower, distance, log_det) = match (l.edge, u.edge) {
                    (Edge::Soft, Edge::Soft) => soft_soft(self.sharpness, w, y - l.value),
                    (Edge::Hard, Edge::Hard) => hard_hard(w, y),
                    (Edge::Hard, Edge::Soft) => hard_soft(self.sharpness, w, y),
                    (Edge::Soft, Edge::Hard) => {
                        let (lower, distance, log_det) = hard_soft(self.sharpness, w, -y);
                        (!lower, distance, log_det)
                    }
                };
                let x = match (self.cut, from_lower) {
                    // Never the cut itself: it belongs to neither side.
                    (Some(cut), true) => self.rolled((cut + distance).max(cut.next_up())),
                    (Some(cut), false) => match (cut - distance).min(cut.next_down()) {
                        x if x <= l.value => u.value - (l.value - x),
                        x => x,
                    },
                    (None, true) => l.value + distance,
                    (None, false) => u.value - distance,
                };
                (x, log_det)
            }
        };
        (self.strictly_inside(x), log_det)
    }

    /// Support to real line: y and log |dx/dy| at it; `None` on or outside a bound, or if `x` is not finite. The cut of a
    /// circle has measure zero and no image: nothing counts as nearer to it than the period times 2^-52, and itself as above.
    pub fn to_real(&self, x: f64) -> Option<(f64, f64)> {
        if !self.contains(x) {
            return None;
        }
        let y = match (self.lower, self.upper) {
            (None, None) => x,
            (Some(l), None) => one_sided_inverse(l.edge, self.sharpness, x - l.value) + l.offset(),
            (None, Some(u)) => u.offset() - one_sided_inverse(u.edge, self.sharpness, u.value - x),
            (Some(l), Some(u)) => {
                let (a, b) = match self.cut {
                    None => (x - l.value, u.value - x),
                    Some(cut) => {
                        let least = f64::EPSILON * (u.value - l.value);
                        if x < cut {
                            ((u.value - cut) + (x - l.value), (cut - x).max(least))
                        } else {
                            ((x - cut).max(least), (u.value - x) + (cut - l.value))
                        }
                    }
                };
                match (l.edge, u.edge) {
                    (Edge::Soft, Edge::Soft) => {
                        let c = self.sharpness;
                        l.value + (c * a + log1mexp(c * a) - log1mexp(c * b)) / c
                    }
                    (Edge::Hard, Edge::Hard) => (a / b).ln(),
                    (Edge::Hard, Edge::Soft) => hard_soft_inverse(self.sharpness, a, b),
                    (Edge::Soft, Edge::Hard) => -hard_soft_inverse(self.sharpness, b, a),
                }
            }
        };
        let log_det = self.from_real(y).1;
        (y.is_finite() && log_det.is_finite()).then_some((y, log_det))
    }

    /// A point of the support where the circle lies unrolled from its cut on, in \[cut, cut + period): there, means and
    /// distances have a meaning. Without a cut, `x` itself.
    pub fn unrolled(&self, x: f64) -> f64 {
        match (self.cut, self.lower, self.upper) {
            (Some(cut), Some(l), Some(u)) if x < cut => x + (u.value - l.value),
            _ => x,
        }
    }

    /// The way back from [`Bijection::unrolled`], strictly inside the support.
    pub fn rolled(&self, x: f64) -> f64 {
        match (self.cut, self.lower, self.upper) {
            (Some(_), Some(l), Some(u)) if x >= u.value => self.strictly_inside(l.value + (x - u.value)),
            _ => self.strictly_inside(x),
        }
    }

    fn strictly_inside(&self, x: f64) -> f64 {
        let mut x = x.clamp(-f64::MAX, f64::MAX);
        if let Some(u) = self.upper {
            x = x.min(u.value.next_down());
        }
        if let Some(l) = self.lower {
            x = x.max(l.value.next_up());
        }
        x
    }
}

impl Bound {
    /// Where a one-sided soft edge keeps the parameter's own coordinate; a logarithm starts from zero.
    fn offset(&self) -> f64 {
        match self.edge {
            Edge::Soft => self.value,
            Edge::Hard => 0.0,
        }
    }
}

/// Distance from the bound of a one-sided support, and log derivative.
fn one_sided(edge: Edge, c: f64, y: f64) -> (f64, f64) {
    match edge {
        Edge::Soft => (softplus(c * y) / c, log_sigmoid(c * y)),
        Edge::Hard => (y.exp(), y),
    }
}

fn one_sided_inverse(edge: Edge, c: f64, distance: f64) -> f64 {
    match edge {
        Edge::Soft => distance + log1mexp(c * distance) / c,
        Edge::Hard => distance.ln(),
    }
}

/// x - lo = [softplus(c y) - softplus(c (y - w))] / c, from whichever bound is nearer.
fn soft_soft(c: f64, w: f64, y: f64) -> (bool, f64, f64) {
    let (t, a) = (c * y, c * w);
    let log_det = log_sigmoid(t) + log_sigmoid(a - t) + log1mexp(a);
    // softplus(t) - softplus(t - a) = -ln(1 - sigmoid(t) (1 - e^-a)): no cancellation far from the other bound.
    let from_lower = t < 0.5 * a;
    let s = if from_lower { t } else { a - t };
    let distance = if s > 1.0 {
        softplus(s) - softplus(s - a)
    } else {
        -(-log_sigmoid(s).exp() * -(-a).exp_m1()).ln_1p()
    };
    (from_lower, distance / c, log_det)
}

/// x - lo = w sigmoid(y).
fn hard_hard(w: f64, y: f64) -> (bool, f64, f64) {
    let log_det = w.ln() + log_sigmoid(y) + log_sigmoid(-y);
    (y < 0.0, w * log_sigmoid(-y.abs()).exp(), log_det)
}

/// Hard lower and soft upper edge: x - lo = w q / softplus(B), q = -ln(1 - sigmoid(B) (1 - e^-b)), b = c e^y, B = c w.
fn hard_soft(c: f64, w: f64, y: f64) -> (bool, f64, f64) {
    let (b, bb) = (c * y.exp(), c * w);
    let total = softplus(bb);
    let sigmoid = log_sigmoid(bb).exp();
    let remaining = log_sigmoid(-bb).exp() + sigmoid * (-b).exp();
    let log_det = w.ln() - total.ln() + log_sigmoid(bb) - b - remaining.ln() + c.ln() + y;
    let q = if b < 1.0 { -(sigmoid * (-b).exp_m1()).ln_1p() } else { -remaining.ln() };
    if q < 0.5 * total {
        (true, w * q / total, log_det)
    } else {
        // Distance from the upper bound: total - q = ln(remaining / sigmoid(-B)) = ln(1 + e^(B - b)).
        (false, w * softplus(bb - b) / total, log_det)
    }
}

fn hard_soft_inverse(c: f64, from_lower: f64, from_upper: f64) -> f64 {
    let w = from_lower + from_upper;
    let bb = c * w;
    let total = softplus(bb);
    let q = total * from_lower / w;
    let b = if q < 1.0 {
        -((-q).exp_m1() / log_sigmoid(bb).exp()).ln_1p()
    } else {
        // ln(1 + e^(B - b)) = s
        let s = total * from_upper / w;
        bb - (s + log1mexp(s))
    };
    (b / c).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Bijection> {
        let bound = |value, edge| Some(Bound { value, edge });
        let mut out = vec![Bijection::UNBOUNDED];
        for sharpness in [0.7, 3.0, 40.0] {
            for lower in [None, bound(-1.5, Edge::Soft), bound(-1.5, Edge::Hard)] {
                for upper in [None, bound(2.5, Edge::Soft), bound(2.5, Edge::Hard)] {
                    out.push(Bijection { lower, upper, cut: None, sharpness });
                    if lower.and(upper).is_some() {
                        let cuts = [-1.5, -1.4999, 0.0, 0.3, 2.4999];
                        out.extend(cuts.map(|cut| Bijection { lower, upper, cut: Some(cut), sharpness }));
                    }
                }
            }
        }
        out
    }

    #[test]
    fn round_trip_and_derivative() {
        for b in all() {
            for i in -60..=60 {
                let y = i as f64 * 0.11;
                let (x, log_det) = b.from_real(y);
                assert!(b.contains(x), "{b:?} at {y}");
                let Some((back, log_det_back)) = b.to_real(x) else { panic!("{b:?} at y = {y}: x = {x}") };
                // Where the map saturates, x holds only |x| eps / (dx/dy) of y.
                let tolerance = 1e-9 * (1.0 + y.abs()) + 8.0 * f64::EPSILON * (1.0 + x.abs()) / log_det.exp();
                assert!((back - y).abs() <= tolerance, "{b:?} at {y}: back {back}");
                if tolerance < 1e-6 {
                    approx::assert_relative_eq!(log_det, log_det_back, epsilon = 1e-4, max_relative = 1e-4);
                }
                let h = 1e-5;
                let at = |y| b.unrolled(b.from_real(y).0);
                let slope = (at(y + h) - at(y - h)) / (2.0 * h);
                if log_det > -9.0 {
                    approx::assert_relative_eq!(slope.ln(), log_det, epsilon = 1e-4);
                }
            }
        }
    }

    #[test]
    fn support_is_never_left() {
        for b in all() {
            for y in [-1e300, -1e5, -800.0, 800.0, 1e5, 1e300, f64::MAX, f64::MIN] {
                let (x, _) = b.from_real(y);
                assert!(b.contains(x), "{b:?} at y = {y} gave {x}");
            }
            for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(b.to_real(x), None);
            }
            for bound in b.lower.iter().chain(&b.upper) {
                assert_eq!(b.to_real(bound.value), None);
            }
        }
    }

    #[test]
    fn soft_edges_are_linear_inside() {
        let b = Bijection {
            lower: Some(Bound { value: -8.0, edge: Edge::Soft }),
            upper: Some(Bound { value: 8.0, edge: Edge::Soft }),
            cut: None,
            sharpness: 10.0,
        };
        for x in [-4.0, 0.0, 3.0, 5.0] {
            let (y, log_det) = b.to_real(x).unwrap();
            assert!((y - x).abs() < 1e-12 && log_det.abs() < 1e-12);
        }
    }

    /// A circle of circumference 4 from -1.5 to 2.5.
    fn circle(cut: f64, lower: Edge, upper: Edge) -> Bijection {
        let bound = |value, edge| Some(Bound { value, edge });
        Bijection { lower: bound(-1.5, lower), upper: bound(2.5, upper), cut: Some(cut), sharpness: 3.0 }
    }

    #[test]
    fn a_cut_turns_the_circle_and_changes_nothing_else() {
        use Edge::{Hard, Soft};
        for (lower, upper) in [(Soft, Soft), (Hard, Hard), (Hard, Soft), (Soft, Hard)] {
            let whole = Bijection { cut: None, ..circle(0.0, lower, upper) };
            for cut in [-1.5, -0.5, 0.7, 2.4] {
                let turned = circle(cut, lower, upper);
                for i in 1..400 {
                    // A point by its distance from the lower bound, and as far from the cut.
                    let distance = f64::from(i) * 0.01;
                    let x = turned.rolled(cut + distance);
                    let (y, log_det) = whole.to_real(-1.5 + distance).unwrap();
                    let (y_turned, log_det_turned) = turned.to_real(x).unwrap();
                    approx::assert_relative_eq!(y, y_turned, epsilon = 1e-11, max_relative = 1e-11);
                    approx::assert_relative_eq!(log_det, log_det_turned, epsilon = 1e-9);
                    assert!((turned.unrolled(x) - (cut + distance)).abs() < 1e-14);
                }
            }
            // The bounds are still outside, and the points next to them neighbours.
            let turned = circle(0.7, lower, upper);
            assert_eq!((turned.to_real(-1.5), turned.to_real(2.5)), (None, None));
            let (above, below) = (
                turned.to_real((-1.5f64).next_up()).unwrap().0,
                turned.to_real(2.5f64.next_down()).unwrap().0,
            );
            assert!((above - below).abs() < 1e-12, "{above} {below}");
        }
    }

    #[test]
    fn next_to_the_cut_everything_stays_finite_and_on_its_side() {
        use Edge::{Hard, Soft};
        for cut in [-1.4999, -0.5, 0.0, 1e-20, 0.7, 2.4999] {
            for (lower, upper) in [(Soft, Soft), (Hard, Hard), (Hard, Soft), (Soft, Hard)] {
                let b = circle(cut, lower, upper);
                assert_eq!(b.to_real(cut), b.to_real(cut.next_up()), "{b:?}");
                let (above, below) = (b.to_real(cut.next_up()).unwrap(), b.to_real(cut.next_down()).unwrap());
                assert!(above.0 < -1.0 && below.0 > 1.0, "{b:?}: {above:?} {below:?}");
                for (y, is_above) in [(-1e3, true), (-40.0, true), (40.0, false), (1e3, false)] {
                    let x = b.from_real(y).0;
                    assert!(
                        b.to_real(x).is_some() && if is_above { x > cut } else { x < cut },
                        "{b:?} at {y}: {x}"
                    );
                }
            }
        }
        let at = |b: Bijection, cut| Bijection { cut: Some(cut), ..b }.is_valid();
        let b = circle(0.0, Soft, Soft);
        assert!(at(b, -1.5) && at(b, 2.4) && !at(b, 2.5) && !at(b, -1.6) && !at(b, f64::NAN));
        assert!(!at(Bijection { upper: None, ..b }, 0.0) && !at(Bijection::UNBOUNDED, 0.0));
    }

    #[test]
    fn a_file_without_a_cut_has_no_field_for_it() {
        let b = circle(0.7, Edge::Soft, Edge::Hard);
        let text = serde_json::to_string(&b).unwrap();
        assert_eq!(serde_json::from_str::<Bijection>(&text).unwrap(), b);
        let bounded = Bijection { cut: None, ..b };
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(!text.contains("cut"));
        assert_eq!(serde_json::from_str::<Bijection>(&text).unwrap(), bounded);
        assert!(serde_json::from_str::<Bijection>(&text.replace("sharpness", "seam")).is_err());
    }

    /// Two von Mises densities on a circle of circumference 4, one across the bounds.
    #[test]
    fn a_density_across_the_bounds_integrates_to_one_through_the_map() {
        let phase = |x: f64, centre: f64| std::f64::consts::TAU * (x - centre) / 4.0;
        let density = |x: f64| {
            (8.0 * (phase(x, 2.5).cos() - 1.0)).exp() + 0.5 * (8.0 * (phase(x, 0.0).cos() - 1.0)).exp()
        };
        let n = 40_000;
        let total: f64 =
            (0..n).map(|i| density(-1.5 + 4.0 * (f64::from(i) + 0.5) / f64::from(n))).sum::<f64>() * 4.0
                / f64::from(n);
        for b in [circle(-0.9, Edge::Soft, Edge::Soft), circle(1.2, Edge::Hard, Edge::Soft)] {
            let (low, step) = (-30.0, 0.002);
            let values: Vec<(f64, f64)> = (0..40_000)
                .map(|i| {
                    let (x, log_det) = b.from_real(low + (f64::from(i) + 0.5) * step);
                    (x, density(x) / total * log_det.exp())
                })
                .collect();
            let integral = values.iter().map(|(_, q)| q * step).sum::<f64>();
            assert!((integral - 1.0).abs() < 1e-6, "{b:?}: {integral}");
            // The mode across the bounds comes in one piece: on the line nothing is between its halves.
            let half = |x: f64| b.to_real(x).unwrap().0;
            assert!((half(-1.4) - half(2.4)).abs() < 1.0);
        }
    }
}
