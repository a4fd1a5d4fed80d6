//! Priors from Python: a mapping of names to marginals, or a posterior. Invariant: the kinds of marginals and their keys are the
//! host's own, read as a task file's are; nothing of them is written down here.

use crate::errors::input;
use crate::posterior::Posterior;
use lwflow::{FlowPrior, IndependentPrior, Marginal, Prior};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};
use serde_json::{Map, Value};

/// A prior and the names of its parameters.
pub enum Given {
    /// Independent marginals.
    Marginals(IndependentPrior),
    /// A trained posterior.
    Flow(Box<FlowPrior>),
}

impl Given {
    pub fn dim(&self) -> usize {
        match self {
            Self::Marginals(prior) => prior.dim(),
            Self::Flow(prior) => prior.dim(),
        }
    }
}

/// The prior of `value`: a posterior, or pairs of a name and a dict such as `{"prior": "normal", "mean": 0.0, "sd": 1.0}`.
pub fn read(value: &Bound<'_, PyAny>) -> PyResult<(Given, Vec<String>)> {
    let py = value.py();
    if let Ok(posterior) = value.cast::<Posterior>() {
        let posterior = &posterior.get().inner;
        let prior = posterior.prior().map_err(|e| crate::errors::raise(py, &e))?;
        return Ok((Given::Flow(Box::new(prior)), posterior.names().to_vec()));
    }
    let pairs: Vec<(String, Bound<'_, PyDict>)> = value.extract()?;
    let (mut names, mut marginals, mut periodic) = (Vec::new(), Vec::new(), Vec::new());
    for (j, (name, spec)) in pairs.into_iter().enumerate() {
        let wrong = |text: String| input(py, format!("prior of parameter {name}: {text}"));
        let mut map = Map::new();
        for (key, value) in spec.iter() {
            let key: String = key.extract()?;
            if key == "periodic" {
                if value.extract::<bool>().map_err(|e| wrong(format!("periodic: {e}")))? {
                    periodic.push(j);
                }
            } else if let Ok(word) = value.extract::<String>() {
                map.insert(key, Value::String(word));
            } else if !value.is_none() {
                let number = match value.extract::<f64>() {
                    Ok(number) if !value.is_instance_of::<PyBool>() => number,
                    _ => return Err(wrong(format!("{key} is {}, expected a number", value.repr()?))),
                };
                let number = serde_json::Number::from_f64(number)
                    .ok_or_else(|| wrong(format!("{key} is {number}, expected a finite number")))?;
                map.insert(key, Value::Number(number));
            }
        }
        let marginal: Marginal =
            serde_json::from_value(Value::Object(map)).map_err(|error| wrong(error.to_string()))?;
        marginal.check().map_err(|error| wrong(error.to_string()))?;
        names.push(name);
        marginals.push(marginal);
    }
    let mut prior = IndependentPrior::new(marginals);
    for j in periodic {
        prior = prior.and_then(|prior| prior.with_periodic(j));
    }
    Ok((Given::Marginals(prior.map_err(|error| input(py, error.to_string()))?), names))
}
