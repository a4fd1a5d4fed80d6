"""A posterior from a prior and a likelihood, or from weighted points, by a normalizing flow.

`fit` goes from a prior and a log likelihood to a `Posterior`, `fit_weighted` from weighted points. The engine runs on a GPU or
on the cores; the interpreter is free while it works.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from ._errors import DeviceError, Error, FitError, InputError, InterruptedWarning, LikelihoodError
from ._evidence import Evidence
from ._lwflow import Posterior
from ._lwflow import fit as _fit
from ._lwflow import fit_weighted as _fit_weighted
from ._priors import (
    Beta,
    Exponential,
    Gamma,
    HalfNormal,
    Lognormal,
    LogUniform,
    Marginal,
    Normal,
    StudentT,
    TruncatedNormal,
    Uniform,
)
from ._progress import reporter as _reporter

__all__ = [
    "Beta",
    "DeviceError",
    "Error",
    "Evidence",
    "Exponential",
    "FitError",
    "Gamma",
    "HalfNormal",
    "InputError",
    "InterruptedWarning",
    "LikelihoodError",
    "LogUniform",
    "Lognormal",
    "Marginal",
    "Normal",
    "Posterior",
    "StudentT",
    "TruncatedNormal",
    "Uniform",
    "fit",
    "fit_weighted",
]

Prior = Union[Mapping[str, Union[Marginal, Mapping[str, Any]]], Posterior]
#: Lower and upper; None where there is none.
Bound = tuple[Optional[float], Optional[float]]
Progress = Union[bool, Callable[[dict[str, Any]], Any]]


def fit(
    prior: Prior,
    log_likelihood: Union[Callable[[Any], Any], str, os.PathLike[str]],
    *,
    data: Any = None,
    derived: Sequence[str] = (),
    offsets: Optional[Mapping[str, float]] = None,
    labels: Optional[Sequence[str]] = None,
    target_ess: Optional[float] = None,
    max_evaluations: Optional[int] = None,
    max_time: Optional[float] = None,
    max_k_hat: Optional[float] = None,
    max_log_z_sd: Optional[float] = None,
    n_scan: Optional[int] = None,
    n_round: Optional[int] = None,
    n_layers: Optional[int] = None,
    hidden: Optional[Sequence[int]] = None,
    n_components: Union[None, int, str] = None,
    batch_size: Optional[int] = None,
    max_visits: Optional[int] = None,
    learning_rate: Optional[float] = None,
    coupling: Optional[str] = None,
    journal: Union[None, str, os.PathLike[str]] = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = True,
) -> Posterior:
    """Fit a posterior to a prior and a log likelihood, in rounds that draw, evaluate and train.

    Parameters
    ----------
    prior : dict of name to marginal, or Posterior
        Marginals are `Uniform`, `Normal` and so on, or dicts with the keys of task files (``{"prior": "normal", "mean": 0.0,
        "sd": 1.0}``). A trained `Posterior` is the prior of the next experiment.
    log_likelihood : callable, str or path
        A callable gets an array theta (n, D) of float64 and returns log L (n,) in nats: finite or -inf. Text is WGSL, a path
        a file of it; it runs on the device.
    data : array_like (n_rows, n_columns), optional
        Observed data for WGSL.
    derived : sequence of M str
        Names of the quantities that the WGSL function `derived` returns.
    offsets : dict of name to float, optional
        What theta is less in WGSL, for parameters that 32 bits are too coarse for.
    labels : sequence of D str, optional
        LaTeX labels without dollar signs.
    target_ess, max_k_hat, max_log_z_sd : float, optional
        The contract: the effective size of fresh draws by its 95 % lower bound (4000), the Pareto shape up to which such a
        bound counts (0.7), the largest standard error of log Z (none).
    max_evaluations, max_time : optional
        The budget: evaluations (1,000,000), seconds (none).
    n_scan, n_round : int, optional
        Draws of the scan of the prior, and of the first rounds.
    n_layers, hidden, n_components : optional
        Coupling layers (8), hidden widths of each (32, 32), components of the base: a number, or "auto" (by BIC, up to 12);
        of `fit_weighted` also "trained" (the least number up to 8 whose flow, trained for a while, does as well as the best).
    batch_size, max_visits, learning_rate : optional
        Training: points per step (512), points visited (1,000,000), largest rate (0.005).
    coupling : str, optional
        How a layer moves its coordinates: "affine", or "spline", which bends more and costs more.
    journal : path, optional
        A folder that every evaluation is kept in; a fit that was stopped goes on there.
    seed : int
        The same seed and device give the same numbers.
    device : str
        "auto", "cpu", "gpu", "software", a part of a name, or an index.
    progress : bool or callable
        True shows a bar in a notebook or on a terminal. A callable gets a dict with stage, round, done and total several
        times a second; where it returns False, the fit ends as by Ctrl-C.

    Returns
    -------
    Posterior
        Look at its `verdict`: the contract may not be met. Ctrl-C ends the fit at its next step: the posterior is then what
        there is, with `interrupted` set, and an `InterruptedWarning` says so.

    Raises
    ------
    InputError
        An argument that is not legal, by name.
    LikelihoodError
        The callable raised (its exception is the cause), or returned another shape, a NaN or +inf: with its row and theta.
    FitError
        The scan of the prior found too little to begin with.
    DeviceError
        No device fits, or it failed.
    KeyboardInterrupt
        Ctrl-C before there was a flow.
    """
    names, given = _prior(prior)
    text = function = None
    if isinstance(log_likelihood, os.PathLike):
        with open(log_likelihood, encoding="utf-8") as file:
            text = file.read()
    elif isinstance(log_likelihood, str):
        text = log_likelihood
    elif callable(log_likelihood):
        function = log_likelihood
    else:
        kind = type(log_likelihood).__name__
        raise InputError(f"log_likelihood is of type {kind}, expected a callable, WGSL text or a path")
    if text is None:
        for name, value in (("data", data), ("offsets", offsets), ("derived", derived or None)):
            if value is not None:
                raise InputError(f"{name} is for a log_likelihood in WGSL, not for a callable")
    shifts = None
    if offsets is not None:
        for name in offsets:
            if name not in names:
                raise InputError(f"offsets: there is no parameter {name!r}; there are {', '.join(names)}")
        shifts = [float(offsets.get(name, 0.0)) for name in names]
    options = _given(
        target_ess=target_ess,
        max_evaluations=max_evaluations,
        max_time=max_time,
        max_k_hat=max_k_hat,
        max_log_z_sd=max_log_z_sd,
        n_scan=n_scan,
        n_round=n_round,
        n_layers=n_layers,
        hidden=hidden,
        n_components=n_components,
        batch_size=batch_size,
        max_visits=max_visits,
        learning_rate=learning_rate,
        coupling=coupling,
    )
    labels = None if labels is None else list(labels)
    report, close = _reporter(progress)
    try:
        made = _fit(
            given, function, text, data, list(derived), shifts, labels, journal, seed, device, options, report
        )
    finally:
        close()
    return _warned(made)


def fit_weighted(
    theta: Any,
    weights: Any = None,
    *,
    log_weights: Any = None,
    context: Any = None,
    names: Optional[Sequence[str]] = None,
    labels: Optional[Sequence[str]] = None,
    bounds: Union[None, Mapping[str, Bound], Sequence[Bound]] = None,
    effective_size: Optional[float] = None,
    replicas: int = 0,
    n_layers: Optional[int] = None,
    hidden: Optional[Sequence[int]] = None,
    n_components: Union[None, int, str] = None,
    batch_size: Optional[int] = None,
    max_visits: Optional[int] = None,
    learning_rate: Optional[float] = None,
    coupling: Optional[str] = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = True,
) -> Posterior:
    """Fit a density to weighted points, such as the chain of another sampler.

    Parameters
    ----------
    theta : array_like (n, D)
    weights : array_like (n,), optional
        Finite and not negative, of any common factor; equal weights without.
    log_weights : array_like (n,), optional
        Logarithms of them instead; -inf is legal.
    context : array_like (n, C), optional
        An observation for every theta: the posterior is then conditional, a density for any observation, which its methods take
        as `context`. Of joint draws of a prior and a simulator, all weights are equal (neural posterior estimation). Such a fit
        has splines on a Gaussian base, and other defaults than these of `fit`: those of task files with a simulator.
    names, labels : sequence of D str, optional
        Names (theta0, theta1, ...) and LaTeX labels.
    bounds : sequence of D pairs, or dict of name to pair, optional
        (lower, upper), None for an open side. No draw lies on or outside a bound.
    effective_size : float, optional
        What the points are worth where it is less than the weights show: a Markov chain with its autocorrelation.
    replicas : int
        So many replicas are trained beside the fit, all at once, on bootstrap weights and with other seeds. They are the
        `replicas` of the posterior, and the spread of what they answer is its error.
    n_layers, hidden, n_components, batch_size, max_visits, learning_rate, coupling, seed, device, progress
        As of `fit`.

    Returns
    -------
    Posterior
        Its `evidence` is None: weights of an unknown factor have none. Ctrl-C ends the training at its next step, with
        `interrupted` set and an `InterruptedWarning`.

    Raises
    ------
    InputError
        An argument that is not legal, by name and row.
    FitError
        The points are worth fewer than ten effective ones.
    DeviceError
        No device fits, or it failed.
    """
    if weights is not None and log_weights is not None:
        raise InputError("weights and log_weights are both given, expected one of them")
    if replicas < 0:
        raise InputError(f"replicas is {replicas}, expected a number from 0 on")
    names = None if names is None else list(names)
    if isinstance(bounds, Mapping):
        if names is None:
            raise InputError("bounds is a dict, which needs names")
        for name in bounds:
            if name not in names:
                raise InputError(f"bounds: there is no parameter {name!r}; there are {', '.join(names)}")
        bounds = [bounds.get(name, (None, None)) for name in names]
    options = _given(
        n_layers=n_layers,
        hidden=hidden,
        n_components=n_components,
        batch_size=batch_size,
        max_visits=max_visits,
        learning_rate=learning_rate,
        coupling=coupling,
    )
    labels = None if labels is None else list(labels)
    pairs: Any = None if bounds is None else [tuple(pair) for pair in bounds]
    report, close = _reporter(progress)
    try:
        made = _fit_weighted(
            theta,
            weights,
            log_weights,
            context,
            names,
            labels,
            pairs,
            effective_size,
            replicas,
            seed,
            device,
            options,
            report,
        )
    finally:
        close()
    return _warned(made)


def _prior(prior: Prior) -> tuple[list[str], Any]:
    """The names of a prior, and the form that the native module reads."""
    if isinstance(prior, Posterior):
        return prior.names, prior
    if not isinstance(prior, Mapping) or not prior:
        raise InputError("prior: expected a dict of names and marginals such as lwflow.Uniform(0, 1), or a Posterior")
    given = []
    for name, marginal in prior.items():
        if isinstance(marginal, Marginal):
            given.append((str(name), marginal._spec()))
        elif isinstance(marginal, Mapping):
            given.append((str(name), dict(marginal)))
        else:
            kind = type(marginal).__name__
            raise InputError(f"prior of parameter {name}: {kind}, expected a marginal such as lwflow.Uniform(0, 1)")
    return [name for name, _ in given], given


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    if options.get("hidden") is not None:
        options["hidden"] = [int(width) for width in options["hidden"]]
    return {name: value for name, value in options.items() if value is not None}


def _warned(posterior: Posterior) -> Posterior:
    """The posterior; with a warning if it is that of a fit that was stopped."""
    if posterior.interrupted:
        text = "the fit was stopped before its end; the posterior is what there was"
        warnings.warn(text, InterruptedWarning, stacklevel=3)
    return posterior
