//! Takes one call apart by kernel: the same steps as the call itself, each timed on its own.
//! Invariant: profiling runs what the call runs, in its order and on its buffers; only where the time goes is returned.

use super::super::Timer;
use super::GpuFlow;
use super::run::bound;
use crate::EngineError;

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
        }
    }
}

/// Time that one kernel took in one call.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel's name.
    pub kernel: String,
    /// Number of its dispatches.
    pub dispatches: usize,
    /// Seconds of all of them together.
    pub seconds: f64,
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
        let n = self.check(call.name(), what, x, context)?;
        let gpu = self.gpu.clone();
        let mut total: Vec<KernelTime> = Vec::new();
        let mut warm = false;
        for piece in self.pieces(x, context, n) {
            for timed in if warm { &[true][..] } else { &[false, true] } {
                let (encoder, dims) = self.begin(piece, false, false)?;
                if call == ProfiledCall::Gradient {
                    self.upload_weights(&vec![1.0 / n as f32; piece.n], None, dims.n_padded())?;
                }
                let bound = bound(&mut self.bound)?;
                let mut steps = Vec::new();
                bound.record(call, &mut steps, &dims);
                let seconds = Timer::new(&gpu, steps.len())?.run(&gpu, encoder, &steps, &dims)?;
                for (step, seconds) in steps.iter().zip(seconds).filter(|_| *timed) {
                    match total.iter_mut().find(|t| t.kernel == step.kernel()) {
                        Some(time) => {
                            time.dispatches += 1;
                            time.seconds += seconds;
                        }
                        None => {
                            let kernel = step.kernel().to_owned();
                            total.push(KernelTime { kernel, dispatches: 1, seconds });
                        }
                    }
                }
            }
            warm = true;
        }
        Ok(total)
    }
}
