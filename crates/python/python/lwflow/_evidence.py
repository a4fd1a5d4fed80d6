"""The evidence of a fit."""

from typing import NamedTuple


class Evidence(NamedTuple):
    """log Z in nats with its standard error."""

    log_z: float
    log_z_sd: float
