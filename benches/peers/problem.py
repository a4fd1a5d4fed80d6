"""The problem that every contestant solves, as the bench program wrote it.

Reads the .npz file: parameters by the names of lwflow's layout, each layer's two index sets, points and weights.
Imports numpy alone, so that every framework starts from the same arrays.
"""

import numpy as np


class Layer:
    """One affine coupling: index sets and the conditioner's weights (n_out, n_in) and biases, input side first."""

    def __init__(self, identity, transformed, weights, biases):
        self.identity = identity
        self.transformed = transformed
        self.weights = weights
        self.biases = biases


class Problem:
    """A flow with its parameters, and the points it is measured on."""

    def __init__(self, path):
        with np.load(path) as arrays:
            self.dim = int(arrays["dim"][0])
            self.s_max = float(arrays["s_max"][0])
            self.weight_floor = float(arrays["weight_floor"][0])
            self.n_check = int(arrays["n_check"][0])
            self.x = arrays["x"]  # [n, D], also used as base draws
            self.weights = arrays["weights"]  # [n], positive, not normalised
            self.layers = []
            for k in range(int(arrays["n_layers"][0])):
                count = sum(f"layer{k}/linear{j}/weight" in arrays for j in range(16))
                self.layers.append(
                    Layer(
                        arrays[f"layer{k}/identity"],
                        arrays[f"layer{k}/transformed"],
                        [arrays[f"layer{k}/linear{j}/weight"] for j in range(count)],
                        [arrays[f"layer{k}/linear{j}/bias"] for j in range(count)],
                    )
                )
            self.logits = arrays["base/logits"]  # [K]
            self.means = arrays["base/means"]  # [K, D]
            # [K, D (D + 1) / 2]: rows of the lower factor, the logarithm of the diagonal
            self.cholesky = arrays["base/cholesky"]

    def batch(self, n):
        """The first n points, and their weights with sum one."""
        w = self.weights[:n].astype(np.float64)
        return self.x[:n], (w / w.sum()).astype(np.float32)

    def routes(self, inverse):
        """How a layer finds its coordinates when the layer before left them as [identity, transformed].

        Returns one (identity, transformed) pair of positions per layer in the order of the walk, and the positions
        that restore the natural order at its end. It spares each layer one gather.
        """
        order = np.arange(self.dim)
        steps = []
        for layer in reversed(self.layers) if inverse else self.layers:
            place = np.argsort(order)
            steps.append((place[layer.identity], place[layer.transformed]))
            order = np.concatenate([layer.identity, layer.transformed])
        return steps, np.argsort(order)

    def flat(self, layers, logits, means, cholesky):
        """Arrays of the parameters' shapes as one flat vector in the order of lwflow's layout."""
        parts = []
        for weights, biases in layers:
            for w, b in zip(weights, biases):
                parts += [np.ravel(w), np.ravel(b)]
        parts += [np.ravel(logits), np.ravel(means), np.ravel(cholesky)]
        return np.concatenate(parts)
