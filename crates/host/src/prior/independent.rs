//! Priors of many parameters: independent marginals, or a joint pair of closures. Invariant: a draw lies strictly inside
//! the support of every parameter, and the density outside it is zero.

use super::{Marginal, Prior};
use crate::HostError;
use crate::outer::{EdgeChoice, Support};
use std::fmt::Debug;

/// Independent marginals, one per parameter.
///
/// ```
/// use lwflow_host::prior::{IndependentPrior, Marginal, Prior};
/// let rate = Marginal::Exponential { scale: 2.0 };
/// let phase = Marginal::Uniform { lower: 0.0, upper: 1.0 };
/// let prior = IndependentPrior::new(vec![rate, phase])?.with_periodic(1)?;
/// let mut theta = [0.0; 2];
/// prior.prior_transform(&[0.5, 0.25], &mut theta);
/// assert!((theta[0] - 2.0 * 2f64.ln()).abs() < 1e-12 && theta[1] == 0.25);
/// assert!((prior.log_prior(&theta) + 2.0 * 2f64.ln()).abs() < 1e-12);
/// assert!(prior.supports()[1].periodic);
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct IndependentPrior {
    marginals: Vec<Marginal>,
    supports: Vec<Support>,
}

impl IndependentPrior {
    /// The product of `marginals`, `[D]`.
    ///
    /// # Errors
    /// [`HostError::Invalid`] naming parameter and number of a marginal that makes no sense, or if there is none.
    pub fn new(marginals: Vec<Marginal>) -> Result<Self, HostError> {
        if marginals.is_empty() {
            return Err(HostError::invalid("prior", "without parameters", "at least one"));
        }
        for (j, marginal) in marginals.iter().enumerate() {
            marginal.check().map_err(|error| match error {
                HostError::Invalid { what, got, expected } => {
                    let what = format!("prior of parameter {j} ({}): {what}", marginal.name());
                    HostError::Invalid { what, got, expected }
                }
                other => other,
            })?;
        }
        let supports = marginals.iter().map(Marginal::support).collect();
        Ok(Self { marginals, supports })
    }

    /// Makes parameter `j` periodic: its bounds are the same point.
    ///
    /// # Errors
    /// [`HostError::Invalid`] unless its prior is uniform.
    pub fn with_periodic(mut self, j: usize) -> Result<Self, HostError> {
        match self.marginals.get(j) {
            Some(Marginal::Uniform { .. }) => {
                self.supports[j].periodic = true;
                Ok(self)
            }
            Some(other) => {
                let what = format!("prior of the periodic parameter {j}");
                Err(HostError::invalid(what, other.name(), "uniform, over one period"))
            }
            None => {
                Err(HostError::invalid("periodic parameter", j, format!("below {}", self.marginals.len())))
            }
        }
    }

    /// Sets how the edges of parameter `j` are treated; without effect where there is no bound or no such parameter.
    #[must_use]
    pub fn with_edges(mut self, j: usize, lower_edge: EdgeChoice, upper_edge: EdgeChoice) -> Self {
        if let Some(support) = self.supports.get_mut(j) {
            (support.lower_edge, support.upper_edge) = (lower_edge, upper_edge);
        }
        self
    }

    /// The marginals, `[D]`.
    pub fn marginals(&self) -> &[Marginal] {
        &self.marginals
    }
}

impl Prior for IndependentPrior {
    fn dim(&self) -> usize {
        self.marginals.len()
    }

    fn supports(&self) -> Vec<Support> {
        self.supports.clone()
    }

    fn marginals(&self) -> Option<&[Marginal]> {
        Some(&self.marginals)
    }

    fn prior_transform(&self, u: &[f64], theta: &mut [f64]) {
        for ((value, u), marginal) in theta.iter_mut().zip(u).zip(&self.marginals) {
            *value = marginal.quantile(*u);
        }
    }

    fn log_prior(&self, theta: &[f64]) -> f64 {
        if theta.len() != self.marginals.len() || theta.iter().any(|x| x.is_nan()) {
            return f64::NAN;
        }
        self.marginals.iter().zip(theta).map(|(marginal, x)| marginal.log_density(*x)).sum()
    }
}

