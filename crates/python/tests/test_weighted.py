"""`lwflow.fit_weighted` against known densities, and what it says to wrong arguments."""

import numpy as np
import pytest
from conftest import TRAINING, log_normal

import lwflow


@pytest.fixture(scope="module")
def chain():
    """Uniform points over (0, 10) x (-4, 4) with the weights of two modes, of 1/4 and 3/4 of the mass."""
    theta = np.random.default_rng(1).uniform([0, -4], [10, 4], (20_000, 2))

    def mode(x, y):
        return np.exp(log_normal(theta[:, 0], x, 0.5) + log_normal(theta[:, 1], y, 0.5))

    return theta, 1e-30 * (0.25 * mode(3.0, -1.5) + 0.75 * mode(7.0, 1.5))


def test_weights_become_a_density(chain):
    theta, weights = chain
    bounds = {"a": (0, 10), "b": (-4, None)}
    made = lwflow.fit_weighted(theta, weights, names=["a", "b"], labels=["a", "\\beta"], bounds=bounds, **TRAINING)
    assert made.evidence is None and made.verdict is None and made.labels == ["a", "\\beta"]
    exact = np.log(0.75) - np.log(2 * np.pi * 0.25)
    log_prob = made.log_prob([[7.0, 1.5], [0.0, 0.0], [5.0, -4.0]])
    assert abs(log_prob[0] - exact) < 0.1 and np.all(log_prob[1:] == -np.inf)
    assert abs(np.mean(made.sample(20_000, 1)[:, 0] > 5) - 0.75) < 0.02
    logs = lwflow.fit_weighted(theta, log_weights=np.log(weights), names=["a", "b"], bounds=bounds, **TRAINING)
    np.testing.assert_allclose(logs.log_prob(theta[:100]), made.log_prob(theta[:100]), atol=0.05)


def test_replicas_leave_the_fit_alone_and_spread_as_their_points_do():
    theta = np.random.default_rng(2).normal(3.0, 2.0, (1000, 1))
    options = {**TRAINING, "n_components": 1}
    alone = lwflow.fit_weighted(theta, **options)
    made = lwflow.fit_weighted(theta, replicas=12, **options)
    np.testing.assert_array_equal(alone.log_prob(theta), made.log_prob(theta))
    assert alone.replicas == [] and len(made.replicas) == 12 and made.replicas[0].replicas == []
    means = [replica.sample(20_000, 1).mean() for replica in made.replicas]
    # The error of the mean of a thousand points is 2 / sqrt(1000) = 0.063; of twelve values the spread errs by a fifth.
    assert 0.03 < np.std(means, ddof=1) < 0.13


def test_components_are_counted_by_training(chain):
    theta, weights = chain
    made = lwflow.fit_weighted(theta, weights, n_components="trained", **TRAINING)
    assert made.report["n_components"] == 2 and len(made.report["component_trials"]) == 8


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"replicas": -1}, "replicas is -1"),
        ({"n_components": "many"}, "n_components is \"many\""),
        ({"weights": [1.0, -1.0, 1.0]}, "weights: value -1 at row 1"),
        ({"weights": [1.0, 1.0]}, "weights: 2 values, expected 3, the rows of theta"),
        ({"weights": np.ones((3, 1))}, r"weights: shape \(3, 1\), expected \(n,\)"),
        ({"theta": [1.0, 2.0]}, r"theta: shape \(2,\), expected \(n, D\)"),
        ({"theta": [[1, 2], [np.nan, 2], [1, 2]]}, "theta: value NaN at row 1, column 0"),
        ({"log_weights": [0.0, np.nan, 0.0]}, "log_weights: value NaN at row 1"),
        ({"weights": [1, 1, 1], "log_weights": [0, 0, 0]}, "both given"),
        ({"names": ["a"]}, "names: length 1, expected 2"),
        ({"bounds": {"a": (0, 1)}}, "needs names"),
        ({"bounds": {"c": (0, 1)}, "names": ["a", "b"]}, "no parameter 'c'"),
        ({"bounds": [(3, 1), (None, None)]}, r"support of parameter theta0 is \(3, 1\)"),
        ({"bounds": [(2, 10), (None, None)]}, "row 0: theta0 = 1 has weight but lies on or outside"),
    ],
)
def test_wrong_arguments_are_named(arguments, text):
    with pytest.raises(lwflow.InputError, match=text):
        lwflow.fit_weighted(**{"theta": [[1, 2], [2, 3], [3, 5]], **arguments, **TRAINING})


def test_too_few_points_are_no_fit():
    with pytest.raises(lwflow.FitError, match="effective"):
        lwflow.fit_weighted([[1, 2], [2, 3], [3, 5]], **TRAINING)
