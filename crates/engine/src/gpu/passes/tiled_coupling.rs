//! The tiled path of a coupling layer of any kind: gather the conditioner's input, run its linear maps one dispatch each,
//! then transform part B in place. Works for every shape; memory does not grow with depth.

use lwflow_model::{LayerSpec, LinearBlock, MIN_BIN_SHARE, MIN_DERIVATIVE, derivative_shift};
use lwflow_shaders::Constants;

use super::Place;
use super::conditioner::Conditioner;
use crate::gpu::pipeline::Bound;
use crate::gpu::recording::{BatchDims, Grid, Recorder, Step, StepBuilder, record_all};
use crate::gpu::uniform::Value;
use crate::gpu::{Gpu, Need, round_up};
use crate::{EngineError, KernelChoice};

/// Sizes of one layer on the tiled path.
#[derive(Debug)]
pub(crate) struct TiledCouplingPlan {
    layer: usize,
    identity: Vec<u32>,
    transformed: Vec<u32>,
    map: Map,
    conditioner: Conditioner,
    workgroup: u32,
}

/// The kernels of a map of part B, and what they need to know of it beside the index sets.
#[derive(Debug)]
struct Map {
    inverse: &'static str,
    forward: &'static str,
    backward: &'static str,
    shape: Vec<(&'static str, Value)>,
}

impl Map {
    fn new(layer: &LayerSpec) -> Self {
        match layer {
            LayerSpec::AffineCoupling(c) => Self {
                inverse: "affine_coupling_inverse",
                forward: "affine_coupling_forward",
                backward: "affine_coupling_backward",
                shape: vec![("s_max", (c.s_max as f32).into()), ("inv_s_max", (1.0 / c.s_max as f32).into())],
            },
            LayerSpec::SplineCoupling(c) => {
                let span = 2.0 * c.bound;
                let scale = span * (1.0 - c.n_bins as f64 * MIN_BIN_SHARE);
                Self {
                    inverse: "spline_coupling_inverse",
                    forward: "spline_coupling_forward",
                    backward: "spline_coupling_backward",
                    shape: vec![
                        ("n_bins", (c.n_bins as u32).into()),
                        ("bound", (c.bound as f32).into()),
                        ("least_size", ((span * MIN_BIN_SHARE) as f32).into()),
                        ("size_scale", (scale as f32).into()),
                        ("shift", (derivative_shift() as f32).into()),
                        ("least_derivative", (MIN_DERIVATIVE as f32).into()),
                    ],
                }
            }
        }
    }
}

impl TiledCouplingPlan {
    /// The plan of layer `l`.
    pub fn new(
        context_dim: usize,
        l: usize,
        spec: &LayerSpec,
        linears: &[LinearBlock],
        choice: &KernelChoice,
    ) -> Self {
        debug_assert_eq!(linears.first().map(|b| b.n_in), Some(spec.n_in(context_dim)));
        Self {
            layer: l,
            identity: spec.identity().iter().map(|&j| j as u32).collect(),
            transformed: spec.transformed().iter().map(|&j| j as u32).collect(),
            map: Map::new(spec),
            conditioner: Conditioner::new(spec.activation(), linears, choice),
            workgroup: choice.workgroup,
        }
    }

    /// Floats of the parameter region.
    pub fn n_params(&self) -> usize {
        self.conditioner.n_params()
    }

    /// Floats of the gradient region.
    pub fn n_grads(&self) -> usize {
        self.conditioner.n_grads()
    }

    /// Scratch arrays.
    pub fn need(&self) -> Need {
        self.conditioner.need()
    }

    /// Packs the layer's parameters.
    pub fn pack<T: Copy + Default>(&self, params: &[T], region: &mut [T]) {
        self.conditioner.pack(params, region);
    }

    /// Unpacks the layer's gradient.
    pub fn unpack_grad<T: Copy>(&self, region: &[T], grad: &mut [T]) {
        self.conditioner.unpack_grad(region, grad);
    }