/// A joint prior from a pair of closures: the transform of the unit cube, and the normalised log density. That the two
/// agree is the caller's promise.
pub struct JointPrior<T, P> {
    supports: Vec<Support>,
    transform: T,
    log_density: P,
}

impl<T, P> JointPrior<T, P>
where
    T: Fn(&[f64], &mut [f64]) + Send + Sync,
    P: Fn(&[f64]) -> f64 + Send + Sync,
{
    /// The prior with the support `supports`, `[D]`, whose draws are `transform(u, theta)` of uniform `u`, `[D]`, and whose
    /// normalised log density inside the support is `log_density(theta)`, in nats.
    ///
    /// ```
    /// use lwflow_host::outer::Support;
    /// use lwflow_host::prior::{JointPrior, Prior};
    /// // 0 < a < b < 1, uniform on the triangle.
    /// let unit = Support { lower: Some(0.0), upper: Some(1.0), ..Support::default() };
    /// let prior = JointPrior::new(
    ///     vec![unit; 2],
    ///     |u, theta| { theta[1] = u[0].sqrt(); theta[0] = u[1] * theta[1] },
    ///     |theta| if theta[0] < theta[1] { 2f64.ln() } else { f64::NEG_INFINITY },
    /// )?;
    /// assert_eq!(prior.log_prior(&[0.5, 0.4]), f64::NEG_INFINITY);
    /// assert_eq!(prior.log_prior(&[-0.1, 0.4]), f64::NEG_INFINITY);
    /// # Ok::<(), lwflow_host::HostError>(())
    /// ```
    ///
    /// # Errors
    /// [`HostError::Invalid`] if there is no parameter, or for bounds that are not finite, not in order or, of a periodic
    /// parameter, not both there.
    pub fn new(supports: Vec<Support>, transform: T, log_density: P) -> Result<Self, HostError> {
        if supports.is_empty() {
            return Err(HostError::invalid("prior", "without parameters", "at least one"));
        }
        for (j, support) in supports.iter().enumerate() {
            let (lower, upper) = ends(support);
            let are_finite = support.lower.iter().chain(&support.upper).all(|bound| bound.is_finite());
            if !(are_finite && lower.next_up() < upper) {
                let (what, got) = (format!("support of parameter {j}"), format!("({lower}, {upper})"));
                return Err(HostError::invalid(what, got, "an open interval with finite bounds or none"));
            }
            if support.periodic && !(lower.is_finite() && upper.is_finite()) {
                let (what, got) =
                    (format!("support of the periodic parameter {j}"), format!("({lower}, {upper})"));
                return Err(HostError::invalid(what, got, "both bounds, one period apart"));
            }
        }
        Ok(Self { supports, transform, log_density })
    }
}

/// Bounds of a support, infinite where there is none.
fn ends(support: &Support) -> (f64, f64) {
    (support.lower.unwrap_or(f64::NEG_INFINITY), support.upper.unwrap_or(f64::INFINITY))
}

impl<T, P> Debug for JointPrior<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JointPrior").field("supports", &self.supports).finish_non_exhaustive()
    }
}

impl<T, P> Prior for JointPrior<T, P>
where
    T: Fn(&[f64], &mut [f64]) + Send + Sync,
    P: Fn(&[f64]) -> f64 + Send + Sync,
{
    fn dim(&self) -> usize {
        self.supports.len()
    }

    fn supports(&self) -> Vec<Support> {
        self.supports.clone()
    }

    fn prior_transform(&self, u: &[f64], theta: &mut [f64]) {
        (self.transform)(u, theta);
        for (value, support) in theta.iter_mut().zip(&self.supports) {
            // Rounding may reach a bound; a NaN stays one, for the density to show.
            let (lower, upper) = ends(support);
            if !value.is_nan() {
                *value = value.max(lower.next_up()).min(upper.next_down());
            }
        }
    }

    fn log_prior(&self, theta: &[f64]) -> f64 {
        if theta.len() != self.supports.len() || theta.iter().any(|x| x.is_nan()) {
            return f64::NAN;
        }
        let is_inside = |(x, support): (&f64, &Support)| {
            let (lower, upper) = ends(support);
            *x > lower && *x < upper
        };
        if theta.iter().zip(&self.supports).all(is_inside) {
            (self.log_density)(theta)
        } else {
            f64::NEG_INFINITY
        }
    }
}
