//! What can go wrong on a device or on the way to it. Every text says what was asked, what was found and where.
//! [`EngineError::is_recoverable`] separates a refused call from a device that can no longer be used.

use crate::SelfTestReport;

/// Why a call to the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No adapter fits the request.
    #[error("no device fits `{asked}`; available: {found}")]
    NoDevice {
        /// The device that was asked for.
        asked: String,
        /// The devices that are there, in words.
        found: String,
    },
    /// The adapter refused to open a device.
    #[error("device {name} cannot be opened: {message}")]
    Open {
        /// The adapter's name.
        name: String,
        /// The driver's message.
        message: String,
    },
    /// The device is gone (reset, unplugged, driver crash). The engine cannot be used any more.
    #[error("device lost: {message}")]
    DeviceLost {
        /// The driver's message.
        message: String,
    },
    /// The device has no memory left for a buffer.
    #[error("out of device memory while {during}: {message}")]
    OutOfMemory {
        /// What was being done.
        during: String,
        /// The driver's message.
        message: String,
    },
    /// The device refused a command: a mistake in the engine or an unmet limit.
    #[error("device refused a command while {during}: {message}")]
    Validation {
        /// What was being done.
        during: String,
        /// The validation message.
        message: String,
    },
    /// The driver failed, for instance while compiling a kernel.
    #[error("driver error while {during}: {message}")]
    Driver {
        /// What was being done.
        during: String,
        /// The driver's message.
        message: String,
    },
    /// The device did not finish in time.
    #[error("device did not finish within {seconds} s while {during}")]
    Timeout {
        /// The limit of [`EngineSettings::timeout_seconds`](crate::EngineSettings).
        seconds: f64,
        /// What was being done.
        during: String,
    },
    /// A kernel does not render or validate.
    #[error(transparent)]
    Shader(#[from] lwflow_shaders::ShaderError),
    /// A kernel was bound with the wrong buffers.
    #[error("kernel {kernel}: {message}")]
    Binding {
        /// The kernel's name.
        kernel: String,
        /// Which binding or uniform field, what was given and what was expected.
        message: String,
    },
    /// The specification describes no flow, or an array does not fit it.
    #[error(transparent)]
    Model(#[from] lwflow_model::ModelError),
    /// An array has the wrong length.
    #[error("{what}: got {got} values, expected {expected}")]
    Length {
        /// Which array.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The expected length, in words.
        expected: String,
    },
    /// An input is NaN or infinite.
    #[error("{what}: value {value} at row {row}, column {column}; expected a finite number")]
    NonFinite {
        /// Which array.
        what: &'static str,
        /// The row (sample; 0 for a flat array).
        row: usize,
        /// The column (coordinate, or flat index).
        column: usize,
        /// The value found.
        value: f32,
    },
    /// A choice of kernels that there are none for.
    #[error("kernel choice: {field} is {got}, expected {expected}")]
    Choice {
        /// Which field.
        field: &'static str,
        /// Its value.
        got: String,
        /// The values there are.
        expected: String,
    },
    /// An index points outside an array.
    #[error("{what}: {got} at row {row}, expected below {len}")]
    Index {
        /// Which array of indices.
        what: &'static str,
        /// The row.
        row: usize,
        /// The index found.
        got: u64,
        /// Length of the array it points into.
        len: usize,
    },
    /// A training step was asked for before its data or optimiser was set.
    #[error("train_steps: {missing} must be set first")]
    NotSet {
        /// What is missing.
        missing: &'static str,
    },
    /// The flow has no parameters yet.
    #[error("{call}: the flow has no parameters; call set_params first")]
    NoParams {
        /// The call that needs them.
        call: &'static str,
    },
    /// The flow does not fit the device's limits even for the smallest piece of a batch.
    #[error("{what} needs {needed}, the device allows {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// The size needed.
        needed: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A user's WGSL file is not what a likelihood must be.
    #[error(transparent)]
    Wgsl(#[from] crate::WgslError),
    /// A log likelihood that is neither finite nor -inf.
    #[error(
        "log_likelihood: value {value} at row {row} (theta = {theta:?}), expected a finite number or -inf"
    )]
    BadLogLikelihood {
        /// The row.
        row: usize,
        /// Its parameters.
        theta: Vec<f32>,
        /// The value found.
        value: f32,
    },
    /// The device computes wrong numbers.
    #[error("device {} failed its self-test: {report}", report.device)]
    SelfTest {
        /// The figures.
        report: Box<SelfTestReport>,
    },
}

impl EngineError {
    /// Whether the engine can still be used: true for a refused input, false for a lost, failing or hanging device.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        match self {
            Self::Model(_)
            | Self::Length { .. }
            | Self::NonFinite { .. }
            | Self::Index { .. }
            | Self::Choice { .. }
            | Self::NotSet { .. }
            | Self::NoParams { .. }
            | Self::Limit { .. }
            | Self::Wgsl(_)
            | Self::BadLogLikelihood { .. }
            | Self::OutOfMemory { .. } => true,
            Self::NoDevice { .. }
            | Self::Open { .. }
            | Self::DeviceLost { .. }
            | Self::Validation { .. }
            | Self::Driver { .. }
            | Self::Timeout { .. }
            | Self::Shader(_)
            | Self::Binding { .. }
            | Self::SelfTest { .. } => false,
        }
    }
}
