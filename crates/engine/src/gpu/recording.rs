//! One dispatch, made once and recorded on every call, and the numbers of the piece of the batch it runs on.
//! Invariant: recording allocates nothing; only the dispatch size depends on the piece.

use std::ops::Range;
use std::sync::Arc;

use lwflow_shaders::Constants;

use super::pipeline::{Bound, Pipeline};
use super::uniform::{UniformArena, Value, fill};
use super::{BatchBuffers, Gpu};
use crate::EngineError;

/// The piece of the batch that is on the device: as many samples of each of some flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchDims {
    /// Samples of a flow.
    pub n_samples: u32,
    /// Padded samples of a flow / 4.
    pub flow_vec4: u32,
    /// Chunks of a flow's samples.
    pub flow_chunks: u32,
    pub chunk_vec4: u32,
    pub first_flow: u32,
    pub n_flows: u32,
    pub use_control: bool,
    /// Whether gradients are added to those of the pieces before.
    pub accumulate: bool,
}

/// Samples are padded to a multiple of this.
pub(crate) const SAMPLE_PAD: usize = 64;

impl BatchDims {
    /// For steps that no batch of a flow belongs to ([`Step::alone`]).
    pub const NONE: Self = Self {
        n_samples: 0,
        flow_vec4: 0,
        flow_chunks: 0,
        chunk_vec4: 0,
        first_flow: 0,
        n_flows: 1,
        use_control: false,
        accumulate: false,
    };

    /// A piece of `n` samples of each of `flows`, whose gradients are summed over at most `max_chunks` chunks.
    pub fn new(
        n: usize,
        flows: Range<usize>,
        max_chunks: usize,
        use_control: bool,
        accumulate: bool,
    ) -> Self {
        let flow_vec4 = (n.next_multiple_of(SAMPLE_PAD) / 4) as u32;
        let chunk_vec4 = flow_vec4.div_ceil(max_chunks as u32).next_multiple_of(SAMPLE_PAD as u32 / 2);
        Self {
            n_samples: n as u32,
            flow_vec4,
            flow_chunks: flow_vec4.div_ceil(chunk_vec4),
            chunk_vec4,
            first_flow: flows.start as u32,
            n_flows: flows.len() as u32,
            use_control,
            accumulate,
        }
    }

    /// Padded samples of a flow.
    pub fn flow_padded(&self) -> usize {
        4 * self.flow_vec4 as usize
    }

    /// Padded samples of all flows: the length of a row of a per-sample array.
    pub fn n_padded(&self) -> usize {
        self.flow_padded() * self.n_flows as usize
    }

    /// Chunks of all flows.
    pub fn n_chunks(&self) -> usize {
        (self.flow_chunks * self.n_flows) as usize
    }

    /// The bytes of the `batch` uniform, whose fields are all four bytes wide.
    pub fn bytes(&self) -> Vec<u8> {
        self.fields().iter().flat_map(|(_, value)| value.bytes()).collect()
    }

    /// The fields of the `batch` uniform, in its order.
    pub fn fields(&self) -> [(&'static str, Value); 8] {
        [
            ("n_samples", self.n_samples.into()),
            ("n_vec4", (self.flow_vec4 * self.n_flows).into()),
            ("flow_vec4", self.flow_vec4.into()),
            ("flow_chunks", self.flow_chunks.into()),
            ("chunk_vec4", self.chunk_vec4.into()),
            ("use_control", u32::from(self.use_control).into()),
            ("accumulate", u32::from(self.accumulate).into()),
            ("first_flow", self.first_flow.into()),
        ]
    }
}

/// How the number of workgroups follows from the piece.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Grid {
    /// x covers the samples of all flows, `vec4s` of them per workgroup; y is `rows`.
    Samples { vec4s: u32, rows: u32 },
    /// x covers the samples of a flow, `vec4s` of them per workgroup; y is `rows`, z the flow.
    FlowSamples { vec4s: u32, rows: u32 },
    /// x is `groups`, y covers the chunks of all flows.
    Chunks { groups: u32 },
    /// x is `groups`, y the flow.
    Flows { groups: u32 },
}

impl Grid {
    fn extent(self, dims: &BatchDims) -> [u32; 3] {
        match self {
            Self::Samples { vec4s, rows } => [(dims.flow_vec4 * dims.n_flows).div_ceil(vec4s), rows, 1],
            Self::FlowSamples { vec4s, rows } => [dims.flow_vec4.div_ceil(vec4s), rows, dims.n_flows],
            Self::Chunks { groups } => [groups, dims.n_chunks() as u32, 1],
            Self::Flows { groups } => [groups, dims.n_flows, 1],
        }
    }
}

/// One recorded dispatch.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    grid: Grid,
}

