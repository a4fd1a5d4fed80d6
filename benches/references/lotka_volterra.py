"""The Lotka-Volterra problem: makes its data and finds its evidence.

    python lotka_volterra.py data > ../../examples/lotka_volterra/populations.csv
    python lotka_volterra.py evidence > results/lotka_volterra.json

Priors and observation model follow the hare and lynx case study of Stan (Carpenter 2018) for initial values and noise and
sbibm (Lueckmann et al. 2021) for the rates. Inference runs in the logarithms of the parameters, in which every prior is
normal. The likelihood here is the one of lotka_volterra.wgsl, the same Runge-Kutta steps, in f64.
"""

import json
import sys

import numpy as np
from numba import njit
from scipy.integrate import solve_ivp
from scipy.special import ndtri

import evidence

SEED, N_TIMES, STEPS = 20, 20, 10
NAMES = ["alpha", "beta", "gamma", "delta", "prey_0", "predator_0", "sigma_prey", "sigma_predator"]
TRUE = np.array([0.55, 0.028, 0.80, 0.024, 34.0, 5.9, 0.25, 0.25])
MU = np.array([-0.125, -3.0, -0.125, -3.0, np.log(10), np.log(10), -1.0, -1.0])
SIGMA = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0])
LOG_CAP = 15.0


def accurate_path(theta, times):
    """log populations, [n_times, 2], by an adaptive method of order 8 with tolerance 1e-12."""
    a, b, c, d = theta[:4]
    slope = lambda _, s: [a - b * np.exp(s[1]), d * np.exp(s[0]) - c]  # noqa: E731
    span = (times[0], times[-1])
    solved = solve_ivp(slope, span, np.log(theta[4:6]), "DOP853", times, rtol=1e-12, atol=1e-12)
    return solved.y.T


def make_data():
    """Columns time, prey, predator: accurate paths with log-normal noise, rounded to 0.01."""
    rng = np.random.default_rng(SEED)
    times = np.arange(N_TIMES, dtype=float)
    noise = TRUE[6:] * rng.standard_normal((N_TIMES, 2))
    return np.column_stack([times, np.round(np.exp(accurate_path(TRUE, times) + noise), 2)])


@njit(cache=False)
def log_likelihoods(theta, data, steps):
    """log L, [n]; theta [n, 8]; `steps` Runge-Kutta steps of order 4 between observations."""
    out = np.empty(len(theta))
    for n in range(len(theta)):
        a, b, c, d = theta[n, 0], theta[n, 1], theta[n, 2], theta[n, 3]
        u, v = np.log(theta[n, 4]), np.log(theta[n, 5])
        s_u, s_v = theta[n, 6], theta[n, 7]
        total = 0.0
        for row in range(len(data)):
            y_u, y_v = np.log(data[row, 1]), np.log(data[row, 2])
            r_u, r_v = (y_u - u) / s_u, (y_v - v) / s_v
            total -= 0.5 * (r_u * r_u + r_v * r_v) + np.log(s_u * s_v) + y_u + y_v + np.log(2 * np.pi)
            if row + 1 == len(data):
                break
            h = (data[row + 1, 0] - data[row, 0]) / steps
            for _ in range(steps):
                k1u = a - b * np.exp(min(v, LOG_CAP))
                k1v = d * np.exp(min(u, LOG_CAP)) - c
                k2u = a - b * np.exp(min(v + 0.5 * h * k1v, LOG_CAP))
                k2v = d * np.exp(min(u + 0.5 * h * k1u, LOG_CAP)) - c
                k3u = a - b * np.exp(min(v + 0.5 * h * k2v, LOG_CAP))
                k3v = d * np.exp(min(u + 0.5 * h * k2u, LOG_CAP)) - c
                k4u = a - b * np.exp(min(v + h * k3v, LOG_CAP))
                k4v = d * np.exp(min(u + h * k3u, LOG_CAP)) - c
                u += h / 6 * (k1u + 2 * k2u + 2 * k3u + k4u)
                v += h / 6 * (k1v + 2 * k2v + 2 * k3v + k4v)
        out[n] = total
    return out


def step_error(data, log_theta):
    """Largest difference of log L between the fixed steps and the accurate solution, and that of log L by twice the steps."""
    theta = np.exp(log_theta)
    fixed = log_likelihoods(theta, data, STEPS)
    logs = np.log(data[:, 1:])
    errors = []
    for row, value in zip(theta, fixed):
        r = (logs - accurate_path(row, data[:, 0])) / row[6:]
        exact = -(0.5 * r**2 + np.log(row[6:]) + logs + 0.5 * np.log(2 * np.pi)).sum()
        errors.append(value - exact)
    return np.array(errors)


def find_evidence():
    data = make_data()
    log_l = lambda x: log_likelihoods(np.exp(x), data, STEPS)  # noqa: E731
    log_prior = lambda x: (-0.5 * ((x - MU) / SIGMA) ** 2 - np.log(SIGMA) - 0.5 * np.log(2 * np.pi)).sum(1)  # noqa: E731
    one = lambda x: float(log_l(x[None])[0])  # noqa: E731
    transform = lambda u: MU + SIGMA * ndtri(u)  # noqa: E731
    nested, samples = [], []
    for seed in (1, 2):
        report, draws = evidence.nested(one, transform, 8, 1000, seed, sample="rwalk", walks=40)
        print(report, file=sys.stderr)
        nested.append(report)
        samples.append(draws)
    log_target = lambda x: log_l(x) + log_prior(x)  # noqa: E731
    runs, last = [], None
    for seed in range(4):
        report, x, log_w = evidence.importance(log_target, np.concatenate(samples), 6, 200_000, 10 + seed)
        print(report, file=sys.stderr)
        runs.append(report)
        last = x, np.exp(log_w - log_w.max())
    x, w = last
    w /= w.sum()
    mean = w @ x
    sd = np.sqrt(w @ (x - mean) ** 2)
    some = x[np.random.default_rng(3).choice(len(x), 300, p=w)]
    error = step_error(data, some)
    print(json.dumps({
        "command": "python lotka_volterra.py evidence",
        "log_z": evidence.combined(runs),
        "importance_sampling": runs,
        "nested_sampling": nested,
        "posterior_of_log_parameters": {
            name: {"mean": round(float(m), 4), "sd": round(float(s), 4), "true": round(float(t), 4)}
            for name, m, s, t in zip(NAMES, mean, sd, np.log(TRUE))
        },
        "runge_kutta": {
            "steps_between_observations": STEPS,
            "posterior_draws": len(some),
            "largest_error_of_log_l": float(f"{np.abs(error).max():.2g}"),
            "effect_on_log_z": float(f"{np.log(np.mean(np.exp(error))):.2g}"),
        },
        "versions": evidence.versions(),
    }, indent=2))


def main():
    if sys.argv[1:] == ["data"]:
        print("time,prey,predator")
        for row in make_data():
            print(f"{row[0]:g},{row[1]:.2f},{row[2]:.2f}")
    elif sys.argv[1:] == ["evidence"]:
        find_evidence()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
