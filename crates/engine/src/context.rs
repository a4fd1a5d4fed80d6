//! A context network in front of a flow: the network runs on the cores, and its features are the context of the flow behind it,
//! whatever runs that. Invariant: the parameters are one flat vector of the whole; where no gradient is asked for, equal rows
//! that follow each other are one observation, and the network runs on it once.

use std::sync::Arc;

use lwflow_model::{ContextNetworkSpec, FlowSpec, ParamLayout};

use crate::cpu::{Cpu, CpuNetwork};
use crate::{EngineError, Gradient, rows};

/// A context network with the specification and the layout of the whole flow.
#[derive(Debug)]
pub(crate) struct ContextNetwork {
    pub spec: FlowSpec,
    pub layout: ParamLayout,
    cores: CpuNetwork,
}

/// Rows of context without those that equal the row before.
struct Distinct {
    /// `[K, C]`
    rows: Vec<f32>,
    /// How often each stands, `[K]`.
    repeats: Vec<usize>,
}

impl Distinct {
    fn new(context: &[f32], c: usize) -> Self {
        let mut out = Self { rows: Vec::new(), repeats: Vec::new() };
        let mut last: Option<&[f32]> = None;
        for row in context.chunks_exact(c) {
            match out.repeats.last_mut() {
                Some(n) if last == Some(row) => *n += 1,
                _ => {
                    out.rows.extend_from_slice(row);
                    out.repeats.push(1);
                }
            }
            last = Some(row);
        }
        out
    }

    /// Every distinct row of `values`, `[K, width]`, as often as it stands.
    fn repeat(&self, values: &[f32], width: usize) -> Vec<f32> {
        let rows = values.chunks_exact(width).zip(&self.repeats);
        rows.flat_map(|(row, &n)| std::iter::repeat_n(row, n)).flatten().copied().collect()
    }
}

impl ContextNetwork {
    /// The network of a valid specification that has one.
    pub fn new(cpu: Arc<Cpu>, spec: &FlowSpec, network: &ContextNetworkSpec) -> Self {
        let cores = CpuNetwork::new(cpu, spec, network);
        Self { spec: spec.clone(), layout: ParamLayout::new(spec), cores }
    }

    /// Checks the parameters of the whole and gives those of the flow behind, in its own order.
    pub fn behind(&self, params: &[f32]) -> Result<Vec<f32>, EngineError> {
        rows::check("params", params, 1, self.layout.len)?;
        let network = &self.layout.network;
        Ok([&params[..network.start], &params[network.end..]].concat())
    }

    /// Sets the parameters of the whole, which were checked.
    pub fn set_params(&mut self, params: &[f32]) {
        self.cores.set_params(params);
    }

    /// Features `[n, F]` of rows `[n, C]` that were checked.
    pub fn features(&mut self, context: &[f32]) -> Vec<f32> {
        let distinct = Distinct::new(context, self.spec.context_dim);
        distinct.repeat(&self.cores.features(&distinct.rows, false), self.spec.n_features())
    }

    /// Checks theta or z `[n, D]` and context `[n, C]`; returns n.
    pub fn check(&self, what: &'static str, x: &[f32], context: &[f32]) -> Result<usize, EngineError> {
        let n = rows::count(what, x, self.spec.dim)?;
        rows::check("context", context, n, self.spec.context_dim)?;
        self.spec.check_context(context)?;
        Ok(n)
    }

    /// Most rows that [`ContextNetwork::keep`] should be given.
    pub fn kept_rows(&self) -> usize {
        self.cores.kept_rows()
    }

    /// Features `[n, F]` of rows `[n, C]` that were checked; what [`ContextNetwork::add_gradient`] needs of them is kept.
    pub fn keep(&mut self, context: &[f32]) -> Vec<f32> {
        self.cores.features(context, true)
    }

    /// From the gradient of the flow behind at the rows that were kept: adds that of the whole.
    pub fn add_gradient(&mut self, context: &[f32], behind: Gradient, out: &mut Gradient) {
        let network = &self.layout.network;
        let (layers, base) = behind.grad.split_at(network.start);
        let (to_layers, rest) = out.grad.split_at_mut(network.start);
        for (to, from) in [(to_layers, layers), (&mut rest[network.len()..], base)] {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        out.loss += behind.loss;
        out.log_prob.extend(behind.log_prob);
        out.grad_context.extend(self.cores.backward(context, behind.grad_context, &mut out.grad));
    }
}
