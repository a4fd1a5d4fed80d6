//! What a coupling layer is: which coordinates it keeps, which it moves and by what map, and the shape of the conditioner
//! that sets the map. Invariant: all kinds share the conditioner; they differ in its outputs and in the map alone.

use crate::spec::MAX_DIM;
use crate::spline::{MAX_BINS, n_raw};
use crate::{ModelError, Real};
use serde::{Deserialize, Serialize};

/// One layer. Closed on purpose: a new kind fails to compile wherever it is not handled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSpec {
    /// Affine coupling (Dinh et al. 2017, section 3).
    AffineCoupling(AffineCouplingSpec),
    /// Rational-quadratic spline coupling (Durkan et al. 2019).
    SplineCoupling(SplineCouplingSpec),
}

/// Affine coupling `v_A = u_A, v_B = u_B exp(s) + t` with `(s_raw, t) = MLP(u_A, c)` and `s = s_max tanh(s_raw / s_max)`.
/// The conditioner gives 2 |B| values: first all raw log scales, then all shifts.
///
/// The two index sets take the place of a fixed permutation followed by a split in halves: coordinates never move, so
/// base coordinate j of an identity flow is data coordinate j.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffineCouplingSpec {
    /// Coordinates A that pass unchanged and feed the conditioner (empty if D = 1).
    pub identity: Vec<usize>,
    /// Coordinates B that are scaled and shifted; with `identity` a partition of `0..dim`.
    pub transformed: Vec<usize>,
    /// Hidden widths of the conditioner (may be empty: a linear conditioner).
    pub hidden: Vec<usize>,
    /// Activation after each hidden layer.
    pub activation: Activation,
    /// Bound of the log scale |s|.
    pub s_max: f64,
}

/// Spline coupling `v_A = u_A, u_B = g(v_B)`, g a monotone rational-quadratic spline of `n_bins` bins per coordinate on
/// [-bound, bound] and the identity outside (Durkan et al. 2019, section 3.1). The inverse pass, which training needs,
/// evaluates g; sampling solves a quadratic equation.
///
/// The conditioner gives 3 n_bins - 1 values per coordinate of B, one coordinate after the other: raw widths of the bins
/// in v, raw heights in u, raw derivatives at the inner knots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplineCouplingSpec {
    /// Coordinates A that pass unchanged and feed the conditioner (empty if D = 1).
    pub identity: Vec<usize>,
    /// Coordinates B that the splines move; with `identity` a partition of `0..dim`.
    pub transformed: Vec<usize>,
    /// Hidden widths of the conditioner (may be empty: a linear conditioner).
    pub hidden: Vec<usize>,
    /// Activation after each hidden layer.
    pub activation: Activation,
    /// Bins K of each spline; one bin is the identity.
    pub n_bins: usize,
    /// The splines act on [-bound, bound], in units of the flow's coordinates.
    pub bound: f64,
}

/// Activation of the conditioner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x / (1 + exp(-x))
    Silu,
    /// tanh(x)
    Tanh,
}

/// Which kind of coupling the layers of a [`FlowSettings`](crate::FlowSettings) are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Coupling {
    /// Scale and shift, the scale bounded by `s_max`.
    #[default]
    Affine,
    /// Rational-quadratic splines.
    Spline {
        /// Bins of each spline.
        n_bins: usize,
        /// The splines act on [-bound, bound].
        bound: f64,
    },
}

impl Coupling {
    /// Splines of eight bins on [-5, 5]: five standard deviations of standardised data either way.
    pub const SPLINE: Self = Self::Spline { n_bins: 8, bound: 5.0 };

    /// Whether it is the affine kind.
    #[must_use]
    pub fn is_affine(&self) -> bool {
        matches!(self, Self::Affine)
    }
}

impl Activation {
    pub(crate) fn value<T: Real>(self, x: T) -> T {
        match self {
            Activation::Relu => {
                if x > T::zero() {
                    x
                } else {
                    T::zero()
                }
            }
            Activation::Silu => x / (T::one() + (-x).exp()),
            Activation::Tanh => x.tanh(),
        }
    }

