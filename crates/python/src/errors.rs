//! Python's exceptions for the facade's errors, with the same texts. The classes are in `lwflow/_errors.py`.

use lwflow::Error;
use lwflow_host::HostError;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// An exception of a class of `lwflow._errors`.
fn of_class(py: Python<'_>, class: &str, text: String) -> PyErr {
    let made = py.import("lwflow._errors").and_then(|module| module.getattr(class)?.call1((text,)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// A wrong argument.
pub fn input(py: Python<'_>, text: String) -> PyErr {
    of_class(py, "InputError", text)
}

/// A likelihood that could not be evaluated, or returned what is not legal.
pub fn likelihood(py: Python<'_>, text: String) -> PyErr {
    of_class(py, "LikelihoodError", text)
}

/// The exception for an error of the facade.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Interrupted => return PyKeyboardInterrupt::new_err(error.to_string()),
        Error::Host(HostError::Engine(engine)) if !engine.is_recoverable() => "DeviceError",
        Error::Host(HostError::NonFinite { .. } | HostError::TooFewEffective { .. }) => "FitError",
        Error::Host(HostError::Likelihood { .. } | HostError::BadLogValue { what: "log_likelihood", .. }) => {
            "LikelihoodError"
        }
        _ => "InputError",
    };
    of_class(py, class, error.to_string())
}
