//! One coupling layer on a block of samples: gather the conditioner's input, run its products, move the transformed
//! coordinates by the layer's map; and the way back with its gradients. Invariant: what the backward pass needs is kept
//! in the layer's tape; nothing is computed twice.

use lwflow_model::{Activation, LayerSpec, LinearBlock};

use super::affine::{AffineBackward, AffineMove};
use super::linear::{Backward, Hidden, Plain, Product, pack, packed_len};
use super::math::{Relu, Silu, Tanh};
use super::outer::{AddOuter, Outer};
use super::panel::{Extent, Panels};
use super::simd::{Job, Lanes, Level, Simd};
use super::spline::{SplineBackward, SplineMove, SplinePlan};

/// One linear map of a conditioner: where its packed weights and its gradient sums lie.
#[derive(Debug)]
pub(super) struct LinearPlan {
    pub block: LinearBlock,
    /// W with bias, and W transposed, in the packed parameters.
    forward: std::ops::Range<usize>,
    backward: std::ops::Range<usize>,
    pub outer: Outer,
    /// Its sums in a chunk's partial sums.
    pub sums: std::ops::Range<usize>,
}

/// A layer with the places of its arrays.
#[derive(Debug)]
pub(super) struct LayerPlan {
    pub spec: LayerSpec,
    context_dim: usize,
    pub linears: Vec<LinearPlan>,
}

/// What one layer keeps of a block of samples.
#[derive(Debug)]
pub(super) struct Tape {
    /// u_A, context and a row of ones.
    input: Panels,
    /// Hidden activations, each with a row of ones.
    hidden: Vec<Panels>,
    /// Derivatives of the activations, where they do not follow from the values.
    derivative: Vec<Panels>,
    /// What the map's backward pass needs.
    moved: Panels,
}

impl Tape {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let arrays = [&self.input, &self.moved].into_iter().chain(&self.hidden).chain(&self.derivative);
        arrays.map(Panels::bytes).sum()
    }
}

/// Rows of the per-sample array.
pub(super) mod sample {
    /// log_det of the forward map.
    pub const LOG_DET: usize = 0;
    /// Weight, then effective weight.
    pub const WEIGHT: usize = 1;
    /// log 1 / (N r).
    pub const LOG_INV_PROPOSAL: usize = 2;
    /// log q.
    pub const LOG_PROB: usize = 3;
    /// Number of rows.
    pub const ROWS: usize = 4;
}

/// Arrays of a block that all layers share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Coordinates, on their way between data and base.
    pub x: Panels,
    /// Gradient of the loss with respect to them.
    pub g: Panels,
    pub context: Panels,
    pub g_context: Panels,
    /// Rows of [`sample`].
    pub sample: Panels,
    /// What a layer's conditioner says of its map, or the gradients of that.
    output: Panels,
    /// Gradients of hidden values, taking turns.
    delta: [Panels; 2],
    /// For the transposed side of outer products.
    pub strips: Vec<Lanes>,
}

impl Shared {
    pub fn new(panels: usize, dim: usize, context_dim: usize, layers: &[LayerPlan]) -> Self {
        let largest = |f: &dyn Fn(&LayerPlan) -> usize| layers.iter().map(f).max().unwrap_or(0);
        let n_out = largest(&|l| l.spec.n_out());
        let width = largest(&|l| l.linears.iter().map(|k| k.block.n_in).max().unwrap_or(0));
        let strips = largest(&|l| l.linears.iter().map(|k| k.outer.scratch(panels)).max().unwrap_or(0));
        let padded = |rows: usize| Panels::new(panels, rows.next_multiple_of(4));
        Self {
            x: Panels::new(panels, dim),
            g: Panels::new(panels, dim),
            context: Panels::new(panels, context_dim),
            g_context: Panels::new(panels, context_dim),
            sample: Panels::new(panels, sample::ROWS),
            output: padded(n_out),
            delta: [padded(width), padded(width)],
            strips: vec![Lanes::ZERO; strips],
        }
    }
}

/// Which way a layer is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Base to data.
    Forward,
    /// Data to base.
    Inverse,
}

