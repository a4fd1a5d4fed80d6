//! What the calls of an executor do: pieces are uploaded, recorded, submitted and read back one after another.
//! Invariant: one encoder, one submit and one map per piece, and nothing else made once the buffers have their size.

use std::ops::Range;

use super::super::{BatchBuffers, BatchDims, Gpu, Recorder, SAMPLE_PAD, Staging, StepBuilder, Wait};
use super::{Bound, GpuFlow, ProfiledCall};
use crate::{EngineError, Gradient, WeightedBatch, rows};

/// One piece of a batch.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    rows: &'a [f32],
    context: &'a [f32],
    pub(super) n: usize,
}

impl<'a> WeightedBatch<'a> {
    fn piece(&self) -> Piece<'a> {
        Piece { rows: self.theta, context: self.context, n: self.weights.len() }
    }
}

impl Bound {
    /// Tells the kernels about the piece.
    pub(super) fn set_dims(&mut self, gpu: &Gpu, dims: BatchDims) {
        if self.dims != Some(dims) {
            self.batch.write_dims(gpu, &dims);
            self.dims = Some(dims);
        }
    }

    /// Records every dispatch of a call in order; of a training step and of calls between buffers what is the flow's own.
    pub(super) fn record(&self, call: ProfiledCall, pass: &mut impl Recorder, dims: &BatchDims) {
        match call {
            ProfiledCall::Forward | ProfiledCall::SampleOnDevice => {
                self.layers.iter().for_each(|layer| layer.record_forward(pass, dims));
            }
            ProfiledCall::Inverse
            | ProfiledCall::LogProb
            | ProfiledCall::LogProbOnDevice
            | ProfiledCall::Gradient
            | ProfiledCall::TrainSteps => {
                self.layers.iter().rev().for_each(|layer| layer.record_inverse(pass, dims));
            }
        }
        match call {
            ProfiledCall::Forward | ProfiledCall::SampleOnDevice | ProfiledCall::Inverse => {}
            ProfiledCall::LogProb | ProfiledCall::LogProbOnDevice => self.base.record_log_prob(pass, dims),
            ProfiledCall::Gradient | ProfiledCall::TrainSteps => {
                self.base.record_gradient(pass, dims);
                self.layers.iter().for_each(|layer| layer.record_backward(pass, dims));
            }
        }
    }
}

