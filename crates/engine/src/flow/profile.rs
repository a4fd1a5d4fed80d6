//! Takes one call apart by kernel: the same steps as the call itself, each timed on its own.
//! Invariant: profiling runs what the call runs, in its order and on its buffers; only where the time goes is returned.

use super::FlowExecutor;
use super::run::bound;
use crate::EngineError;
use crate::gpu::Timer;

/// A call that [`FlowExecutor::profile`] can take apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProfiledCall {
    /// [`FlowExecutor::inverse`].
    Inverse,
    /// [`FlowExecutor::forward`].
    Forward,
    /// [`FlowExecutor::log_prob`].
    LogProb,
    /// [`FlowExecutor::gradient`] with equal weights and no control variate.
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

impl FlowExecutor {
    /// Time of every kernel in one call on x `[n, D]` (theta, or z for `forward`) given context `[n, C]`, in the order
    /// in which the kernels first run. The first piece runs once before it is timed, because drivers compile at first
    /// use. On a device with timestamps the times are the device's own; on one without, each dispatch is submitted and
    /// waited for alone, so that its time includes the wait. Transfers to and from the device are no part of either.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob`].
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
                let (encoder, dims) = self.begin(piece, false)?;
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
