//! Runs steps one by one and measures each: by the device's timestamps where it has them, else by waiting for each.
//! Invariant: one duration per step, in order, never negative.

use std::time::Instant;

use super::recording::{Recorder, Step};
use super::{BatchDims, Gpu, Staging, Wait};
use crate::EngineError;

const DURING: &str = "profiling";

/// Time that one kernel took in one call.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel's name.
    pub kernel: String,
    /// Number of its dispatches.
    pub dispatches: usize,
    /// Seconds of all of them together.
    pub seconds: f64,
}

/// The times of a call's kernels, in the order in which they first run.
#[derive(Debug, Default)]
pub(crate) struct KernelTimes {
    times: Vec<KernelTime>,
    /// Whether the drivers have compiled the kernels.
    warm: bool,
}

impl KernelTimes {
    /// Adds the times of a piece of the call: what `record` returns is run, the first piece twice, because drivers compile
    /// at first use.
    pub fn measure(
        &mut self,
        gpu: &Gpu,
        mut record: impl FnMut() -> Result<(wgpu::CommandEncoder, BatchDims, Vec<Step>), EngineError>,
    ) -> Result<(), EngineError> {
        loop {
            let (encoder, dims, steps) = record()?;
            let seconds = Timer::new(gpu, steps.len())?.run(gpu, encoder, &steps, &dims)?;
            if std::mem::replace(&mut self.warm, true) {
                steps.iter().zip(seconds).for_each(|(step, seconds)| self.add(step, seconds));
                return Ok(());
            }
        }
    }

    fn add(&mut self, step: &Step, seconds: f64) {
        match self.times.iter_mut().find(|t| t.kernel == step.kernel()) {
            Some(time) => {
                time.dispatches += 1;
                time.seconds += seconds;
            }
            None => {
                self.times.push(KernelTime { kernel: step.kernel().to_owned(), dispatches: 1, seconds });
            }
        }
    }

    /// All of them.
    pub fn finish(self) -> Vec<KernelTime> {
        self.times
    }
}

/// What is needed to measure up to a number of steps.
struct Timer(Option<Queries>);

struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: Staging,
    capacity: usize,
}

impl Timer {
    /// A timer for lists of `n_steps`; longer ones, and those beyond a query set's size, are measured in parts.
    fn new(gpu: &Gpu, n_steps: usize) -> Result<Self, EngineError> {
        if !gpu.info.timestamps {
            return Ok(Self(None));
        }
        let capacity = n_steps.clamp(1, wgpu::QUERY_SET_MAX_QUERIES as usize / 2);
        let set = gpu.scoped(DURING, || {
            Ok(gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * capacity as u32,
            }))
        })?;
        // Two timestamps per step, two floats wide each.
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.buffer("profile/timestamps", 4 * capacity, usage)?;
        Ok(Self(Some(Queries { set, resolved, staging: Staging::new(gpu, 4 * capacity)?, capacity })))
    }

    /// Runs what `encoder` holds, then the steps. Seconds of each step.
    fn run(
        self,
        gpu: &Gpu,
        encoder: wgpu::CommandEncoder,
        steps: &[Step],
        dims: &BatchDims,
    ) -> Result<Vec<f64>, EngineError> {
        let index = gpu.scoped(DURING, || Ok(gpu.queue.submit([encoder.finish()])))?;
        gpu.poll(Some(index), DURING)?;
        match self.0 {
            Some(queries) => queries.run(gpu, steps, dims),
            None => steps.iter().map(|step| wait_for(gpu, step, dims)).collect(),
        }
    }
}

impl Queries {
    fn run(mut self, gpu: &Gpu, steps: &[Step], dims: &BatchDims) -> Result<Vec<f64>, EngineError> {
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        let mut seconds = Vec::with_capacity(steps.len());
        let mut bits = Vec::new();
        for part in steps.chunks(self.capacity) {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            for (i, step) in part.iter().enumerate() {
                let at = 2 * i as u32;
                let timestamps = wgpu::ComputePassTimestampWrites {
                    query_set: &self.set,
                    beginning_of_pass_write_index: Some(at),
                    end_of_pass_write_index: Some(at + 1),
                };
                record_alone(&mut encoder, step, dims, Some(timestamps));
            }
            encoder.resolve_query_set(&self.set, 0..2 * part.len() as u32, &self.resolved, 0);
            // The staging buffer hands out floats; the timestamps are their bits.
            self.staging.copy(&mut encoder, &self.resolved, 0..4 * part.len());
            pollster::block_on(self.staging.read(gpu, encoder, DURING, Wait::Block, &mut bits))?;
            seconds.extend(bits.chunks_exact(4).map(|b| {
                let tick = |at: usize| u64::from(b[at].to_bits()) | u64::from(b[at + 1].to_bits()) << 32;
                tick(2).saturating_sub(tick(0)) as f64 * period
            }));
        }
        Ok(seconds)
    }
}

/// Seconds from submitting the step to the end of its execution.
fn wait_for(gpu: &Gpu, step: &Step, dims: &BatchDims) -> Result<f64, EngineError> {
    let begin = Instant::now();
    let index = gpu.scoped(DURING, || {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        record_alone(&mut encoder, step, dims, None);
        Ok(gpu.queue.submit([encoder.finish()]))
    })?;
    gpu.poll(Some(index), DURING)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn record_alone(
    encoder: &mut wgpu::CommandEncoder,
    step: &Step,
    dims: &BatchDims,
    timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
) {
    let label = Some(step.kernel());
    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes }).dispatch(step, dims);
}
