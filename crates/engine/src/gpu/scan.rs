//! A scan of a prior on an adapter: one kernel draws and evaluates, one sums each block and gathers its best draws.
//! Invariant: log L of a piece leaves the device only if some block has more draws above the threshold than it has slots
//! for, which happens at the beginning of a scan.

use std::sync::Arc;

use super::pipeline::{Bound, Pipeline};
use super::recording::{Recorder, Step};
use super::uniform::fill;
use super::{BatchDims, Gpu, KernelTime, KernelTimes, Staging, Wait};
use crate::scan::{BlockSums, QuantileTable, SOBOL_BLOCK, ScanDraw, Scanned, directions};
use crate::wgsl::WORKGROUP;
use crate::{EngineError, EngineSettings, WgslProgram};
use lwflow_shaders::Constants;

/// Most blocks of one submission.
const PIECE: usize = 128;
/// Draws of a block that come back without its log L.
const SLOTS: usize = 256;
/// Words of a block's result.
const STRIDE: usize = 8 + 2 * SLOTS;
const DURING: &str = "scanning the prior";

/// A scan and its buffers for one piece.
#[derive(Debug)]
pub(crate) struct GpuScan {
    gpu: Arc<Gpu>,
    key: u32,
    piece: usize,
    evaluate: Kernel,
    reduce: Kernel,
    log_likelihood: wgpu::Buffer,
    result: wgpu::Buffer,
    staging: Staging,
}

/// A kernel with what it is bound to.
#[derive(Debug)]
struct Kernel {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    shape: wgpu::Buffer,
}

