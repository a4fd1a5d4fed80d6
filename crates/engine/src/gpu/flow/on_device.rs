//! Densities and draws between buffers of the caller: rows of theta are read and written where they are, and nothing passes
//! through the host. Invariant: work is submitted to the shared queue and not waited for; the caller's next submission sees it.

use std::ops::Range;

use super::super::pipeline::Bound as Binding;
use super::super::recording::{Grid, Recorder};
use super::super::uniform::Value;
use super::super::{BatchDims, Gpu, Region, StepBuilder, Wait};
use super::run::{begin_pass, bound};
use super::{GpuFlow, ProfiledCall};
use crate::EngineError;
use lwflow_model::{BaseSpec, Bijection, Edge, MixtureBase, OuterTransform};
use lwflow_shaders::Constants;

/// Floats per parameter of the kernels' `Outer`.
const OUTER: usize = 12;

/// The largest f32 that is at most `x`.
fn at_most(x: f64) -> f32 {
    let narrow = x as f32;
    if f64::from(narrow) > x { narrow.next_down() } else { narrow }
}

/// What the kernels' `Outer` holds of one parameter, in its order.
fn outer_row(b: &Bijection, location: f64, scale: f64) -> [f32; OUTER] {
    let kind = match (b.lower.map(|l| l.edge), b.upper.map(|u| u.edge)) {
        (None, None) => 0,
        (Some(Edge::Soft), None) => 1,
        (Some(Edge::Hard), None) => 2,
        (None, Some(Edge::Soft)) => 3,
        (None, Some(Edge::Hard)) => 4,
        (Some(Edge::Soft), Some(Edge::Soft)) => 5,
        (Some(Edge::Hard), Some(Edge::Hard)) => 6,
        (Some(Edge::Hard), Some(Edge::Soft)) => 7,
        (Some(Edge::Soft), Some(Edge::Hard)) => 8,
    };
    // The last f32 whose value is strictly inside, where the bound itself may lie between two of them.
    let below = |bound: f64| at_most(bound.next_down());
    let least = b.lower.map_or(f32::MIN, |l| -below(-l.value));
    let largest = b.upper.map_or(f32::MAX, |u| below(u.value));
    let value = |bound: Option<lwflow_model::Bound>| bound.map_or(0.0, |b| b.value as f32);
    [
        value(b.lower),
        value(b.upper),
        least,
        largest,
        b.cut.unwrap_or(0.0) as f32,
        if b.cut.is_some() { 1.0 } else { 0.0 },
        b.sharpness as f32,
        kind as f32,
        location as f32,
        scale as f32,
        scale.ln() as f32,
        0.0,
    ]
}

/// The base as `draw_base` reads it, `[K, stride]`, and the stride.
fn components(base: &BaseSpec, dim: usize, params: &[f32]) -> (Vec<f32>, usize) {
    let stride = 1 + dim + dim * (dim + 1) / 2;
    let mut table = Vec::new();
    let BaseSpec::Mixture(spec) = base else {
        table.push(1.0);
        table.resize(1 + dim, 0.0);
        table.extend((0..dim).flat_map(|i| (0..=i).map(move |j| if i == j { 1.0 } else { 0.0 })));
        return (table, stride);
    };
    let wide: Vec<f64> = params.iter().map(|p| f64::from(*p)).collect();
    let mixture = MixtureBase::new(spec, dim, &wide);
    let mut sum = 0.0;
    for (k, weight) in mixture.weights.iter().enumerate() {
        sum += weight;
        table.push(sum as f32);
        table.extend(mixture.means[k * dim..][..dim].iter().map(|m| *m as f32));
        let factor = &mixture.cholesky[k * dim * dim..][..dim * dim];
        for i in 0..dim {
            table.extend(factor[i * dim..][..=i].iter().map(|l| *l as f32));
        }
    }
    (table, stride)
}

/// A buffer of the caller must be one that kernels can bind, and hold `n` rows of `width` floats.
fn check_buffer(
    what: &'static str,
    buffer: &wgpu::Buffer,
    n: usize,
    width: usize,
) -> Result<(), EngineError> {
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        let message =
            format!("{what}: a buffer with usage {:?}, expected STORAGE among them", buffer.usage());
        return Err(EngineError::Binding { kernel: "outer".into(), message });
    }
    let held = (buffer.size() / 4) as usize;
    match n.checked_mul(width) {
        Some(needed) if needed <= held => Ok(()),
        _ => Err(EngineError::Length {
            what,
            got: held,
            expected: format!("at least {n} rows of {width} in the buffer"),
        }),
    }
}

/// What both calls share: the caller's buffers, and the outer transform on the device.
pub(super) struct Rows<'a> {
    outer: wgpu::Buffer,
    theta: &'a wgpu::Buffer,
    log_prob: &'a wgpu::Buffer,
    dim: usize,
}

