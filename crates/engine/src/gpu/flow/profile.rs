//! Takes one call apart by kernel: the same steps as the call itself, each timed on its own.
//! Invariant: profiling runs what the call runs, in its order and on its buffers; only where the time goes is returned.

use lwflow_model::{Bijection, OuterTransform};

use super::super::{KernelTime, KernelTimes, Wait};
use super::GpuFlow;
use super::run::bound;
use crate::{EngineError, TrainSteps, WeightedBatch};

/// A call that [`FlowExecutor::profile`](crate::FlowExecutor::profile) can take apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProfiledCall {
    /// [`FlowExecutor::inverse`](crate::FlowExecutor::inverse).
    Inverse,
    /// [`FlowExecutor::forward`](crate::FlowExecutor::forward).
    Forward,
    /// [`FlowExecutor::log_prob`](crate::FlowExecutor::log_prob).
    LogProb,
    /// [`FlowExecutor::gradient`](crate::FlowExecutor::gradient) with equal weights and no control variate.
    Gradient,
    /// One step of [`FlowExecutor::train_steps`](crate::FlowExecutor::train_steps) on the points and with the optimiser that
    /// are set, of as many samples as x has rows; it changes nothing.
    TrainSteps,
    /// [`FlowExecutor::log_prob_on_device`](crate::FlowExecutor::log_prob_on_device) without bounds.
    LogProbOnDevice,
    /// [`FlowExecutor::sample_on_device`](crate::FlowExecutor::sample_on_device) without bounds, as many draws as x has rows.
    SampleOnDevice,
}

impl ProfiledCall {
    /// The method's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inverse => "inverse",
            Self::Forward => "forward",
            Self::LogProb => "log_prob",
            Self::Gradient => "gradient",
            Self::TrainSteps => "train_steps",
            Self::LogProbOnDevice => "log_prob_on_device",
            Self::SampleOnDevice => "sample_on_device",
        }
    }
}

impl GpuFlow {
    /// See [`FlowExecutor::profile`](crate::FlowExecutor::profile).
    pub fn profile(
        &mut self,
        call: ProfiledCall,
        x: &[f32],
        context: &[f32],
    ) -> Result<Vec<KernelTime>, EngineError> {
        let what = if call == ProfiledCall::Forward { "z" } else { "theta" };
        let n = self.check(0, call.name(), what, x, context)?;
        match call {
            ProfiledCall::TrainSteps => return self.profile_training(n),
            ProfiledCall::LogProbOnDevice | ProfiledCall::SampleOnDevice => {
                return self.profile_on_device(call, n, x);
            }
            ProfiledCall::Inverse
            | ProfiledCall::Forward
            | ProfiledCall::LogProb
            | ProfiledCall::Gradient => {}
        }
        let gpu = self.gpu.clone();
        let mut times = KernelTimes::default();
        for piece in self.pieces(x, context, n) {
            times.measure(&gpu, || {
                let (encoder, dims) = self.begin(0, &[piece], false, false)?;
                if call == ProfiledCall::Gradient {
                    let weights = vec![1.0 / n as f32; piece.n];
                    let batch = WeightedBatch { weights: &weights, ..WeightedBatch::default() };
                    self.upload_weights(&[batch], dims.flow_padded())?;
                }
                let mut steps = Vec::new();
                bound(&mut self.bound)?.record(call, &mut steps, &dims);
                Ok((encoder, dims, steps))
            })?;
        }
        Ok(times.finish())
    }

    /// A training step of `n` of the points that are set, with a rate of zero; the optimiser's state is put back.
    fn profile_training(&mut self, n: usize) -> Result<Vec<KernelTime>, EngineError> {
        let state = pollster::block_on(self.run_optimiser_state(0, Wait::Block))?;
        let settings = self.optimiser_settings()?;
        let index: Vec<u32> = (0..self.n_points()?).cycle().take(n).map(|i| i as u32).collect();
        let weights = vec![1.0 / n as f32; n];
        let steps = TrainSteps {
            batch_size: n,
            index: &index,
            weights: &weights,
            log_inv_proposal: None,
            learning_rate: &[0.0],
        };
        self.check_steps(&steps)?;
        let gpu = self.gpu.clone();
        let mut times = KernelTimes::default();
        times.measure(&gpu, || {
            let (encoder, dims) = self.begin_group(&steps, 1)?;
            let mut recorded = Vec::new();
            self.record_group(1, &mut recorded, &dims)?;
            Ok((encoder, dims, recorded))
        })?;
        // The step has packed a mixture on the device, whose rounding is another.
        let params = pollster::block_on(self.run_params(0, Wait::Block))?.to_vec();
        self.set_params(0, &params)?;
        pollster::block_on(self.run_set_optimiser(&settings, &[state], Wait::Block))?;
        Ok(times.finish())
    }

    /// A call between buffers, without bounds.
    fn profile_on_device(
        &mut self,
        call: ProfiledCall,
        n: usize,
        x: &[f32],
    ) -> Result<Vec<KernelTime>, EngineError> {
        let gpu = self.gpu.clone();
        let outer = OuterTransform::new(vec![Bijection::UNBOUNDED; self.dim]);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let theta = gpu.buffer("profile/theta", x.len().max(1), usage)?;
        let log_prob = gpu.buffer("profile/log_prob", n.max(1), usage)?;
        gpu.scoped("uploading theta", || {
            gpu.queue.write_buffer(&theta, 0, bytemuck::cast_slice(x));
            Ok(())
        })?;
        let rows = self.rows(call.name(), &outer, n, &theta, &log_prob)?;
        let draws = match call {
            ProfiledCall::SampleOnDevice => Some(self.base_table(call.name(), 1)?),
            _ => None,
        };
        let mut times = KernelTimes::default();
        for piece in self.pieces_on_device(n) {
            times.measure(&gpu, || {
                let (encoder, dims) = self.begin_on_device(piece.len())?;
                let mut steps = Vec::new();
                match &draws {
                    None => self.record_density(&rows, piece.clone(), &mut steps, &dims)?,
                    Some(draws) => self.record_draws(&rows, draws, piece.clone(), &mut steps, &dims)?,
                }
                Ok((encoder, dims, steps))
            })?;
        }
        Ok(times.finish())
    }
}
