//! The fixed bijection of one parameter from its support to the real line, in `f64`. Inside a bounded support it is
//! linear wherever it can be; a soft edge bends only near its bound, a hard edge takes the logarithm of the distance.
//! Forward (`from_real`) always lands strictly inside the support.

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
/// let b = Bijection { lower: Some(Bound { value: 0.0, edge: Edge::Hard }), upper: None, sharpness: 1.0 };
/// let (x, log_det) = b.from_real(2.0);
/// assert!((x - 2f64.exp()).abs() < 1e-12 && (log_det - 2.0).abs() < 1e-12);
/// assert_eq!(b.to_real(-1.0), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bijection {
    /// Lower bound.
    pub lower: Option<Bound>,
    /// Upper bound.
    pub upper: Option<Bound>,
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
    pub const UNBOUNDED: Self = Self { lower: None, upper: None, sharpness: 1.0 };

    /// Whether the bounds are finite and in order and the sharpness is positive.
    pub fn is_valid(&self) -> bool {
        let ordered = match (self.lower, self.upper) {
            (Some(l), Some(u)) => l.value < u.value && (u.value - l.value).is_finite(),
            _ => true,
        };
        let finite = self.lower.iter().chain(&self.upper).all(|b| b.value.is_finite());
        ordered && finite && self.sharpness > 0.0 && self.sharpness.is_finite()
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
                (if from_lower { l.value + distance } else { u.value - distance }, log_det)
            }
        };
        (self.strictly_inside(x), log_det)
    }

    /// Support to real line: y and log |dx/dy| at it; `None` on or outside a bound, or if `x` is not finite.
    pub fn to_real(&self, x: f64) -> Option<(f64, f64)> {
        if !self.contains(x) {
            return None;
        }
        let y = match (self.lower, self.upper) {
            (None, None) => x,
            (Some(l), None) => one_sided_inverse(l.edge, self.sharpness, x - l.value) + l.offset(),
            (None, Some(u)) => u.offset() - one_sided_inverse(u.edge, self.sharpness, u.value - x),
            (Some(l), Some(u)) => {
                let (a, b) = (x - l.value, u.value - x);
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
                    out.push(Bijection { lower, upper, sharpness });
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
                let slope = (b.from_real(y + h).0 - b.from_real(y - h).0) / (2.0 * h);
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
            sharpness: 10.0,
        };
        for x in [-4.0, 0.0, 3.0, 5.0] {
            let (y, log_det) = b.to_real(x).unwrap();
            assert!((y - x).abs() < 1e-12 && log_det.abs() < 1e-12);
        }
    }
}
