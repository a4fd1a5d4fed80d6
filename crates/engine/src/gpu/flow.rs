//! Flows of one structure on a device of wgpu, one or several: splits batches into pieces, moves rows in and out, and keeps
//! every buffer, bind group and pipeline between calls. Invariant: results do not depend on earlier calls, only on the
//! parameters and arguments, and those of one flow not on the others beside it.

use std::sync::Arc;

use lwflow_model::{FlowSpec, ParamLayout};

use super::{
    BasePass, BasePlan, BatchBuffers, BatchDims, FlowBuffers, Gpu, LayerPass, LayerPlan, Need, Place, Region,
    SAMPLE_PAD, Staging,
};
use crate::{EngineError, EngineSettings, KernelChoice, KernelPath, rows};

mod on_device;
mod prepare;
mod profile;
mod run;
mod train;

pub use profile::ProfiledCall;

/// Everything whose size depends on the capacity of a piece.
#[derive(Debug)]
struct Bound {
    batch: BatchBuffers,
    layers: Vec<LayerPass>,
    base: BasePass,
    staging: Staging,
    dims: Option<BatchDims>,
}

/// One flow of those on the device.
#[derive(Debug)]
struct Member {
    spec: FlowSpec,
    layout: ParamLayout,
    params: Option<Vec<f32>>,
}

/// Flows on a device of wgpu.
#[derive(Debug)]
pub(crate) struct GpuFlow {
    gpu: Arc<Gpu>,
    members: Vec<Member>,
    /// Place in `members` of the flow with the most parameters.
    widest: usize,
    dim: usize,
    context_dim: usize,
    layers: Vec<LayerPlan>,
    base: BasePlan,
    param_regions: Vec<Region>,
    grad_regions: Vec<Region>,
    buffers: FlowBuffers,
    need: Need,
    /// Most chunks of one flow's samples, and of those of all flows together.
    max_chunks: usize,
    total_chunks: usize,
    max_capacity: usize,
    choice: KernelChoice,
    bound: Option<Bound>,
    /// Counts the times that `bound` was made anew.
    generation: u64,
    training: train::Training,
    packed: Vec<f32>,
    upload: Vec<f32>,
    download: Vec<f32>,
}

impl GpuFlow {
    /// Prepares flows of `specs`, at least one, that agree in all but the number of components of their bases.
    pub(crate) fn new(
        gpu: Arc<Gpu>,
        settings: &EngineSettings,
        specs: &[FlowSpec],
        choice: KernelChoice,
    ) -> Result<Self, EngineError> {
        let mut members = Vec::with_capacity(specs.len());
        for spec in specs {
            spec.validate()?;
            members.push(Member { spec: spec.clone(), layout: ParamLayout::new(spec), params: None });
        }
        let widest = (0..members.len()).max_by_key(|&f| members[f].layout.len).unwrap_or_default();
        let Member { spec, layout, .. } = &members[widest];
        let (dim, context_dim) = (spec.dim, spec.context_dim);
        let layers: Vec<LayerPlan> = spec
            .layers
            .iter()
            .zip(&layout.layers)
            .enumerate()
            .map(|(l, (layer, linears))| LayerPlan::new(spec, l, layer, linears, &gpu, &choice))
            .collect();
        let base = BasePlan::new(specs, &choice);
        let mut need = base.need();
        for layer in &layers {
            need.merge(&layer.need());
        }
        let (param_regions, n_params) =
            Region::sequence(layers.iter().map(LayerPlan::n_params).chain([base.n_params()]));
        let (grad_regions, n_grads) =
            Region::sequence(layers.iter().map(LayerPlan::n_grads).chain([base.n_grads()]));
        let (total_chunks, max_capacity) = capacity(&gpu, settings, spec, &need)?;
        let max_chunks = total_chunks.min(choice.chunks as usize);
        let buffers = FlowBuffers::new(&gpu, specs.len(), n_params, n_grads)?;
        Ok(Self {
            gpu,
            members,
            widest,
            dim,
            context_dim,
            layers,
            base,
            param_regions,
            grad_regions,
            buffers,
            need,
            max_chunks,
            total_chunks,
            max_capacity,
            choice,
            bound: None,
            generation: 0,
            training: train::Training::default(),
            packed: vec![0.0; n_params],
            upload: Vec::new(),
            download: Vec::new(),
        })
    }

