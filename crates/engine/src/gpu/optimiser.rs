//! The optimiser on the device: parameters and moments of all flows in layout order, the maps between that and the kernels' layouts,
//! and the steps that turn gradients into new parameters. Invariant: a step with a value that is not finite changes
//! nothing, and every sum runs in a fixed tree.

use lwflow_shaders::Constants;

use super::pipeline::Bound;
use super::recording::{BatchDims, Grid, Recorder, Step, StepBuilder, record_all};
use super::{FlowBuffers, Gpu, Region, Span, Staging};
use crate::{EngineError, OptimiserSettings, OptimiserState};

/// Lanes of the kernels that sum over a workgroup.
const WORKGROUP: u32 = 64;
/// Most workgroups that share a sum; every workgroup of the next kernel reads all of them.
const MAX_GROUPS: u32 = 256;

/// Where parameters and gradients lie in the kernels' layouts, counted from one; zero is no place.
#[derive(Debug, Default)]
pub(crate) struct ParamMaps {
    /// Per packed float, its parameter.
    pub pack: Vec<u32>,
    /// Per parameter, its packed gradient; zero where a kernel writes the flat gradient itself.
    pub grad: Vec<u32>,
}

/// Buffers of the optimiser; all but `state` live for one step.
#[derive(Debug)]
pub(crate) struct Optimiser {
    pub settings: Vec<OptimiserSettings>,
    /// Steps that each flow has taken before the group that runs next.
    pub step: Vec<u64>,
    /// Of the flow with the most.
    n_params: u32,
    n_packed: u32,
    /// (flows, 3, n_params): p, m, v.
    state: wgpu::Buffer,
    proposed: wgpu::Buffer,
    /// The flat gradients (flows, n_params).
    gradient: wgpu::Buffer,
    bounds: wgpu::Buffer,
    grad_map: wgpu::Buffer,
    pack_map: wgpu::Buffer,
    sums: wgpu::Buffer,
    verdict: wgpu::Buffer,
    /// Cursor and steps taken within the group, of each flow.
    pub progress: wgpu::Buffer,
}

/// The recorded steps that end a training step.
#[derive(Debug)]
pub(crate) struct OptimiserPass(Vec<Step>);

impl OptimiserPass {
    /// From log_q and gradients to parameters in the kernels' layouts.
    pub fn record(&self, pass: &mut impl Recorder, dims: &BatchDims) {
        record_all(&self.0, pass, dims);
    }
}

/// What one flow's part of the optimiser begins with.
#[derive(Debug)]
pub(crate) struct FlowStart<'a> {
    pub settings: &'a OptimiserSettings,
    pub state: &'a OptimiserState,
    pub params: Vec<f32>,
    /// Each parameter stays at or above this.
    pub least: Vec<f32>,
}

fn groups(n: u32) -> u32 {
    n.div_ceil(4 * WORKGROUP).clamp(1, MAX_GROUPS)
}

