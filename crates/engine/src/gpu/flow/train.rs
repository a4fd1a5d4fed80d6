//! A group of training steps as one submit: batches are gathered, gradients made and parameters moved on the device.
//! Invariant: nothing is read back but a row of the report per step; a group always begins by packing the mixture on
//! the device, so that a run in one go and one in parts give the same bits.

use lwflow_shaders::Constants;

use super::super::optimiser::{Optimiser, OptimiserPass, ParamMaps};
use super::super::passes::BaseTraining;
use super::super::pipeline::Bound as Binding;
use super::super::recording::{Grid, Recorder, Step, StepBuilder};
use super::super::{BatchDims, Staging, Wait};
use super::run::{begin_pass, bound, to_device};
use super::{GpuFlow, ProfiledCall};
use crate::{EngineError, OptimiserSettings, OptimiserState, StepsReport, TrainSteps, rows};

/// Multiply-adds times six of one submit: a fraction of a second on a GPU, seconds on a software adapter. Drivers take
/// a submit that runs for long for a hang.
const SUBMIT_FLOP: f64 = 1e11;
/// Steps of one submit at most.
const SUBMIT_STEPS: usize = 256;

/// Training points on the device.
#[derive(Debug)]
struct Data {
    rows: wgpu::Buffer, // (n_points, D + C)
    n_points: usize,
}

/// What a group of steps needs room for.
#[derive(Debug)]
struct Group {
    draws: wgpu::Buffer,    // (steps, samples, 3)
    schedule: wgpu::Buffer, // (steps, 4)
    report: wgpu::Buffer,   // (steps, 4)
    staging: Staging,
    n_draws: usize,
    n_steps: usize,
}

/// The steps of one training step, made for one set of buffers.
#[derive(Debug)]
struct TrainPass {
    generation: u64,
    gather: Step,
    base: BaseTraining,
    optimiser: OptimiserPass,
}

/// Everything that training keeps on the device.
#[derive(Debug, Default)]
pub(super) struct Training {
    data: Option<Data>,
    optimiser: Option<Optimiser>,
    group: Option<Group>,
    pass: Option<TrainPass>,
    /// Whether the device's parameters are newer than the host's.
    ahead: bool,
}

#[cfg(test)]
impl Training {
    /// What the optimiser keeps for one step only.
    pub fn scratch(&self) -> Vec<&wgpu::Buffer> {
        self.optimiser.iter().flat_map(Optimiser::scratch).collect()
    }
}

