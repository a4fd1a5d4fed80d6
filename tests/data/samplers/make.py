"""Runs UltraNest, nautilus and dynesty on one two-dimensional Gaussian and writes what they leave, and what they say of it in
said.json: make.py FOLDER. MultiNest needs a Fortran library: a nested sampling run made here is written in its formats.

mean (0.3, -0.2), sd (0.1, 0.2), correlation 0.5; prior uniform on (-1, 1)^2, so log Z = -log 4."""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import dynesty
import nautilus
import numpy as np
import ultranest

MEAN, SD, RHO = np.array([0.3, -0.2]), np.array([0.1, 0.2]), 0.5
NORM = -np.log(2 * np.pi * SD.prod() * np.sqrt(1 - RHO**2))
out = Path(sys.argv[1])


def transform(u):
    return 2 * u - 1


def log_likelihood(theta):
    x, y = (np.asarray(theta) - MEAN) / SD
    return float(NORM - 0.5 * (x * x - 2 * RHO * x * y + y * y) / (1 - RHO**2))


def moments(theta, weights):
    w = weights / weights.sum()
    mean = w @ theta
    return {"mean": mean.tolist(), "sd": np.sqrt(w @ (theta - mean) ** 2).tolist()}


said = {}
np.random.seed(1)
with tempfile.TemporaryDirectory() as folder:
    sampler = ultranest.ReactiveNestedSampler(["x", "y"], log_likelihood, transform, log_dir=folder, resume="overwrite", storage_backend="csv")
    r = sampler.run(min_num_live_points=20, dlogz=2, dKL=9, min_ess=0, cluster_num_live_points=0, frac_remain=0.1, show_status=False, viz_callback=False)
    for name in ["chains/weighted_post.txt", "chains/equal_weighted_post.txt", "info/results.json"]:
        (out / "ultranest" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / name, out / "ultranest" / name)
w = r["weighted_samples"]
said["ultranest"] = moments(w["points"], w["weights"]) | {"log_z": r["logz"], "log_z_sd": r["logzerr"]}
said["ultranest_equal"] = {"mean": r["posterior"]["mean"], "sd": r["posterior"]["stdev"]}

s = nautilus.Sampler(transform, log_likelihood, n_dim=2, n_live=50, seed=1)
s.run(f_live=0.2, n_eff=50, verbose=False)
points, log_w, log_l = s.posterior()
np.savez_compressed(out / "nautilus.npz", points=points, log_w=log_w, log_l=log_l)
said["nautilus"] = moments(points, np.exp(log_w))

d = dynesty.NestedSampler(log_likelihood, transform, 2, nlive=25, rstate=np.random.default_rng(1))
d.run_nested(dlogz=0.5, print_progress=False)
r = d.results
np.savez(out / "dynesty.npz", samples=r.samples, logl=r.logl, logwt=r.logwt, logz=r.logz, logzerr=r.logzerr)
said["dynesty"] = moments(r.samples, r.importance_weights()) | {"log_z": float(r.logz[-1]), "log_z_sd": float(r.logzerr[-1])}

# A run with 20 live points by rejection, in the columns of MultiNest 3.12 (dead-birth) and of versions before it.
rng = np.random.default_rng(1)
n_live, n_dead = 20, 120
live = [(t, log_likelihood(t), -1.7976931348623157e308) for t in transform(rng.random((n_live, 2)))]
dead = []
for _ in range(n_dead):
    worst = min(range(n_live), key=lambda i: live[i][1])
    dead.append(live[worst])
    contour = live[worst][1]
    while True:
        theta = transform(rng.random(2))
        if log_likelihood(theta) > contour:
            break
    live[worst] = (theta, log_likelihood(theta), contour)
live.sort(key=lambda point: point[1])
folder = out / "multinest"
folder.mkdir(parents=True, exist_ok=True)
# Fortran drops the E where the exponent has three digits.
number = lambda v: f"{v:.12E}" if v == 0 or 1e-99 < abs(v) < 1e100 else f"{v:.12E}".replace("E", "")
log_x = -np.arange(n_dead + 1) / n_live
log_shell = np.append(np.log(-np.diff(np.exp(log_x))), np.full(n_live, log_x[-1] - np.log(n_live)))
everything = dead + live
with open(folder / "new-dead-birth.txt", "w") as f:
    for (theta, l, birth), lw in zip(dead, log_shell):
        f.write(" ".join([*map(number, [*theta, l, birth, lw]), "1"]) + "\n")
with open(folder / "new-phys_live-birth.txt", "w") as f:
    for theta, l, birth in live:
        f.write(" ".join([*map(number, [*theta, l, birth]), "1"]) + "\n")
log_w = log_shell + np.array([l for _, l, _ in everything])
log_z = np.logaddexp.reduce(log_w)
w = np.exp(log_w - log_z)
information = w @ np.array([l for _, l, _ in everything]) - log_z
with open(folder / "old-.txt", "w") as f:
    for (theta, l, _), weight in zip(everything, w):
        f.write("   ".join(map(number, [weight, -2 * l, *theta])) + "\n")
with open(folder / "old-stats.dat", "w") as f:
    f.write(f"Nested Sampling Global Log-Evidence           :   {number(log_z)}  +/-    {number(np.sqrt(information / n_live))}\n")
    f.write(f"Nested Importance Sampling Global Log-Evidence:   {number(log_z + 0.1)}  +/-    {number(0.1)}\n\n Total Modes Found:            1\n")
for name in ["new-", "old-"]:
    (folder / f"{name}.paramnames").write_text("x \\alpha\ny \\beta\n")
said["multinest"] = moments(np.array([t for t, _, _ in everything]), w) | {"log_z": float(log_z), "log_z_sd": float(np.sqrt(information / n_live))}
(out / "said.json").write_text(json.dumps(said, indent=1) + "\n")