impl Optimiser {
    /// An optimiser for flows that differ in nothing but their parameters and the number of them; `maps` are those of
    /// the flow with the most.
    pub fn new(gpu: &Gpu, flows: &[FlowStart<'_>], maps: &ParamMaps) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let (n, f) = (maps.grad.len(), flows.len());
        let buffer = |name: &str, len: usize| gpu.buffer(&format!("optimiser/{name}"), len.max(4), usage);
        let optimiser = Self {
            settings: flows.iter().map(|flow| flow.settings.clone()).collect(),
            step: flows.iter().map(|flow| flow.state.step).collect(),
            n_params: n as u32,
            n_packed: maps.pack.len() as u32,
            state: buffer("state", 3 * n * f)?,
            proposed: buffer("proposed", 3 * n * f)?,
            gradient: buffer("gradient", n * f)?,
            bounds: buffer("bounds", 2 * n * f)?,
            grad_map: buffer("grad_map", n)?,
            pack_map: buffer("pack_map", maps.pack.len())?,
            sums: buffer("sums", 4 * 2 * MAX_GROUPS as usize * f)?,
            verdict: buffer("verdict", 4 * MAX_GROUPS as usize * f)?,
            progress: buffer("progress", 2 * f)?,
        };
        let (mut bounds, mut state) = (vec![[0.0, f32::MIN]; n * f], vec![0.0; 3 * n * f]);
        for (k, flow) in flows.iter().enumerate() {
            for (to, (&scale, &least)) in
                bounds[k * n..].iter_mut().zip(flow.settings.rate_scale.iter().zip(&flow.least))
            {
                *to = [scale, least.max(f32::MIN)];
            }
            for (j, values) in [&flow.params, &flow.state.m, &flow.state.v].into_iter().enumerate() {
                state[(3 * k + j) * n..][..values.len()].copy_from_slice(values);
            }
        }
        gpu.scoped("setting the optimiser", || {
            let write = |buffer, bytes: &[u8]| gpu.queue.write_buffer(buffer, 0, bytes);
            write(&optimiser.bounds, bytemuck::cast_slice(&bounds));
            write(&optimiser.grad_map, bytemuck::cast_slice(&maps.grad));
            write(&optimiser.pack_map, bytemuck::cast_slice(&maps.pack));
            write(&optimiser.state, bytemuck::cast_slice(&state));
            Ok(())
        })?;
        Ok(optimiser)
    }

    /// What lives for one step, for tests that fill it.
    #[cfg(test)]
    pub fn scratch(&self) -> [&wgpu::Buffer; 3] {
        [&self.proposed, &self.sums, &self.verdict]
    }

    /// Replaces the parameters of a flow.
    pub fn write_params(&self, gpu: &Gpu, flow: usize, params: &[f32]) {
        let offset = 12 * u64::from(self.n_params) * flow as u64;
        gpu.queue.write_buffer(&self.state, offset, bytemuck::cast_slice(params));
    }

    /// Parameters, first and second moments as they lie on the device, `[flows, 3, most parameters]`.
    pub async fn read(&self, gpu: &Gpu, wait: super::Wait) -> Result<Vec<f32>, EngineError> {
        let len = 3 * self.n_params as usize * self.step.len();
        let mut staging = Staging::new(gpu, len.max(4))?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        staging.copy(&mut encoder, &self.state, 0..len);
        let mut values = Vec::with_capacity(len);
        staging.read(gpu, encoder, "reading the optimiser's state", wait, &mut values).await?;
        Ok(values)
    }

    /// Row `j` (parameters, first or second moments) of a flow in what [`Optimiser::read`] gives.
    pub fn part<'a>(&self, values: &'a [f32], flow: usize, j: usize) -> &'a [f32] {
        let n = self.n_params as usize;
        &values[(3 * flow + j) * n..][..n]
    }

    /// Everything that a step reads and moves, flow by flow.
    pub fn state(&self) -> Span<'_> {
        self.span(&self.state, 3 * self.n_params as usize)
    }

    /// The flat gradients, flow by flow.
    pub fn gradient(&self) -> Span<'_> {
        self.span(&self.gradient, self.n_params as usize)
    }

    fn span<'a>(&self, buffer: &'a wgpu::Buffer, stride: usize) -> Span<'a> {
        Span { buffer, region: Region { offset: 0, len: stride }, stride, n_flows: self.step.len() }
    }

    /// Learning rates `[steps, flows]` and bias corrections of a group of steps, four floats each.
    pub fn schedule(&self, learning_rate: &[f64]) -> Vec<[f32; 4]> {
        let correction = |beta: f64, t: u64| (1.0 - beta.powf(t as f64)) as f32;
        let n_flows = self.step.len();
        let rows = learning_rate.iter().enumerate().map(|(i, &lr)| {
            let (step, flow) = (i / n_flows, i % n_flows);
            let t = self.step[flow] + 1 + step as u64;
            let OptimiserSettings { beta1, beta2, .. } = self.settings[flow];
            [lr as f32, correction(beta1, t), correction(beta2, t), 0.0]
        });
        rows.collect()
    }

    /// Makes the steps. `schedule` and `report` have a row per step of a group.
    pub fn bind(
        &self,
        builder: &mut StepBuilder<'_>,
        flow: &FlowBuffers,
        schedule: &wgpu::Buffer,
        report: &wgpu::Buffer,
    ) -> Result<OptimiserPass, EngineError> {
        let constants = Constants::new().with("workgroup", WORKGROUP);
        let batch = builder.batch;
        let n_params = ("n_params", self.n_params.into());
        let n_flows = self.step.len() as u32;
        let (n_groups, loss_groups) = (groups(self.n_params), groups(batch.capacity as u32 / n_flows / 4));
        let fixed = |groups: u32| Grid::Flows { groups };
        let n_sums = ("n_sums", (n_groups + loss_groups).into());

        let shape = [("first", n_groups.into()), ("n_groups", loss_groups.into()), n_sums];
        let buffers = [
            ("weight", Bound::Read(&batch.weight)),
            ("log_q", Bound::Read(&batch.log_q)),
            ("sums", Bound::Write(&self.sums)),
        ];
        let loss = builder.step("weighted_loss", &constants, fixed(loss_groups), &shape, &buffers)?;

        let n_grads = ("n_grads", (flow.n_grads as u32).into());
        let shape = [n_params, ("n_groups", n_groups.into()), n_sums, n_grads];
        let buffers = [
            ("grads", Bound::Read(&flow.grads)),
            ("grad_map", Bound::Read(&self.grad_map)),
            ("gradient", Bound::Write(&self.gradient)),
            ("sums", Bound::Write(&self.sums)),
        ];
        let norm = builder.step("gradient_norm", &constants, fixed(n_groups), &shape, &buffers)?;

        let Some(&OptimiserSettings { beta1, beta2, eps, clip_norm, .. }) = self.settings.first() else {
            return Err(EngineError::NotSet { missing: "the optimiser" });
        };
        let shape = [
            n_params,
            ("n_groups", n_groups.into()),
            ("n_flows", n_flows.into()),
            n_sums,
            ("clip_norm", (clip_norm.unwrap_or(0.0) as f32).into()),
            ("beta1", (beta1 as f32).into()),
            ("one_minus_beta1", ((1.0 - beta1) as f32).into()),
            ("beta2", (beta2 as f32).into()),
            ("one_minus_beta2", ((1.0 - beta2) as f32).into()),
            ("eps", (eps as f32).into()),
        ];
        let buffers = [
            ("progress", Bound::Read(&self.progress)),
            ("schedule", Bound::Read(schedule)),
            ("sums", Bound::Read(&self.sums)),
            ("gradient", Bound::Read(&self.gradient)),
            ("bounds", Bound::Read(&self.bounds)),
            ("state", Bound::Read(&self.state)),
            ("proposed", Bound::Write(&self.proposed)),
            ("verdict", Bound::Write(&self.verdict)),
        ];
        let propose = builder.step("adam_propose", &constants, fixed(n_groups), &shape, &buffers)?;

        let shape = [
            n_params,
            ("n_packed", self.n_packed.into()),
            ("n_groups", n_groups.into()),
            ("n_flows", n_flows.into()),
        ];
        let buffers = [
            ("verdict", Bound::Read(&self.verdict)),
            ("proposed", Bound::Read(&self.proposed)),
            ("pack_map", Bound::Read(&self.pack_map)),
            ("state", Bound::Write(&self.state)),
            ("packed", Bound::Write(&flow.params)),
            ("progress", Bound::Write(&self.progress)),
            ("report", Bound::Write(report)),
        ];
        let grid = fixed(self.n_params.max(self.n_packed).div_ceil(WORKGROUP));
        let commit = builder.step("adam_commit", &constants, grid, &shape, &buffers)?;
        Ok(OptimiserPass(vec![loss, norm, propose, commit]))
    }
}
