"""SLCP of sbibm (Lueckmann et al. 2021; Papamakarios et al. 2019): made observations, exact posterior draws and log Z.

    python slcp.py observations ../../examples/slcp
    python slcp.py reference results

Four points in the plane, N(m, S): m = theta_0, theta_1; s_1 = theta_2^2, s_2 = theta_3^2, rho = tanh theta_4; 1e-6 is added
to both variances, as in sbibm. Prior uniform on (-3, 3)^5. The signs of theta_2 and theta_3 do not matter: four modes of
1/4 each. Given S the posterior of m is N(mean of the points, S / 4), cut to the box, so with m integrated out three
dimensions are left. There a fine grid gives log Z, and a rejection with a piecewise constant envelope gives exact draws:
acceptance above one stops the script.
"""

import json
import pathlib
import sys

import numpy as np
from scipy.special import ndtr

SEEDS, N_DRAWS, N_SIDE = (1, 3, 8), 10_000, 120
BOX, JITTER = 3.0, 1e-6


def covariance(t):
    """Entries 11, 22, 12 of S; t [n, 3] is theta_2, theta_3, theta_4."""
    s = t[:, :2] ** 2
    return s[:, 0] ** 2 + JITTER, s[:, 1] ** 2 + JITTER, np.tanh(t[:, 2]) * s[:, 0] * s[:, 1]


