//! Exit statuses and the error that carries one. The statuses are listed in the README and never change meaning.

use lwflow_engine::EngineError;
use lwflow_host::HostError;
use lwflow_host::rounds::JournalError;
use std::fmt;

/// Exit status of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The command did what was asked.
    Success = 0,
    /// Something that should not happen: a full disk, a bug.
    Other = 1,
    /// The command line is wrong (written by the argument parser).
    Usage = 2,
    /// A task file, a data file or a model file is wrong.
    Input = 3,
    /// No device fits, or it failed its self-test or in use.
    Device = 4,
    /// The fit failed or a bound that was asked for does not hold.
    Fit = 5,
    /// The result does not keep its contract; it is written all the same.
    Contract = 6,
    /// Interrupted; what there was has been written.
    Interrupted = 130,
}

/// An error with the status that the command ends with.
#[derive(Debug)]
pub struct CommandError {
    /// Exit status.
    pub status: Status,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl CommandError {
    /// An error of that status.
    pub fn new(status: Status, message: impl fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

macro_rules! from_error {
    ($($error:ty => $status:expr),+ $(,)?) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::new($status, error)
            }
        })+
    };
}

from_error! {
    crate::task::TaskError => Status::Input,
    lwflow_model::ModelError => Status::Input,
    lwflow_figures::FigureError => Status::Other,
    serde_json::Error => Status::Other,
}

impl From<lwflow_host::files::FileError> for CommandError {
    fn from(error: lwflow_host::files::FileError) -> Self {
        use lwflow_host::files::FileError as E;
        let status = match error {
            E::Io { action: "write", .. } => Status::Other,
            _ => Status::Input,
        };
        Self::new(status, error)
    }
}

impl From<lwflow_host::model_file::ModelFileError> for CommandError {
    fn from(error: lwflow_host::model_file::ModelFileError) -> Self {
        use lwflow_host::model_file::ModelFileError as E;
        let status = match error {
            E::Io { action: "write", .. } => Status::Other,
            _ => Status::Input,
        };
        Self::new(status, error)
    }
}

/// A refused array is the input's fault, all else the device's.
fn engine_status(error: &EngineError) -> Status {
    match error {
        EngineError::Model(_)
        | EngineError::Length { .. }
        | EngineError::NonFinite { .. }
        | EngineError::Wgsl(_)
        | EngineError::BadLogLikelihood { .. } => Status::Input,
        _ => Status::Device,
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        Self::new(engine_status(&error), error)
    }
}

impl From<HostError> for CommandError {
    fn from(error: HostError) -> Self {
        let status = match &error {
            HostError::Engine(error) => engine_status(error),
            HostError::NonFinite { .. } | HostError::TooFewEffective { .. } => Status::Fit,
            HostError::Journal(JournalError::Io { action: "write" | "remove", .. }) => Status::Other,
            _ => Status::Input,
        };
        Self::new(status, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_engine::{SelfTestCheck, SelfTestReport};
    use lwflow_host::files::FileError;

    #[test]
    fn a_device_that_computes_wrong_is_no_device() {
        let checks = vec![SelfTestCheck { name: "inverse", error: 300.0, bound: 128.0 }];
        let report = SelfTestReport { device: "x".into(), cached: false, checks };
        let error = CommandError::from(EngineError::SelfTest { report: Box::new(report) });
        assert_eq!((error.status, Status::Device as i32), (Status::Device, 4));
        assert!(error.message.contains("device x failed its self-test: inverse 300.0"), "{error}");
    }

    #[test]
    fn a_full_disk_is_not_the_inputs_fault() {
        let error = |action| {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            CommandError::from(FileError::Io { path: "s.npz".into(), action, source }).status
        };
        assert_eq!(
            [error("write"), error("open"), error("create")],
            [Status::Other, Status::Input, Status::Input]
        );
    }
}
