//! Where each tensor lives in the one flat parameter vector. Layers come first, from the base towards the data, then
//! the base distribution; blocks are dense, in order and without gaps.

use crate::{BaseSpec, Covariance, FlowSpec, MixtureSpec};

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
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Offsets of one linear map `y = W x + b` of a conditioner.
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
        for (l, layer) in spec.layers.iter().enumerate() {
            let mut widths = vec![layer.n_in(spec.context_dim)];
            widths.extend(layer.hidden());
            widths.push(layer.n_out());
            let linears = widths
                .windows(2)
                .enumerate()
                .map(|(k, w)| LinearBlock {
                    n_in: w[0],
                    n_out: w[1],
                    weight: push(format!("layer{l}/linear{k}/weight"), vec![w[1], w[0]]),
                    bias: push(format!("layer{l}/linear{k}/bias"), vec![w[1]]),
                })
                .collect();
            layers.push(linears);
        }
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
        Self { blocks, layers, base: base.unwrap_or(len), len }
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
