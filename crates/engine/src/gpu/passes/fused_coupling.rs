//! The fused path of an affine coupling layer, for software adapters: one dispatch per layer and phase, the lanes of a
//! subgroup carrying samples through a conditioner of two hidden layers without storing an activation.
//! Invariant: hidden widths are padded with units of weight zero, which stay zero through every activation.

use lwflow_model::{AffineCouplingSpec, LinearBlock};
use lwflow_shaders::Constants;

use super::Place;
use super::conditioner::{activation_name, reduce};
use super::tiled_coupling::index_buffer;
use crate::gpu::pipeline::Bound;
use crate::gpu::recording::{BatchDims, Grid, Recorder, Step, StepBuilder, record_all};
use crate::gpu::{Gpu, Need, round_up};
use crate::{EngineError, KernelChoice, KernelPath};

/// Lanes of the subgroups that the kernels are made for: vectors of 256 and of 512 bits.
const LANES: [u32; 2] = [8, 16];
/// Storage buffers of the largest kernel, backward_data with context.
const STORAGE_BUFFERS: u32 = 10;
/// Rows of W2 that the inverse, forward and backward_data kernels take at a time.
const ROWS: usize = 4;
/// Widest first hidden layer: it lives in registers, and the driver's compile time grows with it.
const MAX_HIDDEN_1: usize = 64;
/// Widest second hidden layer; it is a loop, so only memory limits it.
const MAX_HIDDEN_2: usize = 1024;
/// Most values of (W1, b1) and of the output whose sums a lane keeps.
const MAX_FIRST: usize = 640;
const MAX_OUT: usize = 32;

/// Sizes of one layer on the fused path.
#[derive(Debug)]
pub(crate) struct FusedCouplingPlan {
    layer: usize,
    index: Vec<u32>,
    n_a: usize,
    n_b: usize,
    n_c: usize,
    s_max: f32,
    activation: &'static str,
    linears: [LinearBlock; 3],
    h1: usize,
    h2: usize,
    /// Lanes of a subgroup.
    lanes: u32,
    /// vec4s of samples per lane in the inverse and forward kernels.
    vectors: u32,
    groups: usize,
}

impl FusedCouplingPlan {
    /// The plan of layer `l`, or `None` where the layer or the device is not one the kernels are written for.
    pub fn new(
        context_dim: usize,
        l: usize,
        spec: &AffineCouplingSpec,
        linears: &[LinearBlock],
        gpu: &Gpu,
        choice: &KernelChoice,
    ) -> Option<Self> {
        let fits_device = choice.path == KernelPath::Fused
            && gpu.limits.max_storage_buffers_per_shader_stage >= STORAGE_BUFFERS;
        let sizes = gpu.info.subgroup?;
        let lanes = LANES.into_iter().find(|&lanes| sizes.min == lanes && sizes.max == lanes)?;
        let &[first, second, third] = linears else { return None };
        let h1 = round_up(first.n_out, 8);
        // A lane is a row of W2 in the weight gradient.
        let h2 = round_up(second.n_out, lanes as usize);
        let fits_layer = h1 <= MAX_HIDDEN_1
            && h2 <= MAX_HIDDEN_2
            && h1 * (first.n_in + 1) <= MAX_FIRST
            && third.n_out <= MAX_OUT;
        (fits_device && fits_layer).then(|| Self {
            layer: l,
            index: spec.identity.iter().chain(&spec.transformed).map(|&j| j as u32).collect(),
            n_a: spec.identity.len(),
            n_b: spec.transformed.len(),
            n_c: context_dim,
            s_max: spec.s_max as f32,
            activation: activation_name(spec.activation),
            linears: [first, second, third],
            h1,
            h2,
            lanes,
            // As many samples at a time whatever the lanes: batches are padded to so many.
            vectors: (choice.fused_vectors * LANES[0] / lanes).max(1),
            groups: if h2.is_multiple_of(2 * lanes as usize) { 2 } else { 1 },
        })
    }

    fn n_in(&self) -> usize {
        self.n_a + self.n_c
    }

    fn n_out(&self) -> usize {
        2 * self.n_b
    }

    /// Floats that the parts of the stream are padded to: one vec4 per lane.
    fn part(&self) -> usize {
        4 * self.lanes as usize
    }

    fn block(&self) -> usize {
        round_up(ROWS * (self.h1 + 1 + self.n_out()), self.part())
    }

    /// Floats of the parameter region.
    pub fn n_params(&self) -> usize {
        let first = round_up(self.h1 * (self.n_in() + 1), self.part());
        first + self.h2 / ROWS * self.block() + round_up(self.n_out(), self.part())
    }

    /// Floats of the gradient region: dW1, db1, dW2, db2, dW3, db3, rounded up.
    pub fn n_grads(&self) -> usize {
        round_up(self.n_sums(), 4)
    }

    fn n_sums(&self) -> usize {
        self.h1 * (self.n_in() + 1) + self.h2 * (self.h1 + 1) + self.n_out() * (self.h2 + 1)
    }

    /// Scratch: s and t of the inverse pass, kept per layer, and the output's gradient.
    pub fn need(&self) -> Need {
        let mut need = Need::default();
        need.rows(self.saved(), self.n_out());
        need.rows("fused/delta", self.n_out());
        need.partial(self.n_grads());
        need
    }

    fn saved(&self) -> String {
        format!("fused/saved{}", self.layer)
    }

