//! Distribution functions of the marginals and their inverses. Invariant: both tails are computed as such, never as one
//! minus the other, so that a quantile is right for u next to 0 and next to 1; it lies strictly inside the support.

use super::marginal::{Marginal, log_normal};
use super::special::{ln_beta, ln_beta_tails, ln_beta_term, ln_gamma, ln_gamma_tails, ln_gamma_term, root};
use crate::rng::{normal_cdf, normal_quantile};
use libm::{erf, erfc};
use statrs::function::erf::{erf_inv, erfc_inv};
use std::f64::consts::{LN_2, SQRT_2};

/// Ends of the search for a logarithm or a logit; what lies beyond is not a 64-bit number.
const FAR: f64 = 1e6;

impl Marginal {
    /// The quantile of `u` in (0, 1), strictly inside the support: below a share `u` of the mass.
    pub fn quantile(&self, u: f64) -> f64 {
        // The complement is exact for u above one half, where it is used.
        let v = 1.0 - u;
        let x = match *self {
            Self::Uniform { lower, upper } if u <= 0.5 => lower + u * (upper - lower),
            Self::Uniform { lower, upper } => upper - v * (upper - lower),
            Self::LogUniform { lower, upper } if u <= 0.5 => {
                lower + lower * (u * ln_ratio(upper, lower)).exp_m1()
            }
            Self::LogUniform { lower, upper } => upper + upper * (-v * ln_ratio(upper, lower)).exp_m1(),
            Self::Normal { mean, sd } => mean + sd * normal_quantile(u),
            Self::TruncatedNormal { .. } => self.truncated_quantile(u, v),
            Self::Lognormal { mu, sigma } => (mu + sigma * normal_quantile(u)).exp(),
            Self::HalfNormal { sd } if u <= 0.5 => sd * SQRT_2 * erf_inv(u),
            Self::HalfNormal { sd } => sd * SQRT_2 * erfc_inv(v),
            Self::Exponential { scale } => -scale * (-u).ln_1p(),
            Self::Gamma { shape, scale } => (scale.ln() + ln_gamma_quantile(shape, u, v)).exp(),
            Self::Beta { alpha, beta } => 1.0 / (1.0 + (-logit_quantile(alpha, beta, u, v)).exp()),
            Self::StudentT { df, loc, scale } => {
                // Of either tail p: 2 p is the mass below df / (df + t^2) of a beta distribution.
                let p = u.min(v);
                let t = (0.5 * (df.ln() - logit_quantile(0.5 * df, 0.5, 2.0 * p, 1.0 - 2.0 * p))).exp();
                loc + if u < 0.5 { -scale * t } else { scale * t }
            }
        };
        let (least, largest) = self.inside();
        x.max(least).min(largest)
    }

    /// Mass below `x`.
    pub fn cdf(&self, x: f64) -> f64 {
        let (lower, upper) = self.bounds();
        if x <= lower {
            return 0.0;
        }
        if x >= upper {
            return 1.0;
        }
        match *self {
            Self::Uniform { lower, upper } => (x - lower) / (upper - lower),
            Self::LogUniform { lower, upper } => ln_ratio(x, lower) / ln_ratio(upper, lower),
            Self::Normal { mean, sd } => normal_cdf((x - mean) / sd),
            Self::TruncatedNormal { mean, sd, .. } => {
                let a = (lower - mean) / sd;
                normal_between(a, (x - mean) / sd, (x - lower) / sd) / self.truncated_mass()
            }
            Self::Lognormal { mu, sigma } => normal_cdf((x.ln() - mu) / sigma),
            Self::HalfNormal { sd } => erf(x / (sd * SQRT_2)),
            Self::Exponential { scale } => -(-x / scale).exp_m1(),
            Self::Gamma { shape, scale } => ln_gamma_tails(shape, x.ln() - scale.ln()).0.exp(),
            Self::Beta { alpha, beta } => ln_beta_tails(alpha, beta, logit(x)).0.exp(),
            Self::StudentT { df, loc, scale } if x <= loc => {
                student_tail(df, (x - loc).abs().ln() - scale.ln())
            }
            Self::StudentT { .. } => 1.0 - self.sf(x),
        }
    }

