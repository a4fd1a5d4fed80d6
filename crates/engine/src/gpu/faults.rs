//! Turns wgpu's three ways of failing (error scopes, the uncaptured-error callback, the lost-device callback) into
//! `EngineError`. Invariant: an error raised during a scoped call is that call's error; a lost device stays lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::Gpu;
use crate::EngineError;

#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    uncaptured: Option<wgpu::Error>,
}

/// What the device's callbacks reported.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultLog(Arc<Mutex<Faults>>);

impl FaultLog {
    /// A log fed by the callbacks of a device that this crate opened.
    pub fn watching(device: &wgpu::Device) -> Self {
        let log = Self::default();
        let sink = log.clone();
        device.set_device_lost_callback(move |reason, message| {
            sink.with(|f| f.lost = Some(format!("{reason:?}: {message}")));
        });
        let sink = log.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            sink.with(|f| {
                f.uncaptured.get_or_insert(error);
            });
        }));
        log
    }

    fn with<R>(&self, f: impl FnOnce(&mut Faults) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The device's standing error, if any; an uncaptured one is reported once.
    pub fn check(&self, during: &str) -> Result<(), EngineError> {
        self.with(|f| match (&f.lost, f.uncaptured.take()) {
            (Some(message), _) => Err(EngineError::DeviceLost { message: message.clone() }),
            (None, Some(error)) => Err(convert(error, during)),
            (None, None) => Ok(()),
        })
    }

    fn set_lost(&self, message: &str) {
        self.with(|f| {
            f.lost.get_or_insert_with(|| message.to_owned());
        });
    }
}

fn convert(error: wgpu::Error, during: &str) -> EngineError {
    let during = during.to_owned();
    match error {
        wgpu::Error::OutOfMemory { source } => {
            EngineError::OutOfMemory { during, message: source.to_string() }
        }
        wgpu::Error::Validation { description, .. } => {
            EngineError::Validation { during, message: description }
        }
        wgpu::Error::Internal { description, .. } => EngineError::Driver { during, message: description },
    }
}

impl Gpu {
    /// Runs `f` and returns the first wgpu error it raised on this thread, or else its own result.
    pub fn scoped<T>(
        &self,
        during: &str,
        f: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.faults.check(during)?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = f();
        // Popping is immediate on native devices. All three are popped whatever the first says.
        let errors = [validation, internal, memory].map(|scope| pollster::block_on(scope.pop()));
        // Validation errors follow from a failed allocation, so memory is asked first.
        if let Some(error) = errors.into_iter().rev().flatten().next() {
            return Err(convert(error, during));
        }
        self.faults.check(during)?;
        result
    }

    /// Lets the device make progress: waits for `index`, or only looks if `None`.
    pub fn poll(&self, index: Option<wgpu::SubmissionIndex>, during: &str) -> Result<(), EngineError> {
        let poll = match index {
            Some(index) => {
                wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(self.timeout) }
            }
            None => wgpu::PollType::Poll,
        };
        // wgpu panics if the device is lost while it waits; the caller is owed an error.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => self.faults.check(during),
            Ok(Err(wgpu::PollError::Timeout)) => {
                Err(EngineError::Timeout { seconds: self.timeout.as_secs_f64(), during: during.to_owned() })
            }
            // A submission that failed without raising an error is one to a lost device.
            Ok(Err(wgpu::PollError::WrongSubmissionIndex(..))) => {
                self.faults.set_lost("the driver took no more work");
                self.faults.check(during)
            }
            Err(_) => {
                self.faults.set_lost("the driver failed while the engine waited for it");
                self.faults.check(during)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURING: &str = "allocating 64 bytes for flow/params";

    fn no_memory() -> wgpu::Error {
        wgpu::Error::OutOfMemory { source: "the heap is full".into() }
    }

    #[test]
    fn every_kind_of_error_is_told_with_what_was_done() {
        let error = convert(no_memory(), DURING);
        let text = "out of device memory while allocating 64 bytes for flow/params: the heap is full";
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, EngineError::OutOfMemory { .. }) && error.is_recoverable());

        let (source, description) = ("x".into(), "buffer too large".to_owned());
        let error = convert(wgpu::Error::Validation { source, description }, DURING);
        assert!(matches!(&error, EngineError::Validation { message, .. } if message == "buffer too large"));

        let (source, description) = ("x".into(), "compiler gave up".to_owned());
        let error = convert(wgpu::Error::Internal { source, description }, DURING);
        assert!(matches!(&error, EngineError::Driver { message, .. } if message == "compiler gave up"));
        assert!(!error.is_recoverable());
    }

    #[test]
    fn what_callbacks_report_is_told_once_but_a_loss_for_ever() {
        let log = FaultLog::default();
        log.with(|f| f.uncaptured = Some(no_memory()));
        assert!(matches!(log.check(DURING), Err(EngineError::OutOfMemory { .. })));
        log.check(DURING).unwrap();
        log.with(|f| f.uncaptured = Some(no_memory()));
        log.set_lost("unplugged");
        log.set_lost("again");
        for _ in 0..2 {
            let Err(EngineError::DeviceLost { message }) = log.check(DURING) else { panic!("not lost") };
            assert_eq!(message, "unplugged");
        }
    }
}
