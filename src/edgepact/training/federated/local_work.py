r"""A menu of (local work, reward): epochs are whole, so the exact optimum is a finite program.

In the order $\psi_1 \ge \dots \ge \psi_K$ a menu can be kept to only if the epochs $e_k$ rise with
$k$, and the cheapest rewards leave the server

$$\sum_{k \ge s} \left( p_k (V_k(e_k) - \psi_k c(e_k) - f) - r_k\, c(e_k) \right)$$

with the rents $r$ that types better than $k$ keep for a unit of $c$ (`Types.rent`), the cost $f$ of
taking part, and the types before $s$ left out. Over whole $e_s \le \dots \le e_K$ that is a walk
through a table of types and epochs, $O(K E)$. A lottery over epochs gains nothing: the sum is
linear in it, so one of its outcomes is as good.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.contract.optimum import Contract, Menu, Plan, Types, in_order
from edgepact.mechanisms.contract.quality import cost_of


def whole_menu(contract: Contract) -> Menu:
    """The menu of whole epochs that earns most if every client takes what suits it best.

    Args:
        contract: with epochs for its quality.

    Raises:
        InputError: it has a budget in expectation, or no whole number within its bounds.
    """
    if contract.budget is not None:
        expected = "none here: a budget of each round is the job's"
        raise InputError("contract", "budget", expected, contract.budget)
    epochs, types = _epochs(contract), in_order(contract)
    count = len(types.psi)
    level = np.asarray(cost_of(contract.cost, epochs), float)
    worth = np.array([types.worth(np.full(count, each)) for each in epochs]).T
    net = worth - np.outer(types.psi, level) - contract.participation_cost
    gain = types.p[:, None] * net - np.outer(types.rent, level)
    # From the last type backwards: the most that types from k on bring if k does e epochs or more.
    most = np.zeros((count + 1, len(epochs)))
    place = np.zeros((count, len(epochs)), int)
    for at in reversed(range(count)):
        total = gain[at] + most[at + 1]
        for e in reversed(range(len(epochs))):
            more = e + 1 < len(epochs) and most[at, e + 1] > total[e]
            most[at, e] = most[at, e + 1] if more else total[e]
            place[at, e] = place[at, e + 1] if more else e
    start = int(np.argmax(np.append(most[:-1, 0], 0.0)))
    quality, least = np.zeros(count), 0
    for at in range(start, count):
        least = int(place[at, least])
        quality[at] = epochs[least]
    return _paid(types, quality)


def rounded_menu(contract: Contract, menu: Menu) -> Menu:
    """A menu of any qualities with each at the nearest whole number, paid as cheaply as can be.

    Rounding keeps the order of qualities, so that nobody gains by a lie.

    Raises:
        InputError: no whole number is within the contract's bounds.
    """
    epochs, types = _epochs(contract), in_order(contract)
    quality = np.where(menu.served, np.rint(menu.quality), 0.0)[types.order]
    return _paid(types, np.where(quality < epochs[0], 0.0, np.minimum(quality, epochs[-1])))


def _epochs(contract: Contract) -> Float[np.ndarray, " epochs"]:
    least, most = max(1, int(np.ceil(contract.quality_min))), int(np.floor(contract.quality_max))
    if least > most:
        found = f"{contract.quality_min:g}, {contract.quality_max:g}"
        raise InputError("contract", "quality_min, quality_max", "a whole number between", found)
    return np.arange(least, most + 1, dtype=float)


def _paid(types: Types, quality: np.ndarray) -> Menu:
    """Rising epochs, 0 for who is left out, with their cheapest rewards."""
    plan = Plan((quality > 0.0).astype(float), np.asarray(types.cost(quality), float))
    menu = types.rewarded(plan)
    # As they are, and not as c and its inverse leave them.
    return replace(menu, quality=types.restore(quality), chance=None)
