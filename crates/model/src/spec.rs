//! What a flow is: dimension, context, coupling layers and base distribution. A specification is plain data; it is
//! validated once, by [`FlowSpec::validate`], and everything else may rely on it.

use crate::{
    Activation, AffineCouplingSpec, ContextNetworkSpec, Coupling, LayerSpec, ModelError, SplineCouplingSpec,
};
use rand::{SeedableRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

/// Largest dimension, context dimension and hidden width that a specification may name. A model file cannot make the
/// program allocate without bound.
pub const MAX_DIM: usize = 4096;
const MAX_LAYERS: usize = 1024;

/// A flow over `dim` parameters, given `context_dim` context values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowSpec {
    /// Number of parameters D.
    pub dim: usize,
    /// Number of context values C (0: unconditional).
    pub context_dim: usize,
    /// What makes features of the context values; without it the conditioners see the values themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_network: Option<ContextNetworkSpec>,
    /// Layers from the base towards the data.
    pub layers: Vec<LayerSpec>,
    /// Base distribution.
    pub base: BaseSpec,
}

/// Base distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseSpec {
    /// Standard normal N(0, I).
    Gaussian,
    /// Mixture of Gaussians.
    Mixture(MixtureSpec),
}

/// Mixture of K Gaussians, weights `a_k = weight_floor + (1 - K weight_floor) softmax(logits)_k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureSpec {
    /// Number of components K.
    pub n_components: usize,
    /// Shape of each covariance.
    pub covariance: Covariance,
    /// Whether logits, means and scales are trained.
    pub trainable: bool,
    /// Least weight of a component; 0 <= K weight_floor < 1.
    pub weight_floor: f64,
    /// Least scale (standard deviation, or diagonal entry of the Cholesky factor); kept by [`FlowSpec::project`].
    pub scale_floor: f64,
}

/// Shape of a covariance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// One scale per axis.
    Diagonal,
    /// A Cholesky factor.
    #[default]
    Full,
}

/// How successive layers choose the coordinates they transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    /// Even and odd coordinates take turns.
    Alternate,
    /// Pairs of layers use a random half and its complement, drawn anew from the seed for every pair.
    Permute,
}

/// How to build the layers of a [`FlowSpec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowSettings {
    /// Number of coupling layers.
    pub n_layers: usize,
    /// Hidden widths of every conditioner.
    pub hidden: Vec<usize>,
    /// Activation of every conditioner.
    pub activation: Activation,
    /// Bound of the log scale of one affine layer.
    pub s_max: f64,
    /// How coordinates are mixed between layers.
    pub mixing: Mixing,
    /// How a layer moves its coordinates. Affine ones are not written, so that settings read as they did before splines.
    #[serde(skip_serializing_if = "Coupling::is_affine")]
    pub coupling: Coupling,
    /// What makes features of the context, for a flow that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_network: Option<ContextNetworkSpec>,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            n_layers: 8,
            hidden: vec![32, 32],
            activation: Activation::Silu,
            s_max: 2.0,
            mixing: Mixing::Permute,
            coupling: Coupling::Affine,
            context_network: None,
        }
    }
}

impl FlowSettings {
    /// One layer of these settings that keeps the coordinates `identity` and moves `transformed`.
    #[must_use]
    pub fn layer(&self, identity: Vec<usize>, transformed: Vec<usize>) -> LayerSpec {
        let (hidden, activation) = (self.hidden.clone(), self.activation);
        match self.coupling {
            Coupling::Affine => LayerSpec::AffineCoupling(AffineCouplingSpec {
                identity,
                transformed,
                hidden,
                activation,
                s_max: self.s_max,
            }),
            Coupling::Spline { n_bins, bound } => LayerSpec::SplineCoupling(SplineCouplingSpec {
                identity,
                transformed,
                hidden,
                activation,
                n_bins,
                bound,
            }),
        }
    }
}

impl Default for MixtureSpec {
    fn default() -> Self {
        Self {
            n_components: 1,
            covariance: Covariance::Full,
            trainable: true,
            weight_floor: 1e-6,
            scale_floor: 1e-4,
        }
    }
}