impl GpuFlow {
    /// Puts the training points on the device.
    pub fn set_data(&mut self, theta: &[f32], context: &[f32]) -> Result<(), EngineError> {
        let (d, c) = (self.spec.dim, self.spec.context_dim);
        let n_points = rows::count("theta", theta, d)?;
        rows::check("theta", theta, n_points, d)?;
        rows::check("context", context, n_points, c)?;
        let mut values = Vec::with_capacity(n_points * (d + c));
        for (i, row) in theta.chunks_exact(d).enumerate() {
            values.extend_from_slice(row);
            values.extend_from_slice(&context[i * c..][..c]);
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.gpu.buffer("training/data", values.len().max(4), usage)?;
        self.gpu.scoped("uploading training points", || {
            self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
            Ok(())
        })?;
        self.training.data = Some(Data { rows: buffer, n_points });
        self.training.pass = None;
        Ok(())
    }

    /// Sets how the parameters move from here on, and the optimiser's state.
    pub async fn run_set_optimiser(
        &mut self,
        settings: &OptimiserSettings,
        state: &OptimiserState,
        wait: Wait,
    ) -> Result<(), EngineError> {
        settings.check(state, self.layout.len)?;
        let params = self.run_params(wait).await?;
        let mut least = vec![f32::NEG_INFINITY; self.layout.len];
        self.spec.project(&self.layout, &mut least);
        let maps = self.param_maps();
        let optimiser = Optimiser::new(&self.gpu, settings, state, &params, &least, &maps)?;
        self.training.optimiser = Some(optimiser);
        self.training.pass = None;
        Ok(())
    }

    /// The parameters and the optimiser's state as they are now.
    pub async fn run_optimiser_state(&mut self, wait: Wait) -> Result<OptimiserState, EngineError> {
        let optimiser =
            self.training.optimiser.as_ref().ok_or(EngineError::NotSet { missing: "the optimiser" })?;
        let values = optimiser.read(&self.gpu, wait).await?;
        let n = self.layout.len;
        Ok(OptimiserState { m: values[n..2 * n].to_vec(), v: values[2 * n..].to_vec(), step: optimiser.step })
    }

    /// The parameters as they are now.
    pub async fn run_params(&mut self, wait: Wait) -> Result<Vec<f32>, EngineError> {
        let params = self.params.as_mut().ok_or(EngineError::NoParams { call: "params" })?;
        if let (true, Some(optimiser)) = (self.training.ahead, &self.training.optimiser) {
            let values = optimiser.read(&self.gpu, wait).await?;
            let n = params.len();
            params.copy_from_slice(&values[..n]);
            self.training.ahead = false;
        }
        Ok(params.clone())
    }

    /// Tells the optimiser about parameters that the caller set.
    pub(super) fn replace_trained(&mut self, params: &[f32]) {
        if let Some(optimiser) = &self.training.optimiser {
            optimiser.write_params(&self.gpu, params);
        }
        self.training.ahead = false;
    }

    /// Number of the training points.
    pub(super) fn n_points(&self) -> Result<usize, EngineError> {
        self.training
            .data
            .as_ref()
            .map(|data| data.n_points)
            .ok_or(EngineError::NotSet { missing: "the data" })
    }

    /// How the parameters move.
    pub(super) fn optimiser_settings(&self) -> Result<OptimiserSettings, EngineError> {
        let optimiser = self.training.optimiser.as_ref();
        optimiser.map(|o| o.settings.clone()).ok_or(EngineError::NotSet { missing: "the optimiser" })
    }

    /// Number of the steps, if they fit and everything is set for them.
    pub(super) fn check_steps(&self, steps: &TrainSteps<'_>) -> Result<usize, EngineError> {
        let n_steps = steps.check(self.n_points()?)?;
        self.optimiser_settings()?;
        let b = steps.batch_size;
        if b > self.max_capacity {
            let what = "batch of a training step: number of samples".to_owned();
            return Err(EngineError::Limit { what, needed: b as u64, limit: self.max_capacity as u64 });
        }
        Ok(n_steps)
    }

    /// Makes the steps one after another, as many per submit as the device should run at a time.
    pub async fn run_train_steps(
        &mut self,
        steps: &TrainSteps<'_>,
        wait: Wait,
    ) -> Result<StepsReport, EngineError> {
        let n_steps = self.check_steps(steps)?;
        let b = steps.batch_size;
        let flop = 6.0 * b as f64 * self.layout.len as f64;
        let draws = (self.gpu.limits.max_storage_buffer_binding_size / (12 * b as u64)).max(1) as usize;
        let at_once = ((SUBMIT_FLOP / flop) as usize).clamp(1, SUBMIT_STEPS).min(draws);
        let mut report = StepsReport::default();
        for first in (0..n_steps).step_by(at_once) {
            let n = at_once.min(n_steps - first);
            let samples = first * b..(first + n) * b;
            let part = TrainSteps {
                batch_size: b,
                index: &steps.index[samples.clone()],
                weights: &steps.weights[samples.clone()],
                log_inv_proposal: steps.log_inv_proposal.map(|lv| &lv[samples]),
                learning_rate: &steps.learning_rate[first..first + n],
            };
            self.run_group(&part, n, wait, &mut report).await?;
        }
        Ok(report)
    }

    async fn run_group(
        &mut self,
        steps: &TrainSteps<'_>,
        n_steps: usize,
        wait: Wait,
        report: &mut StepsReport,
    ) -> Result<(), EngineError> {
        let (mut encoder, dims) = self.begin_group(steps, n_steps)?;
        self.record_group(n_steps, &mut begin_pass(&mut encoder, "training"), &dims)?;
        let Training { optimiser: Some(optimiser), group: Some(group), ahead, .. } = &mut self.training
        else {
            return Err(EngineError::NotSet { missing: "the optimiser" });
        };
        *ahead = true;
        group.staging.copy(&mut encoder, &group.report, 4 * n_steps);
        group.staging.read(&self.gpu, encoder, "training", wait, &mut self.download).await?;
        for row in self.download.chunks_exact(4) {
            report.loss.push(row[0]);
            report.grad_norm.push(row[1]);
            report.taken.push(row[2] == 1.0);
            optimiser.step += u64::from(row[2] == 1.0);
        }
        Ok(())
    }

    /// Uploads a group of steps and begins its encoder.
    pub(super) fn begin_group(
        &mut self,
        steps: &TrainSteps<'_>,
        n_steps: usize,
    ) -> Result<(wgpu::CommandEncoder, BatchDims), EngineError> {
        self.reserve(steps.batch_size)?;
        self.reserve_group(n_steps * steps.batch_size, n_steps)?;
        self.bind_training()?;
        let dims = BatchDims::new(steps.batch_size, self.max_chunks, steps.log_inv_proposal.is_some(), false);
        let gpu = self.gpu.clone();
        let bound = bound(&mut self.bound)?;
        let Training { optimiser: Some(optimiser), group: Some(group), .. } = &self.training else {
            return Err(EngineError::NotSet { missing: "the optimiser" });
        };
        let draws: Vec<[u32; 3]> = steps
            .index
            .iter()
            .zip(steps.weights)
            .enumerate()
            .map(|(i, (&p, w))| {
                let lv = steps.log_inv_proposal.map_or(0.0, |lv| to_device(lv[i]));
                [p, w.to_bits(), lv.to_bits()]
            })
            .collect();
        let schedule = optimiser.schedule(steps.learning_rate);
        let encoder = gpu.scoped("uploading training steps", || {
            if bound.dims != Some(dims) {
                bound.batch.write_dims(&gpu, &dims);
                bound.dims = Some(dims);
            }
            gpu.queue.write_buffer(&group.draws, 0, bytemuck::cast_slice(&draws));
            gpu.queue.write_buffer(&group.schedule, 0, bytemuck::cast_slice(&schedule));
            gpu.queue.write_buffer(&optimiser.progress, 0, bytemuck::cast_slice(&[0_u32; 4]));
            Ok(gpu.device.create_command_encoder(&Default::default()))
        })?;
        Ok((encoder, dims))
    }

    /// Records the dispatches of a group of steps.
    pub(super) fn record_group(
        &mut self,
        n_steps: usize,
        recorder: &mut impl Recorder,
        dims: &BatchDims,
    ) -> Result<(), EngineError> {
        let bound = bound(&mut self.bound)?;
        let Some(pass) = &self.training.pass else {
            return Err(EngineError::NotSet { missing: "the optimiser" });
        };
        pass.base.record_pack(recorder, dims);
        for _ in 0..n_steps {
            recorder.dispatch(&pass.gather, dims);
            bound.record(ProfiledCall::TrainSteps, recorder, dims);
            pass.base.record_gradient(recorder, dims);
            pass.optimiser.record(recorder, dims);
            pass.base.record_pack(recorder, dims);
        }
        Ok(())
    }

    fn reserve_group(&mut self, n_draws: usize, n_steps: usize) -> Result<(), EngineError> {
        if self.training.group.as_ref().is_some_and(|g| g.n_draws >= n_draws && g.n_steps >= n_steps) {
            return Ok(());
        }
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let gpu = &*self.gpu;
        self.training.group = Some(Group {
            draws: gpu.buffer("training/draws", 3 * n_draws, usage)?,
            schedule: gpu.buffer("training/schedule", 4 * n_steps, usage)?,
            report: gpu.buffer("training/report", 4 * n_steps, usage)?,
            staging: Staging::new(gpu, 4 * n_steps)?,
            n_draws,
            n_steps,
        });
        self.training.pass = None;
        Ok(())
    }

    fn bind_training(&mut self) -> Result<(), EngineError> {
        if self.training.pass.as_ref().is_some_and(|p| p.generation == self.generation) {
            return Ok(());
        }
        let Training { data: Some(data), optimiser: Some(optimiser), group: Some(group), .. } =
            &self.training
        else {
            return Err(EngineError::NotSet { missing: "the data" });
        };
        let batch = &bound(&mut self.bound)?.batch;
        let mut builder = StepBuilder::new(&self.gpu, batch);
        let workgroup = self.choice.workgroup;
        let shape =
            [("dim", (self.spec.dim as u32).into()), ("context_dim", (self.spec.context_dim as u32).into())];
        let buffers = [
            ("progress", Binding::Read(&optimiser.progress)),
            ("draws", Binding::Read(&group.draws)),
            ("data", Binding::Read(&data.rows)),
            ("x", Binding::Write(&batch.x)),
            ("context", Binding::Write(&batch.context)),
            ("weight", Binding::Write(&batch.weight)),
            ("log_inv_proposal", Binding::Write(&batch.log_inv_proposal)),
            ("log_det", Binding::Write(&batch.log_det)),
        ];
        let grid = Grid::Samples { vec4s: workgroup, rows: 1 };
        let constants = Constants::new().with("workgroup", workgroup);
        let gather = builder.step("gather_batch", &constants, grid, &shape, &buffers)?;
        let place = super::place(&self.buffers, &self.param_regions, &self.grad_regions, self.layers.len());
        let base = self.base.bind_training(
            &mut builder,
            place,
            self.layout.base,
            &optimiser.state,
            &optimiser.gradient,
        )?;
        let optimiser = optimiser.bind(&mut builder, &self.buffers, &group.schedule, &group.report)?;
        self.training.pass = Some(TrainPass { generation: self.generation, gather, base, optimiser });
        Ok(())
    }

    /// What packing and unpacking do, as indices: both are pure copies, so indices go through them like values.
    fn param_maps(&self) -> ParamMaps {
        let params: Vec<u32> = (1..=self.layout.len as u32).collect();
        let grads: Vec<u32> = (1..=self.n_grads as u32).collect();
        let mut maps = ParamMaps { pack: vec![0; self.packed.len()], grad: vec![0; self.layout.len] };
        for ((layer, to), from) in self.layers.iter().zip(&self.param_regions).zip(&self.grad_regions) {
            layer.pack(&params, &mut maps.pack[to.range()]);
            layer.unpack_grad(&grads[from.range()], &mut maps.grad);
        }
        maps
    }
}
