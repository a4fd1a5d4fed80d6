//! Where each tensor lives in the one flat parameter vector. Layers come first, from the base towards the data, then the
//! context network, then the base distribution; blocks are dense, in order and without gaps.

use crate::{BaseSpec, Covariance, FlowSpec, MixtureSpec};
use std::ops::Range;

/// One tensor of the parameter vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamBlock {
    /// Name, for example `layer3/linear1/weight`.
    pub name: String,
    /// Shape, row-major; a weight is `(n_out, n_in)`.
    pub shape: Vec<usize>,
    /// First index in the flat vector.
    pub offset: usize,
}

impl ParamBlock {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no values (a weight without inputs).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index range in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Offsets of one linear map `y = W x + b` of a conditioner or a context network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearBlock {
    /// Number of inputs.
    pub n_in: usize,
    /// Number of outputs.
    pub n_out: usize,
    /// First index of W, `(n_out, n_in)` row-major.
    pub weight: usize,
    /// First index of b, `(n_out)`.
    pub bias: usize,
}

/// Named layout of the flat parameter vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamLayout {
    /// All tensors in order.
    pub blocks: Vec<ParamBlock>,
    /// Linear maps of each layer's conditioner, input side first.
    pub layers: Vec<Vec<LinearBlock>>,
    /// Linear maps of phi, the part of a context network that sees one element; empty without one, and of an MLP.
    pub phi: Vec<LinearBlock>,
    /// Linear maps of rho, which gives the features; empty without a context network.
    pub rho: Vec<LinearBlock>,
    /// The context network's parameters in the flat vector; empty without one.
    pub network: Range<usize>,
    /// First index of the base distribution's parameters (equals `len` for a Gaussian base).
    pub base: usize,
    /// Length of the vector.
    pub len: usize,
}

impl ParamLayout {
    /// Layout of a (valid) specification.
    pub fn new(spec: &FlowSpec) -> Self {
        let mut blocks = Vec::new();
        let mut len = 0;
        let mut push = |name: String, shape: Vec<usize>| {
            let block = ParamBlock { name, shape, offset: len };
            len += block.len();
            let offset = block.offset;
            blocks.push(block);
            offset
        };
        let mut layers = Vec::with_capacity(spec.layers.len());
        let mut mlp = |name: &str, widths: &[usize]| -> Vec<LinearBlock> {
            let linear = |(k, w): (usize, &[usize])| LinearBlock {
                n_in: w[0],
                n_out: w[1],
                weight: push(format!("{name}/linear{k}/weight"), vec![w[1], w[0]]),
                bias: push(format!("{name}/linear{k}/bias"), vec![w[1]]),
            };
            widths.windows(2).enumerate().map(linear).collect()
        };
        for (l, layer) in spec.layers.iter().enumerate() {
            let mut widths = vec![layer.n_in(spec.n_features())];
            widths.extend(layer.hidden());
            widths.push(layer.n_out());
            layers.push(mlp(&format!("layer{l}"), &widths));
        }
        let (phi, rho) = match &spec.context_network {
            None => (Vec::new(), Vec::new()),
            Some(network) => (
                mlp("context/phi", &network.phi_widths()),
                mlp("context/rho", &network.rho_widths(spec.context_dim)),
            ),
        };
        let ends = |linears: &[LinearBlock]| linears.last().map(|linear| linear.bias + linear.n_out);
        let after_layers = layers.last().and_then(|linears| ends(linears)).unwrap_or(0);
        let network = after_layers..ends(&rho).unwrap_or(after_layers);
        let mut base = None;
        if let BaseSpec::Mixture(m) = &spec.base {
            let (k, d) = (m.n_components, spec.dim);
            base = Some(push("base/logits".into(), vec![k]));
            push("base/means".into(), vec![k, d]);
            match m.covariance {
                Covariance::Diagonal => push("base/log_scales".into(), vec![k, d]),
                Covariance::Full => push("base/cholesky".into(), vec![k, d * (d + 1) / 2]),
            };
        }
        Self { blocks, layers, phi, rho, network, base: base.unwrap_or(len), len }
    }

    /// The tensor of that name.
    pub fn block(&self, name: &str) -> Option<&ParamBlock> {
        self.blocks.iter().find(|b| b.name == name)
    }

    /// Flat indices of all log scales of a mixture base (the log diagonal of each Cholesky factor if full).
    pub(crate) fn log_scale_indices(&self, dim: usize, mixture: &MixtureSpec) -> Vec<usize> {
        let n_scales = mixture.n_scales(dim);
        let first = self.base + mixture.n_components * (1 + dim);
        (0..mixture.n_components)
            .flat_map(|k| {
                (0..dim).map(move |j| {
                    first
                        + k * n_scales
                        + match mixture.covariance {
                            Covariance::Diagonal => j,
                            Covariance::Full => j * (j + 3) / 2,
                        }
                })
            })
            .collect()
    }
}
