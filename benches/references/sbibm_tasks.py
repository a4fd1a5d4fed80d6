"""The ten tasks of sbibm in numpy: priors, simulators and likelihoods, written from appendix T of Lueckmann et al. 2021 (arXiv
2101.04653) and independent of the WGSL files of examples/sbibm. theta is that of the paper unless said otherwise."""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import binom, norm

import slcp
import two_moons

# The stimulus of the GLMs as the wheel has it, and its design matrix, [100, 10]: ones and the nine lags.
STIMULUS = np.random.RandomState(42).randn(100).astype(np.float32).astype(float)
DESIGN = np.column_stack([np.ones(100), *[np.concatenate([np.zeros(lag), STIMULUS[: 100 - lag]]) for lag in range(9)]])


# ---- the prior of the two GLMs -------------------------------------------------------------------------------------------


def glm_factor():
    """A of theta = A eta, [10, 10]: offset sqrt(2) eta_0; F filter = eta_1..9 with F = D D + diag(sqrt(i / 9))."""
    d = np.eye(9) - np.eye(9, k=-1)
    f = d @ d + np.diag(np.sqrt(np.arange(9) / 9))
    factor = np.zeros((10, 10))
    factor[0, 0] = np.sqrt(2)
    factor[1:, 1:] = np.linalg.inv(f)
    return factor


def to_paper(task, theta):
    """theta of the paper from theta of the task file, [n, D]."""
    return theta @ glm_factor().T if task.startswith("bernoulli_glm") else theta


def to_task_file(task, theta):
    """The reverse, [n, D]."""
    return theta @ np.linalg.inv(glm_factor()).T if task.startswith("bernoulli_glm") else theta


# ---- the simulators: theta [n, D] of the paper -> x [n, X] ---------------------------------------------------------------


def gaussian_linear(theta, rng):
    return theta + np.sqrt(0.1) * rng.standard_normal(theta.shape)


def four_points(theta, rng):
    s = np.empty((len(theta), 2, 2))
    s[:, 0, 0], s[:, 1, 1], s[:, 0, 1] = slcp.covariance(theta[:, 2:])
    s[:, 1, 0] = s[:, 0, 1]
    z = rng.standard_normal((len(theta), 4, 2))
    return (theta[:, None, :2] + np.einsum("nij,npj->npi", np.linalg.cholesky(s), z)).reshape(-1, 8)


def distractors():
    """Means [20, 92] and Cholesky factors [20, 92, 92] of the mixture, and the order of x, [100]; as in the wheel."""
    rng = np.random.RandomState(42)
    mean = np.array([15 * rng.normal(size=92) for _ in range(20)])
    lower = 3 * np.array([np.tril(rng.normal(size=(92, 92))) + np.diag(np.exp(rng.normal(size=92))) for _ in range(20)])
    return mean, lower, rng.permutation(100)


def slcp_distractors(theta, rng):
    mean, lower, order = distractors()
    which = rng.integers(20, size=len(theta))
    z = rng.standard_normal((len(theta), 92)) / np.sqrt(rng.chisquare(2, (len(theta), 1)) / 2)
    noise = mean[which] + np.einsum("nij,nj->ni", lower[which], z)
    return np.concatenate([four_points(theta, rng), noise], 1)[:, order]


def bernoulli_glm_raw(theta, rng):
    return (rng.uniform(size=(len(theta), 100)) < 1 / (1 + np.exp(-theta @ DESIGN.T))).astype(float)


def bernoulli_glm(theta, rng):
    return bernoulli_glm_raw(theta, rng) @ DESIGN


def gaussian_mixture(theta, rng):
    sd = rng.choice([1.0, 0.1], (len(theta), 1))
    return theta + sd * rng.standard_normal(theta.shape)


def moons(theta, rng):
    shift = np.column_stack([-np.abs(theta.sum(1)), theta[:, 1] - theta[:, 0]]) / np.sqrt(2)
    return two_moons.simulate_p(len(theta), rng) + shift


def solve(slope, start, times, theta):
    """Solutions [n, len(start), len(times)] of an equation, solved once for each distinct theta."""
    distinct, which = np.unique(theta, axis=0, return_inverse=True)
    options = {"t_eval": times, "method": "LSODA", "rtol": 1e-9, "atol": 1e-9}
    found = [solve_ivp(slope, (0, times[-1]), start, args=tuple(t), **options).y for t in distinct]
    return np.array(found)[which.ravel()]


