//! What the calls of an executor do: pieces are uploaded, recorded, submitted and read back one after another.
//! Invariant: one encoder, one submit and one map per piece, and nothing else made once the buffers have their size.

use super::super::{BatchBuffers, BatchDims, Recorder, SAMPLE_PAD, Staging, StepBuilder, Wait};
use super::{Bound, GpuFlow, ProfiledCall};
use crate::{EngineError, Gradient, rows};

/// One piece of a batch.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    rows: &'a [f32],
    context: &'a [f32],
    pub(super) n: usize,
}

impl Bound {
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
        theta: &[f32],
        context: &[f32],
        wait: Wait,
    ) -> Result<Vec<f32>, EngineError> {
        let n = self.check("log_prob", "theta", theta, context)?;
        let mut out = Vec::with_capacity(n);
        for piece in self.pieces(theta, context, n) {
            let (mut encoder, dims) = self.begin(piece, false, false)?;
            let bound = bound(&mut self.bound)?;
            bound.record(ProfiledCall::LogProb, &mut begin_pass(&mut encoder, "log_prob"), &dims);
            bound.staging.copy(&mut encoder, &bound.batch.log_q, dims.n_padded());
            bound.staging.read(&self.gpu, encoder, "computing log_prob", wait, &mut self.download).await?;
            out.extend_from_slice(&self.download[..piece.n]);
        }
        Ok(out)
    }

    pub async fn run_map(
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
            let (mut encoder, dims) = self.begin(piece, false, false)?;
            let bound = bound(&mut self.bound)?;
            let map = if inverse { ProfiledCall::Inverse } else { ProfiledCall::Forward };
            bound.record(map, &mut begin_pass(&mut encoder, call), &dims);
            let (d, n_padded) = (self.spec.dim, dims.n_padded());
            bound.staging.copy(&mut encoder, &bound.batch.x, d * n_padded);
            bound.staging.copy(&mut encoder, &bound.batch.log_det, n_padded);
            bound.staging.read(&self.gpu, encoder, call, wait, &mut self.download).await?;
            rows::append_rows(&self.download, d, n_padded, piece.n, &mut out);
            log_det.extend_from_slice(&self.download[d * n_padded..][..piece.n]);
        }
        Ok((out, log_det))
    }

    pub async fn run_gradient(
        &mut self,
        theta: &[f32],
        context: &[f32],
        weights: &[f32],
        log_inv_proposal: Option<&[f32]>,
        wait: Wait,
    ) -> Result<Gradient, EngineError> {
        let n = self.check("gradient", "theta", theta, context)?;
        // The gradient of a mixture is made from its parameters.
        self.run_params(wait).await?;
        rows::check("weights", weights, n, 1)?;
        if let Some(lv) = log_inv_proposal {
            rows::check_log("log_inv_proposal", lv, n)?;
        }
        let c = self.spec.context_dim;
        let mut out = Gradient { grad: vec![0.0; self.layout.len], ..Gradient::default() };
        let mut first = 0;
        for piece in self.pieces(theta, context, n) {
            let (mut encoder, dims) = self.begin(piece, log_inv_proposal.is_some(), first > 0)?;
            let n_padded = dims.n_padded();
            let last = first + piece.n == n;
            self.upload_weights(
                &weights[first..][..piece.n],
                log_inv_proposal.map(|lv| &lv[first..][..piece.n]),
                n_padded,
            )?;
            let bound = bound(&mut self.bound)?;
            if c > 0 {
                encoder.clear_buffer(&bound.batch.g_context, 0, None);
            }
            bound.record(ProfiledCall::Gradient, &mut begin_pass(&mut encoder, "gradient"), &dims);
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

    pub(super) fn check(
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

    pub(super) fn pieces<'a>(&self, x: &'a [f32], context: &'a [f32], n: usize) -> Vec<Piece<'a>> {
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
    pub(super) fn begin(
        &mut self,
        piece: Piece<'_>,
        use_control: bool,
        accumulate: bool,
    ) -> Result<(wgpu::CommandEncoder, BatchDims), EngineError> {
        self.reserve(piece.n)?;
        let dims = BatchDims::new(piece.n, self.max_chunks, use_control, accumulate);
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

    pub(super) fn upload_weights(
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
            self.upload.extend(values.iter().map(|&v| to_device(v)));
            self.upload.resize(n_padded, 0.0);
            self.gpu.scoped("uploading weights", || {
                self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&self.upload));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes room for pieces of `n` samples.
    pub(super) fn reserve(&mut self, n: usize) -> Result<(), EngineError> {
        if self.bound.as_ref().is_some_and(|b| b.batch.capacity >= n) {
            return Ok(());
        }
        self.bound = None;
        self.generation += 1;
        let capacity = n.next_power_of_two().next_multiple_of(SAMPLE_PAD).min(self.max_capacity);
        let (d, c) = (self.spec.dim, self.spec.context_dim);
        let gpu = &*self.gpu;
        let batch = BatchBuffers::new(gpu, capacity, self.max_chunks, d, c, &self.need)?;
        let mut builder = StepBuilder::new(gpu, &batch);
        let place = |l: usize| super::place(&self.buffers, &self.param_regions, &self.grad_regions, l);
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