    /// Number of the flows.
    pub fn n_flows(&self) -> usize {
        self.members.len()
    }

    /// A flow's specification.
    pub fn spec(&self, flow: usize) -> &FlowSpec {
        &self.members[flow].spec
    }

    /// The layout of a flow's flat parameter vector.
    pub fn layout(&self, flow: usize) -> &ParamLayout {
        &self.members[flow].layout
    }

    /// A flow's parameters as the host knows them.
    fn host_params(&self, flow: usize, call: &'static str) -> Result<&[f32], EngineError> {
        self.members[flow].params.as_deref().ok_or(EngineError::NoParams { call })
    }

    /// Samples that are on the device at once; larger batches run in pieces of this size.
    #[must_use]
    pub fn piece_samples(&self) -> usize {
        self.max_capacity
    }

    /// The kernels that it really uses: fused if any layer is.
    #[must_use]
    pub fn choice(&self) -> KernelChoice {
        let fused = self.layers.iter().any(LayerPlan::is_fused);
        let path = if fused { KernelPath::Fused } else { KernelPath::Tiled };
        KernelChoice { path, ..self.choice }
    }

    /// Sets the parameters of a flow, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] if the vector does not fit; the old one stays.
    pub fn set_params(&mut self, flow: usize, params: &[f32]) -> Result<(), EngineError> {
        let layout = &self.members[flow].layout;
        rows::check("params", params, 1, layout.len)?;
        for (layer, region) in self.layers.iter().zip(&self.param_regions) {
            layer.pack(params, &mut self.packed[region.range()]);
        }
        if let Some(region) = self.param_regions.last() {
            self.base.pack(flow, &params[layout.base..], &mut self.packed[region.range()]);
        }
        self.gpu.scoped("setting parameters", || {
            let offset = 4 * (flow * self.buffers.n_params) as u64;
            self.gpu.queue.write_buffer(&self.buffers.params, offset, bytemuck::cast_slice(&self.packed));
            Ok(())
        })?;
        self.replace_trained(flow, params);
        let kept = self.members[flow].params.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(params);
        Ok(())
    }
}

/// The regions of layer `l`, or of the base behind the last layer.
fn place<'a>(buffers: &'a FlowBuffers, params: &[Region], grads: &[Region], l: usize) -> Place<'a> {
    Place { params: buffers.params(params[l]), grads: buffers.grads(grads[l]) }
}

/// Chunks of gradient sums and samples per piece that the device's limits and the settings allow.
fn capacity(
    gpu: &Gpu,
    settings: &EngineSettings,
    spec: &FlowSpec,
    need: &Need,
) -> Result<(usize, usize), EngineError> {
    // Indices are u32 and count floats.
    let binding = gpu.limits.max_storage_buffer_binding_size.min(gpu.limits.max_buffer_size).min(4 << 32);
    let chunk_bytes = 4 * need.partial.max(1) as u64;
    if chunk_bytes > binding {
        let what = "gradient of one layer: number of bytes".to_owned();
        return Err(EngineError::Limit { what, needed: chunk_bytes, limit: binding });
    }
    // As many workgroups as a dispatch may have.
    let groups = u64::from(gpu.limits.max_compute_workgroups_per_dimension);
    let total_chunks = (binding / chunk_bytes).min(groups) as usize;

    let sample_bytes = 4 * BatchBuffers::largest_rows(spec.dim, spec.context_dim, need) as u64;
    let piece_bytes = sample_bytes * SAMPLE_PAD as u64;
    if piece_bytes > binding {
        let what = format!("{SAMPLE_PAD} samples of the widest layer: number of bytes");
        return Err(EngineError::Limit { what, needed: piece_bytes, limit: binding });
    }
    let total_bytes = 4 * BatchBuffers::total_rows(spec.dim, spec.context_dim, need) as u64;
    // One workgroup covers at least 8 lanes of one vec4.
    let dispatch = u64::from(gpu.limits.max_compute_workgroups_per_dimension) * 32;
    let samples = (binding / sample_bytes)
        .min(settings.scratch_bytes / total_bytes)
        .min(dispatch)
        .min(settings.piece_samples.map_or(u64::MAX, |n| n as u64));
    let samples = (samples as usize / SAMPLE_PAD * SAMPLE_PAD).max(SAMPLE_PAD);
    Ok((total_chunks, samples))
}

#[cfg(test)]
mod tests;