impl Step {
    /// A dispatch of so many workgroups, with bindings of its own and no batch of a flow.
    pub fn alone(pipeline: Arc<Pipeline>, group: wgpu::BindGroup, groups: u32) -> Self {
        Self { pipeline, group, grid: Grid::Flows { groups } }
    }

    /// The name of its kernel.
    pub fn kernel(&self) -> &str {
        &self.pipeline.kernel.name
    }

    /// Whether both run the same compiled kernel.
    pub fn shares_pipeline(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pipeline, &other.pipeline)
    }
}

/// What steps are recorded into.
pub(crate) trait Recorder {
    /// Records the dispatch of `step` for a piece.
    fn dispatch(&mut self, step: &Step, dims: &BatchDims);
}

impl Recorder for wgpu::ComputePass<'_> {
    fn dispatch(&mut self, step: &Step, dims: &BatchDims) {
        let [x, y, z] = step.grid.extent(dims);
        self.set_pipeline(&step.pipeline.pipeline);
        self.set_bind_group(0, &step.group, &[]);
        self.dispatch_workgroups(x, y, z);
    }
}

/// A list, for a caller that wants to dispatch the steps one by one.
impl Recorder for Vec<Step> {
    fn dispatch(&mut self, step: &Step, _: &BatchDims) {
        self.push(step.clone());
    }
}

/// Records all of `steps` in order.
pub(crate) fn record_all(steps: &[Step], pass: &mut impl Recorder, dims: &BatchDims) {
    for step in steps {
        pass.dispatch(step, dims);
    }
}

/// Makes steps that share a device, a batch and a uniform arena.
pub(crate) struct StepBuilder<'a> {
    pub gpu: &'a Gpu,
    pub batch: &'a BatchBuffers,
    arena: UniformArena,
}

impl<'a> StepBuilder<'a> {
    /// A builder of steps on `batch`.
    pub fn new(gpu: &'a Gpu, batch: &'a BatchBuffers) -> Self {
        Self { gpu, batch, arena: UniformArena::default() }
    }

    /// A step of `kernel`: its `shape` uniform by field name and its other bindings by name; `batch` is bound where
    /// the kernel has it.
    pub fn step(
        &mut self,
        kernel: &str,
        constants: &Constants,
        grid: Grid,
        shape: &[(&str, Value)],
        buffers: &[(&str, Bound<'_>)],
    ) -> Result<Step, EngineError> {
        let limit = self.gpu.limits.max_compute_workgroups_per_dimension;
        let (rows, what) = match grid {
            Grid::Samples { rows, .. } | Grid::FlowSamples { rows, .. } => (rows, "rows of workgroups"),
            Grid::Chunks { groups } | Grid::Flows { groups } => (groups, "workgroups"),
        };
        if rows > limit {
            let what = format!("kernel {kernel}: number of {what}");
            return Err(EngineError::Limit { what, needed: rows.into(), limit: limit.into() });
        }
        let pipeline = self.gpu.pipeline(kernel, constants)?;
        let slot = self.arena.slot(self.gpu, &fill(&pipeline.kernel, "shape", shape)?);
        let mut all = vec![("shape", Bound::Slot(&slot))];
        if pipeline.kernel.binding("batch").is_some() {
            all.push(("batch", Bound::Uniform(&self.batch.uniform)));
        }
        all.extend_from_slice(buffers);
        let group = self.gpu.bind(&pipeline, &all)?;
        Ok(Step { pipeline, group, grid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_matches_the_kernels() {
        let kernel =
            lwflow_shaders::render("reduce_partials", &Constants::new().with("workgroup", 8)).unwrap();
        for use_control in [false, true] {
            let dims = BatchDims::new(1000, 1..4, 32, use_control, !use_control);
            assert_eq!(fill(&kernel, "batch", &dims.fields()).unwrap(), dims.bytes());
        }
    }

    #[test]
    fn chunks_cover_every_sample_once() {
        for n in [1, 2, 31, 64, 65, 255, 256, 1000, 4096, 5000, 16384, 100_000] {
            for max_chunks in [1, 32, 128] {
                let dims = BatchDims::new(n, 2..5, max_chunks, false, false);
                assert!(dims.flow_padded() >= n && dims.flow_padded() < n + SAMPLE_PAD);
                assert!(dims.flow_chunks as usize <= max_chunks);
                assert!(dims.flow_chunks * dims.chunk_vec4 >= dims.flow_vec4);
                assert!((dims.flow_chunks - 1) * dims.chunk_vec4 < dims.flow_vec4);
                assert_eq!(dims.n_padded(), 3 * dims.flow_padded());
                assert_eq!(dims.n_chunks(), 3 * dims.flow_chunks as usize);
            }
        }
    }
}