    /// Packs the layer's parameters in the order in which the kernels use them.
    pub fn pack<T: Copy + Default>(&self, params: &[T], region: &mut [T]) {
        let [first, second, third] = self.linears;
        let (n_in, n_out) = (self.n_in(), self.n_out());
        region.fill(T::default());
        for j in 0..first.n_out {
            let to = &mut region[j * (n_in + 1)..][..n_in + 1];
            to[..n_in].copy_from_slice(&params[first.weight + j * n_in..][..n_in]);
            to[n_in] = params[first.bias + j];
        }
        let mut at = round_up(self.h1 * (n_in + 1), self.part());
        for block in 0..self.h2 / ROWS {
            let to = &mut region[at..][..self.block()];
            for r in 0..ROWS {
                let o = block * ROWS + r;
                if o < second.n_out {
                    let row = &params[second.weight + o * second.n_in..][..second.n_in];
                    to[r * self.h1..][..second.n_in].copy_from_slice(row);
                    to[ROWS * self.h1 + r] = params[second.bias + o];
                    for k in 0..n_out {
                        to[ROWS * (self.h1 + 1) + r * n_out + k] = params[third.weight + k * third.n_in + o];
                    }
                }
            }
            at += self.block();
        }
        region[at..][..n_out].copy_from_slice(&params[third.bias..][..n_out]);
    }

    /// Unpacks the layer's gradient.
    pub fn unpack_grad<T: Copy>(&self, region: &[T], grad: &mut [T]) {
        let padded = [(self.h1, self.n_in()), (self.h2, self.h1), (self.n_out(), self.h2)];
        let mut at = 0;
        for (linear, (rows, columns)) in self.linears.iter().zip(padded) {
            for o in 0..linear.n_out {
                let row = &region[at + o * columns..][..linear.n_in];
                grad[linear.weight + o * linear.n_in..][..linear.n_in].copy_from_slice(row);
            }
            at += rows * columns;
            grad[linear.bias..][..linear.n_out].copy_from_slice(&region[at..][..linear.n_out]);
            at += rows;
        }
    }

    fn constants(&self, vectors: u32, slope: bool) -> Constants {
        Constants::new()
            .with("n_a", self.n_a as u32)
            .with("n_b", self.n_b as u32)
            .with("n_c", self.n_c as u32)
            .with("h1", self.h1 as u32)
            .with("h2", self.h2 as u32)
            .with("lanes", self.lanes)
            .with("rows", ROWS as u32)
            .with("groups", self.groups as u32)
            .with("vectors", vectors)
            .with("slope", slope)
            .with("activation", self.activation)
    }

    /// Makes all steps.
    pub fn bind(
        &self,
        builder: &mut StepBuilder<'_>,
        place: Place<'_>,
    ) -> Result<FusedCoupling, EngineError> {
        let batch = builder.batch;
        let index = index_buffer(builder.gpu, self.layer, &self.index)?;
        let params = place.params;
        let (offset, size) = params.bytes();
        let shape = [
            ("s_max", self.s_max.into()),
            ("inv_s_max", (1.0 / self.s_max).into()),
            ("stride", (self.n_grads() as u32).into()),
            params.flow4(),
        ];
        let chunk = Grid::Chunks { groups: 1 };
        let index = ("index", Bound::Read(&index));
        let stream = ("stream", Bound::ReadRange(params.buffer, offset, size));
        let (x, log_det) = (("x", Bound::Write(&batch.x)), ("log_det", Bound::Write(&batch.log_det)));
        let saved = batch.scratch(&self.saved())?;
        let delta = batch.scratch("fused/delta")?;
        let context = (self.n_c > 0).then_some(("context", Bound::Read(&batch.context)));

        let constants = self.constants(self.vectors, false);
        let mut buffers = vec![index, stream, x, log_det];
        buffers.extend(context);
        let forward = builder.step("fused_forward", &constants, chunk, &shape, &buffers)?;
        buffers.push(("saved", Bound::Write(saved)));
        let inverse = builder.step("fused_inverse", &constants, chunk, &shape, &buffers)?;

        let mut buffers = vec![
            index,
            stream,
            x,
            ("g", Bound::Write(&batch.g)),
            ("saved", Bound::Read(saved)),
            ("w_eff", Bound::Read(&batch.w_eff)),
            ("delta", Bound::Write(delta)),
            ("partial", Bound::Write(&batch.partial)),
        ];
        if let Some(context) = context {
            buffers.extend([context, ("g_context", Bound::Write(&batch.g_context))]);
        }
        let constants = self.constants(1, true);
        let data = builder.step("fused_backward_data", &constants, chunk, &shape, &buffers)?;

        let mut buffers = vec![
            stream,
            ("rows_of_stream", Bound::ReadRange(params.buffer, offset, size)),
            ("delta", Bound::Read(delta)),
            ("partial", Bound::Write(&batch.partial)),
        ];
        if self.n_a > 0 {
            buffers.extend([index, ("x", Bound::Read(&batch.x))]);
        }
        buffers.extend(context);
        let grid = Grid::Chunks { groups: (self.h2 / (self.lanes as usize * self.groups)) as u32 };
        let constants = self.constants(1, false);
        let weight = builder.step("fused_weight_grad", &constants, grid, &shape, &buffers)?;
        let reduce = reduce(builder, self.n_grads(), place)?;
        Ok(FusedCoupling { inverse, forward, backward: [data, weight, reduce] })
    }
}

/// The recorded steps of one layer.
#[derive(Debug)]
pub(crate) struct FusedCoupling {
    inverse: Step,
    forward: Step,
    backward: [Step; 3],
}

impl FusedCoupling {
    /// Data to base; keeps s and t for [`FusedCoupling::record_backward`].
    pub fn record_inverse(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        pass.dispatch(&self.inverse, dims);
    }

    /// Base to data.
    pub fn record_forward(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        pass.dispatch(&self.forward, dims);
    }

    /// Gradient through `inverse`, which must have been recorded before on the same piece.
    pub fn record_backward(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.backward, pass, dims);
    }
}
