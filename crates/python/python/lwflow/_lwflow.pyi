from os import PathLike
from typing import Any, Callable, Literal, Optional, Union, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._evidence import Evidence

_Path = Union[str, PathLike[str]]

__all__ = ["Posterior", "fit", "fit_weighted"]

@final
class Posterior:
    @property
    def names(self) -> list[str]: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def dim(self) -> int: ...
    @property
    def context_dim(self) -> int: ...
    @property
    def evidence(self) -> Optional[Evidence]: ...
    @property
    def interrupted(self) -> bool: ...
    @property
    def replicas(self) -> list[Posterior]: ...
    @property
    def verdict(self) -> Optional[dict[str, Any]]: ...
    @property
    def report(self) -> Optional[dict[str, Any]]: ...
    @property
    def draws(self) -> Optional[dict[str, NDArray[np.float64]]]: ...
    @property
    def derived_names(self) -> list[str]: ...
    @overload
    def sample(
        self,
        n: int,
        seed: Optional[int] = None,
        *,
        context: Optional[ArrayLike] = None,
        return_log_prob: Literal[False] = False,
    ) -> NDArray[np.float64]: ...
    @overload
    def sample(
        self,
        n: int,
        seed: Optional[int] = None,
        *,
        context: Optional[ArrayLike] = None,
        return_log_prob: Literal[True],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def log_prob(
        self, theta: ArrayLike, *, context: Optional[ArrayLike] = None
    ) -> Union[float, NDArray[np.float64]]: ...
    def given(self, context: ArrayLike) -> Posterior: ...
    def novelty(self, context: ArrayLike) -> Union[None, float, NDArray[np.float64]]: ...
    def prior_transform(self, u: ArrayLike) -> NDArray[np.float64]: ...
    def save(self, path: _Path) -> None: ...
    @staticmethod
    def load(path: _Path, *, device: str = "auto") -> Posterior: ...

def fit(
    prior: Any,
    log_likelihood: Optional[Callable[[NDArray[np.float64]], ArrayLike]],
    wgsl: Optional[str],
    data: Optional[ArrayLike],
    derived: list[str],
    offsets: Optional[list[float]],
    labels: Optional[list[str]],
    journal: Optional[_Path],
    seed: int,
    device: str,
    options: dict[str, Any],
    progress: Optional[Callable[[dict[str, Any]], Any]],
) -> Posterior: ...
def fit_weighted(
    theta: ArrayLike,
    weights: Optional[ArrayLike],
    log_weights: Optional[ArrayLike],
    context: Optional[ArrayLike],
    names: Optional[list[str]],
    labels: Optional[list[str]],
    bounds: Optional[list[tuple[Optional[float], Optional[float]]]],
    effective_size: Optional[float],
    replicas: int,
    seed: int,
    device: str,
    options: dict[str, Any],
    progress: Optional[Callable[[dict[str, Any]], Any]],
) -> Posterior: ...
