//! The conditioner on the tiled path: its linear maps as padded matrices, and the dispatches that run them.
//! Invariant: padding of a matrix is zero, so padded rows of activations and gradients are zero too, and every
//! array's rows up to the next multiple of four may be read.

use lwflow_model::{Activation, LinearBlock};
use lwflow_shaders::Constants;

use super::Place;
use crate::gpu::pipeline::Bound;
use crate::gpu::recording::{Grid, Step, StepBuilder};
use crate::gpu::{Need, round_up};
use crate::{EngineError, KernelChoice};

/// Rows of a matrix are padded to this, the widest tile.
const ROW_PAD: usize = 16;

/// Where one linear map lies in the layer's regions, in floats.
#[derive(Debug, Clone, Copy)]
struct Linear {
    block: LinearBlock,
    /// (n_out padded to 16, n_in padded to 4); the same offsets in the parameter and gradient regions.
    weight: usize,
    bias: usize,
    /// (n_in padded to 16, n_out padded to 4); parameter region only.
    transposed: usize,
}

impl Linear {
    fn columns(&self) -> usize {
        round_up(self.block.n_in, 4)
    }

    fn transposed_columns(&self) -> usize {
        round_up(self.block.n_out, 4)
    }
}

/// Widths, offsets and tiling of one conditioner.
#[derive(Debug)]
pub(crate) struct Conditioner {
    linears: Vec<Linear>,
    activation: Activation,
    n_params: usize,
    n_grads: usize,
    workgroup: u32,
    /// Rows and vec4s of samples of the largest register tile.
    tile: u32,
    vectors: u32,
}

pub(crate) fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    }
}

impl Conditioner {
    /// The conditioner with these linear maps.
    pub fn new(activation: Activation, blocks: &[LinearBlock], choice: &KernelChoice) -> Self {
        let mut n_grads = 0;
        let mut take = |len: usize| {
            n_grads += len;
            n_grads - len
        };
        let mut linears: Vec<Linear> = blocks
            .iter()
            .map(|&block| Linear {
                block,
                weight: take(round_up(block.n_out, ROW_PAD) * round_up(block.n_in, 4)),
                bias: take(round_up(block.n_out, ROW_PAD)),
                transposed: 0,
            })
            .collect();
        let mut n_params = n_grads;
        for linear in &mut linears {
            linear.transposed = n_params;
            n_params += round_up(linear.block.n_in, ROW_PAD) * linear.transposed_columns();
        }
        // A large tile saves loads, which is what a software adapter pays for (16 x 2 gave 1.3 times the rate of 8 x 2);
        // a GPU rather wants more invocations.
        let KernelChoice { workgroup, tile, vectors, .. } = *choice;
        Self { linears, activation, n_params, n_grads, workgroup, tile, vectors }
    }

    /// Floats of the parameter region.
    pub fn n_params(&self) -> usize {
        self.n_params
    }

    /// Floats of the gradient region.
    pub fn n_grads(&self) -> usize {
        self.n_grads
    }

    /// Number of inputs.
    pub fn n_in(&self) -> usize {
        self.linears.first().map_or(0, |l| l.block.n_in)
    }

    /// Per-sample arrays: input, hidden activations, output and two gradients in turn.
    pub fn need(&self) -> Need {
        let mut need = Need::default();
        need.rows("conditioner/input", round_up(self.n_in(), 4).max(4));
        let mut widest = round_up(self.n_in(), 4).max(4);
        for (k, linear) in self.linears.iter().enumerate() {
            let rows = linear.transposed_columns();
            widest = widest.max(rows);
            if k + 1 == self.linears.len() {
                need.rows("conditioner/output", rows);
            } else {
                need.rows(format!("conditioner/hidden{k}"), rows);
                if self.keeps_argument() {
                    need.rows(format!("conditioner/argument{k}"), rows);
                }
            }
        }
        need.rows("conditioner/delta0", widest);
        need.rows("conditioner/delta1", widest);
        need.partial(self.n_grads);
        need
    }

