//! The error type of the host crate: what was given, what was expected, and where.
//! Every variant carries typed fields, so a caller can act on them without reading the text.

use thiserror::Error;

/// What can go wrong on the host side.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// A log likelihood, log prior, log proposal, log weight or log density holds a value that is not legal there.
    #[error("{what}: value {value} at row {row} (theta = {theta:?}), expected {expected}")]
    BadLogValue {
        /// Which array: "log_likelihood", "log_weights", ...
        what: &'static str,
        /// Row of the value, from 0.
        row: usize,
        /// The value found.
        value: f64,
        /// The parameters of that row; empty where the caller gave none.
        theta: Vec<f64>,
        /// What is legal in this array.
        expected: &'static str,
    },
    /// A coordinate, weight or sample is NaN, infinite, or negative where that is not legal.
    #[error("{what}: value {value} at row {row}, column {column}, expected {expected}")]
    BadValue {
        /// Which array.
        what: &'static str,
        /// Row of the value, from 0.
        row: usize,
        /// Column of the value, from 0.
        column: usize,
        /// The value found.
        value: f64,
        /// What is legal in this array.
        expected: &'static str,
    },
    /// No row carries weight, so nothing can be normalised.
    #[error(
        "{what}: all {n} rows have weight zero (log weight -inf), expected at least one with positive weight"
    )]
    AllWeightsZero {
        /// Which array.
        what: &'static str,
        /// Number of rows.
        n: usize,
    },
    /// An array has the wrong length.
    #[error("{what}: length {got}, expected {expected}")]
    Length {
        /// Which array.
        what: &'static str,
        /// The length found.
        got: usize,
        /// The length expected, and why.
        expected: String,
    },
    /// A setting is outside its range.
    #[error("{setting} = {got}, expected {expected}")]
    BadSetting {
        /// Name of the setting.
        setting: &'static str,
        /// The value found.
        got: String,
        /// The legal range.
        expected: &'static str,
    },
    /// More mixture components are wanted than there are distinct weighted points.
    #[error("mixture: {n_components} components wanted, but only {n_points} distinct points carry weight")]
    TooFewPoints {
        /// Components wanted.
        n_components: usize,
        /// Distinct points with weight.
        n_points: usize,
    },
    /// The weighted points are worth too few effective ones.
    #[error(
        "the {n_weighted} weighted points are worth {effective:.1} effective ones, expected at least {least} for a fit: \
             draw more points where the likelihood is high"
    )]
    TooFewEffective {
        /// Effective number of points.
        effective: f64,
        /// Rows of positive weight.
        n_weighted: usize,
        /// Fewest that a fit accepts.
        least: f64,
    },
    /// No target has this name.
    #[error("target \"{got}\" is not known, did you mean \"{nearest}\"? (one of: {known})")]
    UnknownTarget {
        /// The name given.
        got: String,
        /// The nearest valid name.
        nearest: String,
        /// All valid names.
        known: String,
    },
    /// A setting or an array makes no sense.
    #[error("{what} is {got}, expected {expected}")]
    Invalid {
        /// Which setting or array.
        what: String,
        /// What was found.
        got: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A point of positive weight lies on or outside the support.
    #[error(
        "row {row}: {parameter} = {value} has weight but lies on or outside its support ({lower}, {upper})"
    )]
    OutsideSupport {
        /// Row, from 0.
        row: usize,
        /// Name of the parameter.
        parameter: String,
        /// Its value.
        value: f64,
        /// Lower bound.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// Training did not stay finite.
    #[error(
        "training: {skipped} steps in a row were not finite, the last at step {step} with loss {loss}; \
             a smaller learning_rate or s_max may help"
    )]
    NonFinite {
        /// The last step.
        step: usize,
        /// Steps refused in a row.
        skipped: usize,
        /// Loss of the last.
        loss: f64,
    },
    /// A likelihood or a simulator could not be evaluated: a child process that died, a short answer, a function that cannot
    /// run.
    #[error("{source_name}: {problem}")]
    Likelihood {
        /// The command, file or function.
        source_name: String,
        /// What went wrong, with the theta in question where there is one.
        problem: String,
    },
    /// A simulated value that is not finite, in a simulation that has not failed.
    #[error(
        "simulation {number}: x[{column}] is {value} (theta = {theta:?}), expected finite numbers, or NaN in all of them \
             if the simulation failed"
    )]
    BadObservation {
        /// Number of the simulation.
        number: u64,
        /// Column of the value, from 0.
        column: usize,
        /// The value found.
        value: f64,
        /// The parameters of the simulation.
        theta: Vec<f64>,
    },
    /// What a run keeps could not be read or written.
    #[error(transparent)]
    Journal(#[from] crate::rounds::JournalError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] lwflow_engine::EngineError),
    /// The model refused a specification or an array.
    #[error(transparent)]
    Model(#[from] lwflow_model::ModelError),
}

impl HostError {
    pub(crate) fn invalid(what: impl Into<String>, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), got: got.to_string(), expected: expected.into() }
    }
}

/// Checks that `got` is the wanted length.
///
/// # Errors
/// [`HostError::Length`] naming `what`.
pub(crate) fn check_length(
    what: &'static str,
    got: usize,
    expected: usize,
    why: &str,
) -> Result<(), HostError> {
    if got == expected {
        return Ok(());
    }
    Err(HostError::Length { what, got, expected: format!("{expected} ({why})") })
}

/// Number of rows of a flat `[n, dim]` array.
///
/// # Errors
/// [`HostError::Length`] if `len` is not a multiple of `dim`, [`HostError::BadSetting`] if `dim` is 0.
pub(crate) fn n_rows(what: &'static str, len: usize, dim: usize) -> Result<usize, HostError> {
    if dim == 0 {
        return Err(HostError::BadSetting { setting: "dim", got: "0".into(), expected: "at least 1" });
    }
    if !len.is_multiple_of(dim) {
        return Err(HostError::Length { what, got: len, expected: format!("a multiple of dim = {dim}") });
    }
    Ok(len / dim)
}