impl GpuFlow {
    pub async fn run_log_prob(
        &mut self,
        flow: usize,
        theta: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<Vec<f32>, EngineError> {
        let n = self.check(flow, "log_prob", "theta", theta, context)?;
        let mut out = Vec::with_capacity(n);
        for piece in self.pieces(theta, context, n) {
            let (mut encoder, dims) = self.begin(flow, &[piece], false, false)?;
            let bound = bound(&mut self.bound)?;
            bound.record(ProfiledCall::LogProb, &mut begin_pass(&mut encoder, "log_prob"), &dims);
            bound.staging.copy(&mut encoder, &bound.batch.log_q, 0..dims.n_padded());
            bound.staging.read(&self.gpu, encoder, "computing log_prob", wait, &mut self.download).await?;
            out.extend_from_slice(&self.download[..piece.n]);
        }
        Ok(out)
    }

    pub async fn run_map(
        &mut self,
        flow: usize,
        call: &'static str,
        x: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let inverse = call == "inverse";
        let n = self.check(flow, call, if inverse { "theta" } else { "z" }, x, context)?;
        let (mut out, mut log_det) = (Vec::with_capacity(x.len()), Vec::with_capacity(n));
        for piece in self.pieces(x, context, n) {
            let (mut encoder, dims) = self.begin(flow, &[piece], false, false)?;
            let bound = bound(&mut self.bound)?;
            let map = if inverse { ProfiledCall::Inverse } else { ProfiledCall::Forward };
            bound.record(map, &mut begin_pass(&mut encoder, call), &dims);
            let (d, n_padded) = (self.dim, dims.n_padded());
            bound.staging.copy(&mut encoder, &bound.batch.x, 0..d * n_padded);
            bound.staging.copy(&mut encoder, &bound.batch.log_det, 0..n_padded);
            bound.staging.read(&self.gpu, encoder, call, wait, &mut self.download).await?;
            rows::append_rows(&self.download, d, n_padded, 0..piece.n, &mut out);
            log_det.extend_from_slice(&self.download[d * n_padded..][..piece.n]);
        }
        Ok((out, log_det))
    }

    /// The gradient of one flow; the batch may have any size.
    pub async fn run_gradient(
        &mut self,
        flow: usize,
        batch: &WeightedBatch<'_>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        let n = self.check_weighted(flow, batch)?;
        // The gradient of a mixture is made from its parameters.
        self.run_params(flow, wait).await?;
        let mut out = Gradient { grad: vec![0.0; self.layout(flow).len], ..Gradient::default() };
        let mut first = 0;
        while first < n {
            let part = batch.rows(first, self.max_capacity.min(n - first), self.dim, self.context_dim);
            let last = first + part.weights.len() == n;
            self.run_gradient_piece(flow, &[part], first > 0, last, wait, std::slice::from_mut(&mut out))
                .await?;
            first += part.weights.len();
        }
        out.loss = batch.loss(&out.log_prob);
        Ok(out)
    }

    /// The gradients of all flows, each on a batch of its own and all of one size, as many flows at a time as fit.
    pub async fn run_gradients(
        &mut self,
        batches: &[WeightedBatch<'_>],
        wait: Wait,
    ) -> Result<Vec<Gradient>, EngineError> {
        let n = batches.first().map_or(0, |batch| batch.weights.len());
        let controlled = |batch: &WeightedBatch<'_>| batch.log_inv_proposal.is_some();
        let alike = batches
            .iter()
            .all(|b| b.weights.len() == n && controlled(b) == batches.first().is_some_and(controlled));
        let at_once = self.flows_at_once(n);
        let mut out = Vec::with_capacity(batches.len());
        if !alike || at_once < 2 || n == 0 {
            for (flow, batch) in batches.iter().enumerate() {
                out.push(self.run_gradient(flow, batch, wait).await?);
            }
            return Ok(out);
        }
        for (flow, batch) in batches.iter().enumerate() {
            self.check_weighted(flow, batch)?;
            self.run_params(flow, wait).await?;
            let len = self.layout(flow).len;
            out.push(Gradient { grad: vec![0.0; len], ..Gradient::default() });
        }
        for (first, (batches, out)) in batches.chunks(at_once).zip(out.chunks_mut(at_once)).enumerate() {
            self.run_gradient_piece(first * at_once, batches, false, true, wait, out).await?;
            for (batch, gradient) in batches.iter().zip(out) {
                gradient.loss = batch.loss(&gradient.log_prob);
            }
        }
        Ok(out)
    }

    /// One submit for a piece of the batches of the flows from `first_flow` on, all of one size. The gradients are those of
    /// all pieces up to the `last`, which reads them.
    async fn run_gradient_piece(
        &mut self,
        first_flow: usize,
        batches: &[WeightedBatch<'_>],
        accumulate: bool,
        last: bool,
        wait: Wait,
        out: &mut [Gradient],
    ) -> Result<(), EngineError> {
        let c = self.context_dim;
        let pieces: Vec<Piece<'_>> = batches.iter().map(WeightedBatch::piece).collect();
        let use_control = batches.iter().any(|batch| batch.log_inv_proposal.is_some());
        let (mut encoder, dims) = self.begin(first_flow, &pieces, use_control, accumulate)?;
        let (n, n_padded, flow_padded) = (dims.n_samples as usize, dims.n_padded(), dims.flow_padded());
        self.upload_weights(batches, flow_padded)?;
        let bound = bound(&mut self.bound)?;
        if c > 0 {
            encoder.clear_buffer(&bound.batch.g_context, 0, None);
        }
        bound.record(ProfiledCall::Gradient, &mut begin_pass(&mut encoder, "gradient"), &dims);
        bound.staging.copy(&mut encoder, &bound.batch.log_q, 0..n_padded);
        bound.staging.copy(&mut encoder, &bound.batch.g_context, 0..c * n_padded);
        let n_grads = self.buffers.n_grads;
        if last {
            let range = first_flow * n_grads..(first_flow + batches.len()) * n_grads;
            bound.staging.copy(&mut encoder, &self.buffers.grads, range);
        }
        bound.staging.read(&self.gpu, encoder, "computing the gradient", wait, &mut self.download).await?;
        for (f, out) in out.iter_mut().enumerate() {
            let samples = f * flow_padded..f * flow_padded + n;
            out.log_prob.extend_from_slice(&self.download[samples.clone()]);
            rows::append_rows(&self.download[n_padded..], c, n_padded, samples, &mut out.grad_context);
            if last {
                let grads = &self.download[(1 + c) * n_padded + f * n_grads..][..n_grads];
                self.unpack_grad(first_flow + f, grads, &mut out.grad)?;
            }
        }
        Ok(())
    }

    /// Flows whose batches of `n` samples fit into one piece.
    pub fn flows_at_once(&self, n: usize) -> usize {
        let one = BatchDims::new(n, 0..1, self.max_chunks, false, false);
        let samples = self.max_capacity / one.n_padded().max(1);
        samples.min(self.total_chunks / one.n_chunks().max(1)).min(self.members.len())
    }

    fn unpack_grad(&self, flow: usize, device: &[f32], grad: &mut [f32]) -> Result<(), EngineError> {
        for (layer, region) in self.layers.iter().zip(&self.grad_regions) {
            layer.unpack_grad(&device[region.range()], grad);
        }
        if let Some(region) = self.grad_regions.last() {
            let (base, params) = (self.layout(flow).base, self.host_params(flow, "gradient")?);
            self.base.unpack_grad(flow, &params[base..], &device[region.range()], &mut grad[base..]);
        }
        Ok(())
    }

    fn check_weighted(&self, flow: usize, batch: &WeightedBatch<'_>) -> Result<usize, EngineError> {
        let n = self.check(flow, "gradient", "theta", batch.theta, batch.context)?;
        rows::check("weights", batch.weights, n, 1)?;
        if let Some(lv) = batch.log_inv_proposal {
            rows::check_log("log_inv_proposal", lv, n)?;
        }
        Ok(n)
    }

    pub(super) fn check(
        &self,
        flow: usize,
        call: &'static str,
        what: &'static str,
        x: &[f32],
        context: &[f32],
    ) -> Result<usize, EngineError> {
        self.host_params(flow, call)?;
        let n = rows::count(what, x, self.dim)?;
        rows::check(what, x, n, self.dim)?;
        rows::check("context", context, n, self.context_dim)?;
        Ok(n)
    }

    pub(super) fn pieces<'a>(&self, x: &'a [f32], context: &'a [f32], n: usize) -> Vec<Piece<'a>> {
        let (d, c) = (self.dim, self.context_dim);
        (0..n)
            .step_by(self.max_capacity)
            .map(|first| {
                let n = self.max_capacity.min(n - first);
                Piece { rows: &x[first * d..][..n * d], context: &context[first * c..][..n * c], n }
            })
            .collect()
    }

    /// Uploads pieces of one size, one for each flow from `first_flow` on, and begins their encoder, growing the buffers if
    /// need be.
    pub(super) fn begin(
        &mut self,
        first_flow: usize,
        pieces: &[Piece<'_>],
        use_control: bool,
        accumulate: bool,
    ) -> Result<(wgpu::CommandEncoder, BatchDims), EngineError> {
        let n = pieces.first().map_or(0, |piece| piece.n);
        let dims = self.reserve(n, first_flow..first_flow + pieces.len(), use_control, accumulate)?;
        let gpu = self.gpu.clone();
        let (d, c) = (self.dim, self.context_dim);
        let bound = bound(&mut self.bound)?;
        gpu.scoped("uploading a batch", || {
            bound.set_dims(&gpu, dims);
            let (n_padded, flow_padded) = (dims.n_padded(), dims.flow_padded());
            let x = pieces.iter().map(|piece| piece.rows);
            rows::to_features(x, d, n_padded, flow_padded, &mut self.upload);
            gpu.queue.write_buffer(&bound.batch.x, 0, bytemuck::cast_slice(&self.upload));
            if c > 0 {
                let context = pieces.iter().map(|piece| piece.context);
                rows::to_features(context, c, n_padded, flow_padded, &mut self.upload);
                gpu.queue.write_buffer(&bound.batch.context, 0, bytemuck::cast_slice(&self.upload));
            }
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.clear_buffer(&bound.batch.log_det, 0, None);
            Ok((encoder, dims))
        })
    }

    pub(super) fn upload_weights(
        &mut self,
        batches: &[WeightedBatch<'_>],
        flow_padded: usize,
    ) -> Result<(), EngineError> {
        let bound = bound(&mut self.bound)?;
        let mut upload = |buffer: &wgpu::Buffer, values: &mut dyn Iterator<Item = &[f32]>| {
            self.upload.clear();
            for (f, values) in values.enumerate() {
                self.upload.extend(values.iter().map(|&v| to_device(v)));
                self.upload.resize((f + 1) * flow_padded, 0.0);
            }
            self.gpu.scoped("uploading weights", || {
                self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&self.upload));
                Ok(())
            })
        };
        upload(&bound.batch.weight, &mut batches.iter().map(|batch| batch.weights))?;
        if batches.iter().all(|batch| batch.log_inv_proposal.is_some()) {
            let lv = &mut batches.iter().filter_map(|batch| batch.log_inv_proposal);
            upload(&bound.batch.log_inv_proposal, lv)?;
        }
        Ok(())
    }

    /// Makes room for a piece of `n` samples of each of `flows`, and says how it lies there.
    pub(super) fn reserve(
        &mut self,
        n: usize,
        flows: Range<usize>,
        use_control: bool,
        accumulate: bool,
    ) -> Result<BatchDims, EngineError> {
        let dims = BatchDims::new(n, flows, self.max_chunks, use_control, accumulate);
        let (n, n_chunks) = (dims.n_padded(), dims.n_chunks());
        if self.bound.as_ref().is_some_and(|b| b.batch.capacity >= n && b.batch.n_chunks >= n_chunks) {
            return Ok(dims);
        }
        let before = self.bound.take().map_or(0, |bound| bound.batch.n_chunks);
        self.generation += 1;
        let capacity = n.next_power_of_two().next_multiple_of(SAMPLE_PAD).min(self.max_capacity);
        let n_chunks = n_chunks.max(before).max(self.max_chunks);
        let (d, c) = (self.dim, self.context_dim);
        let gpu = &*self.gpu;
        let batch = BatchBuffers::new(gpu, capacity, n_chunks, d, c, &self.need)?;
        let mut builder = StepBuilder::new(gpu, &batch);
        let place = |l: usize| super::place(&self.buffers, &self.param_regions, &self.grad_regions, l);
        let layers = self
            .layers
            .iter()
            .enumerate()
            .map(|(l, layer)| layer.bind(&mut builder, place(l)))
            .collect::<Result<Vec<_>, _>>()?;
        let base = self.base.bind(&mut builder, place(self.layers.len()))?;
        let grads = self.buffers.n_flows * self.buffers.n_grads;
        let staging = Staging::new(gpu, grads + capacity * (1 + c.max(d)))?;
        self.bound = Some(Bound { batch, layers, base, staging, dims: None });
        Ok(dims)
    }
}

pub(super) fn bound(bound: &mut Option<Bound>) -> Result<&mut Bound, EngineError> {
    bound.as_mut().ok_or_else(|| EngineError::Binding {
        kernel: "flow".into(),
        message: "buffers were not reserved before use".into(),
    })
}

/// A log density as kernels take it: -inf is legal, but no value for a kernel.
pub(super) fn to_device(log: f32) -> f32 {
    log.max(-1e30)
}

pub(super) fn begin_pass<'a>(encoder: &'a mut wgpu::CommandEncoder, label: &str) -> wgpu::ComputePass<'a> {
    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: None })
}