    /// Mass above `x`.
    pub fn sf(&self, x: f64) -> f64 {
        let (lower, upper) = self.bounds();
        if x <= lower {
            return 1.0;
        }
        if x >= upper {
            return 0.0;
        }
        match *self {
            Self::Uniform { lower, upper } => (upper - x) / (upper - lower),
            Self::LogUniform { lower, upper } => ln_ratio(upper, x) / ln_ratio(upper, lower),
            Self::Normal { mean, sd } => normal_cdf((mean - x) / sd),
            Self::TruncatedNormal { mean, sd, .. } => {
                let b = (upper - mean) / sd;
                normal_between((x - mean) / sd, b, (upper - x) / sd) / self.truncated_mass()
            }
            Self::Lognormal { mu, sigma } => normal_cdf((mu - x.ln()) / sigma),
            Self::HalfNormal { sd } => erfc(x / (sd * SQRT_2)),
            Self::Exponential { scale } => (-x / scale).exp(),
            Self::Gamma { shape, scale } => ln_gamma_tails(shape, x.ln() - scale.ln()).1.exp(),
            Self::Beta { alpha, beta } => ln_beta_tails(alpha, beta, logit(x)).1.exp(),
            Self::StudentT { df, loc, scale } if x >= loc => {
                student_tail(df, (x - loc).abs().ln() - scale.ln())
            }
            Self::StudentT { .. } => 1.0 - self.cdf(x),
        }
    }

    /// Bounds and width of a truncated normal in standard deviations from its mean; those of the standard normal for others.
    fn standard_bounds(&self) -> (f64, f64, f64) {
        match *self {
            Self::TruncatedNormal { mean, sd, .. } => {
                let (lower, upper) = self.bounds();
                ((lower - mean) / sd, (upper - mean) / sd, (upper - lower) / sd)
            }
            _ => (f64::NEG_INFINITY, f64::INFINITY, f64::INFINITY),
        }
    }

    /// Mass of the uncut normal between the bounds.
    pub(super) fn truncated_mass(&self) -> f64 {
        let (a, b, width) = self.standard_bounds();
        normal_between(a, b, width)
    }

    /// The quantile of a truncated normal; `v` is 1 - `u`.
    fn truncated_quantile(&self, u: f64, v: f64) -> f64 {
        let Self::TruncatedNormal { mean, sd, .. } = *self else { return f64::NAN };
        let (a, b, width) = self.standard_bounds();
        let (lower, upper) = self.bounds();
        let mass = normal_between(a, b, width);
        // Next to a bound it is the distance from the bound that has few rounding errors.
        if u <= 0.5
            && let Some(distance) = near_bound(a, u * mass)
        {
            return lower + sd * distance;
        }
        if u > 0.5
            && let Some(distance) = near_bound(-b, v * mass)
        {
            return upper - sd * distance;
        }
        // In the half with the longer tail nothing cancels.
        let quantile = |a: f64, b: f64, u: f64, v: f64| {
            // Below the least number there is none to tell apart.
            let below = (normal_cdf(a) + u * mass).max(f64::from_bits(1));
            if below <= 0.5 {
                normal_quantile(below)
            } else {
                -normal_quantile((normal_cdf(-b) + v * mass).max(f64::from_bits(1)))
            }
        };
        mean + sd * if a + b > 0.0 { -quantile(-b, -a, v, u) } else { quantile(a, b, u, v) }
    }
}

/// ln(a / b) for a > b > 0; a ratio next to one keeps its digits, and none overflows.
pub(super) fn ln_ratio(a: f64, b: f64) -> f64 {
    if a < 2.0 * b { ((a - b) / b).ln_1p() } else { a.ln() - b.ln() }
}

fn logit(x: f64) -> f64 {
    x.ln() - (-x).ln_1p()
}

