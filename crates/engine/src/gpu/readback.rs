//! Submits recorded work and reads its results through one persistent staging buffer.
//! Invariant: one submit and one map per piece; the staging buffer is unmapped again whatever happens.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use super::Gpu;
use crate::EngineError;

/// How to wait for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Block this thread.
    Block,
    /// Yield to the executor between looks.
    Await,
}

#[derive(Default)]
struct MapState {
    result: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// The host-visible buffer that results are copied to.
#[derive(Debug)]
pub(crate) struct Staging {
    buffer: wgpu::Buffer,
    used: usize,
}

impl Staging {
    /// A buffer of `len` floats.
    pub fn new(gpu: &Gpu, len: usize) -> Result<Self, EngineError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self { buffer: gpu.buffer("flow/staging", len, usage)?, used: 0 })
    }

    /// Records a copy of a range of floats of `source` behind what was copied before.
    pub fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, source: &wgpu::Buffer, range: Range<usize>) {
        let (from, to, size) = (4 * range.start as u64, 4 * self.used as u64, 4 * range.len() as u64);
        encoder.copy_buffer_to_buffer(source, from, &self.buffer, to, size);
        self.used += range.len();
    }

    /// Submits `encoder`, waits and returns everything copied since the last read, in order.
    pub async fn read(
        &mut self,
        gpu: &Gpu,
        encoder: wgpu::CommandEncoder,
        during: &str,
        wait: Wait,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let bytes = 4 * std::mem::take(&mut self.used) as u64;
        out.clear();
        let state = Arc::new(Mutex::new(MapState::default()));
        let index = gpu.scoped(during, || Ok(gpu.queue.submit([encoder.finish()])))?;
        if bytes == 0 {
            return if wait == Wait::Block { gpu.poll(Some(index), during) } else { Ok(()) };
        }
        let shared = state.clone();
        gpu.scoped(during, || {
            self.buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                state.result = Some(result);
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
            });
            Ok(())
        })?;
        let mapped = match wait {
            Wait::Block => gpu.poll(Some(index), during),
            Wait::Await => wait_for(gpu, &state, during).await,
        };
        let result = mapped.and_then(|()| self.take(gpu, &state, bytes, during, out));
        // A map that failed leaves nothing to unmap; that complaint must not hide the first error.
        let unmapped = gpu.scoped(during, || {
            self.buffer.unmap();
            Ok(())
        });
        result.and(unmapped)
    }

    fn take(
        &self,
        gpu: &Gpu,
        state: &Mutex<MapState>,
        bytes: u64,
        during: &str,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let lost = |message: String| EngineError::Driver { during: during.to_owned(), message };
        match state.lock().unwrap_or_else(PoisonError::into_inner).result.take() {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                gpu.faults.check(during)?;
                return Err(lost(format!("results cannot be mapped: {error}")));
            }
            None => return Err(lost("the device finished without mapping the results".into())),
        }
        let view = self
            .buffer
            .get_mapped_range(0..bytes)
            .map_err(|error| lost(format!("results cannot be read: {error}")))?;
        out.extend(view.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        Ok(())
    }
}

/// Looks at the device each time the executor polls, so that no thread of its own is needed.
async fn wait_for(gpu: &Gpu, state: &Mutex<MapState>, during: &str) -> Result<(), EngineError> {
    let begin = Instant::now();
    poll_fn(|context| {
        if let Err(error) = gpu.poll(None, during) {
            return Poll::Ready(Err(error));
        }
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.result.is_some() {
            return Poll::Ready(Ok(()));
        }
        if begin.elapsed() > gpu.timeout {
            let seconds = gpu.timeout.as_secs_f64();
            return Poll::Ready(Err(EngineError::Timeout { seconds, during: during.to_owned() }));
        }
        state.waker = Some(context.waker().clone());
        drop(state);
        std::thread::yield_now();
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
