"""two_moons of sbibm (Lueckmann et al. 2021): made observations, exact posterior draws and log Z.

    python two_moons.py observations ../../examples/two_moons
    python two_moons.py reference results

A simulation is p + (-|z_0|, z_1): (z_0, z_1) is theta turned by -45 degrees, p = (r cos a + 0.25, r sin a) with a uniform in
(-pi/2, pi/2) and r ~ N(0.1, 0.01^2). The likelihood is therefore the density N(r; 0.1, 0.01^2) / (pi r) on u = p_0 - 0.25 > 0;
sbibm's own _likelihood leaves 1 / (pi r) out, its simulator and its reference draws have it. A negative r, of probability
Phi(-10), is neglected. For a given observation the map from p to theta keeps areas and has two branches, z_0 >= 0 and
z_0 <= 0, so exact posterior draws are draws of p, a fair coin and a rejection where z_0 has no root or theta leaves the box.
"""

import json
import pathlib
import sys

import numpy as np

SEEDS, N_DRAWS = (1, 2, 3), 10_000
R_MEAN, R_SD, OFFSET, HALF_WIDTH = 0.1, 0.01, 0.25, 1.0


def simulate_p(n, rng):
    angle = rng.uniform(-np.pi / 2, np.pi / 2, n)
    r = R_MEAN + R_SD * rng.standard_normal(n)
    return np.column_stack([r * np.cos(angle) + OFFSET, r * np.sin(angle)])


def make_observation(seed):
    """True theta, [2], and observation, [2]."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-HALF_WIDTH, HALF_WIDTH, 2)
    shift = np.array([-abs(theta[0] + theta[1]), theta[1] - theta[0]]) / np.sqrt(2)
    return theta, np.round(simulate_p(1, rng)[0] + shift, 6)


def log_likelihood(theta, observation):
    """log L, [n]."""
    u = observation[0] + np.abs(theta[:, 0] + theta[:, 1]) / np.sqrt(2) - OFFSET
    v = observation[1] - (theta[:, 1] - theta[:, 0]) / np.sqrt(2)
    r = np.hypot(u, v)
    with np.errstate(divide="ignore"):
        value = -0.5 * ((r - R_MEAN) / R_SD) ** 2 - np.log(R_SD * np.sqrt(2 * np.pi)) - np.log(np.pi * r)
    return np.where(u > 0, value, -np.inf)


def draw(n, observation, rng):
    """Exact posterior draws, [n, 2], and the share of proposals that were accepted."""
    kept, n_kept, n_tried = [], 0, 0
    while n_kept < n:
        p = simulate_p(4 * n, rng)
        z_0 = p[:, 0] - observation[0]
        z_1 = observation[1] - p[:, 1]
        side = rng.choice([-1.0, 1.0], len(p)) * z_0
        theta = np.column_stack([side - z_1, side + z_1]) / np.sqrt(2)
        legal = (z_0 >= 0) & (np.abs(theta) < HALF_WIDTH).all(1)
        n_tried += len(p)
        kept.append(theta[legal])
        n_kept += legal.sum()
    return np.concatenate(kept)[:n], n_kept / n_tried


def log_z_of_grid(observation, n_side=8000):
    """log Z by the midpoint rule over the box of the prior."""
    step = 2 * HALF_WIDTH / n_side
    axis = -HALF_WIDTH + step * (np.arange(n_side) + 0.5)
    total = 0.0
    for part in np.array_split(axis, 100):
        theta = np.stack(np.meshgrid(part, axis, indexing="ij"), -1).reshape(-1, 2)
        total += np.exp(log_likelihood(theta, observation)).sum()
    return np.log(total * step**2 / (2 * HALF_WIDTH) ** 2)


def share_by_grid(observation, cut, n_side=4000):
    """Posterior mass where theta_0 < cut, by the midpoint rule."""
    step = 2 * HALF_WIDTH / n_side
    axis = -HALF_WIDTH + step * (np.arange(n_side) + 0.5)
    theta = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(log_likelihood(theta, observation))
    return density[theta[:, 0] < cut].sum() / density.sum()


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("observations", "reference"):
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[2])
    report, draws = [], {}
    for seed in SEEDS:
        true, observation = make_observation(seed)
        if sys.argv[1] == "observations":
            path = directory / f"observation_{seed}.csv"
            path.write_text(f"x_0,x_1\n{observation[0]:.6f},{observation[1]:.6f}\n")
            continue
        theta, accepted = draw(N_DRAWS, observation, np.random.default_rng([seed, 7]))
        draws[f"observation_{seed}"] = theta.astype(np.float32)
        median = float(np.median(theta[:, 0]))
        report.append({
            "seed": seed,
            "true_theta": [round(float(t), 4) for t in true],
            "observation": [float(x) for x in observation],
            # Two branches of equal mass over a box of area 4.
            "log_z": round(float(np.log(2 * accepted / 4)), 4),
            "log_z_of_grid": round(float(log_z_of_grid(observation)), 5),
            "draws": N_DRAWS,
            "share_below_the_median_of_theta_0_by_grid": round(float(share_by_grid(observation, median)), 4),
        })
    if draws:
        np.savez_compressed(directory / "two_moons.npz", **draws)
        about = {"command": "python two_moons.py reference results", "problems": report, "numpy": np.__version__}
        (directory / "two_moons.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
