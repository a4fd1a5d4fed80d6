//! What a context network is: what makes features of the context, which the conditioners see in its place. It is trained with
//! the flow, by gradients through it. Invariant: a set's features depend on the elements present alone, in whatever order.

use crate::spec::MAX_DIM;
use crate::{Activation, ModelError, Real};
use serde::{Deserialize, Serialize};

/// Most linear maps of one part, as of a conditioner.
const MAX_MAPS: usize = 17;

/// A context network. Closed on purpose, as layers are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextNetworkSpec {
    /// An MLP of the context values.
    Mlp(MlpSpec),
    /// A set of observations in any order (deep sets, Zaheer et al. 2017, theorem 2, with the mean for the sum).
    Set(SetSpec),
}

/// Features `rho(c)` of the context values c `[C]`, rho an MLP with the activation between its linear maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpSpec {
    /// Hidden widths of rho (may be empty: a linear map).
    pub hidden: Vec<usize>,
    /// Number of features F.
    pub n_features: usize,
    /// Activation of the hidden layers.
    pub activation: Activation,
}

/// Features `rho(mean_i phi(e_i), ln(1 + n))` of a set of n elements e_i, phi and rho MLPs; the mean over no element is 0.
///
/// A row of the context is M elements of `element` values each. With `counted` the number n of elements present, 0 to M, comes
/// first, `C = 1 + M element`, and what lies beyond n elements is not looked at; without it all M are present, `C = M element`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSpec {
    /// Values of one element.
    pub element: usize,
    /// Whether a row begins with the number of its elements.
    pub counted: bool,
    /// Widths of phi, the last of which is what the mean is taken of; at least one.
    pub phi: Vec<usize>,
    /// Hidden widths of rho (may be empty: a linear map).
    pub hidden: Vec<usize>,
    /// Number of features F.
    pub n_features: usize,
    /// Activation of the hidden layers of phi and rho.
    pub activation: Activation,
}

impl ContextNetworkSpec {
    /// Number of features F.
    pub fn n_features(&self) -> usize {
        match self {
            Self::Mlp(mlp) => mlp.n_features,
            Self::Set(set) => set.n_features,
        }
    }

    /// Activation of the hidden layers.
    pub fn activation(&self) -> Activation {
        match self {
            Self::Mlp(mlp) => mlp.activation,
            Self::Set(set) => set.activation,
        }
    }

    fn hidden(&self) -> &[usize] {
        match self {
            Self::Mlp(mlp) => &mlp.hidden,
            Self::Set(set) => &set.hidden,
        }
    }

    /// Widths of phi from its input on; none without phi.
    pub(crate) fn phi_widths(&self) -> Vec<usize> {
        match self {
            Self::Mlp(_) => Vec::new(),
            Self::Set(set) => [&[set.element], &set.phi[..]].concat(),
        }
    }

    /// Widths of rho from its input on.
    pub(crate) fn rho_widths(&self, context_dim: usize) -> Vec<usize> {
        let n_in = match self {
            Self::Mlp(_) => context_dim,
            Self::Set(set) => set.n_pooled() + 1,
        };
        [&[n_in], self.hidden(), &[self.n_features()]].concat()
    }

    /// Checks the network of a flow with `context_dim` context values.
    ///
    /// # Errors
    /// [`ModelError::Spec`] naming the first field that describes no network.
    pub fn validate(&self, context_dim: usize) -> Result<(), ModelError> {
        let field = |name: &str| format!("context_network.{name}");
        if context_dim == 0 {
            return Err(ModelError::spec("context_network", "there", "none: the flow has no context"));
        }
        let n_features = self.n_features();
        if n_features == 0 || n_features > MAX_DIM {
            return Err(ModelError::spec(field("n_features"), n_features, format!("1 to {MAX_DIM}")));
        }
        let widths = |name: &str, widths: &[usize], least: usize, most: usize| {
            if widths.len() < least || widths.len() > most {
                let got = format!("{} widths", widths.len());
                return Err(ModelError::spec(field(name), got, format!("{least} to {most} widths")));
            }
            match widths.iter().find(|&&h| h == 0 || h > MAX_DIM) {
                Some(h) => Err(ModelError::spec(field(name), h, format!("widths from 1 to {MAX_DIM}"))),
                None => Ok(()),
            }
        };
        widths("hidden", self.hidden(), 0, MAX_MAPS - 1)?;
        let Self::Set(set) = self else { return Ok(()) };
        widths("phi", &set.phi, 1, MAX_MAPS)?;
        let values = context_dim - usize::from(set.counted);
        if set.element == 0 || values == 0 || !values.is_multiple_of(set.element) {
            let of = if set.counted { "context values after the count" } else { "context values" };
            return Err(ModelError::spec(
                field("element"),
                set.element,
                format!("a divisor of the {values} {of}"),
            ));
        }
        Ok(())
    }

    /// Checks that context rows `[n, C]` hold what the network can read.
    ///
    /// # Errors
    /// [`ModelError::Count`] naming the first set whose count is not a whole number from 0 to M.
    pub fn check<T: Real>(&self, context: &[T], context_dim: usize) -> Result<(), ModelError> {
        let Self::Set(set) = self else { return Ok(()) };
        match context.chunks_exact(context_dim).enumerate().find(|(_, row)| set.elements(row).is_none()) {
            None => Ok(()),
            Some((row, values)) => {
                let (got, most) = (values[0].to_f64(), set.most(context_dim));
                Err(ModelError::Count { row, got, most })
            }
        }
    }
}

impl SetSpec {
    /// Width of what the mean is taken of.
    pub fn n_pooled(&self) -> usize {
        self.phi.last().copied().unwrap_or(0)
    }

    /// First column of the elements: behind the count, if there is one.
    pub fn first(&self) -> usize {
        usize::from(self.counted)
    }

    /// Most elements M of a row with `context_dim` values.
    pub fn most(&self, context_dim: usize) -> usize {
        context_dim.saturating_sub(self.first()) / self.element.max(1)
    }

    /// The elements present in `row`, `[C]`, as `[n, element]`; `None` if its count is not a whole number from 0 to M.
    pub fn elements<'a, T: Real>(&self, row: &'a [T]) -> Option<&'a [T]> {
        let all = row.get(self.first()..)?;
        if !self.counted {
            return Some(all);
        }
        let count = row[0].to_f64();
        let legal = count >= 0.0 && count.fract() == 0.0 && count <= self.most(row.len()) as f64;
        legal.then(|| &all[..count as usize * self.element])
    }
}