/// Mass of the standard normal in (a, b), where b - a is `width`, which may be known better than its ends.
fn normal_between(a: f64, b: f64, width: f64) -> f64 {
    if width * (1.0 + a.abs().max(b.abs())) < 1.0 {
        // The difference of the tails would cancel; the density is nearly straight.
        let (middle, half) = (0.5 * (a + b), 0.5 * width);
        let pair = |&(x, w): &(f64, f64)| {
            w * (log_normal(middle - half * x).exp() + log_normal(middle + half * x).exp())
        };
        return half * GAUSS.iter().map(pair).sum::<f64>();
    }
    if a > 0.0 { normal_cdf(-a) - normal_cdf(-b) } else { normal_cdf(b) - normal_cdf(a) }
}

/// The distance from `a` within which the standard normal has mass `mass`, where it is short.
fn near_bound(a: f64, mass: f64) -> Option<f64> {
    let guess = mass / log_normal(a).exp();
    (guess * (1.0 + a.abs() + guess) < 0.4).then(|| {
        let f = |d: f64| (normal_between(a, a + d, d) - mass, log_normal(a + d).exp());
        root(f, guess, 0.5 * guess, 2.0 * guess)
    })
}

/// Positive nodes and weights of the Gauss-Legendre rule of order ten (Abramowitz and Stegun, table 25.4).
const GAUSS: [(f64, f64); 5] = [
    (0.148_874_338_981_631_21, 0.295_524_224_714_752_87),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

/// ln of the quantile of the gamma distribution of scale 1; `v` is 1 - `u`.
fn ln_gamma_quantile(a: f64, u: f64, v: f64) -> f64 {
    let leading = (u.ln() + ln_gamma(a + 1.0)) / a;
    // Wilson and Hilferty 1931; where it fails, the leading term of the lower tail.
    let cube_root = 1.0 - 1.0 / (9.0 * a) + normal_quantile(u) / (3.0 * a.sqrt());
    let start = if a > 0.5 && cube_root > 0.1 { a.ln() + 3.0 * cube_root.ln() } else { leading.min(a.ln()) };
    let slope = |y: f64, ln_tail: f64| (ln_gamma_term(a, y) + a.ln() - ln_tail).exp();
    let f = |y: f64| {
        let (below, above) = ln_gamma_tails(a, y);
        if u <= 0.5 { (below - u.ln(), slope(y, below)) } else { (v.ln() - above, slope(y, above)) }
    };
    root(f, start, -FAR, 710.0)
}

/// Logit of the quantile of the beta distribution; `v` is 1 - `u`, and either may be the exact one.
fn logit_quantile(a: f64, b: f64, u: f64, v: f64) -> f64 {
    if u > v {
        return -logit_quantile(b, a, v, u);
    }
    let leading = (u.ln() + a.ln() + ln_beta(a, b)) / a;
    let start = if leading < -1.0 {
        leading
    } else if a > 1.0 && b > 1.0 {
        carter_logit(a, b, u)
    } else {
        (a / b).ln()
    };
    let f = |y: f64| {
        let below = ln_beta_tails(a, b, y).0;
        (below - u.ln(), (ln_beta_term(a, b, y) - below).exp())
    };
    root(f, start, -FAR, FAR)
}

/// Carter's (1947) approximation of the logit of a beta quantile, a and b above 1 (Abramowitz and Stegun 26.5.22).
fn carter_logit(a: f64, b: f64, u: f64) -> f64 {
    let z = -normal_quantile(u);
    let lambda = (z * z - 3.0) / 6.0;
    let (s, t) = (1.0 / (2.0 * a - 1.0), 1.0 / (2.0 * b - 1.0));
    let h = 2.0 / (s + t);
    let w = z * (h + lambda).max(0.0).sqrt() / h - (t - s) * (lambda + 5.0 / 6.0 - 2.0 / (3.0 * h));
    (a / b).ln() - 2.0 * w
}

/// Mass of Student's t beyond |t| = exp(ln_t) on one side.
fn student_tail(df: f64, ln_t: f64) -> f64 {
    let y = df.ln() - 2.0 * ln_t;
    (ln_beta_tails(0.5 * df, 0.5, y).0 - LN_2).exp()
}
