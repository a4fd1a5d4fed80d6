//! One affine coupling layer on a block of samples: gather the conditioner's input, run its products, move the
//! transformed coordinates; and the way back with its gradients. Invariant: what the backward pass needs is kept in the
//! layer's tape; nothing is computed twice.

use lwflow_model::{Activation, AffineCouplingSpec, LinearBlock};

use super::linear::{Backward, Hidden, Plain, Product, pack, packed_len};
use super::math::{self, Relu, Silu, Tanh};
use super::outer::{AddOuter, Outer};
use super::panel::{Extent, Panels};
use super::simd::{Job, Lanes, Level, Simd};

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
    pub spec: AffineCouplingSpec,
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
    /// u_B, exp(-s), ds / ds_raw.
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
    /// s_raw and t of a layer, or their gradients.
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
        spec: &AffineCouplingSpec,
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
        let keeps = self.spec.activation == Activation::Silu;
        let hidden = &self.spec.hidden;
        Tape {
            input: Panels::with_ones(panels, self.spec.n_in(self.context_dim)),
            hidden: hidden.iter().map(|&h| Panels::with_ones(panels, h)).collect(),
            derivative: hidden.iter().filter(|_| keeps).map(|&h| Panels::new(panels, h)).collect(),
            moved: Panels::new(panels, 3 * self.spec.transformed.len()),
        }
    }

    /// Whether the tape of `other` serves this layer as well.
    pub fn same_shape(&self, other: &Self) -> bool {
        self.spec.n_in(self.context_dim) == other.spec.n_in(self.context_dim)
            && self.spec.hidden == other.spec.hidden
            && self.spec.activation == other.spec.activation
            && self.spec.transformed.len() == other.spec.transformed.len()
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
            match self.spec.activation {
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
        level.run(Move { layer: self, direction, output, x, sample, kept, extent });
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
        level.run(MoveBackward { layer: self, kept: &tape.moved, g, sample, delta: output, extent });
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
            match self.spec.activation {
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
            for (to, &j) in input.iter_mut().zip(&self.layer.spec.identity) {
                *to = x[j];
            }
            let context = self.context.panel(p);
            input[self.layer.spec.identity.len()..][..context.len()].copy_from_slice(context);
        }
    }
}

/// Part B through the layer, with the log scale bounded.
struct Move<'a> {
    layer: &'a LayerPlan,
    direction: Direction,
    output: &'a Panels,
    x: &'a mut Panels,
    sample: &'a mut Panels,
    kept: Option<&'a mut Panels>,
    extent: Extent,
}

impl Job for Move<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let transformed = &self.layer.spec.transformed;
        let n_b = transformed.len();
        let s_max = s.splat(self.layer.spec.s_max as f32);
        let inv_s_max = s.splat((1.0 / self.layer.spec.s_max) as f32);
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        for p in 0..self.extent.panels() {
            let output = self.output.panel(p);
            let x = self.x.panel_mut(p);
            let log_det = &mut self.sample.panel_mut(p)[sample::LOG_DET];
            for v in 0..self.extent.vectors(p) {
                let mut sum = s.load(&log_det.0[v]);
                for (b, &j) in transformed.iter().enumerate() {
                    let bounded = math::tanh(s, s.mul(s.load(&output[b].0[v]), inv_s_max));
                    let scale = s.mul(s_max, bounded);
                    let shift = s.load(&output[n_b + b].0[v]);
                    let from = s.load(&x[j].0[v]);
                    sum = s.add(sum, scale);
                    let to = match self.direction {
                        Direction::Forward => s.fma(from, math::exp(s, scale), shift),
                        Direction::Inverse => {
                            let e = math::exp(s, s.sub(zero, scale));
                            let u = s.mul(s.sub(from, shift), e);
                            if let Some(kept) = &mut self.kept {
                                let kept = kept.panel_mut(p);
                                s.store(u, &mut kept[b].0[v]);
                                s.store(e, &mut kept[n_b + b].0[v]);
                                s.store(s.fnma(bounded, bounded, one), &mut kept[2 * n_b + b].0[v]);
                            }
                            u
                        }
                    };
                    s.store(to, &mut x[j].0[v]);
                }
                s.store(sum, &mut log_det.0[v]);
            }
        }
    }
}

/// From the gradient at part B to those of s_raw and t.
struct MoveBackward<'a> {
    layer: &'a LayerPlan,
    kept: &'a Panels,
    g: &'a mut Panels,
    sample: &'a Panels,
    delta: &'a mut Panels,
    extent: Extent,
}

impl Job for MoveBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let transformed = &self.layer.spec.transformed;
        let n_b = transformed.len();
        for p in 0..self.extent.panels() {
            let (g, delta) = (self.g.panel_mut(p), self.delta.panel_mut(p));
            let kept = self.kept.panel(p);
            let weight = &self.sample.panel(p)[sample::WEIGHT];
            for v in 0..self.extent.vectors(p) {
                let w = s.load(&weight.0[v]);
                for (b, &j) in transformed.iter().enumerate() {
                    let (u, e) = (s.load(&kept[b].0[v]), s.load(&kept[n_b + b].0[v]));
                    let ds = s.load(&kept[2 * n_b + b].0[v]);
                    let g_u = s.load(&g[j].0[v]);
                    let g_v = s.mul(g_u, e);
                    s.store(s.mul(s.fnma(g_u, u, w), ds), &mut delta[b].0[v]);
                    s.store(s.sub(s.splat(0.0), g_v), &mut delta[n_b + b].0[v]);
                    s.store(g_v, &mut g[j].0[v]);
                }
            }
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
        let identity = &self.layer.spec.identity;
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
