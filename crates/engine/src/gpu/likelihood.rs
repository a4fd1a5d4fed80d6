//! A WGSL log likelihood on an adapter: one invocation per theta, batches of any size in pieces.
//! Invariant: one upload, one submission and one read per piece.

use std::sync::Arc;

use super::pipeline::{Bound, Pipeline};
use super::recording::{Recorder, Step};
use super::uniform::fill;
use super::{BatchDims, Gpu, GpuScan, KernelTime, KernelTimes, Staging, Wait};
use crate::scan::QuantileTable;
use crate::wgsl::WORKGROUP;
use crate::{EngineError, EngineSettings, WgslData, WgslProgram};

/// Theta of a piece, if memory allows: a dispatch of a quarter of a second at a million evaluations per second.
const PIECE: usize = 1 << 18;

const DURING: &str = "evaluating log_likelihood";

/// What buffers of numbers are used as.
pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

/// A likelihood and its buffers for one piece.
#[derive(Debug)]
pub(crate) struct GpuLikelihood {
    gpu: Arc<Gpu>,
    program: WgslProgram,
    piece: usize,
    plain: Kernel,
    observed: Option<Observed>,
    shape: wgpu::Buffer,
    theta: wgpu::Buffer,
    log_likelihood: wgpu::Buffer,
    derived: wgpu::Buffer,
    data: wgpu::Buffer,
    staging: Staging,
}

/// A kernel with what it is bound to.
#[derive(Debug)]
struct Kernel {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

/// The kernel with many observations.
#[derive(Debug)]
struct Observed {
    kernel: Kernel,
    /// Observations, with room for as many values as the most that were set.
    data: wgpu::Buffer,
    capacity: usize,
    /// The observation of each theta of a piece.
    observation: wgpu::Buffer,
}

impl GpuLikelihood {
    pub fn new(gpu: Arc<Gpu>, settings: &EngineSettings, program: &WgslProgram) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let source = program.source();
        let (dim, n_derived) = (source.dim, source.n_derived);
        // The file's mistakes were found before, so what fails here is the driver's.
        let pipeline = gpu.pipeline("evaluate_likelihood", &program.constants())?;
        let piece = piece_rows(&gpu, settings, dim.max(n_derived), PIECE);
        let shape = gpu.buffer("likelihood/shape", 4, Usage::UNIFORM | Usage::COPY_DST)?;
        let theta = gpu.buffer("likelihood/theta", piece * dim, STORAGE)?;
        let log_likelihood = gpu.buffer("likelihood/log_likelihood", piece, STORAGE)?;
        let derived = gpu.buffer("likelihood/derived", (piece * n_derived).max(1), STORAGE)?;
        let data = data_buffer(&gpu, "likelihood/data", source.data.as_ref())?;
        let mut buffers = own(n_derived, &shape, &theta, &log_likelihood, &derived);
        if program.reads_data() {
            buffers.push(("lwflow_data", Bound::Read(&data)));
        }
        let group = gpu.bind(&pipeline, &buffers)?;
        let staging = Staging::new(&gpu, piece * (1 + n_derived))?;
        Ok(Self {
            gpu,
            program: program.clone(),
            piece,
            plain: Kernel { pipeline, group },
            observed: None,
            shape,
            theta,
            log_likelihood,
            derived,
            data,
            staging,
        })
    }

    /// The same likelihood of draws from a prior.
    pub fn scan(
        &self,
        settings: &EngineSettings,
        program: &WgslProgram,
        key: u32,
        quantiles: &[QuantileTable],
    ) -> Result<GpuScan, EngineError> {
        GpuScan::new(self.gpu.clone(), settings, program, &self.data, key, quantiles)
    }

    /// Sets the observations, `[J, n_rows, n_columns]`. Buffers are kept where they are large enough.
    pub fn observe(&mut self, values: &[f32]) -> Result<(), EngineError> {
        let gpu = &self.gpu;
        let observed = match self.observed.take().filter(|observed| observed.capacity >= values.len()) {
            Some(observed) => observed,
            None => {
                let pipeline = gpu.pipeline("evaluate_likelihood", &self.program.observed_constants())?;
                let data = gpu.buffer("likelihood/observations", values.len(), STORAGE)?;
                let observation = gpu.buffer("likelihood/observation", self.piece, STORAGE)?;
                let n_derived = self.program.source().n_derived;
                let mut buffers =
                    own(n_derived, &self.shape, &self.theta, &self.log_likelihood, &self.derived);
                buffers.push(("lwflow_data", Bound::Read(&data)));
                buffers.push(("lwflow_observation", Bound::Read(&observation)));
                let group = gpu.bind(&pipeline, &buffers)?;
                Observed { kernel: Kernel { pipeline, group }, data, capacity: values.len(), observation }
            }
        };
        gpu.scoped("uploading observations", || {
            gpu.queue.write_buffer(&observed.data, 0, bytemuck::cast_slice(values));
            Ok(())
        })?;
        self.observed = Some(observed);
        Ok(())
    }

