r"""A menu of (local work, reward): epochs are whole, so the exact optimum is a finite program.

In the order $\psi_1 \ge \dots \ge \psi_K$ a menu can be kept to only if the epochs $e_k$ rise with
$k$, and the cheapest rewards leave the server

$$\sum_{k \ge s} p_k \left( V(e_k) - \varphi_k\, c(e_k) - f \right)$$

with the virtual costs $\varphi$ of `mechanisms.contract.optimum`, the cost $f$ of taking part, and
the types before $s$ left out. Over whole $e_s \le \dots \le e_K$ that is a walk through a table of
types and epochs, $O(K E)$. A lottery over epochs gains nothing: the sum is linear in it, so one of
its outcomes is as good.
"""

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.contract.optimum import Contract, Menu, virtual_cost
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
    epochs = _epochs(contract)
    order = _order(contract)
    p, phi = contract.probability[order], virtual_cost(contract)[order]
    worth = np.array([contract.worth(np.full(len(p), float(each))) for each in epochs]).T[order]
    gain = p[:, None] * (
        worth - phi[:, None] * cost_of(contract.cost, epochs) - contract.participation_cost
    )
    # From the last type backwards: the most that types from k on bring if k does e or more.
    most = np.zeros((len(p) + 1, len(epochs)))
    place = np.zeros((len(p), len(epochs)), int)
    for at in reversed(range(len(p))):
        total = gain[at] + most[at + 1]
        for e in reversed(range(len(epochs))):
            better = e + 1 < len(epochs) and most[at, e + 1] > total[e]
            most[at, e] = most[at, e + 1] if better else total[e]
            place[at, e] = place[at, e + 1] if better else e
    start = int(np.argmax(np.append(most[:-1, 0], 0.0)))
    quality, least = np.zeros(len(p)), 0
    for at in range(start, len(p)):
        least = int(place[at, least])
        quality[at] = epochs[least]
    return _restored(contract, order, quality)


def rounded_menu(contract: Contract, menu: Menu) -> Menu:
    """A menu of any qualities with each at the nearest whole number, paid as cheaply as can be.

    Rounding keeps the order of qualities, so that nobody gains by a lie.

    Raises:
        InputError: as `whole_menu`.
    """
    epochs, order = _epochs(contract), _order(contract)
    quality = np.where(menu.served, np.rint(menu.quality), 0.0)[order]
    quality = np.where(quality < epochs[0], 0.0, np.minimum(quality, epochs[-1]))
    return _restored(contract, order, quality)


def _epochs(contract: Contract) -> Float[np.ndarray, " epochs"]:
    least, most = max(1, int(np.ceil(contract.quality_min))), int(np.floor(contract.quality_max))
    if least > most:
        found = f"{contract.quality_min:g}, {contract.quality_max:g}"
        raise InputError("contract", "quality_min, quality_max", "a whole number between", found)
    return np.arange(least, most + 1, dtype=float)


def _order(contract: Contract) -> np.ndarray:
    scale = contract.value_scale
    scale = np.ones(len(contract.psi)) if scale is None else np.asarray(scale, float)
    return np.lexsort((scale, -np.asarray(contract.psi)))


def _restored(contract: Contract, order: np.ndarray, quality: np.ndarray) -> Menu:
    """Rising qualities with their cheapest rewards, in the contract's own order."""
    served = quality > 0.0
    psi = np.asarray(contract.psi, float)[order]
    steps = np.diff(np.where(served, cost_of(contract.cost, quality), 0.0), prepend=0.0)
    reward = np.where(served, np.cumsum(psi * steps) + contract.participation_cost, 0.0)
    back = np.argsort(order)
    return Menu(quality=quality[back], reward=reward[back], served=served[back])
