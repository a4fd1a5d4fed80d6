//! Compiles a flow's kernels before they are needed, one after another, so that a caller can say what is happening.
//! Invariant: drivers compile at the first dispatch, so every kernel is dispatched once, on a batch of one sample.

use super::super::Wait;
use super::run::{begin_pass, bound};
use super::{GpuFlow, ProfiledCall};
use crate::gpu::recording::{Recorder, Step};
use crate::{EngineError, WeightedBatch};

impl GpuFlow {
    /// See [`FlowExecutor::prepare`](crate::FlowExecutor::prepare).
    pub async fn run_prepare(
        &mut self,
        mut progress: impl FnMut(usize, usize, &str),
        wait: Wait,
    ) -> Result<(), EngineError> {
        let (x, context) = (vec![0.5; self.dim], vec![0.5; self.context_dim]);
        self.check(0, "prepare", "theta", &x, &context)?;
        for piece in self.pieces(&x, &context, 1) {
            let (encoder, dims) = self.begin(0, &[piece], false, false)?;
            let batch = WeightedBatch { weights: &[1.0], ..WeightedBatch::default() };
            self.upload_weights(&[batch], dims.flow_padded())?;
            let bound = bound(&mut self.bound)?;
            bound.staging.read(&self.gpu, encoder, "preparing", wait, &mut self.download).await?;
            let mut all: Vec<Step> = Vec::new();
            for call in [ProfiledCall::LogProb, ProfiledCall::Gradient, ProfiledCall::Forward] {
                bound.record(call, &mut all, &dims);
            }
            let mut distinct: Vec<Step> = Vec::new();
            for step in all {
                if !distinct.iter().any(|s| s.shares_pipeline(&step)) {
                    distinct.push(step);
                }
            }
            for (k, step) in distinct.iter().enumerate() {
                progress(k + 1, distinct.len(), step.kernel());
                let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
                begin_pass(&mut encoder, "prepare").dispatch(step, &dims);
                let during = format!("compiling kernel {}", step.kernel());
                bound.staging.read(&self.gpu, encoder, &during, wait, &mut self.download).await?;
            }
        }
        Ok(())
    }
}
