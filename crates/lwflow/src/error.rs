//! What can go wrong on the way to a posterior, with the texts of the crates below.

use lwflow_engine::EngineError;
use lwflow_host::HostError;
use lwflow_host::model_file::ModelFileError;
use lwflow_host::rounds::JournalError;

/// Why a fit or a call on a posterior failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host, or the engine through it.
    #[error(transparent)]
    Host(HostError),
    /// A model file.
    #[error(transparent)]
    ModelFile(#[from] ModelFileError),
    /// A fit without likelihood.
    #[error("fit: no likelihood was given; call log_likelihood, likelihood or wgsl")]
    NoLikelihood,
    /// Stopped before there was a flow.
    #[error("interrupted before the first flow was trained")]
    Interrupted,
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Host(error.into())
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self::Host(error.into())
    }
}
