//! An MLP on a block of samples: its products and their gradients. Conditioners are one each, a context network one or two.
//! Invariant: what the backward pass needs is kept in the tape; nothing is computed twice.

use std::ops::Range;

use lwflow_model::{Activation, LinearBlock};

use super::linear::{Backward, Hidden, Plain, Product, pack, packed_len};
use super::math::{Relu, Silu, Tanh};
use super::outer::{AddOuter, Outer};
use super::panel::{Extent, Panels};
use super::simd::{Lanes, Level};

/// One linear map of an MLP: where its packed weights and its gradient sums lie.
#[derive(Debug)]
pub(super) struct LinearPlan {
    pub block: LinearBlock,
    /// W with bias, and W transposed, in the packed parameters.
    forward: Range<usize>,
    backward: Range<usize>,
    pub outer: Outer,
    /// Its sums in a chunk's partial sums.
    pub sums: Range<usize>,
}

/// An MLP with the places of its arrays: the activation stands between linear maps, not after the last.
#[derive(Debug)]
pub(super) struct MlpPlan {
    activation: Activation,
    pub linears: Vec<LinearPlan>,
}

/// What an MLP keeps of a block of samples.
#[derive(Debug)]
pub(super) struct MlpTape {
    /// The input and a row of ones.
    pub input: Panels,
    /// Hidden activations, each with a row of ones.
    hidden: Vec<Panels>,
    /// Derivatives of the activations, where they do not follow from the values.
    derivative: Vec<Panels>,
}

impl MlpTape {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        [&self.input].into_iter().chain(&self.hidden).chain(&self.derivative).map(Panels::bytes).sum()
    }
}

/// Arrays that a backward pass works in.
#[derive(Debug)]
pub(super) struct MlpScratch {
    /// Gradients of hidden values, taking turns.
    delta: [Panels; 2],
    /// For the transposed side of outer products.
    pub strips: Vec<Lanes>,
}

impl MlpScratch {
    /// Enough for blocks of that many panels of each of the MLPs.
    pub fn new<'a>(panels: usize, plans: impl Iterator<Item = &'a MlpPlan>) -> Self {
        let (mut width, mut strips) = (0, 0);
        for linear in plans.flat_map(|plan| &plan.linears) {
            width = width.max(linear.block.n_in);
            strips = strips.max(linear.outer.scratch(panels));
        }
        let delta = || Panels::new(panels, width.next_multiple_of(4));
        Self { delta: [delta(), delta()], strips: vec![Lanes::ZERO; strips] }
    }
}

impl MlpPlan {
    /// An MLP whose packed parameters begin at `packed` and whose sums begin at `sums`; both are moved behind it.
    pub fn new(
        activation: Activation,
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
        Self { activation, linears }
    }

    /// Packs the MLP's share of the flat parameters; `packed` begins at `from`.
    pub fn pack(&self, rows: usize, params: &[f32], packed: &mut [f32], from: usize) {
        for LinearPlan { block, forward, backward, .. } in &self.linears {
            let LinearBlock { n_in, n_out, weight, bias } = *block;
            let weights = &params[weight..][..n_in * n_out];
            let bias = &params[bias..][..n_out];
            let range = |r: &Range<usize>| r.start - from..r.end - from;
            pack(&mut packed[range(forward)], rows, (n_out, n_in), (n_in, 1), weights, Some(bias));
            pack(&mut packed[range(backward)], rows, (n_in, n_out), (1, n_in), weights, None);
        }
    }

    /// The packed parameters of the MLP.
    pub fn packed_range(&self) -> Range<usize> {
        match (self.linears.first(), self.linears.last()) {
            (Some(first), Some(last)) => first.forward.start..last.backward.end,
            _ => 0..0,
        }
    }

    /// Width of the input.
    pub fn n_in(&self) -> usize {
        self.linears.first().map_or(0, |linear| linear.block.n_in)
    }

    fn hidden(&self) -> impl Iterator<Item = usize> {
        self.linears.iter().skip(1).map(|linear| linear.block.n_in)
    }

    /// A tape for blocks of that many panels.
    pub fn tape(&self, panels: usize) -> MlpTape {
        let keeps = self.activation == Activation::Silu;
        MlpTape {
            input: Panels::with_ones(panels, self.n_in()),
            hidden: self.hidden().map(|h| Panels::with_ones(panels, h)).collect(),
            derivative: self.hidden().filter(|_| keeps).map(|h| Panels::new(panels, h)).collect(),
        }
    }

    /// Whether the tape of `other` serves this MLP as well.
    pub fn same_shape(&self, other: &Self) -> bool {
        self.activation == other.activation && self.n_in() == other.n_in() && self.hidden().eq(other.hidden())
    }

    /// From the input on the tape to `output`.
    pub fn run(&self, level: Level, packed: &[f32], tape: &mut MlpTape, output: &mut Panels, extent: Extent) {
        let MlpTape { input, hidden, derivative } = tape;
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
            match self.activation {
                Activation::Relu => product!(Relu),
                Activation::Silu => product!(Silu),
                Activation::Tanh => product!(Tanh),
            }
        }
    }

    /// From the gradient of the output, whose lanes without a sample are zero: adds to the chunk's `sums`, or sets them, and
    /// gives the gradient of the input where it is `wanted` and there is one.
    pub fn backward<'a>(
        &self,
        level: Level,
        packed: &[f32],
        tape: &mut MlpTape,
        output: &Panels,
        scratch: &'a mut MlpScratch,
        extent: Extent,
        sums: &mut [Lanes],
        (set, wanted): (bool, bool),
    ) -> Option<&'a Panels> {
        let MlpScratch { delta, strips } = scratch;
        let [mut next, mut current] = delta.each_mut();
        for (k, linear) in self.linears.iter().enumerate().rev() {
            let left: &Panels = if k + 1 == self.linears.len() { output } else { current };
            let right = if k == 0 { &tape.input } else { &tape.hidden[k - 1] };
            let sums = &mut sums[linear.sums.clone()];
            level.run(AddOuter { shape: linear.outer, left, right, extent, sums, set, scratch: strips });
            let packed = &packed[linear.backward.clone()];
            let (n_out, n_in, input) = (linear.block.n_in, linear.block.n_out, left);
            if k == 0 {
                if !wanted || n_out == 0 {
                    return None;
                }
                let (output, beside, epilogue) = (&mut *next, None, Plain);
                level.run(Product { packed, n_out, n_in, input, output, extent, beside, epilogue });
                return Some(next);
            }
            let beside = tape.derivative.get_mut(k - 1).or(tape.hidden.get_mut(k - 1));
            macro_rules! product {
                ($activation:expr) => {{
                    let (output, epilogue) = (&mut *next, Backward($activation));
                    level.run(Product { packed, n_out, n_in, input, output, extent, beside, epilogue });
                }};
            }
            match self.activation {
                Activation::Relu => product!(Relu),
                Activation::Silu => product!(Silu),
                Activation::Tanh => product!(Tanh),
            }
            std::mem::swap(&mut next, &mut current);
        }
        None
    }
}
