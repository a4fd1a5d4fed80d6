//! Errors of this crate: wrong shapes and specifications that describe no flow.
//! Every text says what was asked, what was found and what was expected.

/// Why a specification or a call was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of a specification has a value that describes no flow.
    #[error("flow specification: {field} is {got}, expected {expected}")]
    Spec {
        /// Path of the field, for example `layers[3].s_max`.
        field: String,
        /// The value found.
        got: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A set of observations whose count is not one.
    #[error("context, row {row}: the number of elements is {got}, expected a whole number from 0 to {most}")]
    Count {
        /// Row of the context, from 0.
        row: usize,
        /// The count found.
        got: f64,
        /// Elements that a row has room for.
        most: usize,
    },
    /// An array has the wrong length.
    #[error("{what}: got {got} values, expected {expected}")]
    Length {
        /// Which array.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that its shape asks for, in words.
        expected: String,
    },
}

impl ModelError {
    pub(crate) fn spec(field: impl Into<String>, got: impl ToString, expected: impl Into<String>) -> Self {
        ModelError::Spec { field: field.into(), got: got.to_string(), expected: expected.into() }
    }
}