def make_observation(seed):
    """True theta, [5], and four points, [4, 2]."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-BOX, BOX, 5)
    s11, s22, s12 = (v[0] for v in covariance(theta[None, 2:]))
    lower = np.linalg.cholesky([[s11, s12], [s12, s22]])
    return theta, np.round(theta[:2] + rng.standard_normal((4, 2)) @ lower.T, 6)


def log_likelihood(theta, points):
    """log L, [n]."""
    s11, s22, s12 = covariance(theta[:, 2:])
    rest = s22 - s12**2 / s11
    d = points[None] - theta[:, None, :2]
    z_1 = d[..., 0] ** 2 / s11[:, None]
    z_2 = (d[..., 1] - (s12 / s11)[:, None] * d[..., 0]) ** 2 / rest[:, None]
    return -4 * np.log(2 * np.pi) - 2 * np.log(s11 * rest) - 0.5 * (z_1 + z_2).sum(1)


def log_without_mean(t, points):
    """log of the likelihood integrated over m in the whole plane, [n]."""
    s11, s22, s12 = covariance(t)
    rest = s22 - s12**2 / s11
    (a11, a12), (_, a22) = 4 * np.cov(points.T, bias=True)
    slope = s12 / s11
    square = a11 / s11 + (a22 - 2 * slope * a12 + slope**2 * a11) / rest
    return -3 * np.log(2 * np.pi) - np.log(4) - 1.5 * np.log(s11 * rest) - 0.5 * square


def mass_in_box(t, points, n_nodes=32):
    """Probability that m ~ N(mean of the points, S / 4) lies in the box, [n]."""
    s11, s22, s12 = (v / 4 for v in covariance(t))
    mean = points.mean(0)
    sd_1, slope = np.sqrt(s11), s12 / s11
    sd_2 = np.sqrt(s22 - s12 * slope)
    # Gauss-Legendre over the quantile of m_0 inside the box.
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    low, high = np.maximum(-BOX, mean[0] - 9 * sd_1), np.minimum(BOX, mean[0] + 9 * sd_1)
    half = np.maximum(high - low, 0) / 2
    total = np.zeros(len(t))
    for node, weight in zip(nodes, weights):
        m = low + half * (1 + node)
        middle = mean[1] + slope * (m - mean[0])
        density = np.exp(-0.5 * ((m - mean[0]) / sd_1) ** 2) / (sd_1 * np.sqrt(2 * np.pi))
        total += weight * half * density * (ndtr((BOX - middle) / sd_2) - ndtr((-BOX - middle) / sd_2))
    return total


def axes(n):
    """Edges along theta_2 and theta_3 (positive half) and theta_4."""
    return np.linspace(0, BOX, n + 1), np.linspace(0, BOX, n + 1), np.linspace(-BOX, BOX, n + 1)


def grid(points_of_axis):
    return np.stack(np.meshgrid(*points_of_axis, indexing="ij"), -1).reshape(-1, 3)


def log_z(points, n):
    """log Z by the midpoint rule over n^3 cells and four quadrants."""
    edges = axes(n)
    total = 0.0
    volume = np.prod([e[1] - e[0] for e in edges])
    middles = [0.5 * (e[1:] + e[:-1]) for e in edges]
    for first in np.array_split(middles[0], max(1, n // 8)):
        t = grid([first, *middles[1:]])
        total += (np.exp(log_without_mean(t, points)) * mass_in_box(t, points)).sum()
    return float(np.log(4 * total * volume / (2 * BOX) ** 5))


class Envelope:
    """Draws from the density of theta_2..4 with m integrated out, by cells whose bound is that of their corners and middle."""

    def __init__(self, points, n=N_SIDE):
        self.points, self.edges, self.n = points, axes(n), n
        corner = log_without_mean(grid(self.edges), points).reshape((n + 1,) * 3)
        middle = [0.5 * (e[1:] + e[:-1]) for e in self.edges]
        bound = log_without_mean(grid(middle), points).reshape((n,) * 3)
        least = bound.copy()
        for i in np.ndindex(2, 2, 2):
            here = corner[tuple(slice(k, k + n) for k in i)]
            bound, least = np.maximum(bound, here), np.minimum(least, here)
        # Inside a cell log g can pass its corners by a part of its change across the cell; bounds far below the largest are
        # raised, so that no cell at the foot of a cliff is underestimated.
        allowance = 0.3 + 0.2 * np.minimum(bound - least, 10)
        self.log_bound = np.maximum(bound + allowance, bound.max() - 25).ravel()
        self.cumulative = np.cumsum(np.exp(self.log_bound - self.log_bound.max()))

    def draw(self, n, rng):
        """About n proposals: those accepted, [*, 3], and the largest acceptance."""
        cell = np.searchsorted(self.cumulative, rng.uniform(size=n) * self.cumulative[-1])
        index = np.stack(np.unravel_index(cell, (self.n,) * 3), 1)
        low = np.stack([e[i] for e, i in zip(self.edges, index.T)], 1)
        width = np.array([e[1] - e[0] for e in self.edges])
        t = low + width * rng.uniform(size=(n, 3))
        log_accept = log_without_mean(t, self.points) - self.log_bound[cell]
        return t[np.log(rng.uniform(size=n)) < log_accept], float(np.exp(log_accept.max()))


def draw(n, points, rng):
    """Exact posterior draws, [n, 5], and the largest acceptance probability met."""
    envelope, kept, n_kept, largest = Envelope(points), [], 0, 0.0
    while n_kept < n:
        t, top = envelope.draw(200_000, rng)
        largest = max(largest, top)
        if top > 1:
            sys.exit(f"the envelope is too low: acceptance {top}")
        s11, s22, s12 = (v / 4 for v in covariance(t))
        z = rng.standard_normal((len(t), 2))
        slope = s12 / s11
        step_1 = np.sqrt(s11) * z[:, 0]
        step_2 = slope * step_1 + np.sqrt(s22 - slope * s12) * z[:, 1]
        m = points.mean(0) + np.column_stack([step_1, step_2])
        t[:, :2] *= rng.choice([-1.0, 1.0], (len(t), 2))
        theta = np.column_stack([m, t])[(np.abs(m) < BOX).all(1)]
        kept.append(theta)
        n_kept += len(theta)
    return np.concatenate(kept)[:n], largest


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("observations", "reference"):
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[2])
    report, draws = [], {}
    for seed in SEEDS:
        true, points = make_observation(seed)
        if sys.argv[1] == "observations":
            rows = "\n".join(f"{a:.6f},{b:.6f}" for a, b in points)
            (directory / f"observation_{seed}.csv").write_text(f"x_0,x_1\n{rows}\n")
            continue
        theta, largest = draw(N_DRAWS, points, np.random.default_rng([seed, 7]))
        draws[f"observation_{seed}"] = theta.astype(np.float32)
        report.append({
            "seed": seed,
            "true_theta": [round(float(t), 4) for t in true],
            "log_z": round(log_z(points, 96), 5),
            "log_z_of_half_as_many_cells_a_side": round(log_z(points, 48), 5),
            "draws": N_DRAWS,
            "largest_acceptance": round(largest, 3),
            "masses_of_signs_of_theta_2_and_theta_3": [0.25] * 4,
            "of_draws": {
                "mean": [round(float(v), 4) for v in theta.mean(0)],
                "sd": [round(float(v), 4) for v in theta.std(0)],
                "mean_of_absolute_values": [round(float(v), 4) for v in np.abs(theta).mean(0)],
            },
        })
    if draws:
        np.savez_compressed(directory / "slcp.npz", **draws)
        about = {"command": "python slcp.py reference results", "problems": report, "numpy": np.__version__}
        (directory / "slcp.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
