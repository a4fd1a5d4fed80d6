//! Runs one flow on a device: splits batches into pieces, moves rows in and out, and keeps every buffer, bind group and
//! pipeline between calls. Invariant: results do not depend on earlier calls, only on the parameters and arguments.

use std::sync::Arc;

use lwflow_model::{FlowSpec, ParamLayout};

use crate::gpu::{
    BasePass, BasePlan, BatchBuffers, BatchDims, FlowBuffers, Gpu, LayerPass, LayerPlan, Need, Place, Region,
    SAMPLE_PAD, Staging, StepBuilder, Wait,
};
use crate::{EngineError, EngineSettings, rows};

/// Weighted loss and its gradients.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gradient {
    /// `-sum_i w_i log q_i` over samples of non-zero weight. Summed on the host in f64 and in the order of the samples:
    /// log q is read back in any case.
    pub loss: f64,
    /// Gradient with respect to the flat parameter vector of [`ParamLayout`].
    pub grad: Vec<f32>,
    /// Gradient with respect to the context, `[n, C]`.
    pub grad_context: Vec<f32>,
    /// log q_i, `[n]`.
    pub log_prob: Vec<f32>,
}

/// Everything whose size depends on the capacity of a piece.
#[derive(Debug)]
struct Bound {
    batch: BatchBuffers,
    layers: Vec<LayerPass>,
    base: BasePass,
    staging: Staging,
    dims: Option<BatchDims>,
}

/// A flow on a device.
#[derive(Debug)]
pub struct FlowExecutor {
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
    bound: Option<Bound>,
    params: Option<Vec<f32>>,
    packed: Vec<f32>,
    upload: Vec<f32>,
    download: Vec<f32>,
}

/// One piece of a batch.
#[derive(Clone, Copy)]
struct Piece<'a> {
    rows: &'a [f32],
    context: &'a [f32],
    n: usize,
}

impl FlowExecutor {
    pub(crate) fn new(
        gpu: Arc<Gpu>,
        settings: &EngineSettings,
        spec: &FlowSpec,
    ) -> Result<Self, EngineError> {
        spec.validate()?;
        let layout = ParamLayout::new(spec);
        let layers: Vec<LayerPlan> = spec
            .layers
            .iter()
            .zip(&layout.layers)
            .enumerate()
            .map(|(l, (layer, linears))| {
                LayerPlan::new(spec, l, layer, linears, &gpu, settings.portable_kernels)
            })
            .collect();
        let base = BasePlan::new(spec, &gpu);
        let mut need = base.need();
        for layer in &layers {
            need.merge(&layer.need());
        }
        let (param_regions, n_params) =
            Region::sequence(layers.iter().map(LayerPlan::n_params).chain([base.n_params()]));
        let (grad_regions, n_grads) =
            Region::sequence(layers.iter().map(LayerPlan::n_grads).chain([base.n_grads()]));
        let (max_chunks, max_capacity) = capacity(&gpu, settings, spec, &need)?;
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
            bound: None,
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
        let kept = self.params.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(params);
        Ok(())
    }

    /// log q(theta | context), `[n]`, of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::NonFinite`] for arrays that do not fit; any error of the device.
    pub fn log_prob(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        pollster::block_on(self.run_log_prob(theta, context, Wait::Block))
    }