impl LayerPlan {
    /// A layer whose packed parameters begin at `packed` and whose sums begin at `sums`; both are moved behind it.
    pub fn new(
        spec: &LayerSpec,
        context_dim: usize,
        linears: &[LinearBlock],
        rows: usize,
        packed: &mut usize,
        sums: &mut usize,
    ) -> Self {
        let take = |from: &mut usize, n: usize| {
            *from += n;
            *from - n..*from
        };
        let linears = linears
            .iter()
            .map(|&block| {
                let outer = Outer { n_left: block.n_out, n_right: block.n_in };
                LinearPlan {
                    block,
                    forward: take(packed, packed_len(block.n_out, block.n_in, rows)),
                    backward: take(packed, packed_len(block.n_in, block.n_out, rows)),
                    outer,
                    sums: take(sums, outer.len()),
                }
            })
            .collect();
        Self { spec: spec.clone(), context_dim, linears }
    }

    /// Packs the layer's share of the flat parameters; `packed` begins at `from`.
    pub fn pack(&self, rows: usize, params: &[f32], packed: &mut [f32], from: usize) {
        for LinearPlan { block, forward, backward, .. } in &self.linears {
            let LinearBlock { n_in, n_out, weight, bias } = *block;
            let weights = &params[weight..][..n_in * n_out];
            let bias = &params[bias..][..n_out];
            let range = |r: &std::ops::Range<usize>| r.start - from..r.end - from;
            pack(&mut packed[range(forward)], rows, (n_out, n_in), (n_in, 1), weights, Some(bias));
            pack(&mut packed[range(backward)], rows, (n_in, n_out), (1, n_in), weights, None);
        }
    }

    /// The packed parameters of the layer.
    pub fn packed_range(&self) -> std::ops::Range<usize> {
        match (self.linears.first(), self.linears.last()) {
            (Some(first), Some(last)) => first.forward.start..last.backward.end,
            _ => 0..0,
        }
    }

    /// A tape for blocks of that many panels.
    pub fn tape(&self, panels: usize) -> Tape {
        let keeps = self.spec.activation() == Activation::Silu;
        let hidden = self.spec.hidden();
        Tape {
            input: Panels::with_ones(panels, self.spec.n_in(self.context_dim)),
            hidden: hidden.iter().map(|&h| Panels::with_ones(panels, h)).collect(),
            derivative: hidden.iter().filter(|_| keeps).map(|&h| Panels::new(panels, h)).collect(),
            moved: Panels::new(panels, self.kept_rows()),
        }
    }

    /// Rows that the map keeps for its backward pass.
    fn kept_rows(&self) -> usize {
        match &self.spec {
            LayerSpec::AffineCoupling(c) => 3 * c.transformed.len(),
            LayerSpec::SplineCoupling(c) => SplinePlan::new(c).kept_rows(),
        }
    }

    /// Whether the tape of `other` serves this layer as well.
    pub fn same_shape(&self, other: &Self) -> bool {
        self.spec.n_in(self.context_dim) == other.spec.n_in(self.context_dim)
            && self.spec.hidden() == other.spec.hidden()
            && self.spec.activation() == other.spec.activation()
            && self.kept_rows() == other.kept_rows()
    }

    fn conditioner(
        &self,
        level: Level,
        packed: &[f32],
        tape: &mut Tape,
        output: &mut Panels,
        extent: Extent,
    ) {
        let Tape { input, hidden, derivative, .. } = tape;
        for (k, linear) in self.linears.iter().enumerate() {
            let packed = &packed[linear.forward.clone()];
            let (n_out, n_in) = (linear.block.n_out, linear.block.n_in);
            let (before, after) = hidden.split_at_mut(k);
            let input = before.last().unwrap_or(input);
            let Some(next) = after.first_mut() else {
                let (beside, epilogue) = (None, Plain);
                level.run(Product { packed, n_out, n_in, input, output, extent, beside, epilogue });
                return;
            };
            macro_rules! product {
                ($activation:expr) => {{
                    let (output, beside, epilogue) = (next, derivative.get_mut(k), Hidden($activation));
                    level.run(Product { packed, n_out, n_in, input, output, extent, beside, epilogue });
                }};
            }
            match self.spec.activation() {
                Activation::Relu => product!(Relu),
                Activation::Silu => product!(Silu),
                Activation::Tanh => product!(Tanh),
            }
        }
    }

    /// Moves `shared.x` through the layer and adds to log_det; `keep` what a backward pass needs.
    pub fn pass(
        &self,
        level: Level,
        direction: Direction,
        packed: &[f32],
        shared: &mut Shared,
        tape: &mut Tape,
        extent: Extent,
        keep: bool,
    ) {
        level.run(Gather {
            layer: self,
            x: &shared.x,
            context: &shared.context,
            input: &mut tape.input,
            extent,
        });
        self.conditioner(level, packed, tape, &mut shared.output, extent);
        let kept = keep.then_some(&mut tape.moved);
        let Shared { x, output, sample, .. } = shared;
        match &self.spec {
            LayerSpec::AffineCoupling(spec) => {
                level.run(AffineMove { spec, direction, output, x, sample, kept, extent });
            }
            LayerSpec::SplineCoupling(spec) => {
                let plan = SplinePlan::new(spec);
                level.run(SplineMove { plan, direction, output, x, sample, kept, extent });
            }
        }
    }

