//! The native half of the Python package `lwflow`: arrays in and out, errors, signals, and the facade behind them.
//! Invariant: the interpreter is free while the engine works; a signal stops a fit at its next step, never in its middle.

mod arrays;
mod callback;
mod errors;
mod fit;
mod posterior;
mod prior;
mod watch;

/// What `lwflow/__init__.py` imports.
#[pyo3::pymodule]
mod _lwflow {
    #[pymodule_export]
    use crate::fit::{fit, fit_weighted};
    #[pymodule_export]
    use crate::posterior::Posterior;
}
