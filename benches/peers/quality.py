"""Fits of normflows, zuko and flowjax to weighted pairs, with the layers and settings of their own documentation.

Each standardises the points by their weighted moments, draws its batches with probabilities equal to the weights (the
weighted negative log likelihood in expectation, and the least noisy way to it) and runs Adam at a constant rate. Every
CHECK steps the clock stops and the forward KL is taken on the exact draws; the fit ends at the bound or at the limit.
"""

import importlib
import math
import time

import numpy as np

CHECK = 100
BATCH = 512


class Points:
    """Standardised pairs and exact draws."""

    def __init__(self, file, seed):
        with np.load(file) as arrays:
            theta, weights = arrays["theta"], arrays["weights"]
            self.exact_log_prob = arrays["exact_log_prob"]
            exact = arrays["exact"]
        self.mean = weights @ theta
        self.sd = np.sqrt(weights @ (theta - self.mean) ** 2)
        self.theta = ((theta - self.mean) / self.sd).astype(np.float32)
        self.exact = ((exact - self.mean) / self.sd).astype(np.float32)
        self.cumulative = np.cumsum(weights)
        self.random = np.random.default_rng(seed)
        self.dim = theta.shape[1]

    def batch(self):
        """Points drawn with probabilities equal to their weights."""
        u = self.random.random(BATCH) * self.cumulative[-1]
        return self.theta[np.minimum(np.searchsorted(self.cumulative, u, side="right"), len(self.theta) - 1)]

    def forward_kl(self, log_q):
        """Mean of log p - log q in the points' own coordinates, with its standard error."""
        terms = self.exact_log_prob - (np.asarray(log_q, np.float64) - np.log(self.sd).sum())
        return float(terms.mean()), float(terms.std() / math.sqrt(len(terms)))


def torch_fit(build, log_prob, rate):
    """A step and an evaluation of a torch module."""

    def make(points, seed):
        import torch

        torch.manual_seed(seed)
        model = build(points.dim)
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        exact = torch.from_numpy(points.exact)

        def step():
            optimizer.zero_grad()
            loss = -log_prob(model, torch.from_numpy(points.batch())).mean()
            loss.backward()
            optimizer.step()

        def evaluate():
            with torch.no_grad():
                return torch.cat([log_prob(model, part) for part in exact.split(10_000)]).numpy()

        return step, evaluate

    return make


def normflows_realnvp(dim):
    """The README's Real NVP: 32 couplings of 64, 64 units with swaps."""
    import normflows as nf

    flows = []
    for _ in range(32):
        flows.append(nf.flows.AffineCouplingBlock(nf.nets.MLP([1, 64, 64, 2], init_zeros=True)))
        flows.append(nf.flows.Permute(dim, mode="swap"))
    return nf.NormalizingFlow(nf.distributions.base.DiagGaussian(dim), flows)


def normflows_nsf(dim):
    """Autoregressive rational-quadratic splines with LU layers, two blocks of 128 units, as in its spline examples."""
    import normflows as nf

    flows = []
    for _ in range(8):
        flows.append(nf.flows.AutoregressiveRationalQuadraticSpline(dim, 2, 128))
        flows.append(nf.flows.LULinearPermute(dim))
    return nf.NormalizingFlow(nf.distributions.base.DiagGaussian(dim, trainable=False), flows)


def zuko_nsf(dim):
    """The README's neural spline flow, unconditional: three transforms of three layers of 128 units."""
    import zuko

    return zuko.flows.NSF(dim, 0, transforms=3, hidden_features=[128] * 3)


def flowjax_nsf(points, seed):
    """masked_autoregressive_flow with rational-quadratic splines at its defaults: eight layers of 50 units."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr
    import optax
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow
    from paramax import NonTrainable, unwrap

    flow = masked_autoregressive_flow(
        jr.key(seed),
        base_dist=Normal(jnp.zeros(points.dim)),
        transformer=RationalQuadraticSpline(knots=8, interval=4),
    )
    params, static = eqx.partition(flow, eqx.is_inexact_array, is_leaf=lambda x: isinstance(x, NonTrainable))
    optimizer = optax.adam(1e-3)
    state = {"params": params, "adam": optimizer.init(params)}

    @jax.jit
    def update(params, adam, x):
        loss = lambda p: -unwrap(eqx.combine(p, static)).log_prob(x).mean()
        updates, adam = optimizer.update(jax.grad(loss)(params), adam)
        return eqx.apply_updates(params, updates), adam

    log_prob = jax.jit(lambda params, x: unwrap(eqx.combine(params, static)).log_prob(x))

    def step():
        state["params"], state["adam"] = update(state["params"], state["adam"], points.batch())
        jax.block_until_ready(state["adam"])

    def evaluate():
        return np.concatenate([log_prob(state["params"], part) for part in np.array_split(points.exact, 5)])

    return step, evaluate


FITS = {
    "normflows-realnvp": torch_fit(normflows_realnvp, lambda model, x: model.log_prob(x), 5e-4),
    "normflows-nsf": torch_fit(normflows_nsf, lambda model, x: model.log_prob(x), 5e-4),
    "zuko-nsf": torch_fit(zuko_nsf, lambda model, x: model().log_prob(x), 1e-3),
    "flowjax-nsf": flowjax_nsf,
}


class Fits:
    """Answers the command of a race."""

    def fit(self, library, file, bound, limit, seed):
        importlib.import_module(library.split("-")[0])
        begin = time.perf_counter()
        points = Points(file, seed)
        step, evaluate = FITS[library](points, seed)
        spent, steps, first = time.perf_counter() - begin, 0, None
        while True:
            begin = time.perf_counter()
            step()
            spent += time.perf_counter() - begin
            steps += 1
            if first is None:
                first = spent
            if steps % CHECK == 0 or spent >= limit:
                kl, se = points.forward_kl(evaluate())
                # A density that overflows at some draw (NaN) may still recover, so the fit goes on.
                if kl <= bound or spent >= limit:
                    break
        return {
            "kl": kl if math.isfinite(kl) else None,
            "kl_se": se if math.isfinite(se) else None,
            "seconds": spent,
            "first_seconds": first,
            "steps": steps,
            "reached": kl <= bound,
        }


def start(threads):
    """Settings of the whole process; imports nothing that a library does not need."""
    import torch

    torch.set_num_threads(threads)
    return {"version": torch.__version__, "device": "CPU", "cuda": False}
