"""Which item of a menu devices take, and what everybody then keeps, is paid and pays."""

import numpy as np
from jaxtyping import Float, Int

from edgepact.mechanisms.contract.quality import (
    Value,
    cost_of,
)
from edgepact.mechanisms.contract.terms import Contract, Menu

NONE = -1
"""What `choose` gives for a device that takes no item."""


def rents(contract: Contract, menu: Menu) -> Float[np.ndarray, " types"]:
    """What a device of each type keeps, expected, R - psi c(q) if engaged; credits."""
    burden = contract.psi * cost_of(contract.cost, menu.quality) + contract.participation_cost
    return menu.engaged * np.where(menu.served, menu.reward - burden, 0.0)


def profit(contract: Contract, menu: Menu) -> float:
    """What the principal keeps, expected over all N devices, each taking its own item."""
    each = np.where(menu.served, contract.worth(menu.quality) - menu.reward, 0.0)
    return float(contract.devices * np.sum(contract.probability * (menu.engaged * each)))


def payments(contract: Contract, menu: Menu) -> float:
    """What the principal pays, expected over all N devices; credits."""
    paid = menu.engaged * menu.reward
    return float(contract.devices * np.sum(contract.probability * paid))


def choose(
    contract: Contract, menu: Menu, psi: Float[np.ndarray, " devices"]
) -> Int[np.ndarray, " devices"]:
    """The item that devices of given costs pick: its place in the menu, or `NONE`.

    A device that is indifferent does what the principal prefers.
    """
    burden = cost_of(contract.cost, menu.quality)
    value = contract.value if isinstance(contract.value, Value) else None
    gain = (value.at(menu.quality) if value else contract.worth(menu.quality)) - menu.reward
    chance = menu.engaged
    gain = chance * gain
    items = np.flatnonzero(menu.served)
    items = items[np.argsort(-gain[items], kind="stable")]  # the principal's favourites first
    if len(items) == 0:
        return np.full(len(psi), NONE)
    picked = np.empty(len(psi), int)
    for at, own in enumerate(psi):
        utility = menu.reward[items] - own * burden[items] - contract.participation_cost
        utility = chance[items] * utility
        slack = 1e-12 * (1.0 + np.max(np.abs(menu.reward)))
        best = np.max(utility)
        first = items[np.argmax(utility >= best - slack)]
        picked[at] = first if best >= -slack else NONE
    return picked