def infected(theta):
    """I / N at the ten times, [n, 10]."""

    def slope(_, u, beta, gamma):
        new = beta * u[0] * u[1] / 1e6
        return [-new, new - gamma * u[1], gamma * u[1]]

    return np.clip(solve(slope, [1e6 - 1, 1, 0], np.arange(10) * 17.0, theta)[:, 1] / 1e6, 1e-30, 1)


def log_populations(theta):
    """Logarithms of ten times the prey, then ten times the predator, [n, 20]."""

    def slope(_, u, alpha, beta, gamma, delta):
        return [alpha * u[0] - beta * u[0] * u[1], delta * u[0] * u[1] - gamma * u[1]]

    both = solve(slope, [30, 1], np.arange(10) * 2.1, theta).reshape(len(theta), 20)
    return np.log(np.clip(both, 1e-10, 1e4))


def sir(theta, rng):
    return rng.binomial(1000, infected(theta)).astype(float)


def lotka_volterra(theta, rng):
    mean = log_populations(theta)
    return np.exp(mean + 0.1 * rng.standard_normal(mean.shape))


SIMULATORS = {
    "gaussian_linear": gaussian_linear,
    "gaussian_linear_uniform": gaussian_linear,
    "slcp": four_points,
    "slcp_distractors": slcp_distractors,
    "bernoulli_glm": bernoulli_glm,
    "bernoulli_glm_raw": bernoulli_glm_raw,
    "gaussian_mixture": gaussian_mixture,
    "two_moons": moons,
    "sir": sir,
    "lotka_volterra": lotka_volterra,
}


# ---- log p(x | theta), [n], of one x [X]; of bernoulli_glm that of any spikes with these statistics --------------------------


def glm_log_likelihood(theta, statistics):
    return theta @ statistics - np.logaddexp(0, theta @ DESIGN.T).sum(1)


LOG_LIKELIHOODS = {
    "gaussian_linear": lambda theta, x: norm.logpdf(x, theta, np.sqrt(0.1)).sum(1),
    "gaussian_linear_uniform": lambda theta, x: norm.logpdf(x, theta, np.sqrt(0.1)).sum(1),
    "slcp": lambda theta, x: slcp.log_likelihood(theta, x.reshape(4, 2)),
    # Without the density of the distractors, which does not depend on theta.
    "slcp_distractors": lambda theta, x: slcp.log_likelihood(theta, x[np.argsort(distractors()[2])[:8]].reshape(4, 2)),
    "bernoulli_glm": glm_log_likelihood,
    "bernoulli_glm_raw": lambda theta, x: glm_log_likelihood(theta, x @ DESIGN),
    "gaussian_mixture": lambda theta, x: np.logaddexp(
        norm.logpdf(x, theta, 1.0).sum(1), norm.logpdf(x, theta, 0.1).sum(1)
    )
    - np.log(2),
    "two_moons": two_moons.log_likelihood,
    "sir": lambda theta, x: binom.logpmf(x, 1000, infected(theta)).sum(1),
    "lotka_volterra": lambda theta, x: (norm.logpdf(np.log(x), log_populations(theta), 0.1) - np.log(x)).sum(1),
}


# ---- draws of the prior, theta [n, D] of the task file -----------------------------------------------------------------------

PRIORS = {
    "gaussian_linear": lambda n, rng: np.sqrt(0.1) * rng.standard_normal((n, 10)),
    "gaussian_linear_uniform": lambda n, rng: rng.uniform(-1, 1, (n, 10)),
    "slcp": lambda n, rng: rng.uniform(-3, 3, (n, 5)),
    "slcp_distractors": lambda n, rng: rng.uniform(-3, 3, (n, 5)),
    "bernoulli_glm": lambda n, rng: rng.standard_normal((n, 10)),
    "bernoulli_glm_raw": lambda n, rng: rng.standard_normal((n, 10)),
    "gaussian_mixture": lambda n, rng: rng.uniform(-10, 10, (n, 2)),
    "two_moons": lambda n, rng: rng.uniform(-1, 1, (n, 2)),
    "sir": lambda n, rng: rng.lognormal(np.log([0.4, 0.125]), [0.5, 0.2], (n, 2)),
    "lotka_volterra": lambda n, rng: rng.lognormal([-0.125, -3, -0.125, -3], 0.5, (n, 4)),
}
