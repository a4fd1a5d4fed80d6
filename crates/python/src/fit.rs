//! The functions behind `lwflow.fit` and `lwflow.fit_weighted`, which check and document their arguments.

use crate::arrays::{array, matrix, shape_text, vector};
use crate::callback::Callback;
use crate::errors::{input, raise};
use crate::posterior::{Posterior, device_of};
use crate::prior::{Given, read};
use crate::watch::{Shared, Watch};
use lwflow::{
    BaseSettings, BatchLikelihood, Components, Coupling, Error, Fit, FitSettings, Outcome, RoundsSettings,
    Support, WeightedFit, WeightedOutcome, Wgsl,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::Arc;

/// Sets `to` to the option of that name, if it was given.
fn set<'py, T>(options: &Bound<'py, PyDict>, name: &str, to: &mut T) -> PyResult<()>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    if let Some(value) = options.get_item(name)? {
        let shown = value.repr()?;
        *to = value.extract::<T>().map_err(|error| {
            let error: PyErr = error.into();
            let what = error.value(options.py());
            PyTypeError::new_err(format!("{name} is {shown}: {what}"))
        })?;
        options.del_item(name)?;
    }
    Ok(())
}

/// Most components that flows are trained with to choose among them.
const TRAINED_COMPONENTS: usize = 8;

/// Options that both kinds of fit have, on top of `fit`.
fn fit_settings(options: &Bound<'_, PyDict>, mut fit: FitSettings) -> PyResult<FitSettings> {
    set(options, "n_layers", &mut fit.flow.n_layers)?;
    set(options, "hidden", &mut fit.flow.hidden)?;
    set(options, "batch_size", &mut fit.training.batch_size)?;
    set(options, "max_visits", &mut fit.training.max_visits)?;
    set(options, "learning_rate", &mut fit.training.learning_rate)?;
    let mut given: Option<Py<PyAny>> = None;
    set(options, "n_components", &mut given)?;
    if let Some(given) = given {
        let given = given.into_bound(options.py());
        let number = match given.extract::<String>().as_deref() {
            Ok("auto") => None,
            Ok("trained") => Some(Components::Trained { max: TRAINED_COMPONENTS }),
            Ok(other) => {
                let text = format!("n_components is {other:?}, expected a number, \"auto\" or \"trained\"");
                return Err(input(options.py(), text));
            }
            Err(_) => {
                let k = given.extract::<usize>().map_err(|error| {
                    let what = error.value(options.py());
                    PyTypeError::new_err(format!("n_components is {given}: {what}"))
                })?;
                Some(Components::Fixed(k))
            }
        };
        fit.base = FitSettings::default().base;
        if let (Some(number), BaseSettings::Mixture { components, .. }) = (number, &mut fit.base) {
            *components = number;
        }
    }
    let mut coupling: Option<String> = None;
    set(options, "coupling", &mut coupling)?;
    match coupling.as_deref() {
        None => {}
        Some("affine") => fit.flow.coupling = Coupling::Affine,
        Some("spline") => fit.flow.coupling = Coupling::SPLINE,
        Some(other) => {
            let text = format!("coupling is {other:?}, expected \"affine\" or \"spline\"");
            return Err(input(options.py(), text));
        }
    }
    Ok(fit)
}

/// What is left over was misspelt in this package, not by its user.
fn refuse_others(options: &Bound<'_, PyDict>) -> PyResult<()> {
    match options.keys().get_item(0) {
        Ok(name) => Err(PyTypeError::new_err(format!("unknown option {name}"))),
        Err(_) => Ok(()),
    }
}

/// See `lwflow.fit`.
#[pyfunction]
#[pyo3(signature = (prior, log_likelihood, wgsl, data, derived, offsets, labels, journal, seed, device, options, progress))]
pub fn fit(
    py: Python<'_>,
    prior: &Bound<'_, PyAny>,
    log_likelihood: Option<Py<PyAny>>,
    wgsl: Option<String>,
    data: Option<&Bound<'_, PyAny>>,
    derived: Vec<String>,
    offsets: Option<Vec<f64>>,
    labels: Option<Vec<String>>,
    journal: Option<PathBuf>,
    seed: u64,
    device: &str,
    options: &Bound<'_, PyDict>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Posterior> {
    let (prior, names) = read(prior)?;
    let device = device_of(py, device)?;
    let settings = fit_settings(options, FitSettings::default())?;
    if let BaseSettings::Mixture { components: Components::Trained { .. }, .. } = settings.base {
        return Err(input(py, "n_components is \"trained\", which is for fit_weighted".into()));
    }
    let mut rounds = RoundsSettings::default();
    set(options, "target_ess", &mut rounds.target_ess)?;
    set(options, "max_evaluations", &mut rounds.max_evaluations)?;
    set(options, "max_time", &mut rounds.max_time)?;
    set(options, "max_k_hat", &mut rounds.max_k_hat)?;
    set(options, "max_log_z_sd", &mut rounds.max_log_z_sd)?;
    set(options, "n_scan", &mut rounds.n_scan)?;
    set(options, "n_round", &mut rounds.n_round)?;
    refuse_others(options)?;
    let program = match wgsl {
        None => None,
        Some(text) => {
            let mut program = Wgsl::new(text).derived(derived);
            if let Some(data) = data {
                let (_, n_columns, values) = matrix("data", data)?;
                program = program.data(values, n_columns);
            }
            Some(if let Some(offsets) = offsets { program.offsets(offsets) } else { program })
        }
    };
    let shared = Arc::new(Shared::default());
    let mut watch = Watch::new(shared.clone(), progress);
    let dim = prior.dim();
    let callback = log_likelihood.map(|function| Callback { function, dim, shared: shared.clone() });
    let outcome = py.detach(|| {
        let mut fit = match prior {
            Given::Marginals(prior) => Fit::new(prior),
            Given::Flow(prior) => Fit::new(*prior),
        };
        if let Some(program) = program {
            fit = fit.wgsl(program);
        }
        if let Some(callback) = callback {
            let evaluate = move |theta: &[f64]| callback.evaluate(theta);
            fit = fit.likelihood(BatchLikelihood::new(dim, "log_likelihood", evaluate));
        }
        if let Some(labels) = labels {
            fit = fit.labels(labels);
        }
        if let Some(folder) = journal {
            fit = fit.journal(folder);
        }
        fit.names(names)
            .seed(seed)
            .device(device)
            .fit(|fit| *fit = settings)
            .rounds(|to| *to = rounds)
            .on_progress(|event| watch.rounds(event))
            .run()
    });
    let Outcome { posterior, derived_names, result } = ended(py, &shared, outcome)?;
    let report = serde_json::to_string(&result.report).map_err(|e| input(py, e.to_string()))?;
    let interrupted = shared.is_stopped();
    Ok(Posterior {
        inner: posterior,
        result: Some(result),
        derived_names,
        report: Some(report),
        interrupted,
        replicas: Vec::new(),
    })
}

