//! Prior densities of one parameter. Invariant: a marginal that was checked has a normalised density, finite for every
//! number that its quantile gives, and 64-bit numbers resolve it.

use super::quantile::ln_ratio;
use super::special::{ln_beta, ln_gamma_term, softplus};
use crate::HostError;
use crate::outer::Support;
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, TAU};

/// The prior density of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "prior", rename_all = "snake_case", deny_unknown_fields)]
pub enum Marginal {
    /// Constant between two bounds.
    Uniform {
        /// Lower bound.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// The logarithm is uniform.
    LogUniform {
        /// Lower bound, above 0.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        sd: f64,
    },
    /// Normal, cut at one or two bounds and normalised again.
    TruncatedNormal {
        /// Mean of the uncut normal.
        mean: f64,
        /// Standard deviation of the uncut normal.
        sd: f64,
        /// Lower bound.
        lower: Option<f64>,
        /// Upper bound.
        upper: Option<f64>,
    },
    /// The logarithm is normal.
    Lognormal {
        /// Mean of the logarithm.
        mu: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Absolute value of a normal of mean 0.
    HalfNormal {
        /// Standard deviation of that normal.
        sd: f64,
    },
    /// Exponential.
    Exponential {
        /// Mean, the inverse of the rate.
        scale: f64,
    },
    /// Gamma.
    Gamma {
        /// Shape.
        shape: f64,
        /// Scale, the inverse of the rate; the mean is shape x scale.
        scale: f64,
    },
    /// Beta on (0, 1).
    Beta {
        /// Exponent of x, plus one.
        alpha: f64,
        /// Exponent of 1 - x, plus one.
        beta: f64,
    },
    /// Student's t.
    StudentT {
        /// Degrees of freedom.
        df: f64,
        /// Median.
        loc: f64,
        /// Scale; it tends to the standard deviation for many degrees of freedom.
        scale: f64,
    },
}

/// Mass that may lie nearer to a bound, or farther out, than 64-bit numbers resolve.
const LOST: f64 = 1e-6;
/// Least mass of a normal between its bounds: below it logarithms of its tail underflow.
const LEAST_MASS: f64 = 1e-290;
/// Largest shape and number of degrees of freedom; quantiles cost its square root.
const MAX_SHAPE: f64 = 1e8;

impl Marginal {
    /// Its name in task files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uniform { .. } => "uniform",
            Self::LogUniform { .. } => "log_uniform",
            Self::Normal { .. } => "normal",
            Self::TruncatedNormal { .. } => "truncated_normal",
            Self::Lognormal { .. } => "lognormal",
            Self::HalfNormal { .. } => "half_normal",
            Self::Exponential { .. } => "exponential",
            Self::Gamma { .. } => "gamma",
            Self::Beta { .. } => "beta",
            Self::StudentT { .. } => "student_t",
        }
    }

    /// Checks the numbers of the prior, and that 64-bit numbers resolve its density.
    ///
    /// # Errors
    /// [`HostError::Invalid`] whose `what` is the name of the number, or `the NAME prior` if it is no single one.
    pub fn check(&self) -> Result<(), HostError> {
        let finite = |what: &str, v: f64| match v.is_finite() {
            true => Ok(()),
            false => Err(HostError::invalid(what, v, "a finite number")),
        };
        let positive = |what: &str, v: f64| match v > 0.0 && v.is_finite() {
            true => Ok(()),
            false => Err(HostError::invalid(what, v, "a finite number above 0")),
        };
        let shape = |what: &str, v: f64| match v > 0.0 && v <= MAX_SHAPE {
            true => Ok(()),
            false => Err(HostError::invalid(what, v, "a number above 0, at most 1e8")),
        };
        match *self {
            Self::Uniform { lower, upper } | Self::LogUniform { lower, upper } => {
                finite("lower", lower)?;
                finite("upper", upper)?;
                if matches!(self, Self::LogUniform { .. }) {
                    positive("lower", lower)?;
                }
                ordered(lower, upper)?;
                finite("upper - lower", upper - lower)?;
            }
            Self::Normal { mean, sd } => {
                finite("mean", mean)?;
                positive("sd", sd)?;
            }
            Self::TruncatedNormal { mean, sd, lower, upper } => {
                finite("mean", mean)?;
                positive("sd", sd)?;
                lower.map_or(Ok(()), |bound| finite("lower", bound))?;
                upper.map_or(Ok(()), |bound| finite("upper", bound))?;
                match (lower, upper) {
                    (None, None) => {
                        let expected = "a bound; without one the prior is `normal`";
                        return Err(HostError::invalid("lower", "missing, and so is upper", expected));
                    }
                    (Some(lower), Some(upper)) => ordered(lower, upper)?,
                    _ => {}
                }
                self.check_truncation(mean, sd)?;
            }
            Self::Lognormal { mu, sigma } => {
                finite("mu", mu)?;
                positive("sigma", sigma)?;
            }
            Self::HalfNormal { sd } => positive("sd", sd)?,
            Self::Exponential { scale } => positive("scale", scale)?,
            Self::Gamma { shape: a, scale } => {
                shape("shape", a)?;
                positive("scale", scale)?;
            }
            Self::Beta { alpha, beta } => {
                shape("alpha", alpha)?;
                shape("beta", beta)?;
            }
            Self::StudentT { df, loc, scale } => {
                shape("df", df)?;
                finite("loc", loc)?;
                positive("scale", scale)?;
            }
        }
        self.check_resolution()
    }

