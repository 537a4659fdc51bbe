r"""Virtual costs and their ironing for many populations of a few types at once.

`contract.optimal_menu` does the same for one population of any number of types, with SciPy. Here
are no loops and no branches, for NumPy and JAX alike; leading axes are batch axes. Types stand
in order of falling cost.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

# NumPy or JAX, as in `satisfaction`.
Array = Any


def virtual_cost(
    psi: Float[Array, "*batch types"], probability: Float[Array, "*batch types"]
) -> Float[Array, "*batch types"]:
    """What a unit of c of each type costs the principal, the rents of better types included."""
    xp = psi.__array_namespace__()
    after = xp.concat([psi[..., 1:], psi[..., -1:]], axis=-1)
    return psi + (psi - after) * better(probability) / probability


def better(probability: Float[Array, "*batch types"]) -> Float[Array, "*batch types"]:
    """How frequent types of lower cost are, all together."""
    xp = probability.__array_namespace__()
    # Sums from the cheapest type on, so that of the last one nothing is left by rounding.
    above = xp.concat([xp.zeros_like(probability[..., :1]), probability[..., :0:-1]], axis=-1)
    return xp.flip(xp.cumulative_sum(above, axis=-1), axis=-1)


def ironed(
    phi: Float[Array, "*batch types"], weight: Float[Array, "*batch types"]
) -> Float[Array, "*batch types"]:
    r"""The falling numbers closest to phi: isotonic regression, O(K^3) and without a loop.

    $\tilde\varphi_k = \min_{i \le k} \max_{j \ge k}$ of the weighted mean over $i \dots j$.
    """
    xp = phi.__array_namespace__()
    at = np.arange(phi.shape[-1])
    # Sums of every stretch, each by itself: differences of running sums would lose small types.
    inside = xp.asarray((at[:, None, None] <= at) & (at <= at[None, :, None]))
    total = xp.sum(xp.where(inside, weight[..., None, None, :], 0.0), axis=-1)
    mean = xp.sum(xp.where(inside, (weight * phi)[..., None, None, :], 0.0), axis=-1)
    mean = mean / xp.where(total > 0, total, 1.0)
    # Axes: first type of the stretch, k, last type of the stretch.
    ends = xp.asarray((at[:, None] <= at) & (at[:, None, None] <= at))
    highest = xp.max(xp.where(ends, mean[..., :, None, :], -xp.inf), axis=-1)
    begins = xp.asarray(at[:, None] <= at)
    return xp.min(xp.where(begins, highest, xp.inf), axis=-2)