    /// Makes all steps.
    pub fn bind(
        &self,
        builder: &mut StepBuilder<'_>,
        place: Place<'_>,
    ) -> Result<TiledCoupling, EngineError> {
        let batch = builder.batch;
        let coordinates: Vec<u32> = self.identity.iter().chain(&self.transformed).copied().collect();
        let index = index_buffer(builder.gpu, self.layer, &coordinates)?;
        let index = Bound::Read(&index);
        let constants = Constants::new().with("workgroup", self.workgroup);
        let n_in = self.conditioner.n_in();
        let rows = |rows: usize| Grid::Samples { vec4s: self.workgroup, rows: rows as u32 };
        let input_shape =
            [("n_identity", (self.identity.len() as u32).into()), ("n_in", (n_in as u32).into())];
        let mut coupling_shape: Vec<(&str, Value)> = vec![
            ("n_identity", (self.identity.len() as u32).into()),
            ("n_transformed", (self.transformed.len() as u32).into()),
        ];
        coupling_shape.extend(&self.map.shape);
        let output = ("output", Bound::Read(batch.scratch("conditioner/output")?));
        let (x, log_det) = (("x", Bound::Write(&batch.x)), ("log_det", Bound::Write(&batch.log_det)));

        let mut input = Vec::new();
        if n_in > 0 {
            let buffers = [
                ("index", index),
                ("x", Bound::Read(&batch.x)),
                ("context", Bound::Read(&batch.context)),
                ("output", Bound::Write(batch.scratch("conditioner/input")?)),
            ];
            let grid = rows(round_up(n_in, 4));
            input.push(builder.step("conditioner_input", &constants, grid, &input_shape, &buffers)?);
        }
        let mut map = |kernel: &str| {
            let buffers = [("index", index), output, x, log_det];
            builder.step(kernel, &constants, rows(1), &coupling_shape, &buffers)
        };
        let inverse = map(self.map.inverse)?;
        let forward = map(self.map.forward)?;
        let conditioner = self.conditioner.forward(builder, place, false)?;

        let mut backward = self.conditioner.forward(builder, place, true)?;
        let buffers = [
            ("index", index),
            output,
            ("w_eff", Bound::Read(&batch.w_eff)),
            x,
            ("g", Bound::Write(&batch.g)),
            ("delta", Bound::Write(batch.scratch("conditioner/delta0")?)),
        ];
        let kernel = self.map.backward;
        backward.push(builder.step(kernel, &constants, rows(1), &coupling_shape, &buffers)?);
        let (steps, delta) = self.conditioner.backward(builder, place)?;
        backward.extend(steps);
        if n_in > 0 {
            let buffers = [
                ("index", index),
                ("input", Bound::Read(batch.scratch(delta)?)),
                ("g", Bound::Write(&batch.g)),
                ("g_context", Bound::Write(&batch.g_context)),
            ];
            let kernel = "conditioner_input_grad";
            backward.push(builder.step(kernel, &constants, rows(n_in), &input_shape, &buffers)?);
        }
        Ok(TiledCoupling { input, conditioner, inverse, forward, backward })
    }
}

/// The coordinates of A, then of B, of layer `l`.
pub(crate) fn index_buffer(gpu: &Gpu, l: usize, index: &[u32]) -> Result<wgpu::Buffer, EngineError> {
    u32_buffer(gpu, &format!("flow/layer{l}/index"), index)
}

/// A buffer of whole numbers that do not change.
pub(crate) fn u32_buffer(gpu: &Gpu, label: &str, values: &[u32]) -> Result<wgpu::Buffer, EngineError> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.buffer(label, values.len(), usage)?;
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    Ok(buffer)
}

/// The recorded steps of one layer.
#[derive(Debug)]
pub(crate) struct TiledCoupling {
    input: Vec<Step>,
    conditioner: Vec<Step>,
    inverse: Step,
    forward: Step,
    /// The conditioner again (keeping what its derivative needs), the coupling, the conditioner's backward.
    backward: Vec<Step>,
}

impl TiledCoupling {
    /// Data to base.
    pub fn record_inverse(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.input, pass, dims);
        record_all(&self.conditioner, pass, dims);
        pass.dispatch(&self.inverse, dims);
    }

    /// Base to data.
    pub fn record_forward(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.input, pass, dims);
        record_all(&self.conditioner, pass, dims);
        pass.dispatch(&self.forward, dims);
    }

    /// Gradient through `inverse`.
    pub fn record_backward(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.input, pass, dims);
        record_all(&self.backward, pass, dims);
    }
}
