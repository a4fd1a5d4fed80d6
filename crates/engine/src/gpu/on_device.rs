//! The calls of a flow that take buffers of the caller: they name wgpu, so they are here and not beside the others.

use super::GpuFlow;
use crate::{EngineError, FlowExecutor};
use lwflow_model::OuterTransform;

impl FlowExecutor {
    /// The flow on an adapter, for calls on buffers.
    fn with_buffers(&mut self, call: &str) -> Result<&mut GpuFlow, EngineError> {
        let (network, got) = (self.spec().context_network.is_some(), self.spec().context_dim);
        if network {
            let expected = "0: a flow without context".to_owned();
            return Err(EngineError::Length { what: "context", got, expected });
        }
        self.on_adapter().map_err(|_| EngineError::Choice {
            field: "device",
            got: "the cores".into(),
            expected: format!("an adapter, whose buffers {call} could use"),
        })
    }

    /// log q of `n` rows of the buffer `theta`, `[n, D]`, into the buffer `log_prob`, `[n]`, both of f32 and of the device that
    /// the engine shares with its caller ([`Engine::from_wgpu`](crate::Engine::from_wgpu)). `outer` is applied on the device too,
    /// in 32 bits. Nothing is copied to the host and nothing waited for: the work is submitted to the queue, in front of
    /// whatever the caller submits next. A row on or outside a bound gets -inf, one with a NaN or an infinity NaN.
    ///
    /// # Errors
    /// [`EngineError::Length`] or [`EngineError::Binding`] for a buffer that is too small or no storage buffer, or a flow with
    /// context; [`EngineError::Choice`] on the cores; [`EngineError::NoParams`] before the first parameters; any error that
    /// the device raises at once.
    pub fn log_prob_on_device(
        &mut self,
        outer: &OuterTransform,
        n: usize,
        theta: &wgpu::Buffer,
        log_prob: &wgpu::Buffer,
    ) -> Result<(), EngineError> {
        self.with_buffers("log_prob_on_device")?.submit_log_prob(outer, n, theta, log_prob)
    }

    /// `n` draws into the buffer `theta`, `[n, D]`, and their log q into the buffer `log_prob`, `[n]`; see
    /// [`FlowExecutor::log_prob_on_device`]. Random numbers are made on the device and are not those of the host: draw i
    /// depends on seed and i alone, and is strictly inside every bound.
    ///
    /// # Errors
    /// As [`FlowExecutor::log_prob_on_device`].
    pub fn sample_on_device(
        &mut self,
        outer: &OuterTransform,
        seed: u64,
        n: usize,
        theta: &wgpu::Buffer,
        log_prob: &wgpu::Buffer,
    ) -> Result<(), EngineError> {
        self.with_buffers("sample_on_device")?.submit_samples(outer, seed, n, theta, log_prob)
    }
}
