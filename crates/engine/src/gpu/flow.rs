//! One flow on a device of wgpu: splits batches into pieces, moves rows in and out, and keeps every buffer, bind group
//! and pipeline between calls. Invariant: results do not depend on earlier calls, only on the parameters and arguments.

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

/// A flow on a device of wgpu.
#[derive(Debug)]
pub(crate) struct GpuFlow {
    gpu: Arc<Gpu>,
    spec: FlowSpec,
    layout: ParamLayout,
    layers: Vec<LayerPlan>,
    base: BasePlan,
    param_regions: Vec<Region>,
    grad_regions: Vec<Region>,
    n_grads: usize,
    buffers: FlowBuffers,
    need: Need,
    max_chunks: usize,
    max_capacity: usize,
    choice: KernelChoice,
    bound: Option<Bound>,
    /// Counts the times that `bound` was made anew.
    generation: u64,
    training: train::Training,
    params: Option<Vec<f32>>,
    packed: Vec<f32>,
    upload: Vec<f32>,
    download: Vec<f32>,
}

impl GpuFlow {
    pub(crate) fn new(
        gpu: Arc<Gpu>,
        settings: &EngineSettings,
        spec: &FlowSpec,
        choice: KernelChoice,
    ) -> Result<Self, EngineError> {
        spec.validate()?;
        let layout = ParamLayout::new(spec);
        let layers: Vec<LayerPlan> = spec
            .layers
            .iter()
            .zip(&layout.layers)
            .enumerate()
            .map(|(l, (layer, linears))| LayerPlan::new(spec, l, layer, linears, &gpu, &choice))
            .collect();
        let base = BasePlan::new(spec, &choice);
        let mut need = base.need();
        for layer in &layers {
            need.merge(&layer.need());
        }
        let (param_regions, n_params) =
            Region::sequence(layers.iter().map(LayerPlan::n_params).chain([base.n_params()]));
        let (grad_regions, n_grads) =
            Region::sequence(layers.iter().map(LayerPlan::n_grads).chain([base.n_grads()]));
        let (max_chunks, max_capacity) = capacity(&gpu, settings, choice.chunks, spec, &need)?;
        let buffers = FlowBuffers::new(&gpu, n_params, n_grads)?;
        Ok(Self {
            gpu,
            spec: spec.clone(),
            layout,
            layers,
            base,
            param_regions,
            grad_regions,
            n_grads,
            buffers,
            need,
            max_chunks,
            max_capacity,
            choice,
            bound: None,
            generation: 0,
            training: train::Training::default(),
            params: None,
            packed: vec![0.0; n_params],
            upload: Vec::new(),
            download: Vec::new(),
        })
    }

    /// The flow's specification.
    #[must_use]
    pub fn spec(&self) -> &FlowSpec {
        &self.spec
    }

    /// The layout of the flat parameter vector.
    #[must_use]
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
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

    /// Sets the parameters, a flat vector in the order of [`ParamLayout`].
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] if the vector does not fit; the old one stays.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        rows::check("params", params, 1, self.layout.len)?;
        for (layer, region) in self.layers.iter().zip(&self.param_regions) {
            layer.pack(params, &mut self.packed[region.range()]);
        }
        if let Some(region) = self.param_regions.last() {
            self.base.pack(&params[self.layout.base..], &mut self.packed[region.range()]);
        }
        self.gpu.scoped("setting parameters", || {
            self.gpu.queue.write_buffer(&self.buffers.params, 0, bytemuck::cast_slice(&self.packed));
            Ok(())
        })?;
        self.replace_trained(params);
        let kept = self.params.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(params);
        Ok(())
    }
}

/// The regions of layer `l`, or of the base behind the last layer.
fn place<'a>(buffers: &'a FlowBuffers, params: &[Region], grads: &[Region], l: usize) -> Place<'a> {
    Place { params: (&buffers.params, params[l]), grads: (&buffers.grads, grads[l]) }
}

/// Chunks of gradient sums and samples per piece that the device's limits and the settings allow.
fn capacity(
    gpu: &Gpu,
    settings: &EngineSettings,
    chunks: u32,
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
    let max_chunks = (binding / chunk_bytes).min(chunks.into()) as usize;

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
    Ok((max_chunks, samples))
}

#[cfg(test)]
mod tests;
