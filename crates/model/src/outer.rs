//! The outermost map of a posterior: one fixed bijection per parameter, then an affine standardisation, in `f64`.
//! Its log-determinant is part of log q, so q is zero on and outside every bound.

use crate::{Bijection, ModelError};
use serde::{Deserialize, Serialize};

/// theta_j = bijection_j(location_j + scale_j x_j), x the flow's (standardised) coordinates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterTransform {
    /// Bijection of each parameter, `[D]`.
    pub bijections: Vec<Bijection>,
    /// Location of the standardisation, `[D]`, in unbounded coordinates.
    pub location: Vec<f64>,
    /// Scale of the standardisation, `[D]`, positive.
    pub scale: Vec<f64>,
}

impl OuterTransform {
    /// Bijections without standardisation.
    pub fn new(bijections: Vec<Bijection>) -> Self {
        let d = bijections.len();
        Self { bijections, location: vec![0.0; d], scale: vec![1.0; d] }
    }

    /// Checks lengths, bounds and scales.
    ///
    /// # Errors
    /// [`ModelError::Spec`] naming the field.
    pub fn validate(&self, dim: usize) -> Result<(), ModelError> {
        for (field, len) in [
            ("outer.bijections", self.bijections.len()),
            ("outer.location", self.location.len()),
            ("outer.scale", self.scale.len()),
        ] {
            if len != dim {
                return Err(ModelError::spec(field, format!("{len} values"), format!("{dim} values")));
            }
        }
        for (j, b) in self.bijections.iter().enumerate() {
            if !b.is_valid() {
                return Err(ModelError::spec(
                    format!("outer.bijections[{j}]"),
                    format!("{b:?}"),
                    "finite bounds in order, a cut between them if at all, and a positive sharpness",
                ));
            }
        }
        for j in 0..dim {
            if !(self.location[j].is_finite() && self.scale[j] > 0.0 && self.scale[j].is_finite()) {
                return Err(ModelError::spec(
                    format!("outer.location and outer.scale [{j}]"),
                    format!("{} and {}", self.location[j], self.scale[j]),
                    "finite numbers, the scale positive",
                ));
            }
        }
        Ok(())
    }

    /// Number of parameters D.
    pub fn dim(&self) -> usize {
        self.bijections.len()
    }

    /// theta (length D) to flow coordinates x, with log |d theta / d x|; `None` on or outside the support.
    pub fn to_flow(&self, theta: &[f64], x: &mut [f64]) -> Option<f64> {
        let mut log_det = 0.0;
        for (j, b) in self.bijections.iter().enumerate() {
            let (y, ld) = b.to_real(theta[j])?;
            x[j] = (y - self.location[j]) / self.scale[j];
            log_det += ld + self.scale[j].ln();
        }
        Some(log_det)
    }

    /// Flow coordinates x (length D) to theta, strictly inside the support; returns log |d theta / d x|.
    pub fn from_flow(&self, x: &[f64], theta: &mut [f64]) -> f64 {
        let mut log_det = 0.0;
        for (j, b) in self.bijections.iter().enumerate() {
            let (t, ld) = b.from_real(self.location[j] + self.scale[j] * x[j]);
            theta[j] = t;
            log_det += ld + self.scale[j].ln();
        }
        log_det
    }
}
