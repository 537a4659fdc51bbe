"""A small fully connected network whose pytree holds arrays and nothing else.

Equinox's own MLP keeps its activation function as a leaf, which cannot cross
`vmap` and `scan`; learners here are carried through both.
"""

from itertools import pairwise

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray


class Network(eqx.Module):
    """Linear layers with mish between them."""

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, sizes: tuple[int, ...], key: PRNGKeyArray) -> None:
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(size, after, key=key)
            for (size, after), key in zip(pairwise(sizes), keys, strict=True)
        )

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """One forward pass; `vmap` for batches."""
        for layer in self.layers[:-1]:
            x = jax.nn.mish(layer(x))
        return self.layers[-1](x)
