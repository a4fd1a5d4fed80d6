//! Between NumPy and flat vectors. Invariant: whatever NumPy can make an array of f64 of is taken, and a shape that does not fit
//! is named.

use crate::errors::input;
use numpy::{PyArray1, PyArray2, PyArray3, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// `value` as f64 in C order, with its shape.
pub fn array(what: &str, value: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Vec<f64>)> {
    let py = value.py();
    let options = PyDict::new(py);
    options.set_item("dtype", "float64")?;
    options.set_item("order", "C")?;
    let made = py.import("numpy")?.call_method("asarray", (value,), Some(&options));
    let made = made.map_err(|error| {
        let text = format!("{what}: no array of numbers: {}", error.value(py));
        let refused = input(py, text);
        refused.set_cause(py, Some(error));
        refused
    })?;
    let array = made.cast::<PyArrayDyn<f64>>().map_err(PyErr::from)?;
    let values = array.to_vec().map_err(PyErr::from)?;
    Ok((array.shape().to_vec(), values))
}

/// A shape as Python writes it.
pub fn shape_text(shape: &[usize]) -> String {
    match shape {
        [n] => format!("({n},)"),
        shape => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Rows of `d` values, and whether it was a single one without its axis.
pub fn rows(what: &str, value: &Bound<'_, PyAny>, d: usize) -> PyResult<(Vec<f64>, bool)> {
    let (shape, values) = array(what, value)?;
    match shape[..] {
        [width] if width == d => Ok((values, true)),
        [_, width] if width == d => Ok((values, false)),
        _ => {
            let got = shape_text(&shape);
            Err(input(value.py(), format!("{what}: shape {got}, expected (n, {d}) or ({d},)")))
        }
    }
}

/// Contexts of `c` values each: rows, and whether it was a single one without its axis.
pub fn contexts(value: &Bound<'_, PyAny>, c: usize) -> PyResult<(Vec<f64>, bool)> {
    if c == 0 {
        let text = "context is given, but the posterior is not conditional".to_owned();
        return Err(input(value.py(), text));
    }
    rows("context", value, c)
}

/// An array of one axis.
pub fn vector(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    let (shape, values) = array(what, value)?;
    if shape.len() == 1 {
        return Ok(values);
    }
    Err(input(value.py(), format!("{what}: shape {}, expected (n,)", shape_text(&shape))))
}

/// An array of two axes, with their lengths.
pub fn matrix(what: &str, value: &Bound<'_, PyAny>) -> PyResult<(usize, usize, Vec<f64>)> {
    let (shape, values) = array(what, value)?;
    match shape[..] {
        [n, d] => Ok((n, d, values)),
        _ => Err(input(value.py(), format!("{what}: shape {}, expected (n, D)", shape_text(&shape)))),
    }
}

/// `values` as `[n, d]`.
pub fn to_matrix(py: Python<'_>, values: Vec<f64>, d: usize) -> PyResult<Bound<'_, PyArray2<f64>>> {
    let n = values.len() / d.max(1);
    PyArray1::from_vec(py, values).reshape([n, d])
}

/// `values` as `[k, n, d]`.
pub fn to_cube(
    py: Python<'_>,
    values: Vec<f64>,
    (k, n, d): (usize, usize, usize),
) -> PyResult<Bound<'_, PyArray3<f64>>> {
    PyArray1::from_vec(py, values).reshape([k, n, d])
}
