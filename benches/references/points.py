"""log L of every example in f64 at points of its prior and of its posterior, for checks of the WGSL files.

    python points.py > results/points.json

Every theta is exact in f32, so that both sides see the same point. log L of null is -inf.
"""

import json
import pathlib

import numpy as np

import galaxies
import gauss12
import lotka_volterra
import slcp
import two_moons

N = 16
RESULTS = pathlib.Path(__file__).parent / "results"


def rosenbrock10(theta):
    x, y = theta[:, ::2], theta[:, 1::2]
    return -(10 * (x**2 - y) ** 2 + (x - 1) ** 2).sum(1)


def many_well(theta):
    x, y = theta[:, ::2], theta[:, 1::2]
    return (-(x**4) + 6 * x**2 + 0.5 * x - 0.5 * y**2).sum(1)


def about(summary, rng, n):
    """Normal draws around the posterior means of a results file."""
    mean, sd = (np.array([parameter[key] for parameter in summary.values()]) for key in ("mean", "sd"))
    return mean + sd * rng.standard_normal((n, len(mean)))


def main():
    rng = np.random.default_rng(1)
    result = lambda name: json.loads((RESULTS / f"{name}.json").read_text())  # noqa: E731
    moons, complex_ = np.load(RESULTS / "two_moons.npz"), np.load(RESULTS / "slcp.npz")
    x = rng.normal(0, 1, (N, 5))
    valley = np.stack([x, x**2 + 0.2 * rng.standard_normal(x.shape)], -1).reshape(N, 10)
    wells = np.stack([rng.choice([-1.7, 1.7], (N, 3)) + 0.2 * rng.standard_normal((N, 3)), rng.standard_normal((N, 3))], -1)
    lv = about(result("lotka_volterra")["posterior_of_log_parameters"], rng, N)
    lv_prior = lotka_volterra.MU + lotka_volterra.SIGMA * rng.standard_normal((N, 8))
    data = lotka_volterra.make_data()
    problems = {
        "rosenbrock10": (rosenbrock10, [3 * rng.standard_normal((N, 10)), valley]),
        "many_well": (many_well, [rng.uniform(-5, 5, (N, 6)), wells.reshape(N, 6)]),
        "gauss12": (gauss12.log_likelihood, [rng.uniform(-8, 8, (N, 10)), gauss12.draw(N, 2)[0]]),
        "lotka_volterra": (
            lambda t: lotka_volterra.log_likelihoods(t, data, lotka_volterra.STEPS),
            [np.exp(lv_prior), np.exp(lv)],
        ),
        "galaxies": (
            galaxies.log_likelihoods,
            [
                np.array([galaxies.ordered_transform(u) for u in rng.uniform(size=(N, 8))]),
                about(result("galaxies")["posterior_where_the_means_ascend"], rng, N),
            ],
        ),
        "two_moons": (
            lambda t: two_moons.log_likelihood(t, two_moons.make_observation(1)[1]),
            [rng.uniform(-1, 1, (N, 2)), moons["observation_1"][:N]],
        ),
        "slcp": (
            lambda t: slcp.log_likelihood(t, slcp.make_observation(1)[1]),
            [rng.uniform(-3, 3, (N, 5)), complex_["observation_1"][:N]],
        ),
    }
    out = {}
    for name, (log_likelihood, parts) in problems.items():
        theta = np.concatenate(parts).astype(np.float32).astype(float)
        value = log_likelihood(theta)
        out[name] = {
            "theta": [[float(f"{v:.9g}") for v in row] for row in theta],
            "log_likelihood": [float(f"{v:.12g}") if np.isfinite(v) else None for v in value],
        }
    print("{")
    lines = []
    for name, problem in out.items():
        rows = ",\n".join(f"      {json.dumps(row)}" for row in problem["theta"])
        lines.append(f'  "{name}": {{\n    "theta": [\n{rows}\n    ],\n    "log_likelihood": {json.dumps(problem["log_likelihood"])}\n  }}')
    print(",\n".join(lines))
    print("}")


if __name__ == "__main__":
    main()
