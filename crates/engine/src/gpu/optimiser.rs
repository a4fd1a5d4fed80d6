//! The optimiser on the device: parameters and moments in layout order, the maps between that and the kernels' layouts,
//! and the steps that turn gradients into new parameters. Invariant: a step with a value that is not finite changes
//! nothing, and every sum runs in a fixed tree.

use lwflow_shaders::Constants;

use super::pipeline::Bound;
use super::recording::{BatchDims, Grid, Recorder, Step, StepBuilder, record_all};
use super::{FlowBuffers, Gpu, Staging};
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
    pub settings: OptimiserSettings,
    /// Steps taken before the group that runs next.
    pub step: u64,
    n_params: u32,
    n_packed: u32,
    /// (3, n_params): p, m, v.
    pub state: wgpu::Buffer,
    proposed: wgpu::Buffer,
    /// The flat gradient (n_params).
    pub gradient: wgpu::Buffer,
    bounds: wgpu::Buffer,
    grad_map: wgpu::Buffer,
    pack_map: wgpu::Buffer,
    sums: wgpu::Buffer,
    verdict: wgpu::Buffer,
    /// Cursor and steps taken within the group.
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

fn groups(n: u32) -> u32 {
    n.div_ceil(4 * WORKGROUP).clamp(1, MAX_GROUPS)
}

impl Optimiser {
    /// An optimiser for `params`, each of which stays at or above its `least` value.
    pub fn new(
        gpu: &Gpu,
        settings: &OptimiserSettings,
        state: &OptimiserState,
        params: &[f32],
        least: &[f32],
        maps: &ParamMaps,
    ) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let n = params.len();
        let buffer = |name: &str, len: usize| gpu.buffer(&format!("optimiser/{name}"), len.max(4), usage);
        let optimiser = Self {
            settings: settings.clone(),
            step: state.step,
            n_params: n as u32,
            n_packed: maps.pack.len() as u32,
            state: buffer("state", 3 * n)?,
            proposed: buffer("proposed", 3 * n)?,
            gradient: buffer("gradient", n)?,
            bounds: buffer("bounds", 2 * n)?,
            grad_map: buffer("grad_map", n)?,
            pack_map: buffer("pack_map", maps.pack.len())?,
            sums: buffer("sums", 4 * 2 * MAX_GROUPS as usize)?,
            verdict: buffer("verdict", 4 * MAX_GROUPS as usize)?,
            progress: buffer("progress", 4)?,
        };
        let bounds: Vec<[f32; 2]> = settings
            .rate_scale
            .iter()
            .zip(least)
            .map(|(&scale, &least)| [scale, least.max(f32::MIN)])
            .collect();
        gpu.scoped("setting the optimiser", || {
            let write = |buffer, bytes: &[u8]| gpu.queue.write_buffer(buffer, 0, bytes);
            write(&optimiser.bounds, bytemuck::cast_slice(&bounds));
            write(&optimiser.grad_map, bytemuck::cast_slice(&maps.grad));
            write(&optimiser.pack_map, bytemuck::cast_slice(&maps.pack));
            let state = [params, &state.m, &state.v].concat();
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

    /// Replaces the parameters.
    pub fn write_params(&self, gpu: &Gpu, params: &[f32]) {
        gpu.queue.write_buffer(&self.state, 0, bytemuck::cast_slice(params));
    }

    /// Parameters, first and second moments, one after another.
    pub async fn read(&self, gpu: &Gpu, wait: super::Wait) -> Result<Vec<f32>, EngineError> {
        let len = 3 * self.n_params as usize;
        let mut staging = Staging::new(gpu, len.max(4))?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        staging.copy(&mut encoder, &self.state, len);
        let mut values = Vec::with_capacity(len);
        staging.read(gpu, encoder, "reading the optimiser's state", wait, &mut values).await?;
        Ok(values)
    }

    /// Learning rate and bias corrections of a group of steps, four floats each.
    pub fn schedule(&self, learning_rate: &[f64]) -> Vec<[f32; 4]> {
        let OptimiserSettings { beta1, beta2, .. } = self.settings;
        let correction = |beta: f64, t: f64| (1.0 - beta.powf(t)) as f32;
        learning_rate
            .iter()
            .zip(self.step + 1..)
            .map(|(&lr, t)| [lr as f32, correction(beta1, t as f64), correction(beta2, t as f64), 0.0])
            .collect()
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
        let (n_groups, loss_groups) = (groups(self.n_params), groups(batch.capacity as u32 / 4));
        let fixed = |groups: u32| Grid::Fixed { groups };

        let shape = [("first", n_groups.into()), ("n_groups", loss_groups.into())];
        let buffers = [
            ("weight", Bound::Read(&batch.weight)),
            ("log_q", Bound::Read(&batch.log_q)),
            ("sums", Bound::Write(&self.sums)),
        ];
        let loss = builder.step("weighted_loss", &constants, fixed(loss_groups), &shape, &buffers)?;

        let shape = [n_params, ("n_groups", n_groups.into())];
        let buffers = [
            ("grads", Bound::Read(&flow.grads)),
            ("grad_map", Bound::Read(&self.grad_map)),
            ("gradient", Bound::Write(&self.gradient)),
            ("sums", Bound::Write(&self.sums)),
        ];
        let norm = builder.step("gradient_norm", &constants, fixed(n_groups), &shape, &buffers)?;

        let OptimiserSettings { beta1, beta2, eps, clip_norm, .. } = self.settings;
        let shape = [
            n_params,
            ("n_groups", n_groups.into()),
            ("n_sums", (n_groups + loss_groups).into()),
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

        let shape = [n_params, ("n_packed", self.n_packed.into()), ("n_groups", n_groups.into())];
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