impl FlowSpec {
    /// Builds the layers of a flow from settings; `seed` draws the permutations of [`Mixing::Permute`].
    ///
    /// # Errors
    /// [`ModelError::Spec`] if the result describes no flow.
    pub fn build(
        dim: usize,
        context_dim: usize,
        settings: &FlowSettings,
        base: BaseSpec,
        seed: u64,
    ) -> Result<Self, ModelError> {
        if dim == 0 || dim > MAX_DIM {
            return Err(ModelError::spec("dim", dim, format!("1 to {MAX_DIM}")));
        }
        if settings.n_layers > MAX_LAYERS {
            return Err(ModelError::spec("n_layers", settings.n_layers, format!("at most {MAX_LAYERS}")));
        }
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..dim).collect();
        let mut layers = Vec::with_capacity(settings.n_layers);
        for l in 0..settings.n_layers {
            if l % 2 == 0 && settings.mixing == Mixing::Permute && dim > 2 {
                order.shuffle(&mut rng);
            }
            let parity = (l + 1) % 2;
            let (mut identity, mut transformed) = (Vec::new(), Vec::new());
            for (position, &j) in order.iter().enumerate() {
                if dim == 1 || position % 2 == parity { transformed.push(j) } else { identity.push(j) }
            }
            identity.sort_unstable();
            transformed.sort_unstable();
            layers.push(settings.layer(identity, transformed));
        }
        let spec = Self { dim, context_dim, context_network: settings.context_network.clone(), layers, base };
        spec.validate()?;
        Ok(spec)
    }

    /// Checks that the specification describes a flow.
    ///
    /// # Errors
    /// [`ModelError::Spec`] naming the first field that does not.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.dim == 0 || self.dim > MAX_DIM {
            return Err(ModelError::spec("dim", self.dim, format!("1 to {MAX_DIM}")));
        }
        if self.context_dim > MAX_DIM {
            return Err(ModelError::spec("context_dim", self.context_dim, format!("at most {MAX_DIM}")));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(ModelError::spec(
                "layers",
                self.layers.len(),
                format!("at most {MAX_LAYERS} layers"),
            ));
        }
        if let Some(network) = &self.context_network {
            network.validate(self.context_dim)?;
        }
        for (l, layer) in self.layers.iter().enumerate() {
            layer.validate(l, self.dim)?;
        }
        match &self.base {
            BaseSpec::Gaussian => Ok(()),
            BaseSpec::Mixture(mixture) => mixture.validate(),
        }
    }

    /// Number of values F that the conditioners see of the context: the network's features, or the C values themselves.
    pub fn n_features(&self) -> usize {
        self.context_network.as_ref().map_or(self.context_dim, ContextNetworkSpec::n_features)
    }

    /// The same layers and base as a flow whose context are the features: what runs behind a context network.
    #[must_use]
    pub fn of_features(&self) -> Self {
        Self { context_dim: self.n_features(), context_network: None, ..self.clone() }
    }

    /// Checks that context rows `[n, C]` hold what the context network can read.
    ///
    /// # Errors
    /// [`ModelError::Count`] naming the first set whose count is not a whole number from 0 to M.
    pub fn check_context<T: crate::Real>(&self, context: &[T]) -> Result<(), ModelError> {
        self.context_network.as_ref().map_or(Ok(()), |network| network.check(context, self.context_dim))
    }

    /// Moves the parameters back into the set that the specification allows: scales at or above the floor.
    /// `params` is the flat vector of this specification's layout.
    pub fn project<T: crate::Real>(&self, layout: &crate::ParamLayout, params: &mut [T]) {
        let BaseSpec::Mixture(mixture) = &self.base else { return };
        let floor = T::from_f64(mixture.scale_floor.ln());
        for i in layout.log_scale_indices(self.dim, mixture) {
            if let Some(p) = params.get_mut(i)
                && *p < floor
            {
                *p = floor;
            }
        }
    }
}

impl MixtureSpec {
    fn validate(&self) -> Result<(), ModelError> {
        if self.n_components == 0 || self.n_components > MAX_DIM {
            return Err(ModelError::spec("base.n_components", self.n_components, format!("1 to {MAX_DIM}")));
        }
        if !(self.weight_floor >= 0.0 && self.weight_floor * (self.n_components as f64) < 1.0) {
            return Err(ModelError::spec(
                "base.weight_floor",
                self.weight_floor,
                "at least 0 and below 1 / K",
            ));
        }
        if !(self.scale_floor > 0.0 && self.scale_floor.is_finite()) {
            return Err(ModelError::spec("base.scale_floor", self.scale_floor, "a positive number"));
        }
        Ok(())
    }

    /// Number of scale parameters of one component: D, or D (D + 1) / 2.
    pub fn n_scales(&self, dim: usize) -> usize {
        match self.covariance {
            Covariance::Diagonal => dim,
            Covariance::Full => dim * (dim + 1) / 2,
        }
    }
}