    /// The derivative of silu needs the argument, those of relu and tanh the value.
    fn keeps_argument(&self) -> bool {
        self.activation == Activation::Silu
    }

    /// Writes the padded matrices, both ways round, and biases.
    pub fn pack<T: Copy + Default>(&self, params: &[T], region: &mut [T]) {
        region.fill(T::default());
        for linear in &self.linears {
            let LinearBlock { n_in, n_out, weight, bias } = linear.block;
            let (columns, transposed_columns) = (linear.columns(), linear.transposed_columns());
            for o in 0..n_out {
                let row = &params[weight + o * n_in..][..n_in];
                region[linear.weight + o * columns..][..n_in].copy_from_slice(row);
                for (k, &value) in row.iter().enumerate() {
                    region[linear.transposed + k * transposed_columns + o] = value;
                }
            }
            region[linear.bias..][..n_out].copy_from_slice(&params[bias..][..n_out]);
        }
    }

    /// Reads the gradients of weights and biases out of their padded layout.
    pub fn unpack_grad<T: Copy>(&self, region: &[T], grad: &mut [T]) {
        for linear in &self.linears {
            let LinearBlock { n_in, n_out, weight, bias } = linear.block;
            for o in 0..n_out {
                let row = &region[linear.weight + o * linear.columns()..][..n_in];
                grad[weight + o * n_in..][..n_in].copy_from_slice(row);
            }
            grad[bias..][..n_out].copy_from_slice(&region[linear.bias..][..n_out]);
        }
    }

    fn tiling(&self, rows: usize) -> (Constants, Grid) {
        let tile = self.tile.min((rows as u32).next_power_of_two().max(4));
        let constants = Constants::new()
            .with("workgroup", self.workgroup)
            .with("tile", tile)
            .with("vectors", self.vectors);
        let rows = (rows as u32).div_ceil(tile);
        let grid = Grid::FlowSamples { vec4s: self.workgroup * self.vectors, rows };
        (constants, grid)
    }

    /// Steps from `conditioner/input` to `conditioner/output`; with `keep`, what backward needs stays in scratch.
    pub fn forward(
        &self,
        builder: &mut StepBuilder<'_>,
        place: Place<'_>,
        keep: bool,
    ) -> Result<Vec<Step>, EngineError> {
        let batch = builder.batch;
        let params = place.params;
        let (offset, size) = params.bytes();
        let keep = keep && self.keeps_argument();
        let mut steps = Vec::new();
        let mut input = batch.scratch("conditioner/input")?;
        for (k, linear) in self.linears.iter().enumerate() {
            let last = k + 1 == self.linears.len();
            let output = if last {
                batch.scratch("conditioner/output")?
            } else {
                batch.scratch(&format!("conditioner/hidden{k}"))?
            };
            let (constants, grid) = self.tiling(linear.transposed_columns());
            let activation = if last { "none" } else { activation_name(self.activation) };
            let constants = constants.with("activation", activation).with("keep", keep && !last);
            let mut buffers = vec![
                ("matrix", Bound::ReadRange(params.buffer, offset, size)),
                ("input", Bound::Read(input)),
                ("output", Bound::Write(output)),
            ];
            let kept = format!("conditioner/argument{k}");
            if keep && !last {
                buffers.push(("kept", Bound::Write(batch.scratch(&kept)?)));
            }
            let shape = [
                ("matrix_offset", (linear.weight as u32 / 4).into()),
                ("bias_offset", (linear.bias as u32 / 4).into()),
                ("n_in4", (linear.columns() as u32 / 4).into()),
                ("n_rows", (linear.transposed_columns() as u32).into()),
                params.flow4(),
            ];
            steps.push(builder.step("linear_forward", &constants, grid, &shape, &buffers)?);
            input = output;
        }
        Ok(steps)
    }