    /// Gradients through the inverse pass that filled `tape`: adds to the chunk's `sums`, turns `shared.g` from the
    /// base side to the data side, where `wanted`, and adds to the gradient of the context.
    pub fn backward(
        &self,
        level: Level,
        packed: &[f32],
        shared: &mut Shared,
        tape: &mut Tape,
        extent: Extent,
        sums: &mut [Lanes],
        (set, wanted): (bool, bool),
    ) {
        let Shared { g, g_context, sample, output, delta, strips, .. } = shared;
        let kept = &tape.moved;
        match &self.spec {
            LayerSpec::AffineCoupling(spec) => {
                level.run(AffineBackward { spec, kept, g, sample, delta: output, extent });
            }
            LayerSpec::SplineCoupling(spec) => {
                let plan = SplinePlan::new(spec);
                level.run(SplineBackward { plan, kept, g, sample, delta: output, extent });
            }
        }
        let [mut next, mut current] = delta.each_mut();
        for (k, linear) in self.linears.iter().enumerate().rev() {
            let left: &Panels = if k + 1 == self.linears.len() { output } else { current };
            let right = if k == 0 { &tape.input } else { &tape.hidden[k - 1] };
            let sums = &mut sums[linear.sums.clone()];
            level.run(AddOuter { shape: linear.outer, left, right, extent, sums, set, scratch: strips });
            let packed = &packed[linear.backward.clone()];
            let (n_out, n_in, input) = (linear.block.n_in, linear.block.n_out, left);
            if k == 0 {
                if wanted && n_out > 0 {
                    let (output, beside, epilogue) = (&mut *next, None, Plain);
                    level.run(Product { packed, n_out, n_in, input, output, extent, beside, epilogue });
                    level.run(Scatter { layer: self, below: next, g, g_context, extent });
                }
                return;
            }
            let beside = tape.derivative.get_mut(k - 1).or(tape.hidden.get_mut(k - 1));
            macro_rules! product {
                ($activation:expr) => {{
                    let (output, epilogue) = (&mut *next, Backward($activation));
                    level.run(Product { packed, n_out, n_in, input, output, extent, beside, epilogue });
                }};
            }
            match self.spec.activation() {
                Activation::Relu => product!(Relu),
                Activation::Silu => product!(Silu),
                Activation::Tanh => product!(Tanh),
            }
            std::mem::swap(&mut next, &mut current);
        }
    }
}

/// Input of the conditioner: part A, then the context.
struct Gather<'a> {
    layer: &'a LayerPlan,
    x: &'a Panels,
    context: &'a Panels,
    input: &'a mut Panels,
    extent: Extent,
}

impl Job for Gather<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for p in 0..self.extent.panels() {
            let (x, input) = (self.x.panel(p), self.input.panel_mut(p));
            for (to, &j) in input.iter_mut().zip(self.layer.spec.identity()) {
                *to = x[j];
            }
            let context = self.context.panel(p);
            input[self.layer.spec.identity().len()..][..context.len()].copy_from_slice(context);
        }
    }
}

/// Adds the gradient of the conditioner's input to part A and the context.
struct Scatter<'a> {
    layer: &'a LayerPlan,
    below: &'a Panels,
    g: &'a mut Panels,
    g_context: &'a mut Panels,
    extent: Extent,
}

impl Job for Scatter<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let identity = self.layer.spec.identity();
        for p in 0..self.extent.panels() {
            let below = self.below.panel(p);
            let (g, g_context) = (self.g.panel_mut(p), self.g_context.panel_mut(p));
            for v in 0..self.extent.vectors(p) {
                for (row, &j) in below.iter().zip(identity) {
                    let to = &mut g[j].0[v];
                    s.store(s.add(s.load(to), s.load(&row.0[v])), to);
                }
                for (row, to) in below[identity.len()..].iter().zip(g_context.iter_mut()) {
                    let to = &mut to.0[v];
                    s.store(s.add(s.load(to), s.load(&row.0[v])), to);
                }
            }
        }
    }
}
