//! What is measured: the shape of a flow and the size of its batch.
//! Invariant: a shape's label names everything that the work of one sample depends on.

use std::fmt;

use lwflow_model::{
    Activation, BaseSpec, Coupling, FlowSettings, FlowSpec, MixtureSpec, ModelError, ParamLayout,
};

/// Base distribution of a measured flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Standard normal.
    Gaussian,
    /// This many components with full covariances, trained.
    Mixture(usize),
}

/// A flow and a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Number of parameters D.
    pub dim: usize,
    /// Number of context values C.
    pub context_dim: usize,
    /// Coupling layers.
    pub n_layers: usize,
    /// Width of both hidden layers.
    pub hidden: usize,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Kind of the coupling layers.
    pub coupling: Coupling,
    /// Base distribution.
    pub base: Base,
    /// Samples per call.
    pub batch: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let activation = match self.activation {
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::Tanh => "tanh",
        };
        write!(f, "D{} C{} L{} H{} {activation} ", self.dim, self.context_dim, self.n_layers, self.hidden)?;
        if let Coupling::Spline { n_bins, .. } = self.coupling {
            write!(f, "spline{n_bins} ")?;
        }
        match self.base {
            Base::Gaussian => f.write_str("gaussian"),
            Base::Mixture(k) => write!(f, "mixture{k}"),
        }
    }
}

impl Shape {
    /// The flow's specification.
    ///
    /// # Errors
    /// [`ModelError::Spec`] for sizes that describe no flow.
    pub fn spec(&self) -> Result<FlowSpec, ModelError> {
        let settings = FlowSettings {
            n_layers: self.n_layers,
            hidden: vec![self.hidden; 2],
            activation: self.activation,
            coupling: self.coupling,
            ..FlowSettings::default()
        };
        let base = match self.base {
            Base::Gaussian => BaseSpec::Gaussian,
            Base::Mixture(n_components) => {
                BaseSpec::Mixture(MixtureSpec { n_components, ..MixtureSpec::default() })
            }
        };
        FlowSpec::build(self.dim, self.context_dim, &settings, base, 1)
    }
}

/// Multiply-adds of the conditioners' linear maps for one sample: what a model FLOP count is made of. The base and the
/// coupling itself are left out.
#[must_use]
pub fn multiply_adds(layout: &ParamLayout) -> usize {
    layout.layers.iter().flatten().map(|linear| linear.n_in * linear.n_out).sum()
}