impl Rows<'_> {
    /// The rows `first..first + n` of the two buffers, in bytes.
    fn part(&self, first: usize, n: usize) -> [(u64, u64); 2] {
        let bytes = |width: usize| Region { offset: first * width, len: n * width }.bytes();
        [bytes(self.dim), bytes(1)]
    }
}

/// What draws read of the base.
pub(super) struct BaseTable {
    components: wgpu::Buffer,
    n_components: u32,
    stride: u32,
    seed: u64,
}

fn upload(gpu: &Gpu, label: &str, values: &[f32]) -> Result<wgpu::Buffer, EngineError> {
    let buffer =
        gpu.buffer(label, values.len(), wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST)?;
    gpu.scoped(label, || {
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
        Ok(())
    })?;
    Ok(buffer)
}

impl GpuFlow {
    pub(super) fn rows<'a>(
        &self,
        call: &'static str,
        outer: &OuterTransform,
        n: usize,
        theta: &'a wgpu::Buffer,
        log_prob: &'a wgpu::Buffer,
    ) -> Result<Rows<'a>, EngineError> {
        self.host_params(0, call)?;
        let dim = self.dim;
        outer.validate(dim)?;
        if self.context_dim > 0 {
            let (got, expected) = (self.context_dim, "0: a flow without context".to_owned());
            return Err(EngineError::Length { what: "context", got, expected });
        }
        if n > u32::MAX as usize {
            let what = format!("{call}: number of rows");
            return Err(EngineError::Limit { what, needed: n as u64, limit: u32::MAX.into() });
        }
        check_buffer("theta", theta, n, dim)?;
        check_buffer("log_prob", log_prob, n, 1)?;
        let each = outer.bijections.iter().zip(outer.location.iter().zip(&outer.scale));
        let table: Vec<f32> =
            each.flat_map(|(b, (location, scale))| outer_row(b, *location, *scale)).collect();
        Ok(Rows { outer: upload(&self.gpu, "flow/outer", &table)?, theta, log_prob, dim })
    }

    /// An encoder for a piece that is not uploaded.
    pub(super) fn begin_on_device(
        &mut self,
        n: usize,
    ) -> Result<(wgpu::CommandEncoder, BatchDims), EngineError> {
        let dims = self.reserve(n, 0..1, false, false)?;
        let gpu = self.gpu.clone();
        let bound = bound(&mut self.bound)?;
        gpu.scoped("beginning a batch", || {
            bound.set_dims(&gpu, dims);
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.clear_buffer(&bound.batch.log_det, 0, None);
            Ok((encoder, dims))
        })
    }

    /// Submits a piece without waiting for it.
    fn submit_on_device(&self, call: &str, encoder: wgpu::CommandEncoder) -> Result<(), EngineError> {
        self.gpu.scoped(call, || {
            self.gpu.queue.submit([encoder.finish()]);
            Ok(())
        })
    }

    /// The rows of the pieces of a call.
    pub(super) fn pieces_on_device(&self, n: usize) -> Vec<Range<usize>> {
        (0..n).step_by(self.max_capacity).map(|first| first..n.min(first + self.max_capacity)).collect()
    }

    /// Records densities of the rows of a piece.
    pub(super) fn record_density(
        &mut self,
        rows: &Rows<'_>,
        piece: Range<usize>,
        pass: &mut impl Recorder,
        dims: &BatchDims,
    ) -> Result<(), EngineError> {
        let [(at, size), (out_at, out_size)] = rows.part(piece.start, piece.len());
        let bound = bound(&mut self.bound)?;
        let batch = &bound.batch;
        let mut builder = StepBuilder::new(&self.gpu, batch);
        let buffers = [
            ("outer", Binding::Read(&rows.outer)),
            ("theta", Binding::ReadRange(rows.theta, at, size)),
            ("x", Binding::Write(&batch.x)),
            ("log_det", Binding::Write(&batch.log_det)),
        ];
        let constants = Constants::new().with("workgroup", self.choice.workgroup);
        let grid = Grid::Samples { vec4s: self.choice.workgroup, rows: 1 };
        let shape = [("dim", Value::from(self.dim as u32))];
        let to_flow = builder.step("outer_to_flow", &constants, grid, &shape, &buffers)?;
        let buffers = [
            ("log_q", Binding::Read(&batch.log_q)),
            ("log_prob", Binding::WriteRange(rows.log_prob, out_at, out_size)),
        ];
        let out = builder.step("outer_log_prob", &constants, grid, &shape, &buffers)?;
        pass.dispatch(&to_flow, dims);
        bound.record(ProfiledCall::LogProbOnDevice, pass, dims);
        pass.dispatch(&out, dims);
        Ok(())
    }

    /// See [`FlowExecutor::log_prob_on_device`](crate::FlowExecutor::log_prob_on_device).
    pub fn submit_log_prob(
        &mut self,
        outer: &OuterTransform,
        n: usize,
        theta: &wgpu::Buffer,
        log_prob: &wgpu::Buffer,
    ) -> Result<(), EngineError> {
        let call = ProfiledCall::LogProbOnDevice.name();
        let rows = self.rows(call, outer, n, theta, log_prob)?;
        for piece in self.pieces_on_device(n) {
            let (mut encoder, dims) = self.begin_on_device(piece.len())?;
            self.record_density(&rows, piece, &mut begin_pass(&mut encoder, call), &dims)?;
            self.submit_on_device(call, encoder)?;
        }
        Ok(())
    }

    /// The base as it is now, for draws of a seed.
    pub(super) fn base_table(&mut self, call: &'static str, seed: u64) -> Result<BaseTable, EngineError> {
        // A training run on the device may have moved the parameters.
        pollster::block_on(self.run_params(0, Wait::Block))?;
        let (params, base) = (self.host_params(0, call)?, self.layout(0).base);
        let (table, stride) = components(&self.spec(0).base, self.dim, &params[base..]);
        let components = upload(&self.gpu, "flow/components", &table)?;
        Ok(BaseTable { components, n_components: (table.len() / stride) as u32, stride: stride as u32, seed })
    }

    /// Records draws into the rows of a piece.
    pub(super) fn record_draws(
        &mut self,
        rows: &Rows<'_>,
        base: &BaseTable,
        piece: Range<usize>,
        pass: &mut impl Recorder,
        dims: &BatchDims,
    ) -> Result<(), EngineError> {
        let [(at, size), (out_at, out_size)] = rows.part(piece.start, piece.len());
        let bound = bound(&mut self.bound)?;
        let batch = &bound.batch;
        let mut builder = StepBuilder::new(&self.gpu, batch);
        let workgroup = self.choice.workgroup;
        let constants = Constants::new().with("workgroup", workgroup);
        let shape: [(&str, Value); 6] = [
            ("dim", (self.dim as u32).into()),
            ("n_components", base.n_components.into()),
            ("stride", base.stride.into()),
            ("seed_low", (base.seed as u32).into()),
            ("seed_high", ((base.seed >> 32) as u32).into()),
            ("first", (piece.start as u32).into()),
        ];
        let buffers = [("components", Binding::Read(&base.components)), ("z", Binding::Write(&batch.x))];
        let grid = Grid::Samples { vec4s: workgroup, rows: 1 };
        let draw = builder.step("draw_base", &constants, grid, &shape, &buffers)?;
        let buffers = [
            ("outer", Binding::Read(&rows.outer)),
            ("x", Binding::Read(&batch.x)),
            ("log_det", Binding::Read(&batch.log_det)),
            ("log_q", Binding::Read(&batch.log_q)),
            ("theta", Binding::WriteRange(rows.theta, at, size)),
            ("log_prob", Binding::WriteRange(rows.log_prob, out_at, out_size)),
        ];
        let from_flow = builder.step("outer_from_flow", &constants, grid, &shape[..1], &buffers)?;
        pass.dispatch(&draw, dims);
        // log_det is still zero, so that log_q is the density of the base.
        bound.base.record_log_prob(pass, dims);
        bound.record(ProfiledCall::SampleOnDevice, pass, dims);
        pass.dispatch(&from_flow, dims);
        Ok(())
    }

    /// See [`FlowExecutor::sample_on_device`](crate::FlowExecutor::sample_on_device).
    pub fn submit_samples(
        &mut self,
        outer: &OuterTransform,
        seed: u64,
        n: usize,
        theta: &wgpu::Buffer,
        log_prob: &wgpu::Buffer,
    ) -> Result<(), EngineError> {
        let call = ProfiledCall::SampleOnDevice.name();
        let rows = self.rows(call, outer, n, theta, log_prob)?;
        let base = self.base_table(call, seed)?;
        for piece in self.pieces_on_device(n) {
            let (mut encoder, dims) = self.begin_on_device(piece.len())?;
            self.record_draws(&rows, &base, piece, &mut begin_pass(&mut encoder, call), &dims)?;
            self.submit_on_device(call, encoder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_model::Bound;

    #[test]
    fn the_last_numbers_inside_are_inside() {
        for value in
            [0.0, 1.0, -1.0, 0.1, -0.1, 1e9 + 0.5, 1e-40, 3.0f64.next_up(), f64::from(f32::MIN_POSITIVE)]
        {
            let bound = Some(Bound { value, edge: Edge::Hard });
            let row = outer_row(&Bijection { lower: bound, ..Bijection::UNBOUNDED }, 0.0, 1.0);
            assert!(f64::from(row[2]) > value && f64::from(row[2].next_down()) <= value, "{value}");
            let row = outer_row(&Bijection { upper: bound, ..Bijection::UNBOUNDED }, 0.0, 1.0);
            assert!(f64::from(row[3]) < value && f64::from(row[3].next_up()) >= value, "{value}");
        }
    }
}
