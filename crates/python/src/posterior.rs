//! The class `lwflow.Posterior`. Invariant: it never changes, so that threads may share it.

use crate::arrays::{contexts, rows, to_cube, to_matrix};
use crate::errors::{input, raise};
use lwflow::{DeviceChoice, RoundsResult};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::path::PathBuf;

/// A trained density: it is sampled, evaluated exactly, saved, and used as a prior.
///
/// `fit`, `fit_weighted` and `Posterior.load` make one. It never changes; threads may share it.
#[pyclass(frozen, module = "lwflow")]
pub struct Posterior {
    pub inner: lwflow::Posterior,
    pub result: Option<RoundsResult>,
    pub derived_names: Vec<String>,
    /// What the fit did, as JSON.
    pub report: Option<String>,
    pub interrupted: bool,
    /// Those of a fit of points that was asked for them.
    pub replicas: Vec<Py<Posterior>>,
}

impl Posterior {
    /// One that comes of no fit.
    pub fn of(inner: lwflow::Posterior) -> Self {
        let (derived_names, replicas) = (Vec::new(), Vec::new());
        Self { inner, result: None, derived_names, report: None, interrupted: false, replicas }
    }
}

/// The device of a word such as "auto".
pub fn device_of(py: Python<'_>, device: &str) -> PyResult<DeviceChoice> {
    device.parse().map_err(|e| input(py, format!("device: {e}")))
}

