//! One coupling layer on a block of samples: gather the conditioner's input, run its products, move the transformed
//! coordinates by the layer's map; and the way back with its gradients. Invariant: what the backward pass needs is kept
//! in the layer's tape; nothing is computed twice.

use lwflow_model::{LayerSpec, LinearBlock};

use super::affine::{AffineBackward, AffineMove};
use super::mlp::{MlpPlan, MlpScratch, MlpTape};
use super::panel::{Extent, Panels};
use super::simd::{Job, Lanes, Level, Simd};
use super::spline::{SplineBackward, SplineMove, SplinePlan};

/// A layer with the places of its arrays.
#[derive(Debug)]
pub(super) struct LayerPlan {
    pub spec: LayerSpec,
    pub conditioner: MlpPlan,
}

/// What one layer keeps of a block of samples.
#[derive(Debug)]
pub(super) struct Tape {
    /// Of u_A and the context.
    conditioner: MlpTape,
    /// What the map's backward pass needs.
    moved: Panels,
}

impl Tape {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.conditioner.bytes() + self.moved.bytes()
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
    pub scratch: MlpScratch,
}

impl Shared {
    pub fn new(panels: usize, dim: usize, context_dim: usize, layers: &[LayerPlan]) -> Self {
        let n_out = layers.iter().map(|l| l.spec.n_out()).max().unwrap_or(0);
        Self {
            x: Panels::new(panels, dim),
            g: Panels::new(panels, dim),
            context: Panels::new(panels, context_dim),
            g_context: Panels::new(panels, context_dim),
            sample: Panels::new(panels, sample::ROWS),
            output: Panels::new(panels, n_out.next_multiple_of(4)),
            scratch: MlpScratch::new(panels, layers.iter().map(|l| &l.conditioner)),
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
        linears: &[LinearBlock],
        rows: usize,
        packed: &mut usize,
        sums: &mut usize,
    ) -> Self {
        let conditioner = MlpPlan::new(spec.activation(), linears, rows, packed, sums);
        Self { spec: spec.clone(), conditioner }
    }

    /// A tape for blocks of that many panels.
    pub fn tape(&self, panels: usize) -> Tape {
        Tape { conditioner: self.conditioner.tape(panels), moved: Panels::new(panels, self.kept_rows()) }
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
        self.conditioner.same_shape(&other.conditioner) && self.kept_rows() == other.kept_rows()
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
            input: &mut tape.conditioner.input,
            extent,
        });
        self.conditioner.run(level, packed, &mut tape.conditioner, &mut shared.output, extent);
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
        let Shared { g, g_context, sample, output, scratch, .. } = shared;
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
        let tape = &mut tape.conditioner;
        let below =
            self.conditioner.backward(level, packed, tape, output, scratch, extent, sums, (set, wanted));
        if let Some(below) = below {
            level.run(Scatter { layer: self, below, g, g_context, extent });
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