    /// [`FlowExecutor::log_prob`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn log_prob_async(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>, EngineError> {
        self.run_log_prob(theta, context, Wait::Await).await
    }

    /// Data to base: z `[n, D]` and the forward map's log_det `[n]` of theta `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn inverse(&mut self, theta: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        pollster::block_on(self.run_map("inverse", theta, context, Wait::Block))
    }

    /// [`FlowExecutor::inverse`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn inverse_async(
        &mut self,
        theta: &[f32],
        context: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        self.run_map("inverse", theta, context, Wait::Await).await
    }

    /// Base to data: theta `[n, D]` and log_det `[n]` of z `[n, D]` given context `[n, C]`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub fn forward(&mut self, z: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        pollster::block_on(self.run_map("forward", z, context, Wait::Block))
    }

    /// [`FlowExecutor::forward`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
    pub async fn forward_async(
        &mut self,
        z: &[f32],
        context: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        self.run_map("forward", z, context, Wait::Await).await
    }

    /// Weighted loss `-sum_i w_i log q(theta_i | c_i)` and its gradients; theta `[n, D]`, context `[n, C]`, weights
    /// `[n]`. With `log_inv_proposal` lv `[n]` the gradients use the effective weights `w_i - exp(log q_i + lv_i)`.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`]. A loss or gradient that is not finite is a result, not an error.
    pub fn gradient(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
    ) -> Result<Gradient, EngineError> {
        pollster::block_on(self.run_gradient(theta, context, weights, log_inv_proposal, Wait::Block))
    }

    /// [`FlowExecutor::gradient`] without blocking.
    ///
    /// # Errors
    /// As [`FlowExecutor::gradient`].
    pub async fn gradient_async(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
    ) -> Result<Gradient, EngineError> {
        self.run_gradient(theta, context, weights, log_inv_proposal, Wait::Await).await
    }

    async fn run_log_prob(
        &mut self,
        theta: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<Vec<f32>, EngineError> {
        let n = self.check("log_prob", "theta", theta, context)?;
        let mut out = Vec::with_capacity(n);
        for piece in self.pieces(theta, context, n) {
            let (mut encoder, dims) = self.begin(piece, false)?;
            let bound = bound(&mut self.bound)?;
            {
                let mut pass = begin_pass(&mut encoder, "log_prob");
                for layer in bound.layers.iter().rev() {
                    layer.record_inverse(&mut pass, &dims);
                }
                bound.base.record_log_prob(&mut pass, &dims);
            }
            bound.staging.copy(&mut encoder, &bound.batch.log_q, dims.n_padded());
            bound.staging.read(&self.gpu, encoder, "computing log_prob", wait, &mut self.download).await?;
            out.extend_from_slice(&self.download[..piece.n]);
        }
        Ok(out)
    }

    async fn run_map(
        &mut self,
        call: &'static str,
        x: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let inverse = call == "inverse";
        let n = self.check(call, if inverse { "theta" } else { "z" }, x, context)?;
        let (mut out, mut log_det) = (Vec::with_capacity(x.len()), Vec::with_capacity(n));
        for piece in self.pieces(x, context, n) {
            let (mut encoder, dims) = self.begin(piece, false)?;
            let bound = bound(&mut self.bound)?;
            {
                let mut pass = begin_pass(&mut encoder, call);
                if inverse {
                    bound.layers.iter().rev().for_each(|layer| layer.record_inverse(&mut pass, &dims));
                } else {
                    bound.layers.iter().for_each(|layer| layer.record_forward(&mut pass, &dims));
                }
            }
            let (d, n_padded) = (self.spec.dim, dims.n_padded());
            bound.staging.copy(&mut encoder, &bound.batch.x, d * n_padded);
            bound.staging.copy(&mut encoder, &bound.batch.log_det, n_padded);
            bound.staging.read(&self.gpu, encoder, call, wait, &mut self.download).await?;
            rows::append_rows(&self.download, d, n_padded, piece.n, &mut out);
            log_det.extend_from_slice(&self.download[d * n_padded..][..piece.n]);
        }
        Ok((out, log_det))
    }

    async fn run_gradient(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        let n = self.check("gradient", "theta", theta, context)?;
        rows::check("weights", weights, n, 1)?;
        if let Some(lv) = log_inv_proposal {
            rows::check_log("log_inv_proposal", lv, n)?;
        }
        let c = self.spec.context_dim;
        let mut out = Gradient { grad: vec![0.0; self.layout.len], ..Gradient::default() };
        let mut first = 0;
        for piece in self.pieces(theta, context, n) {
            let (mut encoder, dims) = self.begin(piece, log_inv_proposal.is_some())?;
            let n_padded = dims.n_padded();
            let last = first + piece.n == n;
            self.upload_weights(
                &weights[first..][..piece.n],
                log_inv_proposal.map(|lv| &lv[first..][..piece.n]),
                n_padded,
            )?;
            let bound = bound(&mut self.bound)?;
            if first == 0 {
                encoder.clear_buffer(&self.buffers.grads, 0, None);
            }
            if c > 0 {
                encoder.clear_buffer(&bound.batch.g_context, 0, None);
            }
            {
                let mut pass = begin_pass(&mut encoder, "gradient");
                for layer in bound.layers.iter().rev() {
                    layer.record_inverse(&mut pass, &dims);
                }
                bound.base.record_gradient(&mut pass, &dims);
                for layer in &bound.layers {
                    layer.record_backward(&mut pass, &dims);
                }
            }
            bound.staging.copy(&mut encoder, &bound.batch.log_q, n_padded);
            bound.staging.copy(&mut encoder, &bound.batch.g_context, c * n_padded);
            if last {
                bound.staging.copy(&mut encoder, &self.buffers.grads, self.n_grads);
            }
            bound
                .staging
                .read(&self.gpu, encoder, "computing the gradient", wait, &mut self.download)
                .await?;
            out.log_prob.extend_from_slice(&self.download[..piece.n]);
            rows::append_rows(&self.download[n_padded..], c, n_padded, piece.n, &mut out.grad_context);
            if last {
                self.unpack_grad(&self.download[(1 + c) * n_padded..], &mut out.grad);
            }
            first += piece.n;
        }
        for (&w, &log_q) in weights.iter().zip(&out.log_prob) {
            if w != 0.0 {
                out.loss -= f64::from(w) * f64::from(log_q);
            }
        }
        Ok(out)
    }

    fn unpack_grad(&self, device: &[f32], grad: &mut [f32]) {
        for (layer, region) in self.layers.iter().zip(&self.grad_regions) {
            layer.unpack_grad(&device[region.range()], grad);
        }
        if let (Some(region), Some(params)) = (self.grad_regions.last(), &self.params) {
            let base = self.layout.base;
            self.base.unpack_grad(&params[base..], &device[region.range()], &mut grad[base..]);
        }
    }

    fn check(
        &self,
        call: &'static str,
        what: &'static str,
        x: &[f32],
        context: &[f32],
    ) -> Result<usize, EngineError> {
        if self.params.is_none() {
            return Err(EngineError::NoParams { call });
        }
        let n = rows::count(what, x, self.spec.dim)?;
        rows::check(what, x, n, self.spec.dim)?;
        rows::check("context", context, n, self.spec.context_dim)?;
        Ok(n)
    }

    fn pieces<'a>(&self, x: &'a [f32], context: &'a [f32], n: usize) -> Vec<Piece<'a>> {
        let (d, c) = (self.spec.dim, self.spec.context_dim);
        (0..n)
            .step_by(self.max_capacity)
            .map(|first| {
                let n = self.max_capacity.min(n - first);
                Piece { rows: &x[first * d..][..n * d], context: &context[first * c..][..n * c], n }
            })
            .collect()
    }

    /// Uploads a piece and begins its encoder, growing the buffers if need be.
    fn begin(
        &mut self,
        piece: Piece<'_>,
        use_control: bool,
    ) -> Result<(wgpu::CommandEncoder, BatchDims), EngineError> {
        self.reserve(piece.n)?;
        let dims = BatchDims::new(piece.n, self.max_chunks, use_control);
        let gpu = self.gpu.clone();
        let bound = bound(&mut self.bound)?;
        gpu.scoped("uploading a batch", || {
            if bound.dims != Some(dims) {
                bound.batch.write_dims(&gpu, &dims);
                bound.dims = Some(dims);
            }
            let n_padded = dims.n_padded();
            rows::to_features(piece.rows, self.spec.dim, n_padded, &mut self.upload);
            gpu.queue.write_buffer(&bound.batch.x, 0, bytemuck::cast_slice(&self.upload));
            if self.spec.context_dim > 0 {
                rows::to_features(piece.context, self.spec.context_dim, n_padded, &mut self.upload);
                gpu.queue.write_buffer(&bound.batch.context, 0, bytemuck::cast_slice(&self.upload));
            }
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.clear_buffer(&bound.batch.log_det, 0, None);
            Ok((encoder, dims))
        })
    }

    fn upload_weights(
        &mut self,
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
        n_padded: usize,
    ) -> Result<(), EngineError> {
        let bound = bound(&mut self.bound)?;
        let arrays = [(weights, &bound.batch.weight)]
            .into_iter()
            .chain(log_inv_proposal.map(|lv| (lv, &bound.batch.log_inv_proposal)));
        for (values, buffer) in arrays {
            self.upload.clear();
            // -inf is a legal log density, but no value for a kernel.
            self.upload.extend(values.iter().map(|v| v.max(-1e30)));
            self.upload.resize(n_padded, 0.0);
            self.gpu.scoped("uploading weights", || {
                self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&self.upload));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes room for pieces of `n` samples.
    fn reserve(&mut self, n: usize) -> Result<(), EngineError> {
        if self.bound.as_ref().is_some_and(|b| b.batch.capacity >= n) {
            return Ok(());
        }
        self.bound = None;
        let capacity = n.next_power_of_two().next_multiple_of(SAMPLE_PAD).min(self.max_capacity);
        let (d, c) = (self.spec.dim, self.spec.context_dim);
        let gpu = &*self.gpu;
        let batch = BatchBuffers::new(gpu, capacity, self.max_chunks, d, c, &self.need)?;
        let mut builder = StepBuilder::new(gpu, &batch);
        let place = |l: usize| Place {
            params: (&self.buffers.params, self.param_regions[l]),
            grads: (&self.buffers.grads, self.grad_regions[l]),
        };
        let layers = self
            .layers
            .iter()
            .enumerate()
            .map(|(l, layer)| layer.bind(&mut builder, place(l)))
            .collect::<Result<Vec<_>, _>>()?;
        let base = self.base.bind(&mut builder, place(self.layers.len()))?;
        let staging = Staging::new(gpu, self.n_grads + capacity * (1 + c.max(d)))?;
        self.bound = Some(Bound { batch, layers, base, staging, dims: None });
        Ok(())
    }
}

fn bound(bound: &mut Option<Bound>) -> Result<&mut Bound, EngineError> {
    bound.as_mut().ok_or_else(|| EngineError::Binding {
        kernel: "flow".into(),
        message: "buffers were not reserved before use".into(),
    })
}

fn begin_pass<'a>(encoder: &'a mut wgpu::CommandEncoder, label: &str) -> wgpu::ComputePass<'a> {
    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: None })
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
    let wanted = if gpu.is_software() { 32 } else { 128 };
    let max_chunks = (binding / chunk_bytes).min(wanted) as usize;

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
#[path = "flow_tests.rs"]
mod tests;
