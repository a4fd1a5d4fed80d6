"""lwflow's formula as one plain PyTorch module: eager, and through torch.compile.

Affine couplings with a bounded log scale, a Gaussian mixture with full covariances as the base, the weighted negative
log likelihood, Adam. Written as a careful user would: no copies that can be spared, fused Adam.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Flow(nn.Module):
    """The flow of a `Problem`."""

    def __init__(self, problem):
        super().__init__()
        self.dim, self.s_max, self.floor = problem.dim, problem.s_max, problem.weight_floor
        tensor = lambda a: nn.Parameter(torch.tensor(a, dtype=torch.float32))
        self.weights = nn.ModuleList(nn.ParameterList(map(tensor, layer.weights)) for layer in problem.layers)
        self.biases = nn.ModuleList(nn.ParameterList(map(tensor, layer.biases)) for layer in problem.layers)
        self.logits, self.means, self.cholesky = map(tensor, (problem.logits, problem.means, problem.cholesky))
        self.register_buffer("tril", torch.tril_indices(self.dim, self.dim))
        self.register_buffer("diagonal", torch.arange(1, self.dim + 1).cumsum(0) - 1)
        for name in ("inverse", "forward"):
            steps, last = problem.routes(inverse=name == "inverse")
            for k, (a, b) in enumerate(steps):
                self.register_buffer(f"{name}_a{k}", torch.tensor(a))
                self.register_buffer(f"{name}_b{k}", torch.tensor(b))
            self.register_buffer(f"{name}_last", torch.tensor(last))

    def conditioner(self, k, x):
        """Bounded log scale and shift of layer k."""
        weights, biases = self.weights[k], self.biases[k]
        for w, b in zip(weights[:-1], biases[:-1]):
            x = F.relu(F.linear(x, w, b))
        raw, shift = F.linear(x, weights[-1], biases[-1]).chunk(2, dim=1)
        return self.s_max * torch.tanh(raw / self.s_max), shift

    def inverse(self, x):
        """Data to base; log_det of the forward map."""
        log_det = 0.0
        for step, k in enumerate(reversed(range(len(self.weights)))):
            a = x[:, getattr(self, f"inverse_a{step}")]
            b = x[:, getattr(self, f"inverse_b{step}")]
            s, t = self.conditioner(k, a)
            x = torch.cat([a, (b - t) * torch.exp(-s)], dim=1)
            log_det = log_det + s.sum(1)
        return x[:, self.inverse_last], log_det

    def forward(self, z):
        """Base to data with log_det."""
        log_det = 0.0
        for k in range(len(self.weights)):
            a = z[:, getattr(self, f"forward_a{k}")]
            b = z[:, getattr(self, f"forward_b{k}")]
            s, t = self.conditioner(k, a)
            z = torch.cat([a, b * torch.exp(s) + t], dim=1)
            log_det = log_det + s.sum(1)
        return z[:, self.forward_last], log_det

    def base_log_prob(self, z):
        """Log density of the mixture."""
        n_components = self.logits.shape[0]
        share = self.floor + (1.0 - n_components * self.floor) * torch.softmax(self.logits, 0)
        log_diagonal = self.cholesky[:, self.diagonal]
        lower = torch.zeros(n_components, self.dim, self.dim, device=z.device, dtype=z.dtype)
        lower[:, self.tril[0], self.tril[1]] = self.cholesky
        lower = torch.tril(lower, -1) + torch.diag_embed(log_diagonal.exp())
        y = torch.linalg.solve_triangular(lower, z.T[None] - self.means[:, :, None], upper=False)
        log_norm = share.log() - log_diagonal.sum(1) - 0.5 * self.dim * math.log(2.0 * math.pi)
        return torch.logsumexp(log_norm[:, None] - 0.5 * (y * y).sum(1), 0)

    def log_prob(self, x):
        z, log_det = self.inverse(x)
        return self.base_log_prob(z) - log_det

    def loss(self, x, w):
        return -(w * self.log_prob(x)).sum()


class Contestant:
    """One way to run the module: its calls take turns with lwflow's."""

    def __init__(self, problem, compiled, device):
        self.problem, self.compiled, self.device = problem, compiled, torch.device(device)
        self.flow = Flow(problem).to(self.device)
        self.optimizer = self.adam(self.flow, 1e-9)
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        wrap = (lambda f: torch.compile(f, mode=mode, dynamic=False)) if compiled else (lambda f: f)
        self.loss, self.log_prob, self.forward = map(wrap, (self.flow.loss, self.flow.log_prob, self.flow.forward))
        self.batches = {}

    def adam(self, flow, rate):
        return torch.optim.Adam(flow.parameters(), lr=rate, fused=True)

    def batch(self, n):
        if n not in self.batches:
            x, w = self.problem.batch(n)
            self.batches[n] = torch.tensor(x).to(self.device), torch.tensor(w).to(self.device)
        return self.batches[n]

    def train_step(self, n):
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(*self.batch(n)).backward()
        self.optimizer.step()

    def call(self, name, n):
        """Makes one call; a user who wants numbers waits for them, see `wait`."""
        if name == "train_step":
            self.train_step(n)
            return
        with torch.no_grad():
            {"log_prob": self.log_prob, "sample": self.forward}[name](self.batch(n)[0])

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check(self, steps, rate):
        """Loss, log densities, gradients and the forward map, then the loss after a few steps of Adam."""
        x, w = self.batch(self.problem.n_check)
        flow = self.flow
        before = [p.detach().clone() for p in flow.parameters()]
        flow.zero_grad(set_to_none=True)
        loss = self.loss(x, w)
        loss.backward()
        grad = lambda ps: [p.grad.cpu().numpy() for p in ps]
        layers = [(grad(a), grad(b)) for a, b in zip(flow.weights, flow.biases)]
        base = grad([flow.logits, flow.means, flow.cholesky])
        with torch.no_grad():
            log_prob = self.log_prob(x).cpu().numpy()
            theta = self.forward(x)[0].cpu().numpy()
        value = loss.item()
        optimizer = self.adam(flow, rate)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            self.loss(x, w).backward()
            optimizer.step()
        with torch.no_grad():
            after = self.loss(x, w).item()
            for p, old in zip(flow.parameters(), before):
                p.copy_(old)
        return {
            "loss": value,
            "loss_after": after,
            "log_prob": log_prob,
            "grad": self.problem.flat(layers, *base),
            "theta": theta,
        }


def start(threads):
    """Settings of the whole process; what to say about it."""
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    return {"version": torch.__version__, "device": name, "cuda": cuda}


def contestants(device):
    """Those of this framework, by name."""
    return {
        "torch": lambda problem: Contestant(problem, False, device),
        "torch.compile": lambda problem: Contestant(problem, True, device),
    }