impl GpuScan {
    pub fn new(
        gpu: Arc<Gpu>,
        settings: &EngineSettings,
        program: &WgslProgram,
        data: &wgpu::Buffer,
        key: u32,
        quantiles: &[QuantileTable],
    ) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let storage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let uniform = Usage::UNIFORM | Usage::COPY_DST;
        let groups = gpu.limits.max_compute_workgroups_per_dimension as usize * WORKGROUP as usize;
        let piece = settings.piece_samples.unwrap_or(usize::MAX).min(groups) / SOBOL_BLOCK;
        let piece = piece.clamp(1, PIECE);
        let table = directions(quantiles.len());
        let cubics: Vec<[f32; 4]> = quantiles.iter().flat_map(|q| q.cubics.iter().copied()).collect();
        let directions = gpu.buffer("scan/directions", table.len(), storage)?;
        let cubics_buffer = gpu.buffer("scan/quantiles", 4 * cubics.len(), storage)?;
        let log_likelihood = gpu.buffer("scan/log_likelihood", piece * SOBOL_BLOCK, storage)?;
        let result = gpu.buffer("scan/result", piece * STRIDE, storage)?;
        gpu.scoped("uploading a prior", || {
            gpu.queue.write_buffer(&directions, 0, bytemuck::cast_slice(&table));
            gpu.queue.write_buffer(&cubics_buffer, 0, bytemuck::cast_slice(&cubics));
            Ok(())
        })?;
        let shape = gpu.buffer("scan/shape", 4, uniform)?;
        let pipeline = gpu.pipeline("evaluate_likelihood", &program.scan_constants())?;
        let mut buffers = vec![
            ("lwflow_shape", Bound::Uniform(&shape)),
            ("lwflow_directions", Bound::Read(&directions)),
            ("lwflow_log_likelihood", Bound::Write(&log_likelihood)),
            ("lwflow_quantiles", Bound::Read(&cubics_buffer)),
        ];
        if program.reads_data() {
            buffers.push(("lwflow_data", Bound::Read(data)));
        }
        let group = gpu.bind(&pipeline, &buffers)?;
        let evaluate = Kernel { pipeline, group, shape };
        let shape = gpu.buffer("scan/reduce_shape", 4, uniform)?;
        let constants = Constants::new()
            .with("workgroup", WORKGROUP)
            .with("block", SOBOL_BLOCK as u32)
            .with("slots", SLOTS as u32);
        let pipeline = gpu.pipeline("reduce_scan", &constants)?;
        let buffers = [
            ("shape", Bound::Uniform(&shape)),
            ("log_likelihood", Bound::Read(&log_likelihood)),
            ("result", Bound::Write(&result)),
        ];
        let group = gpu.bind(&pipeline, &buffers)?;
        let reduce = Kernel { pipeline, group, shape };
        let staging = Staging::new(&gpu, piece * SOBOL_BLOCK.max(STRIDE))?;
        Ok(Self { gpu, key, piece, evaluate, reduce, log_likelihood, result, staging })
    }

    /// Blocks `first..first + n`.
    pub fn blocks(&mut self, first: u32, n: u32, threshold: f32) -> Result<Scanned, EngineError> {
        let mut scanned = Scanned::default();
        let mut values = Vec::new();
        let mut done = 0;
        while done < n {
            let piece = (self.piece as u32).min(n - done);
            self.run(first + done, piece, threshold, &mut values)?;
            let overflows = read_result(first + done, &values, &mut scanned);
            if overflows {
                self.read(
                    |staging, encoder, scan| {
                        staging.copy(encoder, scan.log_likelihood, 0..piece as usize * SOBOL_BLOCK);
                    },
                    &mut values,
                )?;
                let before = first + done;
                scanned.kept.retain(|draw| draw.block < before);
                for (block, values) in (before..).zip(values.chunks_exact(SOBOL_BLOCK)) {
                    let above = (0..).zip(values).filter(|(_, l)| **l > threshold);
                    let draw = |(row, l): (u32, &f32)| ScanDraw { block, row, log_likelihood: f64::from(*l) };
                    scanned.kept.extend(above.map(draw));
                }
            }
            done += piece;
        }
        Ok(scanned)
    }

    /// Time of both kernels on blocks `first..first + n`.
    pub fn profile(&self, first: u32, n: u32) -> Result<Vec<KernelTime>, EngineError> {
        let mut times = KernelTimes::default();
        for done in (0..n).step_by(self.piece) {
            times.measure(&self.gpu, || {
                let steps = self.set_up(first + done, (self.piece as u32).min(n - done), f32::MAX)?;
                let encoder = self.gpu.device.create_command_encoder(&Default::default());
                Ok((encoder, BatchDims::NONE, steps.into()))
            })?;
        }
        Ok(times.finish())
    }

    /// What draws, evaluates and sums `n` blocks.
    fn set_up(&self, first: u32, n: u32, threshold: f32) -> Result<[Step; 2], EngineError> {
        let n_samples = n * SOBOL_BLOCK as u32;
        let fields =
            [("n_samples", n_samples.into()), ("key", self.key.into()), ("first_block", first.into())];
        let shape = fill(&self.evaluate.pipeline.kernel, "lwflow_shape", &fields)?;
        let reduce_shape = fill(&self.reduce.pipeline.kernel, "shape", &[("threshold", threshold.into())])?;
        self.gpu.scoped(DURING, || {
            self.gpu.queue.write_buffer(&self.evaluate.shape, 0, &shape);
            self.gpu.queue.write_buffer(&self.reduce.shape, 0, &reduce_shape);
            Ok(())
        })?;
        let step =
            |kernel: &Kernel, groups| Step::alone(kernel.pipeline.clone(), kernel.group.clone(), groups);
        Ok([step(&self.evaluate, n_samples / WORKGROUP), step(&self.reduce, n)])
    }

    /// Draws, evaluates and sums `n` blocks; their results.
    fn run(&mut self, first: u32, n: u32, threshold: f32, values: &mut Vec<f32>) -> Result<(), EngineError> {
        let steps = self.set_up(first, n, threshold)?;
        self.read(
            |staging, encoder, scan| {
                for step in &steps {
                    encoder.begin_compute_pass(&Default::default()).dispatch(step, &BatchDims::NONE);
                }
                staging.copy(encoder, scan.result, 0..n as usize * STRIDE);
            },
            values,
        )
    }

    /// Submits what `record` records and reads what it copies.
    fn read(
        &mut self,
        record: impl FnOnce(&mut Staging, &mut wgpu::CommandEncoder, &Recorded<'_>),
        values: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let Self { gpu, log_likelihood, result, staging, .. } = self;
        let recorded = Recorded { log_likelihood, result };
        let encoder = gpu.scoped(DURING, || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            record(staging, &mut encoder, &recorded);
            Ok(encoder)
        })?;
        pollster::block_on(staging.read(gpu, encoder, DURING, Wait::Block, values))
    }
}

/// What a recording refers to.
struct Recorded<'a> {
    log_likelihood: &'a wgpu::Buffer,
    result: &'a wgpu::Buffer,
}

/// Appends the results of blocks `first..`; whether some block has more draws above the threshold than it could tell.
fn read_result(first: u32, values: &[f32], scanned: &mut Scanned) -> bool {
    let mut overflows = false;
    for (block, words) in (first..).zip(values.chunks_exact(STRIDE)) {
        let (head, slots) = words.split_at(8);
        let wide = |i: usize| f64::from(head[i]);
        scanned.blocks.push(BlockSums::new(wide(0), wide(1), wide(2)));
        let draw = |row: &f32, log_likelihood: &f32| ScanDraw {
            block,
            row: row.to_bits(),
            log_likelihood: f64::from(*log_likelihood),
        };
        if (head[4].to_bits() as usize) < SOBOL_BLOCK {
            scanned.illegal = scanned.illegal.or(Some(draw(&head[4], &head[5])));
        }
        let n_above = head[3].to_bits() as usize;
        overflows |= n_above > SLOTS;
        let start = scanned.kept.len();
        scanned.kept.extend(slots.chunks_exact(2).take(n_above).map(|pair| draw(&pair[0], &pair[1])));
        scanned.kept[start..].sort_by_key(|draw| draw.row);
    }
    overflows
}