    /// Steps from the output's gradient in `conditioner/delta0` to all weight gradients and to the input's gradient;
    /// returns the name of the array that holds the latter.
    pub fn backward(
        &self,
        builder: &mut StepBuilder<'_>,
        place: Place<'_>,
    ) -> Result<(Vec<Step>, &'static str), EngineError> {
        let batch = builder.batch;
        let params = place.params;
        let (offset, size) = params.bytes();
        let mut steps = Vec::new();
        let (mut delta, mut next) = ("conditioner/delta0", "conditioner/delta1");
        for (k, linear) in self.linears.iter().enumerate().rev() {
            let input_name =
                if k == 0 { "conditioner/input".to_owned() } else { format!("conditioner/hidden{}", k - 1) };
            steps.push(self.weight_grad(builder, linear, delta, &input_name)?);
            if linear.block.n_in == 0 {
                continue;
            }
            let (constants, grid) = self.tiling(linear.columns());
            let activation = if k == 0 { "none" } else { activation_name(self.activation) };
            let constants = constants.with("activation", activation);
            let mut buffers = vec![
                ("matrix", Bound::ReadRange(params.buffer, offset, size)),
                ("input", Bound::Read(batch.scratch(delta)?)),
                ("output", Bound::Write(batch.scratch(next)?)),
            ];
            if k > 0 {
                let kept = if self.keeps_argument() { "argument" } else { "hidden" };
                buffers.push(("kept", Bound::Read(batch.scratch(&format!("conditioner/{kept}{}", k - 1))?)));
            }
            let shape = [
                ("matrix_offset", (linear.transposed as u32 / 4).into()),
                ("n_in4", (linear.transposed_columns() as u32 / 4).into()),
                ("n_rows", (linear.columns() as u32).into()),
                params.flow4(),
            ];
            steps.push(builder.step("linear_backward_data", &constants, grid, &shape, &buffers)?);
            std::mem::swap(&mut delta, &mut next);
        }
        steps.push(reduce(builder, self.n_grads, place)?);
        Ok((steps, delta))
    }

    fn weight_grad(
        &self,
        builder: &mut StepBuilder<'_>,
        linear: &Linear,
        delta: &str,
        input: &str,
    ) -> Result<Step, EngineError> {
        let batch = builder.batch;
        let (rows, columns) = (linear.transposed_columns() as u32, linear.columns() as u32);
        let tile = if rows <= 4 || columns <= 4 { 4 } else { 8 };
        let n_column_tiles = columns.div_ceil(tile).max(1);
        let n_tiles = rows.div_ceil(tile) * n_column_tiles;
        let constants = Constants::new().with("workgroup", self.workgroup).with("tile", tile);
        let shape = [
            ("stride", (self.n_grads as u32).into()),
            ("weight_offset", (linear.weight as u32).into()),
            ("bias_offset", (linear.bias as u32).into()),
            ("n_rows", rows.into()),
            ("n_columns", columns.into()),
            ("n_column_tiles", n_column_tiles.into()),
            ("n_tiles", n_tiles.into()),
        ];
        let buffers = [
            ("grad_output", Bound::Read(batch.scratch(delta)?)),
            ("input", Bound::Read(batch.scratch(input)?)),
            ("partial", Bound::Write(&batch.partial)),
        ];
        let grid = Grid::Chunks { groups: n_tiles.div_ceil(self.workgroup) };
        builder.step("linear_weight_grad", &constants, grid, &shape, &buffers)
    }
}

/// Sums the first `len` floats of every chunk of `partial` (stride `len`) into the place's gradient region.
pub(crate) fn reduce(
    builder: &mut StepBuilder<'_>,
    len: usize,
    place: Place<'_>,
) -> Result<Step, EngineError> {
    let n4 = len as u32 / 4;
    let grads = place.grads;
    let (offset, size) = grads.bytes();
    let buffers = [
        ("partial", Bound::Read(&builder.batch.partial)),
        ("grad", Bound::WriteRange(grads.buffer, offset, size)),
    ];
    let shape = [("stride4", n4.into()), ("n4", n4.into()), grads.flow4()];
    // Sixty-four lanes everywhere: a wide conditioner would exceed the number of workgroups otherwise.
    let workgroup = 64;
    let grid = Grid::Flows { groups: n4.div_ceil(workgroup) };
    builder.step("reduce_partials", &Constants::new().with("workgroup", workgroup), grid, &shape, &buffers)
}
