"""What the tests share: settings small enough for seconds, and fits that several of them use."""

import numpy as np
import pytest

import lwflow

#: Of `lwflow.fit_weighted`.
TRAINING = {"n_layers": 2, "hidden": [16], "max_visits": 20_000, "device": "cpu", "progress": False}
#: Of `lwflow.fit`.
ROUNDS = {**TRAINING, "target_ess": 1000, "max_evaluations": 40_000}


def log_normal(x, mean, sd):
    """Log density of a normal."""
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def first_experiment(theta):
    """It measures a up to its sign, and b."""
    a = np.logaddexp(log_normal(theta[:, 0], 1.5, 0.4), log_normal(theta[:, 0], -1.5, 0.4))
    return a + log_normal(theta[:, 1], 0.5, 1.0)


PRIOR = {"a": lwflow.Normal(0, 2), "b": lwflow.Normal(0.0, sd=2.0)}


def first_log_z():
    """In closed form: each of two lobes is a normal of the variances' sum."""
    a = np.log(2) + log_normal(1.5, 0.0, np.hypot(2.0, 0.4))
    return a + log_normal(0.5, 0.0, np.hypot(2.0, 1.0))


@pytest.fixture(scope="session")
def posterior():
    """That of the first experiment, of two modes."""
    return lwflow.fit(PRIOR, first_experiment, **{**ROUNDS, "target_ess": 4000})


def pytest_terminal_summary(terminalreporter):
    """The line that `cargo xtask test` counts."""
    n = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "error", "skipped")}
    word = "FAILED" if n["failed"] + n["error"] else "ok"
    failed = n["failed"] + n["error"]
    terminalreporter.write_line(f"test result: {word}. {n['passed']} passed; {failed} failed; {n['skipped']} ignored;")
