//! A group of training steps of all flows as one submit: batches are gathered, gradients made and parameters moved on the device.
//! Invariant: nothing is read back but a row of the report per step; a group always begins by packing the mixture on
//! the device, so that a run in one go and one in parts give the same bits.

use lwflow_shaders::Constants;

use super::super::optimiser::{FlowStart, Optimiser, OptimiserPass, ParamMaps};
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
    draws: wgpu::Buffer,    // (steps, flows, samples, 3)
    schedule: wgpu::Buffer, // (steps, flows, 4)
    report: wgpu::Buffer,   // (steps, flows, 4)
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
    /// Whether the device's parameters of a flow are newer than the host's.
    ahead: Vec<bool>,
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
        let (d, c) = (self.dim, self.context_dim);
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

    /// Sets how the parameters of each flow move from here on, and its optimiser's state. The settings agree in all but the
    /// rates of single parameters.
    pub async fn run_set_optimiser(
        &mut self,
        settings: &[OptimiserSettings],
        states: &[OptimiserState],
        wait: Wait,
    ) -> Result<(), EngineError> {
        OptimiserSettings::check_group(settings, states, self.members.len())?;
        let mut starts = Vec::with_capacity(self.members.len());
        for (flow, (settings, state)) in settings.iter().zip(states).enumerate() {
            settings.check(state, self.layout(flow).len)?;
            let params = self.run_params(flow, wait).await?.to_vec();
            let mut least = vec![f32::NEG_INFINITY; params.len()];
            self.spec(flow).project(self.layout(flow), &mut least);
            starts.push(FlowStart { settings, state, params, least });
        }
        let maps = self.param_maps();
        self.training.optimiser = Some(Optimiser::new(&self.gpu, &starts, &maps)?);
        self.training.pass = None;
        Ok(())
    }

    /// The state of a flow's optimiser as it is now.
    pub async fn run_optimiser_state(
        &mut self,
        flow: usize,
        wait: Wait,
    ) -> Result<OptimiserState, EngineError> {
        let optimiser =
            self.training.optimiser.as_ref().ok_or(EngineError::NotSet { missing: "the optimiser" })?;
        let values = optimiser.read(&self.gpu, wait).await?;
        let n = self.layout(flow).len;
        let part = |j| optimiser.part(&values, flow, j)[..n].to_vec();
        Ok(OptimiserState { m: part(1), v: part(2), step: optimiser.step[flow] })
    }

    /// The parameters of a flow as they are now.
    pub async fn run_params(&mut self, flow: usize, wait: Wait) -> Result<&[f32], EngineError> {
        if let (Some(true), Some(optimiser)) =
            (self.training.ahead.get(flow).copied(), &self.training.optimiser)
        {
            let values = optimiser.read(&self.gpu, wait).await?;
            // One read is enough for all of them.
            for (f, member) in self.members.iter_mut().enumerate() {
                if let (true, Some(params)) = (self.training.ahead[f], &mut member.params) {
                    let n = params.len();
                    params.copy_from_slice(&optimiser.part(&values, f, 0)[..n]);
                }
            }
            self.training.ahead.fill(false);
        }
        self.host_params(flow, "params")
    }

    /// Tells the optimiser about parameters that the caller set.
    pub(super) fn replace_trained(&mut self, flow: usize, params: &[f32]) {
        if let Some(optimiser) = &self.training.optimiser {
            optimiser.write_params(&self.gpu, flow, params);
        }
        if let Some(ahead) = self.training.ahead.get_mut(flow) {
            *ahead = false;
        }
    }

    /// Number of the training points.
    pub(super) fn n_points(&self) -> Result<usize, EngineError> {
        self.training
            .data
            .as_ref()
            .map(|data| data.n_points)
            .ok_or(EngineError::NotSet { missing: "the data" })
    }

    /// How the parameters of each flow move.
    pub(super) fn optimiser_settings(&self) -> Result<Vec<OptimiserSettings>, EngineError> {
        let optimiser = self.training.optimiser.as_ref();
        optimiser.map(|o| o.settings.clone()).ok_or(EngineError::NotSet { missing: "the optimiser" })
    }

    /// Number of the steps, if they fit and everything is set for them.
    pub(super) fn check_steps(&self, steps: &TrainSteps<'_>) -> Result<usize, EngineError> {
        let n_steps = steps.check(self.n_points()?, self.members.len())?;
        self.optimiser_settings()?;
        let (b, n_flows) = (steps.batch_size, self.members.len());
        if self.flows_at_once(b) < n_flows {
            let what = "batches of a training step: number of samples".to_owned();
            return Err(EngineError::Limit {
                what,
                needed: (b * n_flows) as u64,
                limit: self.max_capacity as u64,
            });
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
        let n_flows = self.members.len();
        let b = steps.batch_size * n_flows;
        let flop = 6.0 * b as f64 * self.layout(self.widest).len as f64;
        let draws = (self.gpu.limits.max_storage_buffer_binding_size / (12 * b as u64)).max(1) as usize;
        let at_once = ((SUBMIT_FLOP / flop) as usize).clamp(1, SUBMIT_STEPS).min(draws);
        let mut report = StepsReport::default();
        for first in (0..n_steps).step_by(at_once) {
            let n = at_once.min(n_steps - first);
            let samples = first * b..(first + n) * b;
            let part = TrainSteps {
                batch_size: steps.batch_size,
                index: &steps.index[samples.clone()],
                weights: &steps.weights[samples.clone()],
                log_inv_proposal: steps.log_inv_proposal.map(|lv| &lv[samples]),
                learning_rate: &steps.learning_rate[first * n_flows..(first + n) * n_flows],
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
        let n_flows = self.members.len();
        ahead.clear();
        ahead.resize(n_flows, true);
        group.staging.copy(&mut encoder, &group.report, 0..4 * n_steps * n_flows);
        group.staging.read(&self.gpu, encoder, "training", wait, &mut self.download).await?;
        for (i, row) in self.download.chunks_exact(4).enumerate() {
            report.loss.push(row[0]);
            report.grad_norm.push(row[1]);
            report.taken.push(row[2] == 1.0);
            optimiser.step[i % n_flows] += u64::from(row[2] == 1.0);
        }
        Ok(())
    }

    /// Uploads a group of steps and begins its encoder.
    pub(super) fn begin_group(
        &mut self,
        steps: &TrainSteps<'_>,
        n_steps: usize,
    ) -> Result<(wgpu::CommandEncoder, BatchDims), EngineError> {
        let n_flows = self.members.len();
        let control = steps.log_inv_proposal.is_some();
        let dims = self.reserve(steps.batch_size, 0..n_flows, control, false)?;
        self.reserve_group(n_steps * n_flows * steps.batch_size, n_steps * n_flows)?;
        self.bind_training()?;
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
            bound.set_dims(&gpu, dims);
            gpu.queue.write_buffer(&group.draws, 0, bytemuck::cast_slice(&draws));
            gpu.queue.write_buffer(&group.schedule, 0, bytemuck::cast_slice(&schedule));
            gpu.queue.write_buffer(&optimiser.progress, 0, bytemuck::cast_slice(&vec![0_u32; 2 * n_flows]));
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

    /// Room for so many draws and so many steps, those of all flows counted.
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
        let base_at = self.layout(self.widest).base;
        let batch = &bound(&mut self.bound)?.batch;
        let mut builder = StepBuilder::new(&self.gpu, batch);
        let workgroup = self.choice.workgroup;
        let shape = [("dim", (self.dim as u32).into()), ("context_dim", (self.context_dim as u32).into())];
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
        let base =
            self.base.bind_training(&mut builder, place, base_at, optimiser.state(), optimiser.gradient())?;
        let optimiser = optimiser.bind(&mut builder, &self.buffers, &group.schedule, &group.report)?;
        self.training.pass = Some(TrainPass { generation: self.generation, gather, base, optimiser });
        Ok(())
    }

    /// What packing and unpacking do, as indices: both are pure copies, so indices go through them like values.
    fn param_maps(&self) -> ParamMaps {
        let len = self.layout(self.widest).len;
        let params: Vec<u32> = (1..=len as u32).collect();
        let grads: Vec<u32> = (1..=self.buffers.n_grads as u32).collect();
        let mut maps = ParamMaps { pack: vec![0; self.packed.len()], grad: vec![0; len] };
        for ((layer, to), from) in self.layers.iter().zip(&self.param_regions).zip(&self.grad_regions) {
            layer.pack(&params, &mut maps.pack[to.range()]);
            layer.unpack_grad(&grads[from.range()], &mut maps.grad);
        }
        maps
    }
}
