//! A WGSL simulator on an adapter: one invocation per simulation, batches of any size in pieces.
//! Invariant: one upload, one submission and one read per piece.

use std::sync::Arc;

use super::likelihood::{STORAGE, data_buffer, piece_rows};
use super::pipeline::Bound;
use super::recording::{Recorder, Step};
use super::uniform::fill;
use super::{BatchDims, Gpu, KernelTime, KernelTimes, Staging, Wait};
use crate::wgsl::WORKGROUP;
use crate::{EngineError, EngineSettings, SimulatorProgram};

/// Simulations of a piece, if memory allows: a dispatch of a second at 65,536 simulations per second.
const PIECE: usize = 1 << 16;

const DURING: &str = "running simulate";

/// A simulator and its buffers for one piece.
#[derive(Debug)]
pub(crate) struct GpuSimulator {
    gpu: Arc<Gpu>,
    dim: usize,
    n_observed: usize,
    piece: usize,
    pipeline: Arc<super::pipeline::Pipeline>,
    group: wgpu::BindGroup,
    shape: wgpu::Buffer,
    theta: wgpu::Buffer,
    x: wgpu::Buffer,
    staging: Staging,
}

impl GpuSimulator {
    pub fn new(
        gpu: Arc<Gpu>,
        settings: &EngineSettings,
        program: &SimulatorProgram,
    ) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let source = program.source();
        let (dim, n_observed) = (source.dim, source.n_observed);
        // The file's mistakes were found before, so what fails here is the driver's.
        let pipeline = gpu.pipeline("evaluate_simulator", &program.constants())?;
        let piece = piece_rows(&gpu, settings, dim.max(n_observed), PIECE);
        let shape = gpu.buffer("simulator/shape", 20, Usage::UNIFORM | Usage::COPY_DST)?;
        let theta = gpu.buffer("simulator/theta", piece * dim, STORAGE)?;
        let x = gpu.buffer("simulator/x", piece * n_observed, STORAGE)?;
        let data = data_buffer(&gpu, "simulator/data", source.data.as_ref())?;
        let mut buffers = vec![
            ("lwflow_shape", Bound::Uniform(&shape)),
            ("lwflow_theta", Bound::Read(&theta)),
            ("lwflow_x", Bound::Write(&x)),
        ];
        if program.reads_data() {
            buffers.push(("lwflow_data", Bound::Read(&data)));
        }
        let group = gpu.bind(&pipeline, &buffers)?;
        let staging = Staging::new(&gpu, piece * n_observed)?;
        Ok(Self { gpu, dim, n_observed, piece, pipeline, group, shape, theta, x, staging })
    }

    /// x `[n, X]` of theta `[n, D]`, simulations `first..first + n` of `seed`.
    pub fn simulate(&mut self, seed: u64, first: u64, theta: &[f32]) -> Result<Vec<f32>, EngineError> {
        let mut x = Vec::with_capacity(theta.len() / self.dim * self.n_observed);
        let mut values = Vec::new();
        for (i, piece) in theta.chunks(self.piece * self.dim).enumerate() {
            self.run(seed, first.wrapping_add((i * self.piece) as u64), piece, &mut values)?;
            x.extend_from_slice(&values);
        }
        Ok(x)
    }

    fn run(
        &mut self,
        seed: u64,
        first: u64,
        theta: &[f32],
        values: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let (mut encoder, step, n) = self.begin(seed, first, theta)?;
        encoder.begin_compute_pass(&Default::default()).dispatch(&step, &BatchDims::NONE);
        self.staging.copy(&mut encoder, &self.x, 0..n * self.n_observed);
        pollster::block_on(self.staging.read(&self.gpu, encoder, DURING, Wait::Block, values))
    }

    /// Time of the kernel on theta `[n, D]`.
    pub fn profile(&self, seed: u64, theta: &[f32]) -> Result<Vec<KernelTime>, EngineError> {
        let mut times = KernelTimes::default();
        for piece in theta.chunks(self.piece * self.dim) {
            times.measure(&self.gpu, || {
                let (encoder, step, _) = self.begin(seed, 0, piece)?;
                Ok((encoder, BatchDims::NONE, vec![step]))
            })?;
        }
        Ok(times.finish())
    }

    /// Uploads a piece; its encoder, what is to be dispatched, and the number of simulations.
    fn begin(
        &self,
        seed: u64,
        first: u64,
        theta: &[f32],
    ) -> Result<(wgpu::CommandEncoder, Step, usize), EngineError> {
        let gpu = &self.gpu;
        let n = theta.len() / self.dim;
        let fields = [
            ("n_samples", (n as u32).into()),
            ("seed_low", (seed as u32).into()),
            ("seed_high", ((seed >> 32) as u32).into()),
            ("first_low", (first as u32).into()),
            ("first_high", ((first >> 32) as u32).into()),
        ];
        let shape = fill(&self.pipeline.kernel, "lwflow_shape", &fields)?;
        let encoder = gpu.scoped(DURING, || {
            gpu.queue.write_buffer(&self.shape, 0, &shape);
            gpu.queue.write_buffer(&self.theta, 0, bytemuck::cast_slice(theta));
            Ok(gpu.device.create_command_encoder(&Default::default()))
        })?;
        let groups = (n as u32).div_ceil(WORKGROUP);
        Ok((encoder, Step::alone(self.pipeline.clone(), self.group.clone(), groups), n))
    }
}
