"""The diffusion model that generates what is private: where hidden numbers lie in intervals.

What a server does not see of a device is a row of numbers, and what it has seen leaves an
interval for each of them. The model is trained to restore the positions within these intervals,
in [-1, 1], from noise (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
Generative Models", with a residual network). So every sample agrees with all that was seen,
however fine that is, and what the model adds is how the numbers of one device go together and
what devices of one fleet have in common.

It is told of every row its *features*, and reads the fleet by the mean and the maximum of a small
network over its rows: any number of rows, in any order. It knows nothing of prices. Only
arithmetic of the array API is used: training compiles it with JAX, a server samples with NumPy.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edgepact.solvers.in_context.policy_file import Weights

Array = Any
"""NumPy or JAX array."""

WIDTH, POOL, LAYERS = 128, 64, 3
"""Sizes: of the denoiser, of the reading of the fleet, and its residual layers."""

DATA_SPREAD = 0.5
"""Standard deviation that positions are taken to have, sigma_data of the source."""

NOISE = (2.5, 0.9, 0.35, 0.13, 0.05)
"""Standard deviations of the noise at the steps of sampling."""


class Context(NamedTuple):
    """What the denoiser is told of every row, the same at all steps.

    Attributes:
        base: the first layer's reading of the row and of its fleet.
        mix, offset: a linear guess at every position from the others of its row,
            `mix @ positions + offset`.
    """

    base: Array
    mix: Array
    offset: Array

    def rows(self, at: Array) -> "Context":
        """Some of the rows."""
        return Context(self.base[at], self.mix[at], self.offset[at])


def sizes(
    features: int, positions: int, width: int = WIDTH, *, gap: bool = False
) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer.

    Args:
        features: numbers told of a row.
        positions: numbers generated in a row.
        width: of the denoiser.
        gap: whether the denoiser is also told how far, in units of the noise, the linear guess
            lies from the noisy positions: worth it where that guess can be exact.
    """
    return {
        "pool_in": (features, POOL),
        "pool_out": (POOL, POOL),
        "row": (features, width),
        "fleet": (2 * POOL, width),
        "noisy": ((2 + gap) * positions + 4, width),
        **{f"hidden_{at}": (width, width) for at in range(LAYERS)},
        "out": (width, positions),
    }


def context(
    weights: Weights, features: Array, present: Array, mix: Array, offset: Array
) -> Context:
    """Reads fleets.

    Args:
        weights: trained.
        features: `(*batch, rows, features)`.
        present: 1 for rows that exist, else 0, `(*batch, rows)`.
        mix, offset: see `Context`.
    """
    xp = features.__array_namespace__()
    hidden = silu(dense(weights["pool_out"], silu(dense(weights["pool_in"], features))))
    there = present[..., None]
    mean = xp.sum(hidden * there, axis=-2) / xp.maximum(xp.sum(there, axis=-2), 1.0)
    most = xp.max(xp.where(there > 0, hidden, -1.0), axis=-2)
    fleet = dense(weights["fleet"], xp.concat([mean, most], axis=-1))
    return Context(dense(weights["row"], features) + fleet[..., None, :], mix, offset)


def denoise(weights: Weights, seen: Context, noisy: Array, noise: Array) -> Array:
    """Positions as they are likely to be, from noisy ones.

    Args:
        weights: trained.
        seen: one row for each of the noisy ones.
        noisy: positions plus noise, `(*batch, positions)`.
        noise: standard deviation of the noise, `(*batch, 1)`.
    """
    xp = noisy.__array_namespace__()
    total = xp.sqrt(noise**2 + DATA_SPREAD**2)
    guess = (seen.mix @ noisy[..., None])[..., 0] + seen.offset
    level = xp.log(noise) / 4.0
    inputs = [noisy / total, xp.clip(guess, -4.0, 4.0)]
    if weights["noisy"][0].shape[0] > 2 * noisy.shape[-1] + 4:
        inputs.append(xp.clip((guess - noisy) / noise, -4.0, 4.0))
    inputs += [level, level**2, xp.cos(3 * level), xp.sin(3 * level)]
    hidden = silu(seen.base + dense(weights["noisy"], xp.concat(inputs, axis=-1)))
    for at in range(LAYERS):
        hidden = hidden + silu(dense(weights[f"hidden_{at}"], hidden))
    keep = (DATA_SPREAD / total) ** 2
    return keep * noisy + noise * DATA_SPREAD / total * dense(weights["out"], hidden)


def sample(
    weights: Weights,
    seen: Context,
    rng: np.random.Generator,
    noises: Sequence[float] = NOISE,
) -> np.ndarray:
    """Draws positions of every row of `seen`, in [-1, 1], in steps of falling noise."""
    shape = seen.offset.shape
    noisy = noises[0] * rng.standard_normal(shape, dtype=np.float32)
    clean = noisy
    for at, noise in enumerate(noises):
        level = np.full((*shape[:-1], 1), noise, np.float32)
        clean = np.clip(denoise(weights, seen, noisy, level), -1.0, 1.0)
        if at + 1 < len(noises):
            kept = np.float32((noises[at + 1] / noise) ** 2)
            fresh = np.float32(noises[at + 1]) * np.sqrt(1 - kept)
            noisy = clean + kept * (noisy - clean)
            noisy += fresh * rng.standard_normal(shape, dtype=np.float32)
    return clean


def dense(layer: tuple[Array, Array], inputs: Array) -> Array:
    """A linear layer."""
    weight, bias = layer
    return inputs @ weight + bias


def silu(x: Array) -> Array:
    """x times its logistic function."""
    xp = x.__array_namespace__()
    return x / (1.0 + xp.exp(-xp.clip(x, -60.0, 60.0)))