/// See `lwflow.fit_weighted`.
#[pyfunction]
#[pyo3(signature = (theta, weights, log_weights, context, names, labels, bounds, effective_size, replicas, seed, device, options, progress))]
pub fn fit_weighted(
    py: Python<'_>,
    theta: &Bound<'_, PyAny>,
    weights: Option<&Bound<'_, PyAny>>,
    log_weights: Option<&Bound<'_, PyAny>>,
    context: Option<&Bound<'_, PyAny>>,
    names: Option<Vec<String>>,
    labels: Option<Vec<String>>,
    bounds: Option<Vec<(Option<f64>, Option<f64>)>>,
    effective_size: Option<f64>,
    replicas: usize,
    seed: u64,
    device: &str,
    options: &Bound<'_, PyDict>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Posterior> {
    let (n, d, theta) = matrix("theta", theta)?;
    let given = weights.or(log_weights).map(|w| vector("weights", w)).transpose()?;
    let values = given.unwrap_or_else(|| vec![1.0; n]);
    if values.len() != n {
        let got = values.len();
        return Err(input(py, format!("weights: {got} values, expected {n}, the rows of theta")));
    }
    let context = match context {
        None => None,
        Some(value) => match array("context", value)? {
            (shape, values) if shape.len() == 2 && shape[0] == n && shape[1] > 0 => Some(values),
            (shape, _) => {
                let got = shape_text(&shape);
                let text = format!("context: shape {got}, expected ({n}, C), a row for each of theta");
                return Err(input(py, text));
            }
        },
    };
    let device = device_of(py, device)?;
    let start = if context.is_some() { FitSettings::conditional() } else { FitSettings::default() };
    let settings = fit_settings(options, start)?;
    refuse_others(options)?;
    let supports = bounds.map(|bounds| {
        let support = |(lower, upper)| Support { lower, upper, ..Support::default() };
        bounds.into_iter().map(support).collect::<Vec<_>>()
    });
    if d == 0 {
        return Err(input(py, "theta: shape (n, 0), expected at least one parameter".into()));
    }
    let is_log = weights.is_none() && log_weights.is_some();
    let shared = Arc::new(Shared::default());
    let mut watch = Watch::new(shared.clone(), progress);
    let outcome = py.detach(|| {
        let mut fit =
            if is_log { WeightedFit::log_weighted(theta, values) } else { WeightedFit::new(theta, &values) };
        if let Some(context) = context {
            fit = fit.context(context);
        }
        if let Some(names) = names {
            fit = fit.names(names);
        }
        if let Some(labels) = labels {
            fit = fit.labels(labels);
        }
        if let Some(supports) = supports {
            fit = fit.supports(supports);
        }
        if let Some(n) = effective_size {
            fit = fit.effective_size(n);
        }
        fit.seed(seed)
            .device(device)
            .replicas(replicas)
            .fit(|fit| *fit = settings)
            .on_progress(|progress| watch.points(progress))
            .run()
    });
    let WeightedOutcome { posterior, replicas, report } = ended(py, &shared, outcome)?;
    let report = serde_json::to_string(&report).map_err(|e| input(py, e.to_string()))?;
    let interrupted = shared.is_stopped();
    Ok(Posterior {
        inner: posterior,
        result: None,
        derived_names: Vec::new(),
        report: Some(report),
        interrupted,
        replicas: replicas
            .into_iter()
            .map(|replica| Py::new(py, Posterior::of(replica)))
            .collect::<PyResult<_>>()?,
    })
}

/// The outcome of a fit, or the exception that ended it.
fn ended<T>(py: Python<'_>, shared: &Shared, outcome: Result<T, Error>) -> PyResult<T> {
    if let Some(error) = shared.take() {
        return Err(error);
    }
    outcome.map_err(|error| raise(py, &error))
}