    pub(crate) fn derivative<T: Real>(self, x: T) -> T {
        match self {
            Activation::Relu => {
                if x > T::zero() {
                    T::one()
                } else {
                    T::zero()
                }
            }
            Activation::Silu => {
                let sigmoid = T::one() / (T::one() + (-x).exp());
                sigmoid * (T::one() + x * (T::one() - sigmoid))
            }
            Activation::Tanh => {
                let y = x.tanh();
                T::one() - y * y
            }
        }
    }
}

impl LayerSpec {
    /// Coordinates A that pass unchanged and feed the conditioner.
    pub fn identity(&self) -> &[usize] {
        match self {
            Self::AffineCoupling(c) => &c.identity,
            Self::SplineCoupling(c) => &c.identity,
        }
    }

    /// Coordinates B that the layer moves.
    pub fn transformed(&self) -> &[usize] {
        match self {
            Self::AffineCoupling(c) => &c.transformed,
            Self::SplineCoupling(c) => &c.transformed,
        }
    }

    /// Hidden widths of the conditioner.
    pub fn hidden(&self) -> &[usize] {
        match self {
            Self::AffineCoupling(c) => &c.hidden,
            Self::SplineCoupling(c) => &c.hidden,
        }
    }

    /// Activation of the conditioner's hidden layers.
    pub fn activation(&self) -> Activation {
        match self {
            Self::AffineCoupling(c) => c.activation,
            Self::SplineCoupling(c) => c.activation,
        }
    }

    /// Width of the conditioner's input, `|A| + C`.
    pub fn n_in(&self, context_dim: usize) -> usize {
        self.identity().len() + context_dim
    }

    /// Width of the conditioner's output: `2 |B|`, or `(3 n_bins - 1) |B|`.
    pub fn n_out(&self) -> usize {
        match self {
            Self::AffineCoupling(c) => 2 * c.transformed.len(),
            Self::SplineCoupling(c) => n_raw(c.n_bins) * c.transformed.len(),
        }
    }

    /// Checks layer `l` of a flow over `dim` coordinates.
    pub(crate) fn validate(&self, l: usize, dim: usize) -> Result<(), ModelError> {
        let field = |name: &str| format!("layers[{l}].{name}");
        let (identity, transformed) = (self.identity(), self.transformed());
        let mut seen = vec![false; dim];
        for &j in identity.iter().chain(transformed) {
            match seen.get_mut(j) {
                Some(s) if !*s => *s = true,
                _ => {
                    return Err(ModelError::spec(
                        field("identity and transformed"),
                        format!("naming coordinate {j} twice or out of range"),
                        format!("a partition of 0..{dim}"),
                    ));
                }
            }
        }
        if transformed.is_empty() || identity.len() + transformed.len() != dim {
            return Err(ModelError::spec(
                field("identity and transformed"),
                format!("{} and {} coordinates", identity.len(), transformed.len()),
                format!("a partition of 0..{dim} with at least one transformed"),
            ));
        }
        if let Some(h) = self.hidden().iter().find(|&&h| h == 0 || h > MAX_DIM) {
            return Err(ModelError::spec(field("hidden"), h, format!("widths from 1 to {MAX_DIM}")));
        }
        if self.hidden().len() > 16 {
            return Err(ModelError::spec(field("hidden"), self.hidden().len(), "at most 16 hidden layers"));
        }
        match self {
            Self::AffineCoupling(c) if !(c.s_max > 0.0 && c.s_max <= 20.0) => {
                Err(ModelError::spec(field("s_max"), c.s_max, "above 0 and at most 20"))
            }
            Self::SplineCoupling(c) if c.n_bins == 0 || c.n_bins > MAX_BINS => {
                Err(ModelError::spec(field("n_bins"), c.n_bins, format!("1 to {MAX_BINS}")))
            }
            Self::SplineCoupling(c) if !(c.bound >= 0.1 && c.bound <= 1000.0) => {
                Err(ModelError::spec(field("bound"), c.bound, "at least 0.1 and at most 1000"))
            }
            Self::AffineCoupling(_) | Self::SplineCoupling(_) => Ok(()),
        }
    }
}
