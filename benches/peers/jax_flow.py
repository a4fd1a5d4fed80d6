"""lwflow's formula as plain JAX functions, each jitted: the same flow, loss and Adam as torch_flow.py."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax


def make_functions(problem):
    """inverse, forward, log_prob and loss of the problem's flow, as functions of the parameters."""
    dim, s_max, floor = problem.dim, problem.s_max, problem.weight_floor
    inverse_steps, inverse_last = problem.routes(inverse=True)
    forward_steps, forward_last = problem.routes(inverse=False)
    rows, columns = np.tril_indices(dim)
    diagonal = np.arange(dim)

    def conditioner(layer, x):
        weights, biases = layer
        for w, b in zip(weights[:-1], biases[:-1]):
            x = jax.nn.relu(x @ w.T + b)
        raw, shift = jnp.split(x @ weights[-1].T + biases[-1], 2, axis=1)
        return s_max * jnp.tanh(raw / s_max), shift

    def inverse(params, x):
        log_det = 0.0
        for (a, b), layer in zip(inverse_steps, reversed(params["layers"])):
            x_a, x_b = x[:, a], x[:, b]
            s, t = conditioner(layer, x_a)
            x = jnp.concatenate([x_a, (x_b - t) * jnp.exp(-s)], axis=1)
            log_det = log_det + s.sum(1)
        return x[:, inverse_last], log_det

    def forward(params, z):
        log_det = 0.0
        for (a, b), layer in zip(forward_steps, params["layers"]):
            z_a, z_b = z[:, a], z[:, b]
            s, t = conditioner(layer, z_a)
            z = jnp.concatenate([z_a, z_b * jnp.exp(s) + t], axis=1)
            log_det = log_det + s.sum(1)
        return z[:, forward_last], log_det

    def base_log_prob(params, z):
        n_components = params["logits"].shape[0]
        share = floor + (1.0 - n_components * floor) * jax.nn.softmax(params["logits"])
        lower = jnp.zeros((n_components, dim, dim)).at[:, rows, columns].set(params["cholesky"])
        log_diagonal = lower[:, diagonal, diagonal]
        lower = lower.at[:, diagonal, diagonal].set(jnp.exp(log_diagonal))
        # The inverse of a small factor: XLA solves for a whole batch of right-hand sides much more slowly.
        eye = jnp.broadcast_to(jnp.eye(dim), lower.shape)
        inverse_lower = jax.scipy.linalg.solve_triangular(lower, eye, lower=True)
        y = inverse_lower @ (z.T[None] - params["means"][:, :, None])
        log_norm = jnp.log(share) - log_diagonal.sum(1) - 0.5 * dim * math.log(2.0 * math.pi)
        return jax.nn.logsumexp(log_norm[:, None] - 0.5 * (y * y).sum(1), axis=0)

    def log_prob(params, x):
        z, log_det = inverse(params, x)
        return base_log_prob(params, z) - log_det

    def loss(params, x, w):
        return -(w * log_prob(params, x)).sum()

    return forward, log_prob, loss


class Contestant:
    """The jitted functions: their calls take turns with lwflow's."""

    def __init__(self, problem):
        self.problem = problem
        as_jax = lambda arrays: [jnp.asarray(a, jnp.float32) for a in arrays]
        self.start = {
            "layers": [(as_jax(layer.weights), as_jax(layer.biases)) for layer in problem.layers],
            "logits": jnp.asarray(problem.logits, jnp.float32),
            "means": jnp.asarray(problem.means, jnp.float32),
            "cholesky": jnp.asarray(problem.cholesky, jnp.float32),
        }
        forward, log_prob, loss = make_functions(problem)
        self.forward, self.log_prob, self.loss = jax.jit(forward), jax.jit(log_prob), jax.jit(loss)
        self.gradient = jax.jit(jax.grad(loss))

        @partial(jax.jit, donate_argnums=(0, 1), static_argnums=4)
        def train_step(params, state, x, w, rate):
            value, grad = jax.value_and_grad(loss)(params, x, w)
            updates, state = optax.adam(rate).update(grad, state)
            return optax.apply_updates(params, updates), state, value

        self.step = train_step
        self.params = jax.tree.map(jnp.copy, self.start)
        self.state = optax.adam(1e-9).init(self.params)
        self.batches, self.last = {}, None

    def batch(self, n):
        if n not in self.batches:
            self.batches[n] = tuple(map(jnp.asarray, self.problem.batch(n)))
        return self.batches[n]

    def call(self, name, n):
        x, w = self.batch(n)
        if name == "train_step":
            self.params, self.state, self.last = self.step(self.params, self.state, x, w, 1e-9)
        else:
            self.last = {"log_prob": self.log_prob, "sample": self.forward}[name](self.start, x)
        # Without this the queue of asynchronous calls would grow past the end of the window.
        jax.block_until_ready(self.last)

    def wait(self):
        jax.block_until_ready((self.last, self.params))

    def check(self, steps, rate):
        x, w = self.batch(self.problem.n_check)
        grad = jax.tree.map(np.asarray, self.gradient(self.start, x, w))
        params = jax.tree.map(jnp.copy, self.start)
        state = optax.adam(rate).init(params)
        for _ in range(steps):
            params, state, _ = self.step(params, state, x, w, rate)
        return {
            "loss": float(self.loss(self.start, x, w)),
            "loss_after": float(self.loss(params, x, w)),
            "log_prob": np.asarray(self.log_prob(self.start, x)),
            "grad": self.problem.flat(grad["layers"], grad["logits"], grad["means"], grad["cholesky"]),
            "theta": np.asarray(self.forward(self.start, x)[0]),
        }


def start(threads):
    """What to say about the process; its threads follow from the cores it may use."""
    return {"version": jax.__version__, "device": f"CPU, at most {threads} cores", "cuda": False}


def contestants(device):
    """Those of this framework, by name."""
    return {"jax.jit": Contestant}
