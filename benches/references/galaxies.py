"""The evidence of the galaxies problem: three Gaussians, eight parameters, a prior symmetric in the components.

    python galaxies.py > results/galaxies.json

Likelihood and prior are unchanged by exchanging components. All runs are therefore made in the sixth of the space where
the means ascend, with the prior multiplied by six: the same log Z, one ordering instead of six. The masses of the six
orderings are 1/6 each, exactly; the symmetry itself is checked here at random points.
"""

import itertools
import json
import pathlib
import sys

import numpy as np
from scipy.special import logsumexp, ndtri

import evidence

DATA = np.loadtxt(pathlib.Path(__file__).parents[2] / "examples/galaxies/galaxies.csv", skiprows=1) / 1000
MEAN, MEAN_SD, LOG_SD_LOWER, LOG_SD_UPPER, RATIO_SD = 20.0, 10.0, -2.0, 2.0, 1.28
# Columns span the plane of log weights that sum to zero.
PLANE = np.array([[1, 1], [-1, 1], [0, -2]]) / np.sqrt([2, 6])


def log_likelihoods(theta):
    """log L, [n]; theta [n, 8]."""
    log_sd = theta[:, 3:6]
    logits = theta[:, 6:] @ PLANE.T
    log_weight = logits - logsumexp(logits, axis=1, keepdims=True)
    constant = log_weight - log_sd - 0.5 * np.log(2 * np.pi)
    z = (DATA[None, :, None] - theta[:, None, :3]) * np.exp(-log_sd)[:, None, :]
    parts = constant[:, None, :] - 0.5 * z**2
    top = parts.max(2)
    return (top + np.log(np.exp(parts - top[:, :, None]).sum(2))).sum(1)


def log_prior(theta):
    """Normalised log prior density of the whole space, [n]."""
    normal = lambda x, sd: -0.5 * (x / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)  # noqa: E731
    inside = ((theta[:, 3:6] > LOG_SD_LOWER) & (theta[:, 3:6] < LOG_SD_UPPER)).all(1)
    value = normal(theta[:, :3] - MEAN, MEAN_SD).sum(1) + normal(theta[:, 6:], RATIO_SD).sum(1)
    return np.where(inside, value - 3 * np.log(LOG_SD_UPPER - LOG_SD_LOWER), -np.inf)


def ordered_transform(u):
    """The unit cube to the prior of ascending means: order statistics of three uniforms, then quantiles."""
    high = u[2] ** (1 / 3)
    middle = high * np.sqrt(u[1])
    ordered = np.array([middle * u[0], middle, high])
    log_sd = LOG_SD_LOWER + (LOG_SD_UPPER - LOG_SD_LOWER) * u[3:6]
    return np.concatenate([MEAN + MEAN_SD * ndtri(ordered), log_sd, RATIO_SD * ndtri(u[6:])])


def exchange(theta, order):
    """theta with its components in another order."""
    order = list(order)
    logits = (theta[:, 6:] @ PLANE.T)[:, order]
    return np.concatenate([theta[:, :3][:, order], theta[:, 3:6][:, order], logits @ PLANE], axis=1)


def largest_asymmetry():
    rng = np.random.default_rng(5)
    theta = np.array([ordered_transform(u) for u in rng.uniform(size=(500, 8))])
    value = log_likelihoods(theta) + log_prior(theta)
    moved = [exchange(theta, order) for order in itertools.permutations(range(3))]
    return max(np.abs(1 - (log_likelihoods(m) + log_prior(m)) / value).max() for m in moved)


def main():
    def log_target(theta):
        ascending = (np.diff(theta[:, :3], axis=1) > 0).all(1)
        return np.where(ascending, log_likelihoods(theta) + log_prior(theta) + np.log(6), -np.inf)

    one = lambda x: float(log_likelihoods(x[None])[0])  # noqa: E731
    nested, samples = [], []
    for seed in (1, 2):
        report, draws = evidence.nested(one, ordered_transform, 8, 1000, seed, sample="rwalk", walks=40)
        print(report, file=sys.stderr)
        nested.append(report)
        samples.append(draws)
    runs = []
    for seed in range(4):
        report, x, log_w = evidence.importance(log_target, np.concatenate(samples), 16, 400_000, 10 + seed)
        print(report, file=sys.stderr)
        runs.append(report)
    w = np.exp(log_w - logsumexp(log_w))
    mean = w @ x
    sd = np.sqrt(w @ (x - mean) ** 2)
    names = [f"{kind}_{k}" for kind in ("mean", "log_sd") for k in range(3)] + ["log_ratio_0", "log_ratio_1"]
    print(json.dumps({
        "command": "python galaxies.py",
        "log_z": evidence.combined(runs),
        "ordering_masses": {"".join(map(str, order)): 1 / 6 for order in itertools.permutations(range(3))},
        "largest_relative_change_by_exchange": float(f"{largest_asymmetry():.1g}"),
        "importance_sampling_of_ascending_means": runs,
        "nested_sampling_of_ascending_means": nested,
        "posterior_where_the_means_ascend": {
            name: {"mean": round(float(m), 3), "sd": round(float(s), 3)} for name, m, s in zip(names, mean, sd)
        },
        "versions": evidence.versions(),
    }, indent=2))


if __name__ == "__main__":
    main()
