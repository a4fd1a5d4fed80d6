"""A trained posterior as the prior of dynesty and nautilus: log Z of a second likelihood is known."""

import dynesty
import nautilus
import numpy as np
import pytest
from conftest import log_normal

import lwflow

#: The second experiment: means and standard deviations of a and b.
MEAN, SD = np.array([1.2, 0.2]), np.array([0.5, 0.5])


def log_likelihood(theta):
    """Of one theta (2,), or of many (n, 2)."""
    return np.sum(log_normal(theta, MEAN, SD), axis=-1)


def exact():
    """log Z in closed form. After the first experiment a has two lobes at +-1.5 s, b one."""
    s = 4 / (4 + 0.4**2)
    sd_a = np.sqrt(s) * 0.4
    a = [log_normal(MEAN[0], sign * 1.5 * s, np.hypot(sd_a, SD[0])) for sign in (1, -1)]
    return np.logaddexp(*a) - np.log(2) + log_normal(MEAN[1], 0.5 * 0.8, np.hypot(np.sqrt(0.8), SD[1]))


def test_the_uniform_cube_becomes_the_posterior(posterior):
    u = np.random.default_rng(3).uniform(size=(20_000, 2))
    theta = posterior.prior_transform(u)
    assert theta.shape == u.shape
    samples = posterior.sample(20_000, 1)
    for j in range(2):
        a, b = np.sort(theta[:, j]), np.sort(samples[:, j])
        below = np.searchsorted(b, a, side="right") / len(b)
        # The 0.1 % point of the distance of two samples of n: 1.95 sqrt(2 / n).
        assert np.max(np.abs(below - np.arange(1, len(a) + 1) / len(a))) < 1.95 * np.sqrt(2 / len(a))
    # The Jacobian is the inverse density, also by differences.
    for point in u[:20]:
        h = 1e-6 * np.minimum(point, 1 - point)
        columns = [
            (posterior.prior_transform(point + h * e) - posterior.prior_transform(point - h * e)) / (2 * h @ e)
            for e in np.eye(2)
        ]
        log_det = np.log(abs(np.linalg.det(columns)))
        assert log_det == pytest.approx(-posterior.log_prob(posterior.prior_transform(point)), abs=0.01)


def test_the_transform_takes_one_point_and_the_corners(posterior):
    one = posterior.prior_transform(np.array([0.5, 0.25]))
    assert one.shape == (2,)
    assert np.all(np.isfinite(posterior.prior_transform([[0.0, 1.0], [1.0, 0.0]])))
    with pytest.raises(lwflow.InputError, match="u: value 1.5 at row 0, column 1, expected 0 to 1"):
        posterior.prior_transform([0.5, 1.5])
    with pytest.raises(lwflow.InputError, match="u: shape"):
        posterior.prior_transform([0.5])


def test_dynesty(posterior):
    sampler = dynesty.NestedSampler(
        log_likelihood, posterior.prior_transform, 2, nlive=200, rstate=np.random.default_rng(5)
    )
    sampler.run_nested(dlogz=0.05, print_progress=False)
    results = sampler.results
    error = results.logzerr[-1]
    assert abs(results.logz[-1] - exact()) < 3 * error + 0.03, (results.logz[-1], error, exact())


def test_nautilus(posterior):
    sampler = nautilus.Sampler(
        posterior.prior_transform, log_likelihood, n_dim=2, n_live=500, vectorized=True, seed=5
    )
    sampler.run(n_eff=2000, verbose=False)
    # The effective size is at least 2000, so that log Z is good to 1 / sqrt(2000); the flow to 0.03.
    assert abs(sampler.log_z - exact()) < 3 / np.sqrt(2000) + 0.03, (sampler.log_z, exact())
