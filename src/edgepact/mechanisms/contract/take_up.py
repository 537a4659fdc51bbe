"""What the take-up of past menus says about how frequent each type is.

Whoever takes an item made for one type alone is known to be of that type. Of an item that
several types share, only their sum is known; so it is of types left out, which take nothing.
The most likely frequencies follow by expectation and maximisation: takers of a shared item are
split as the present guess has it, the guess is counted anew, and so on.

Any array that names its own namespace will do; leading axes are batch axes.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.contract.terms import Contract, Menu

# NumPy or JAX, as in `satisfaction`.
Array = Any

PASSES = 30
"""Of the estimate; one is exact where every type had an item of its own."""


class TakeUp(NamedTuple):
    """Rounds of answers, types in order of falling cost.

    Attributes:
        taken: number of devices that took each type's item; of a shared item the takers may
            stand at any of its types.
        first: 1 where a type's item is not that of the type before, else 0.
    """

    taken: Float[Array, "*batch rounds types"]
    first: Float[Array, "*batch rounds types"]


def take_up_of(contract: Contract, menus: list[Menu], taken: list[np.ndarray]) -> TakeUp:
    """Take-up of menus as they were offered.

    Args:
        contract: whose types the menus are for, in any order.
        menus: offered, each with an item for every type.
        taken: of each menu, how many devices took each type's item; whoever took nothing
            counts at a type that is left out.

    Raises:
        InputError: lengths that differ, or negative counts.
    """
    order = np.argsort(-contract.psi, kind="stable")
    shape = (len(menus), len(order))
    if not menus and not taken:
        return TakeUp(np.zeros(shape), np.ones(shape))
    counts = np.array([np.asarray(each, float) for each in taken])
    if counts.shape != shape:
        expected = f"{shape[0]} menus with {shape[1]} counts each"
        raise InputError("take-up", "taken", expected, f"{counts.shape}")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise InputError("take-up", "taken", "counts of at least 0", "others")
    quality = np.array([menu.quality[order] for menu in menus])
    before = np.concatenate([np.full((len(menus), 1), -1.0), quality[:, :-1]], axis=1)
    return TakeUp(counts[:, order], (quality != before).astype(float))


def frequencies(take_up: TakeUp, exists: Array, pseudo: float = 0.0) -> Array:
    """Estimated frequencies of types.

    Args:
        take_up: what was seen.
        exists: 1 for types that there are, 0 for padding; shape `(*batch, types)`.
        pseudo: devices added to each type's count. 0 gives the most likely frequencies, 1
            the mean of what is likely if nothing else is known and nothing is shared.

    Returns:
        Shape `(*batch, types)`; evenly spread where nothing was seen.
    """
    xp = exists.__array_namespace__()
    group = xp.cumulative_sum(take_up.first, axis=-1)
    same = (group[..., :, None] == group[..., None, :]).astype(exists.dtype)
    together = xp.sum(same * take_up.taken[..., None, :], axis=-1)
    number = xp.sum(take_up.taken, axis=(-1, -2))[..., None]
    number = number + pseudo * xp.sum(exists, axis=-1)[..., None]
    estimate = exists / xp.sum(exists, axis=-1)[..., None]
    if pseudo == 0.0:
        number, nothing = xp.where(number > 0, number, 1.0), number == 0
    else:
        nothing = number < 0
    for _ in range(PASSES):
        inside = xp.sum(same * estimate[..., None, None, :], axis=-1)
        split = together * estimate[..., None, :] / xp.where(inside > 0, inside, 1.0)
        count = xp.sum(split, axis=-2) + pseudo * exists
        estimate = xp.where(nothing, estimate, count / number)
    return estimate


def told_apart(take_up: TakeUp) -> Array:
    """Number of devices that chose while a type's item was not that of the type before."""
    xp = take_up.first.__array_namespace__()
    devices = xp.sum(take_up.taken, axis=-1)[..., None]
    return xp.sum(devices * take_up.first, axis=-2)
