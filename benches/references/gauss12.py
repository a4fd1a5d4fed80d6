"""Makes examples/gauss12/gauss12.wgsl: a mixture of twelve overlapping Gaussians in ten dimensions.

    python gauss12.py ../../examples/gauss12/gauss12.wgsl

Of a component: its weight is a share of uniform(0.5, 1.5) draws, its mean is N(0, 0.9^2) in every coordinate, its
covariance has axes in a random rotation with standard deviations log-uniform in [0.5, 1.5]. Prints as JSON what the
density loses outside the box of the task file and how much the components overlap.
"""

import json
import sys

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

SEED, K, D, HALF_WIDTH = 12, 12, 10, 8.0


def mixture():
    """Weights [K], means [K, D], covariances [K, D, D]."""
    rng = np.random.default_rng(SEED)
    weights = rng.uniform(0.5, 1.5, K)
    means = 0.9 * rng.standard_normal((K, D))
    covariances = np.empty((K, D, D))
    for k in range(K):
        rotation, r = np.linalg.qr(rng.standard_normal((D, D)))
        rotation *= np.sign(np.diag(r))
        sd = np.exp(rng.uniform(np.log(0.5), np.log(1.5), D))
        covariances[k] = (rotation * sd**2) @ rotation.T
    return weights / weights.sum(), means, covariances


def log_components(theta):
    """log of weight times density, [n, K]."""
    weights, means, covariances = mixture()
    out = np.empty((len(theta), K))
    for k in range(K):
        lower = np.linalg.cholesky(covariances[k])
        z = np.linalg.solve(lower, (theta - means[k]).T)
        constant = np.log(weights[k]) - 0.5 * D * np.log(2 * np.pi) - np.log(np.diag(lower)).sum()
        out[:, k] = constant - 0.5 * (z**2).sum(0)
    return out


def log_likelihood(theta):
    """log of the normalised density, [n]."""
    return logsumexp(log_components(theta), axis=1)


def draw(n, seed):
    """Exact draws, [n, D], without the box, and the component of each."""
    rng = np.random.default_rng(seed)
    weights, means, covariances = mixture()
    which = rng.choice(K, n, p=weights)
    lower = np.linalg.cholesky(covariances)
    return means[which] + np.einsum("nij,nj->ni", lower[which], rng.standard_normal((n, D))), which


def sum_of(terms, indent):
    """An expression of the terms on lines of at most 120 characters."""
    lines, line = [], ""
    for term in terms:
        sign = "" if not (lines or line) else (" - " if term.startswith("-") else " + ")
        piece = sign + (term.removeprefix("-") if sign else term)
        if len(indent) + len(line) + len(piece) > 118:
            lines.append(line)
            line, piece = "", piece.lstrip()
        line += piece
    return f"\n{indent}".join([*lines, line])


def wgsl():
    """The text of the WGSL file: straight-line code, which every device runs faster than loops over a table."""
    weights, means, covariances = mixture()
    out = [
        f"// A mixture of {K} overlapping Gaussians in {D} dimensions, normalised: on the box of the task file",
        f"// log Z = -{D} log {2 * HALF_WIDTH:g}. Written by benches/references/gauss12.py, seed {SEED}; do not edit.",
        "// Component k: log weight and norm minus half the squared length of z = L_k^-1 (theta - mean_k), L_k L_k^T = S_k.",
        "",
    ]
    for k in range(K):
        lower = np.linalg.cholesky(covariances[k])
        whiten = np.linalg.inv(lower)
        shift = -whiten @ means[k]
        constant = np.log(weights[k]) - 0.5 * D * np.log(2 * np.pi) - np.log(np.diag(lower)).sum()
        out.append(f"fn component_{k}(t: array<f32, D>) -> f32 {{")
        for i in range(D):
            terms = [f"{shift[i]:.8f}"] + [f"{whiten[i, j]:.8f} * t[{j}]" for j in range(i + 1)]
            out.append(f"    let z{i} = {sum_of(terms, '        ')};")
        squares = sum_of([f"z{i} * z{i}" for i in range(D)], "        ")
        out.append(f"    let length2 = {squares};")
        out.append(f"    return {constant:.8f} - 0.5 * length2;")
        out.append("}")
    out.append("")
    out.append("fn log_likelihood(theta: array<f32, D>) -> f32 {")
    names = [f"c{k}" for k in range(K)]
    for k in range(K):
        out.append(f"    let c{k} = component_{k}(theta);")

    def tree(items):
        return items[0] if len(items) == 1 else f"max({tree(items[: len(items) // 2])}, {tree(items[len(items) // 2 :])})"

    out.append(f"    let top = {tree(names)};")
    out.append("    let total = " + sum_of([f"exp({n} - top)" for n in names], "        ") + ";")
    out.append("    return top + log(total);")
    out.append("}")
    return "\n".join(out) + "\n"


def main():
    with open(sys.argv[1], "w") as file:
        file.write(wgsl())
    weights, means, covariances = mixture()
    sd = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    tails = norm.cdf((-HALF_WIDTH - means) / sd) + norm.cdf((means - HALF_WIDTH) / sd)
    theta, _ = draw(200_000, 1)
    parts = log_components(theta)
    share = np.exp(parts - logsumexp(parts, axis=1, keepdims=True))
    report = {
        "command": "python gauss12.py ../../examples/gauss12/gauss12.wgsl",
        "seed": SEED,
        "log_z": -D * float(np.log(2 * HALF_WIDTH)),
        "mass_outside_the_box_at_most": float(weights @ tails.sum(1)),
        "weights": [round(float(w), 6) for w in weights],
        "overlap": {
            "meaning": "mean over exact draws of 1 - largest responsibility; 0 would be separate components",
            "value": round(float(1 - share.max(1).mean()), 4),
            "draws": len(theta),
        },
        "numpy": np.__version__,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
