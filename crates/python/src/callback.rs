//! A log likelihood in Python: batches of theta as an array `(n, D)`, log L as an array `(n,)`. Invariant: an exception of the
//! callable ends the fit and is the cause of the one that is raised; Ctrl-C in it ends the fit with what there is.

use crate::arrays::{shape_text, to_matrix};
use crate::watch::Shared;
use crate::{arrays, errors};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use std::error::Error;
use std::sync::Arc;

/// The callable.
pub struct Callback {
    pub function: Py<PyAny>,
    pub dim: usize,
    pub shared: Arc<Shared>,
}

impl Callback {
    /// log L of theta, `[n, D]`; nothing where the fit was asked to stop.
    pub fn evaluate(&self, theta: &[f64]) -> Result<Vec<f64>, Box<dyn Error + Send + Sync>> {
        if self.shared.is_stopped() {
            return Ok(Vec::new());
        }
        Python::attach(|py| match self.values(py, theta) {
            Ok(values) => Ok(values),
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
                self.shared.stop();
                Ok(Vec::new())
            }
            Err(error) => {
                let text = error.to_string();
                self.shared.fail(py, error);
                Err(text.into())
            }
        })
    }

    fn values(&self, py: Python<'_>, theta: &[f64]) -> PyResult<Vec<f64>> {
        let n = theta.len() / self.dim;
        let array = to_matrix(py, theta.to_vec(), self.dim)?;
        let answer = self.function.bind(py).call1((array,)).map_err(|cause| {
            if cause.is_instance_of::<PyKeyboardInterrupt>(py) {
                return cause;
            }
            let name = cause.get_type(py).name().map_or_else(|_| "exception".into(), |name| name.to_string());
            let text = format!("log_likelihood raised {name}: {}", cause.value(py));
            let error = errors::likelihood(py, text);
            error.set_cause(py, Some(cause));
            error
        })?;
        let (shape, values) = arrays::array("log_likelihood returned", &answer)?;
        if shape == [n] {
            return Ok(values);
        }
        let (got, asked) = (shape_text(&shape), shape_text(&[n, self.dim]));
        let text = format!("log_likelihood returned shape {got} for theta of shape {asked}, expected ({n},)");
        Err(errors::likelihood(py, text))
    }
}