    /// Between the bounds the normal must have a mass that its tails can express.
    fn check_truncation(&self, mean: f64, sd: f64) -> Result<(), HostError> {
        let (lower, upper) = self.bounds();
        let mass = self.truncated_mass();
        if mass > LEAST_MASS {
            return Ok(());
        }
        let got = format!("without mass on ({lower}, {upper})");
        Err(HostError::invalid(
            format!("the {} prior", self.name()),
            got,
            format!("bounds nearer to the mean {mean} (sd {sd})"),
        ))
    }

    /// The mass that rounding moves onto the last number inside a bound, and the spacing of numbers in the middle.
    fn check_resolution(&self) -> Result<(), HostError> {
        let refuse = |got: String, expected: &str| {
            Err(HostError::invalid(format!("the {} prior", self.name()), got, expected))
        };
        let (low, high) = (self.quantile(0.25), self.quantile(0.75));
        let spacing = low.abs().max(high.abs()).next_up() - low.abs().max(high.abs());
        let is_resolved = spacing <= LOST * (high - low);
        if !is_resolved {
            let got = format!("as narrow as {:e} around {low:e}", high - low);
            return refuse(got, "a spread that 64-bit numbers resolve: other units, or less a constant");
        }
        let (lower, upper) = self.inside();
        let (below, above) = (self.cdf(lower), self.sf(upper));
        if below > LOST || above > LOST {
            let (mass, edge) = if below > LOST { (below, lower) } else { (above, upper) };
            let got = format!("a density with a share {mass:.1e} of its mass beyond {edge:e}");
            return refuse(
                got,
                "at most 1e-6 nearer to a bound, or farther out, than 64-bit numbers resolve",
            );
        }
        for u in [f64::from_bits(1), 1f64.next_down()] {
            let x = self.quantile(u);
            let log_density = self.log_density(x);
            if !log_density.is_finite() {
                return refuse(format!("of log density {log_density} at {x:e}"), "a finite one");
            }
        }
        Ok(())
    }

    /// Lower and upper end of the support, infinite where there is none.
    pub(super) fn bounds(&self) -> (f64, f64) {
        match *self {
            Self::Uniform { lower, upper } | Self::LogUniform { lower, upper } => (lower, upper),
            Self::TruncatedNormal { lower, upper, .. } => {
                (lower.unwrap_or(f64::NEG_INFINITY), upper.unwrap_or(f64::INFINITY))
            }
            Self::Normal { .. } | Self::StudentT { .. } => (f64::NEG_INFINITY, f64::INFINITY),
            Self::Beta { .. } => (0.0, 1.0),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// The least and the largest number inside the support.
    pub(super) fn inside(&self) -> (f64, f64) {
        let (lower, upper) = self.bounds();
        (lower.next_up(), upper.next_down())
    }

    /// Its support, with edges chosen by the mass.
    pub fn support(&self) -> Support {
        let (lower, upper) = self.bounds();
        Support {
            lower: Some(lower).filter(|b| b.is_finite()),
            upper: Some(upper).filter(|b| b.is_finite()),
            ..Support::default()
        }
    }

    /// Normalised log density at `x`, in nats; -inf on or outside a bound, NaN for NaN.
    pub fn log_density(&self, x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        let (lower, upper) = self.bounds();
        if x <= lower || x >= upper {
            return f64::NEG_INFINITY;
        }
        match *self {
            Self::Uniform { lower, upper } => -(upper - lower).ln(),
            Self::LogUniform { lower, upper } => -x.ln() - ln_ratio(upper, lower).ln(),
            Self::Normal { mean, sd } => log_normal((x - mean) / sd) - sd.ln(),
            Self::TruncatedNormal { mean, sd, .. } => {
                log_normal((x - mean) / sd) - sd.ln() - self.truncated_mass().ln()
            }
            Self::Lognormal { mu, sigma } => log_normal((x.ln() - mu) / sigma) - sigma.ln() - x.ln(),
            Self::HalfNormal { sd } => 0.5 * (2.0 / PI).ln() - sd.ln() - 0.5 * (x / sd).powi(2),
            Self::Exponential { scale } => -x / scale - scale.ln(),
            Self::Gamma { shape, scale } => ln_gamma_term(shape, x.ln() - scale.ln()) + shape.ln() - x.ln(),
            Self::Beta { alpha, beta } => {
                (alpha - 1.0) * x.ln() + (beta - 1.0) * (-x).ln_1p() - ln_beta(alpha, beta)
            }
            Self::StudentT { df, loc, scale } => {
                let tail = softplus(2.0 * ((x - loc).abs().ln() - scale.ln()) - df.ln());
                -ln_beta(0.5 * df, 0.5) - 0.5 * df.ln() - scale.ln() - 0.5 * (df + 1.0) * tail
            }
        }
    }
}

/// Log density of the standard normal.
pub(super) fn log_normal(z: f64) -> f64 {
    -0.5 * z * z - 0.5 * TAU.ln()
}

fn ordered(lower: f64, upper: f64) -> Result<(), HostError> {
    if lower < upper {
        return Ok(());
    }
    Err(HostError::invalid("upper", upper, format!("a number above `lower`, which is {lower}")))
}
