//! Tails of the gamma and beta distributions in logarithms, and the roots that their quantiles are. Invariant: a tail of at
//! most one half has a small relative error, however small it is; the larger one is its complement.

use statrs::function::gamma;
use std::f64::consts::{PI, TAU};

/// Stirling's series is used from here on.
const LARGE: f64 = 10.0;
/// Most terms of a series or continued fraction; shapes of 1e8 need less.
const MAX_TERMS: usize = 100_000;

/// ln(1 + exp(y)) without overflow.
pub(super) fn softplus(y: f64) -> f64 {
    y.max(0.0) + (-y.abs()).exp().ln_1p()
}

/// The rest of Stirling's series: ln Gamma(x) - (x - 1/2) ln x + x - ln(2 pi)/2, for x >= 10 (DLMF 5.11.1).
fn stirling_rest(x: f64) -> f64 {
    let r = 1.0 / (x * x);
    let series = 1.0 / 1680.0 - r * (1.0 / 1188.0 - r * (691.0 / 360_360.0 - r / 156.0));
    (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r * series))) / x
}

/// ln Gamma(x), x > 0.
pub(super) fn ln_gamma(x: f64) -> f64 {
    if x >= LARGE { (x - 0.5) * x.ln() - x + 0.5 * TAU.ln() + stirling_rest(x) } else { gamma::ln_gamma(x) }
}

/// ln B(a, b); large arguments do not cancel.
pub(super) fn ln_beta(a: f64, b: f64) -> f64 {
    let (p, q) = (a.min(b), a.max(b));
    if p >= LARGE {
        let rest = stirling_rest(p) + stirling_rest(q) - stirling_rest(p + q);
        0.5 * (TAU / q).ln() + rest + (p - 0.5) * (p / (p + q)).ln() - q * (p / q).ln_1p()
    } else if q >= LARGE {
        let rest = stirling_rest(q) - stirling_rest(p + q);
        ln_gamma(p) + rest + p - p * (p + q).ln() - (q - 0.5) * (p / q).ln_1p()
    } else {
        gamma::ln_gamma(p) + gamma::ln_gamma(q) - gamma::ln_gamma(p + q)
    }
}

/// ln of x^a exp(-x) / Gamma(a + 1) at x = exp(y).
pub(super) fn ln_gamma_term(a: f64, y: f64) -> f64 {
    if a < LARGE {
        return a * y - y.exp() - gamma::ln_gamma(a + 1.0);
    }
    // Around the mode the large terms cancel; what is left is a (ln r + 1 - r) with r = x / a.
    let excess = y - a.ln();
    let bend = if excess.abs() < 0.1 {
        let r = excess.exp_m1();
        r.ln_1p() - r
    } else {
        excess - excess.exp_m1()
    };
    a * bend - 0.5 * (2.0 * PI * a).ln() - stirling_rest(a)
}

/// ln of the mass of the gamma distribution of shape `a` and scale 1 below and above exp(y).
pub(super) fn ln_gamma_tails(a: f64, y: f64) -> (f64, f64) {
    let x = y.exp();
    let term = ln_gamma_term(a, y);
    if x < a + 1.0 {
        // DLMF 8.7.1.
        let (mut sum, mut part) = (1.0, 1.0);
        for n in 1..MAX_TERMS {
            part *= x / (a + n as f64);
            sum += part;
            if part <= 1e-17 * sum {
                break;
            }
        }
        let below = (term + sum.ln()).min(0.0);
        return (below, ln_complement(below));
    }
    if x == f64::INFINITY {
        return (0.0, f64::NEG_INFINITY);
    }
    // DLMF 8.9.2, by the modified method of Lentz.
    let mut denominator = x + 1.0 - a;
    let mut c = 1.0 / f64::MIN_POSITIVE;
    let mut d = 1.0 / denominator;
    let mut fraction = d;
    for n in 1..MAX_TERMS {
        let numerator = -(n as f64) * (n as f64 - a);
        denominator += 2.0;
        d = 1.0 / away_from_zero(numerator * d + denominator);
        c = away_from_zero(denominator + numerator / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    let above = (term + a.ln() + fraction.ln()).min(0.0);
    (ln_complement(above), above)
}

/// ln of the mass of the beta distribution below and above x = 1 / (1 + exp(-y)).
pub(super) fn ln_beta_tails(a: f64, b: f64, y: f64) -> (f64, f64) {
    let x = 1.0 / (1.0 + (-y).exp());
    if x > (a + 1.0) / (a + b + 2.0) {
        let (above, below) = ln_beta_tails_lower(b, a, -y);
        return (below, above);
    }
    ln_beta_tails_lower(a, b, y)
}

/// [`ln_beta_tails`] below the turning point of the continued fraction (DLMF 8.17.22).
fn ln_beta_tails_lower(a: f64, b: f64, y: f64) -> (f64, f64) {
    let x = 1.0 / (1.0 + (-y).exp());
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..MAX_TERMS {
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    let below = (ln_beta_term(a, b, y) - a.ln() + fraction.ln()).min(0.0);
    (below, ln_complement(below))
}

/// ln of x^a (1 - x)^b / B(a, b) at x = 1 / (1 + exp(-y)): the density in the logit y.
pub(super) fn ln_beta_term(a: f64, b: f64, y: f64) -> f64 {
    -a * softplus(-y) - b * softplus(y) - ln_beta(a, b)
}

fn away_from_zero(v: f64) -> f64 {
    if v.abs() < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { v }
}

/// ln(1 - exp(l)) for l <= 0.
fn ln_complement(l: f64) -> f64 {
    (-l.exp_m1()).ln()
}

/// The root of an increasing function in (low, high), by Newton's method inside a shrinking bracket; `f` gives value and
/// slope, `start` a guess. The steps end where they no longer change the root.
pub(super) fn root(f: impl Fn(f64) -> (f64, f64), start: f64, mut low: f64, mut high: f64) -> f64 {
    let mut y = if start > low && start < high { start } else { 0.5 * (low + high) };
    let mut last_step = f64::INFINITY;
    for _ in 0..300 {
        let (value, slope) = f(y);
        if value == 0.0 {
            break;
        }
        if value < 0.0 {
            low = y
        } else {
            high = y
        }
        let mut next = y - value / slope;
        // Newton's steps shrink; where they do not, halve the bracket.
        if !(next > low && next < high && (next - y).abs() < last_step) {
            next = 0.5 * (low + high);
        }
        last_step = (next - y).abs();
        y = next;
        if last_step <= 2.0 * f64::EPSILON * y.abs() {
            break;
        }
    }
    y
}
