"""Marginal priors. Their names and numbers are those of task files (`prior = "..."`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Optional


class Marginal:
    """The prior density of one parameter."""

    _kind: str

    def _spec(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"prior": self._kind, **fields}


@dataclass(frozen=True)
class Uniform(Marginal):
    """Constant between `lower` and `upper`; if `periodic`, the two are the same point of a circle."""

    lower: float
    upper: float
    periodic: bool = False
    _kind = "uniform"


@dataclass(frozen=True)
class LogUniform(Marginal):
    """Its logarithm is uniform between those of `lower` (above 0) and `upper`."""

    lower: float
    upper: float
    _kind = "log_uniform"


@dataclass(frozen=True)
class Normal(Marginal):
    """Normal with `mean` and standard deviation `sd`."""

    mean: float
    sd: float
    _kind = "normal"


@dataclass(frozen=True)
class TruncatedNormal(Marginal):
    """Normal, cut at one or two bounds and normalised again; `mean` and `sd` are those of the uncut one."""

    mean: float
    sd: float
    lower: Optional[float] = None
    upper: Optional[float] = None
    _kind = "truncated_normal"


@dataclass(frozen=True)
class Lognormal(Marginal):
    """Its logarithm is normal with mean `mu` and standard deviation `sigma`."""

    mu: float
    sigma: float
    _kind = "lognormal"


@dataclass(frozen=True)
class HalfNormal(Marginal):
    """Absolute value of a normal of mean 0 and standard deviation `sd`."""

    sd: float
    _kind = "half_normal"


@dataclass(frozen=True)
class Exponential(Marginal):
    """Exponential with mean `scale`."""

    scale: float
    _kind = "exponential"


@dataclass(frozen=True)
class Gamma(Marginal):
    """Gamma with mean `shape * scale`."""

    shape: float
    scale: float
    _kind = "gamma"


@dataclass(frozen=True)
class Beta(Marginal):
    """Beta on (0, 1)."""

    alpha: float
    beta: float
    _kind = "beta"


@dataclass(frozen=True)
class StudentT(Marginal):
    """Student's t with `df` degrees of freedom, median `loc` and `scale`."""

    df: float
    loc: float
    scale: float
    _kind = "student_t"
