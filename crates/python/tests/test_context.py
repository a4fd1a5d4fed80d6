"""Conditional posteriors: `lwflow.fit_weighted` with a context, what they are asked, and the couplings of a fit."""

import numpy as np
import pytest
from conftest import TRAINING, log_normal

import lwflow

#: Some more than of the other tests: the posterior of every observation is learned at once.
CONDITIONAL = {**TRAINING, "max_visits": 300_000}


def joint_draws(n, mean=0.0, sd=1.0):
    """theta of a normal, and two measurements of it with noise 1: the posterior under N(0, 1) is N(sum / 3, 1 / 3)."""
    rng = np.random.default_rng(2)
    theta = rng.normal(mean, sd, (n, 1))
    return theta, theta + rng.normal(size=(n, 2))


@pytest.fixture(scope="module")
def conditional():
    theta, x = joint_draws(20_000)
    return lwflow.fit_weighted(theta, context=x, names=["a"], **CONDITIONAL)


def test_it_is_a_density_for_every_observation(conditional):
    assert conditional.context_dim == 2 and "given 2 values" in repr(conditional)
    contexts = np.array([[0.9, 0.3], [-1.0, -0.2], [0.1, 1.5]])
    draws, log_prob = conditional.sample(4000, 1, context=contexts, return_log_prob=True)
    assert draws.shape == (3, 4000, 1) and log_prob.shape == (3, 4000)
    exact = contexts.sum(axis=1) / 3
    np.testing.assert_allclose(draws.mean(axis=(1, 2)), exact, atol=0.08)
    np.testing.assert_allclose(draws.std(axis=(1, 2)), 3**-0.5, atol=0.06)
    one, one_log_prob = conditional.sample(4000, 1, context=contexts[0], return_log_prob=True)
    assert one.shape == (4000, 1)
    np.testing.assert_array_equal(one, draws[0])
    # One observation for all theta, one for each, and a single theta.
    again = conditional.log_prob(one, context=contexts[0])
    np.testing.assert_allclose(again, one_log_prob, atol=1e-3)
    each = conditional.log_prob(draws[:, 0], context=contexts)
    np.testing.assert_allclose(each, log_prob[:, 0], atol=1e-3)
    assert isinstance(conditional.log_prob([0.2], context=contexts[0]), float)
    grid = np.linspace(-4, 4, 2001)[:, None]
    density = np.exp(conditional.log_prob(grid, context=[0.9, 0.3]))
    assert abs(density.sum() * 0.004 - 1) < 0.01
    np.testing.assert_allclose(density, np.exp(log_normal(grid[:, 0], 0.4, 3**-0.5)), atol=0.08)


def test_the_posterior_of_one_observation_is_a_posterior(conditional):
    given = conditional.given([0.9, 0.3])
    assert given.context_dim == 0
    theta = given.sample(100, 4)
    np.testing.assert_allclose(given.log_prob(theta), conditional.log_prob(theta, context=[0.9, 0.3]), atol=1e-3)
    middle = given.prior_transform([0.5])
    assert abs(middle[0] - 0.4) < 0.1
    tails = conditional.novelty([[0.1, 0.1], [80.0, -80.0]])
    assert tails[0] > 0.1 and tails[1] == 0 and conditional.novelty([0.1, 0.1]) == tails[0]


def test_a_model_file_stays_conditional(conditional, tmp_path):
    conditional.save(tmp_path / "m.safetensors")
    loaded = lwflow.Posterior.load(tmp_path / "m.safetensors", device="cpu")
    draws = loaded.sample(50, 3, context=[0.9, 0.3])
    np.testing.assert_array_equal(draws, conditional.sample(50, 3, context=[0.9, 0.3]))
    missing = "context is none, expected 2 values for each observation"
    for ask in (
        lambda: loaded.sample(5),
        lambda: loaded.log_prob([0.1]),
        lambda: loaded.prior_transform([0.5]),
        lambda: lwflow.fit(loaded, lambda theta: -theta[:, 0] ** 2, **TRAINING),
    ):
        with pytest.raises(lwflow.InputError, match=missing):
            ask()


def test_weights_of_a_proposal_give_the_posterior_of_the_prior():
    theta, x = joint_draws(20_000, 0.7, 1.5)
    logs = log_normal(theta[:, 0], 0.0, 1.0) - log_normal(theta[:, 0], 0.7, 1.5)
    made = lwflow.fit_weighted(theta, log_weights=logs, context=x, **CONDITIONAL)
    draws = made.sample(4000, 1, context=[-0.6, -0.6])
    # Of the draws as they are it would be -0.36 +- 0.64.
    assert abs(draws.mean() + 0.4) < 0.08 and abs(draws.std() - 3**-0.5) < 0.05


@pytest.mark.parametrize(
    "ask, text",
    [
        (lambda p: p.sample(5, context=[1.0]), r"context: shape \(1,\), expected \(n, 2\) or \(2,\)"),
        (lambda p: p.sample(5, context=[1.0, np.nan]), "context: value NaN at row 0, column 1"),
        (lambda p: p.log_prob([[0.0]] * 3, context=[[1.0, 1.0]] * 2), r"context is 4 values, expected \[3, 2\]"),
        (lambda p: p.given([[1.0, 2.0], [3.0, 4.0]]), r"expected \[1, 2\]"),
        (lambda p: p.given([0.1, 0.2]).sample(5, context=[1.0, 2.0]), "not conditional"),
        (lambda p: p.given([0.1, 0.2]).given([1.0, 2.0]), "not conditional"),
    ],
)
def test_wrong_observations_are_named(conditional, ask, text):
    with pytest.raises(lwflow.InputError, match=text):
        ask(conditional)


@pytest.mark.parametrize(
    "context, text",
    [
        ([1.0, 2.0, 3.0], r"context: shape \(3,\), expected \(3, C\)"),
        ([[1.0], [2.0]], r"context: shape \(2, 1\), expected \(3, C\)"),
        ([[1.0], [np.inf], [2.0]], "context: value inf at row 1, column 0"),
    ],
)
def test_wrong_contexts_of_a_fit_are_named(context, text):
    with pytest.raises(lwflow.InputError, match=text):
        lwflow.fit_weighted([[1.0], [2.0], [3.0]], context=context, **TRAINING)


def test_couplings_are_chosen(conditional, tmp_path):
    theta = np.random.default_rng(3).normal(size=(2000, 2))
    saved = {}
    for coupling in (None, "affine", "spline"):
        made = lwflow.fit_weighted(theta, coupling=coupling, n_components=1, **TRAINING)
        made.save(tmp_path / "m.safetensors")
        saved[coupling] = b"spline" in (tmp_path / "m.safetensors").read_bytes()
    assert saved == {None: False, "affine": False, "spline": True}
    conditional.save(tmp_path / "c.safetensors")
    assert b"spline" in (tmp_path / "c.safetensors").read_bytes()
    with pytest.raises(lwflow.InputError, match='coupling is "cubic", expected "affine" or "spline"'):
        lwflow.fit_weighted(theta, coupling="cubic", **TRAINING)