#[pymethods]
impl Posterior {
    /// Names of the parameters, list of D str.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.inner.names().to_vec()
    }

    /// LaTeX labels of the parameters without dollar signs, list of D str.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.inner.model().labels.clone()
    }

    /// Number of parameters D.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// Number of values C of an observation; 0 of a posterior that is not conditional.
    #[getter]
    fn context_dim(&self) -> usize {
        self.inner.context_dim()
    }

    /// log Z and its standard error as `Evidence(log_z, log_z_sd)`; None where the fit gave none, as bare weights never do.
    #[getter]
    fn evidence<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(evidence) = self.inner.evidence() else { return Ok(None) };
        py.import("lwflow._evidence")?.getattr("Evidence")?.call1((evidence.log_z, evidence.sd)).map(Some)
    }

    /// Whether Ctrl-C, or a progress callback that returned False, ended the fit before its end.
    #[getter]
    fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Replicas of a fit by `fit_weighted(..., replicas=n)`, list of Posterior: the spread of what they answer is the error that
    /// the number of points and the training leave in this one's answers. Empty otherwise.
    #[getter]
    fn replicas(&self, py: Python<'_>) -> Vec<Py<Self>> {
        self.replicas.iter().map(|replica| replica.clone_ref(py)).collect()
    }

    /// Whether the contract of `fit` is met: dict with `met` (bool), `reasons` why not, and `limits`, what the verdict does not
    /// cover (lists of str). None for `fit_weighted` and loaded posteriors.
    #[getter]
    fn verdict<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(result) = &self.result else { return Ok(None) };
        let verdict = &result.report.verdict;
        let dict = PyDict::new(py);
        dict.set_item("met", verdict.met)?;
        dict.set_item("reasons", &verdict.reasons)?;
        dict.set_item("limits", &verdict.limits)?;
        Ok(Some(dict.into_any()))
    }

    /// Everything the fit says of itself, as nested dicts and lists. None for a loaded posterior.
    #[getter]
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(report) = &self.report else { return Ok(None) };
        py.import("json")?.call_method1("loads", (report,)).map(Some)
    }

    /// The weighted fresh draws that the verdict is about: dict with `theta` (n, D), and `log_weight`, `log_likelihood`,
    /// `log_prior` and `log_prob` (n,), and `derived` (n, M) where there are such. Their mean weight is the evidence.
    /// None for `fit_weighted` and loaded posteriors.
    #[getter]
    fn draws<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(result) = &self.result else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("theta", to_matrix(py, result.theta.clone(), self.inner.dim())?)?;
        let vectors = [
            ("log_weight", result.log_weights()),
            ("log_likelihood", result.log_likelihood.clone()),
            ("log_prior", result.log_prior.clone()),
            ("log_prob", result.log_prob.clone()),
        ];
        for (name, values) in vectors {
            dict.set_item(name, PyArray1::from_vec(py, values))?;
        }
        if !self.derived_names.is_empty() {
            dict.set_item("derived", to_matrix(py, result.derived.clone(), self.derived_names.len())?)?;
        }
        Ok(Some(dict))
    }

    /// Names of the derived quantities, list of M str.
    #[getter]
    fn derived_names(&self) -> Vec<String> {
        self.derived_names.clone()
    }

    /// Draws from the density.
    ///
    /// Parameters
    /// ----------
    /// n : int
    ///     Number of draws.
    /// seed : int, optional
    ///     Draw i depends on seed and i alone. Without one, every call draws others.
    /// context : array_like (C,) or (K, C), optional
    ///     The observation of a conditional posterior, or several, each of which gets n draws.
    /// return_log_prob : bool
    ///     Return the pair (theta, log_prob).
    ///
    /// Returns
    /// -------
    /// ndarray (n, D), strictly inside all bounds; with `return_log_prob` also ndarray (n,). With contexts (K, C) these are
    /// (K, n, D) and (K, n).
    ///
    /// Raises
    /// ------
    /// InputError
    ///     For a context of another shape, for none where the posterior is conditional, and for one where it is not.
    #[pyo3(signature = (n, seed=None, *, context=None, return_log_prob=false))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        seed: Option<u64>,
        context: Option<&Bound<'py, PyAny>>,
        return_log_prob: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (d, c) = (self.inner.dim(), self.inner.context_dim());
        let context = context.map(|value| contexts(value, c)).transpose()?;
        let seed = match seed {
            Some(seed) => seed,
            None => py.import("secrets")?.call_method1("randbits", (64,))?.extract()?,
        };
        let draw = || match &context {
            None => self.inner.sample(n, seed),
            Some((contexts, _)) => self.inner.sample_given(n, contexts, seed),
        };
        let drawn = py.detach(draw).map_err(|e| raise(py, &e))?;
        let (theta, log_prob) = match &context {
            Some((contexts, false)) => {
                let k = contexts.len() / c;
                let theta = to_cube(py, drawn.theta, (k, n, d))?.into_any();
                (theta, PyArray1::from_vec(py, drawn.log_prob).reshape([k, n])?.into_any())
            }
            _ => {
                let theta = to_matrix(py, drawn.theta, d)?.into_any();
                (theta, PyArray1::from_vec(py, drawn.log_prob).into_any())
            }
        };
        if !return_log_prob {
            return Ok(theta);
        }
        Ok(PyTuple::new(py, [theta, log_prob])?.into_any())
    }

    /// Normalised log density.
    ///
    /// Parameters
    /// ----------
    /// theta : array_like (n, D) or (D,)
    /// context : array_like (C,) or (n, C), optional
    ///     The observation of a conditional posterior: one for all theta, or one for each.
    ///
    /// Returns
    /// -------
    /// ndarray (n,), or float for a single theta; -inf on or outside a bound.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     For another shape, or a NaN or infinity, naming row and parameter; for no context where the posterior is conditional,
    ///     and for one where it is not.
    #[pyo3(signature = (theta, *, context=None))]
    fn log_prob<'py>(
        &self,
        py: Python<'py>,
        theta: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (theta, single) = rows("theta", theta, self.inner.dim())?;
        let context = match context {
            None => None,
            Some(value) => Some(match contexts(value, self.inner.context_dim())? {
                (one, true) => one.repeat(theta.len() / self.inner.dim()),
                (each, false) => each,
            }),
        };
        let evaluate = || match &context {
            None => self.inner.log_prob(&theta),
            Some(contexts) => self.inner.log_prob_given(&theta, contexts),
        };
        let values = py.detach(evaluate).map_err(|e| raise(py, &e))?;
        match (single, &values[..]) {
            (true, [value]) => Ok(value.into_pyobject(py)?.into_any()),
            _ => Ok(PyArray1::from_vec(py, values).into_any()),
        }
    }

    /// The posterior of one observation, with all that a posterior has: it is a prior, and a transform of the cube.
    ///
    /// Parameters
    /// ----------
    /// context : array_like (C,)
    ///
    /// Returns
    /// -------
    /// Posterior
    ///
    /// Raises
    /// ------
    /// InputError
    ///     For another shape, or a posterior that is not conditional.
    fn given(&self, py: Python<'_>, context: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (context, _) = contexts(context, self.inner.context_dim())?;
        let inner = py.detach(|| self.inner.given(&context)).map_err(|e| raise(py, &e))?;
        Ok(Self::of(inner))
    }

    /// Share of the training's observations that lie as far out as this one: 0 if none does, and then its posterior is an
    /// extrapolation.
    ///
    /// Parameters
    /// ----------
    /// context : array_like (C,) or (K, C)
    ///
    /// Returns
    /// -------
    /// float, or ndarray (K,); None if the model does not know what it was trained on.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     For another shape, or a posterior that is not conditional.
    fn novelty<'py>(
        &self,
        py: Python<'py>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (context, single) = contexts(context, self.inner.context_dim())?;
        let scores = self.inner.novelty(&context).map_err(|e| raise(py, &e))?;
        let Some(scores) = scores else { return Ok(None) };
        let tails: Vec<f64> = scores.iter().map(|score| score.tail).collect();
        Ok(Some(match (single, &tails[..]) {
            (true, [tail]) => tail.into_pyobject(py)?.into_any(),
            _ => PyArray1::from_vec(py, tails).into_any(),
        }))
    }

    /// The unit cube to theta: uniform points become draws from this density, exactly. For samplers that take a prior as a
    /// transform, such as dynesty, nautilus and UltraNest.
    ///
    /// Parameters
    /// ----------
    /// u : array_like (n, D) or (D,)
    ///     In [0, 1]; 0 and 1 stand for the nearest numbers between them.
    ///
    /// Returns
    /// -------
    /// ndarray of the same shape.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     For another shape, or a number outside [0, 1].
    fn prior_transform<'py>(&self, py: Python<'py>, u: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (u, single) = rows("u", u, self.inner.dim())?;
        let theta = py.detach(|| self.inner.prior_transform(&u)).map_err(|e| raise(py, &e))?;
        if single {
            return Ok(PyArray1::from_vec(py, theta).into_any());
        }
        Ok(to_matrix(py, theta, self.inner.dim())?.into_any())
    }

    /// Writes a model file (safetensors), whole or not at all. It holds the density and its evidence, not the draws.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     Naming the file that cannot be written.
    fn save(&self, path: PathBuf) -> PyResult<()> {
        Python::attach(|py| self.inner.save(path).map_err(|e| raise(py, &e)))
    }

    /// Reads a model file of `save` or of the command `lwflow fit`.
    ///
    /// Parameters
    /// ----------
    /// path : path-like
    /// device : str
    ///     As of `fit`.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     Naming file and fault.
    /// DeviceError
    ///     If no device fits.
    #[staticmethod]
    #[pyo3(signature = (path, *, device="auto"))]
    fn load(py: Python<'_>, path: PathBuf, device: &str) -> PyResult<Self> {
        let device = device_of(py, device)?;
        let inner = py.detach(|| lwflow::Posterior::load(path, &device)).map_err(|e| raise(py, &e))?;
        Ok(Self::of(inner))
    }

    fn __repr__(&self) -> String {
        let evidence = self.inner.evidence().map_or_else(String::new, |e| format!(", log_z={:.3}", e.log_z));
        let met = self.result.as_ref().map_or_else(String::new, |result| {
            format!(", contract {}", if result.report.verdict.met { "met" } else { "NOT met" })
        });
        let given = match self.inner.context_dim() {
            0 => String::new(),
            c => format!(" given {c} values"),
        };
        format!("<lwflow.Posterior of {}{given}{evidence}{met}>", self.inner.names().join(", "))
    }
}
