"""A small fully connected network whose pytree holds arrays and nothing else.

Equinox's own MLP keeps its activation function as a leaf, which cannot cross
`vmap` and `scan`; learners here are carried through both. Its weights come from one draw:
a draw for every array is most of what a program that begins a training takes to compile.
"""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(eqx.Module):
    """`weight @ x + bias`."""

    weight: Float[Array, "outputs inputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """For one input; `vmap` for batches."""
        return self.weight @ x + self.bias


class Network(eqx.Module):
    """Linear layers with mish between them, uniform on ±1/sqrt(inputs) at first."""

    layers: tuple[Linear, ...]

    def __init__(self, sizes: tuple[int, ...], key: PRNGKeyArray) -> None:
        counts = [(size + 1) * after for size, after in pairwise(sizes)]
        drawn = jax.random.uniform(key, (sum(counts),), minval=-1.0, maxval=1.0)
        layers, at = [], 0
        for (size, after), count in zip(pairwise(sizes), counts, strict=True):
            own = drawn[at : at + count] / jnp.sqrt(size)
            layers.append(Linear(own[: size * after].reshape(after, size), own[size * after :]))
            at += count
        self.layers = tuple(layers)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """One forward pass; `vmap` for batches."""
        for layer in self.layers[:-1]:
            x = jax.nn.mish(layer(x))
        return self.layers[-1](x)