    /// log L `[n]` and derived quantities `[n, M]` of theta `[n, D]`, each of its own observation if they are given, `[n]` below J.
    pub fn evaluate(
        &mut self,
        theta: &[f32],
        observation: Option<&[u32]>,
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let (dim, n_derived) = (self.program.source().dim, self.program.source().n_derived);
        let n = theta.len() / dim;
        let (mut log_likelihood, mut derived) = (Vec::with_capacity(n), Vec::with_capacity(n * n_derived));
        let mut values = Vec::new();
        for (piece, from) in theta.chunks(self.piece * dim).zip((0..).step_by(self.piece)) {
            let n = piece.len() / dim;
            let observation = observation.map(|all| &all[from..from + n]);
            self.run(piece, observation, n, &mut values)?;
            log_likelihood.extend_from_slice(&values[..n]);
            derived.extend_from_slice(&values[n..]);
        }
        Ok((log_likelihood, derived))
    }

    /// One piece; log L of all, then derived quantities of all.
    fn run(
        &mut self,
        theta: &[f32],
        observation: Option<&[u32]>,
        n: usize,
        values: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let (mut encoder, step) = self.begin(theta, observation, n)?;
        encoder.begin_compute_pass(&Default::default()).dispatch(&step, &BatchDims::NONE);
        self.staging.copy(&mut encoder, &self.log_likelihood, 0..n);
        let n_derived = self.program.source().n_derived;
        if n_derived > 0 {
            self.staging.copy(&mut encoder, &self.derived, 0..n * n_derived);
        }
        pollster::block_on(self.staging.read(&self.gpu, encoder, DURING, Wait::Block, values))
    }

    /// Time of the kernel on theta `[n, D]`.
    pub fn profile(&self, theta: &[f32]) -> Result<Vec<KernelTime>, EngineError> {
        let dim = self.program.source().dim;
        let mut times = KernelTimes::default();
        for piece in theta.chunks(self.piece * dim) {
            times.measure(&self.gpu, || {
                let (encoder, step) = self.begin(piece, None, piece.len() / dim)?;
                Ok((encoder, BatchDims::NONE, vec![step]))
            })?;
        }
        Ok(times.finish())
    }

    /// Uploads a piece; its encoder and what is to be dispatched.
    fn begin(
        &self,
        theta: &[f32],
        observation: Option<&[u32]>,
        n: usize,
    ) -> Result<(wgpu::CommandEncoder, Step), EngineError> {
        let gpu = &self.gpu;
        let observed = observation.zip(self.observed.as_ref());
        let kernel = observed.map_or(&self.plain, |(_, observed)| &observed.kernel);
        let shape = fill(&kernel.pipeline.kernel, "lwflow_shape", &[("n_samples", (n as u32).into())])?;
        let encoder = gpu.scoped(DURING, || {
            gpu.queue.write_buffer(&self.shape, 0, &shape);
            gpu.queue.write_buffer(&self.theta, 0, bytemuck::cast_slice(theta));
            if let Some((observation, observed)) = observed {
                gpu.queue.write_buffer(&observed.observation, 0, bytemuck::cast_slice(observation));
            }
            Ok(gpu.device.create_command_encoder(&Default::default()))
        })?;
        let groups = (n as u32).div_ceil(WORKGROUP);
        Ok((encoder, Step::alone(kernel.pipeline.clone(), kernel.group.clone(), groups)))
    }
}

/// Rows of a piece of at most `most`, of so many floats in the widest buffer.
pub(super) fn piece_rows(gpu: &Gpu, settings: &EngineSettings, floats: usize, most: usize) -> usize {
    let row = 4 * (floats as u64).max(1);
    let binding = u64::from(u32::MAX).min(gpu.limits.max_storage_buffer_binding_size);
    let groups = gpu.limits.max_compute_workgroups_per_dimension as usize * WORKGROUP as usize;
    let fits = (binding.min(settings.scratch_bytes / 4) / row).max(WORKGROUP.into()) as usize;
    settings.piece_samples.unwrap_or(most).clamp(1, most.min(groups).min(fits))
}

/// A user's data on the device; one zero where there is none.
pub(super) fn data_buffer(
    gpu: &Gpu,
    label: &'static str,
    data: Option<&WgslData>,
) -> Result<wgpu::Buffer, EngineError> {
    let values: Vec<f32> = data.map_or(vec![0.0], |data| data.values.iter().map(|v| *v as f32).collect());
    let buffer = gpu.buffer(label, values.len(), STORAGE)?;
    gpu.scoped("uploading a user's data", || {
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
        Ok(())
    })?;
    Ok(buffer)
}

/// The buffers that every kernel is bound to.
fn own<'a>(
    n_derived: usize,
    shape: &'a wgpu::Buffer,
    theta: &'a wgpu::Buffer,
    log_likelihood: &'a wgpu::Buffer,
    derived: &'a wgpu::Buffer,
) -> Vec<(&'static str, Bound<'a>)> {
    let mut buffers = vec![
        ("lwflow_shape", Bound::Uniform(shape)),
        ("lwflow_theta", Bound::Read(theta)),
        ("lwflow_log_likelihood", Bound::Write(log_likelihood)),
    ];
    if n_derived > 0 {
        buffers.push(("lwflow_derived", Bound::Write(derived)));
    }
    buffers
}
