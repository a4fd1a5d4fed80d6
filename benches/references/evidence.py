"""log Z in two independent ways: nested sampling (dynesty), which finds the posterior, and importance sampling from a
mixture of Student t fitted to what it found, which is exact and far sharper. Importance draws of the final proposal
trained nothing; the adaptation before it does not count."""

import platform
from importlib.metadata import version

import dynesty
import numpy as np
from scipy.special import gammaln, logsumexp
from sklearn.mixture import GaussianMixture

DOF = 8.0


class StudentMixture:
    """A mixture of multivariate t with DOF degrees of freedom, shaped as a Gaussian mixture fitted to samples."""

    def __init__(self, samples, n_components, seed):
        mixture = GaussianMixture(n_components, random_state=seed, reg_covar=1e-6, n_init=2).fit(samples)
        # A share of 2 % for every component of the fit is kept even where the samples say less.
        self.weights = 0.98 * mixture.weights_ + 0.02 / n_components
        self.means = mixture.means_
        self.lower = np.linalg.cholesky(1.1 * mixture.covariances_)

    def draw(self, n, rng):
        d = self.means.shape[1]
        which = rng.choice(len(self.weights), n, p=self.weights)
        z = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(DOF, (n, 1)) / DOF)
        return self.means[which] + np.einsum("nij,nj->ni", self.lower[which], z)

    def log_density(self, x):
        d = x.shape[1]
        constant = gammaln((DOF + d) / 2) - gammaln(DOF / 2) - 0.5 * d * np.log(DOF * np.pi)
        parts = np.empty((len(x), len(self.weights)))
        for k, (weight, mean, lower) in enumerate(zip(self.weights, self.means, self.lower)):
            z = np.linalg.solve(lower, (x - mean).T)
            log_det = np.log(np.diag(lower)).sum()
            parts[:, k] = np.log(weight) + constant - log_det - 0.5 * (DOF + d) * np.log1p((z**2).sum(0) / DOF)
        return logsumexp(parts, axis=1)


def nested(log_likelihood, prior_transform, dim, n_live, seed, **settings):
    """dynesty's log Z, its error, the number of evaluations and equally weighted samples of the posterior."""
    sampler = dynesty.NestedSampler(
        log_likelihood, prior_transform, dim, nlive=n_live, rstate=np.random.default_rng(seed), **settings
    )
    sampler.run_nested(dlogz=0.01, print_progress=False)
    results = sampler.results
    samples = results.samples_equal(rstate=np.random.default_rng(seed + 1))
    report = {
        "seed": seed,
        "n_live": n_live,
        "log_z": round(float(results.logz[-1]), 4),
        "sd": round(float(results.logzerr[-1]), 4),
        "information_nats": round(float(results.information[-1]), 2),
        "evaluations": int(np.sum(results.ncall)),
    }
    return report, samples


def importance(log_target, samples, n_components, n, seed):
    """log Z of exp(log_target) by n draws of a proposal fitted to samples [*, D] and adapted three times, in batches.

    Returns the report, the draws and their log weights.
    """
    rng = np.random.default_rng(seed)
    proposal = StudentMixture(samples, n_components, seed)
    for step in range(3):
        x = proposal.draw(40_000, rng)
        log_w = log_target(x) - proposal.log_density(x)
        w = np.exp(log_w - logsumexp(log_w))
        proposal = StudentMixture(x[rng.choice(len(x), 20_000, p=w)], n_components, seed + step)
    x = proposal.draw(n, rng)
    log_w = np.concatenate([log_target(part) - proposal.log_density(part) for part in np.array_split(x, max(1, n // 50_000))])
    total = logsumexp(log_w)
    ess = np.exp(2 * total - logsumexp(2 * log_w))
    report = {
        "seed": seed,
        "log_z": round(float(total - np.log(n)), 5),
        "sd": round(float(np.sqrt((n / ess - 1) / n)), 5),
        "draws": n,
        "ess_fraction": round(float(ess / n), 4),
        "largest_weight_share": float(f"{np.exp(log_w.max() - total):.3g}"),
    }
    return report, x, log_w


def combined(reports):
    """Mean over seeds, and the larger of the pooled sd and the spread between the seeds."""
    values = np.array([r["log_z"] for r in reports])
    stated = np.sqrt(np.sum([r["sd"] ** 2 for r in reports])) / len(reports)
    spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"log_z": round(float(values.mean()), 4), "sd": round(float(max(stated, spread)), 5)}


def versions():
    """What the numbers were made with."""
    names = ["numpy", "scipy", "dynesty", "scikit-learn", "numba"]
    return {"python": platform.python_version()} | {name: version(name) for name in names}
