r"""Affine maximisers: truthful auctions of several items, given by a menu of allocations.

A menu holds allocations $a_1, \ldots, a_K$, each a matrix of probabilities, bidders by items, a
boost $\lambda_k$ for each, and a weight $w_i > 0$ for each bidder. With values
$v_i(a) = \sum_j v_{ij} a_{ij}$ the auction chooses

$$k^* = \arg\max_k \sum_i w_i v_i(a_k) + \lambda_k, \qquad
  t_i = \frac{1}{w_i} \Bigl[\max_k \Bigl(\sum_{j \ne i} w_j v_j(a_k) + \lambda_k\Bigr)
        - \sum_{j \ne i} w_j v_j(a_{k^*}) - \lambda_{k^*}\Bigr].$$

What bidder $i$ earns is $1/w_i$ times the maximum with it minus the maximum without it. The latter
does not depend on its bid and the former is largest at the truth, so no bid beats the truth, and
with values of at least 0 nobody loses by taking part. This holds for *every* menu, so whatever
proposes the menu, a search, a network or a guess, can spoil revenue but not truthfulness (Roberts
1979; lotteries in menus: Curry, Sandholm and Dickerson, IJCAI 2023, arXiv 2202.02872).

The values are additive. Unit demand fits the same form: if every bidder gets at most one item in
expectation too, the allocation is a lottery over matchings (Birkhoff), and a bidder that gets one
item at most values it as the sum does. With one bidder the menu is that of RochetNet: lotteries
at prices $\max_l \lambda_l - \lambda_k$.
"""

from itertools import product
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from edgepact.errors import InputError, check_choice
from edgepact.fleet import Array

Demand = Literal["additive", "unit"]

BIDDERS_MAX = 3
"""Most bidders of a menu."""

ITEMS_MAX = 10
"""Most items of a menu."""

MENU_MAX = 65_536
"""Most allocations of a menu; more would not fit into memory beside a batch of bids."""

ROUNDING = 1e-9
"""By how much a probability or a sum of them may exceed 1."""


class AffineMaximiser(eqx.Module):
    """A menu. Arrays of NumPy or JAX.

    Attributes:
        allocations: probability that a bidder gets an item; of each item, and with unit demand
            of each bidder, they sum to at most 1.
        boosts: lambda, credits.
        weights: w, above 0.
    """

    allocations: Float[Array, "menu bidders items"]
    boosts: Float[Array, " menu"]
    weights: Float[Array, " bidders"]

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return int(self.allocations.shape[1])

    @property
    def items(self) -> int:
        """Number of items."""
        return int(self.allocations.shape[2])


class Sale(NamedTuple):
    """What an auction decides: who gets what with which probability, and who pays what.

    Attributes:
        allocation: probability that a bidder gets an item.
        payments: what each bidder pays in expectation, credits.
    """

    allocation: Float[Array, "batch bidders items"]
    payments: Float[Array, "batch bidders"]

    def utility(self, values: Float[Array, "batch bidders items"]) -> Float[Array, "batch bidders"]:
        """What each bidder earns if it values the items so, credits."""
        return (values * self.allocation).sum(-1) - self.payments


def check(menu: AffineMaximiser, demand: Demand = "additive") -> None:
    """Refuses a menu that cannot be carried out.

    Raises:
        InputError: an entry that is no probability, an item that is given more than once, a
            bidder of unit demand that gets more than one item, a weight that is not above 0,
            arrays that do not fit together, a menu that is empty or too large, or a demand
            that there is not.
    """
    check_choice("menu", "demand", demand, get_args(Demand))
    allocations = np.asarray(menu.allocations)
    size, bidders, items = allocations.shape
    limits = ((size, MENU_MAX), (bidders, BIDDERS_MAX), (items, ITEMS_MAX))
    if any(not 1 <= found <= most for found, most in limits):
        expected = f"up to {MENU_MAX} allocations of {BIDDERS_MAX} bidders, {ITEMS_MAX} items"
        raise InputError("menu", "allocations", expected, f"{size} of {bidders}, {items}")
    if menu.boosts.shape != (size,) or menu.weights.shape != (bidders,):
        found = f"{menu.boosts.shape} and {menu.weights.shape}"
        raise InputError("menu", "boosts, weights", f"shapes ({size},) and ({bidders},)", found)
    if not np.all((allocations >= 0.0) & (allocations <= 1.0 + ROUNDING)):
        raise InputError("menu", "allocations", "probabilities", "an entry outside [0, 1]")
    if np.any(allocations.sum(axis=1) > 1.0 + ROUNDING):
        raise InputError("menu", "allocations", "each item at most once", "a sum above 1")
    if demand == "unit" and np.any(allocations.sum(axis=2) > 1.0 + ROUNDING):
        raise InputError("menu", "allocations", "one item a bidder", "a sum above 1")
    if not np.all(np.isfinite(np.asarray(menu.boosts))):
        raise InputError("menu", "boosts", "finite numbers", "others")
    if not np.all((np.asarray(menu.weights) > 0.0) & np.isfinite(np.asarray(menu.weights))):
        raise InputError("menu", "weights", "numbers above 0", "others")


def deterministic(bidders: int, items: int, demand: Demand = "additive") -> np.ndarray:
    """All allocations without lotteries, the empty one first.

    Returns:
        Zeros and ones, menu x bidders x items.

    Raises:
        InputError: there are more than `MENU_MAX`, or there is no such demand.
    """
    check_choice("menu", "demand", demand, get_args(Demand))
    if (bidders + 1) ** items > MENU_MAX:
        raise InputError("menu", "", f"at most {MENU_MAX} allocations", (bidders + 1) ** items)
    owners = np.array(list(product(range(bidders + 1), repeat=items)))
    found = (owners[:, None, :] == np.arange(1, bidders + 1)[None, :, None]).astype(float)
    return found[found.sum(axis=2).max(axis=1) <= 1.0] if demand == "unit" else found


def sell(menu: AffineMaximiser, bids: Float[Array, "batch bidders items"]) -> Sale:
    """The auction itself. In float64 with NumPy; of equally good allocations the first.

    Args:
        menu: the auction.
        bids: what the bidders say the items are worth to them, at least 0, credits.
    """
    xp = _array_namespace(bids)
    terms = _terms(menu, bids)
    total = _total(menu, terms)
    chosen = xp.argmax(total, axis=-1)
    payments = []
    for bidder, term in enumerate(terms):
        others = total - term
        due = xp.max(others, axis=-1) - _pick(others, chosen)
        payments.append(due / menu.weights[bidder])
    allocation = xp.take(menu.allocations, chosen, axis=0)
    return Sale(allocation, xp.stack(payments, axis=-1))


def softly(
    menu: AffineMaximiser,
    bids: Float[Array, "batch bidders items"],
    temperature: Float[Array, ""] | float,
) -> Sale:
    """A smooth stand-in for `sell`, for gradients: it draws k from a softmax.

    Args:
        menu: the auction.
        bids: as in `sell`.
        temperature: credits of weighted welfare below which allocations are hardly told apart;
            at 0 it is `sell`.
    """
    xp = _array_namespace(bids)
    terms = _terms(menu, bids)
    total = _total(menu, terms)
    odds = xp.exp((total - xp.max(total, axis=-1, keepdims=True)) / temperature)
    odds = odds / xp.sum(odds, axis=-1, keepdims=True)
    payments = []
    for bidder, term in enumerate(terms):
        others = total - term
        due = xp.max(others, axis=-1) - xp.sum(odds * others, axis=-1)
        payments.append(due / menu.weights[bidder])
    shape = (menu.allocations.shape[0], menu.bidders * menu.items)
    allocation = odds @ xp.reshape(menu.allocations, shape)
    return Sale(xp.reshape(allocation, bids.shape), xp.stack(payments, axis=-1))


def most_by_any_bid(
    menu: AffineMaximiser, values: Float[Array, "batch bidders items"]
) -> Float[Array, "batch bidders"]:
    """The most each bidder could earn by any bid at all, the others bidding `values`.

    A bid does nothing but choose an allocation of the menu, at a price that the others set. So
    this looks at every allocation, whether or not a bid leads to it.
    """
    xp = _array_namespace(values)
    terms = _terms(menu, values)
    total = _total(menu, terms)
    best = []
    for bidder, term in enumerate(terms):
        others = total - term
        price = (xp.max(others, axis=-1, keepdims=True) - others) / menu.weights[bidder]
        best.append(xp.max(term / menu.weights[bidder] - price, axis=-1))
    return xp.stack(best, axis=-1)


def leading_bids(
    menu: AffineMaximiser, values: Float[np.ndarray, "bidders items"], bidder: int
) -> Float[np.ndarray, "bids items"]:
    """Bids of one bidder at which its allocation may change: the critical points of a misreport.

    Where two allocations tie, along each item with the others at the truth, and a little to
    both sides. For small menus: their number grows with the square of the menu.
    """
    gains = menu.allocations[:, bidder, :] * menu.weights[bidder]
    total = (menu.allocations * menu.weights[None, :, None] * values).sum((1, 2)) + menu.boosts
    bids = []
    for item in range(menu.items):
        slope = gains[:, item]
        level = total - slope * values[bidder, item]
        run = slope[:, None] - slope[None, :]
        ties = (level[None, :] - level[:, None])[run != 0.0] / run[run != 0.0]
        ties = np.unique(ties[(ties >= 0.0) & np.isfinite(ties)])
        for step in (0.0, 1e-7, -1e-7):
            bid = np.repeat(values[bidder][None, :], len(ties), axis=0)
            bid[:, item] = np.maximum(ties + step, 0.0)
            bids.append(bid)
    return np.concatenate(bids)


def _terms(menu: AffineMaximiser, bids: Array) -> list[Array]:
    """Each bidder's weighted value of every allocation, batch x menu."""
    # One product of matrices a bidder: batch x menu x bidders x items would not fit.
    return [
        (bids[..., bidder, :] @ menu.allocations[:, bidder, :].T) * menu.weights[bidder]
        for bidder in range(menu.bidders)
    ]


def _total(menu: AffineMaximiser, terms: list[Array]) -> Array:
    total = terms[0] + menu.boosts
    for term in terms[1:]:
        total = total + term
    return total


def _pick(table: Array, chosen: Int[Array, " batch"]) -> Array:
    xp = _array_namespace(table)
    return xp.take_along_axis(table, chosen[..., None], axis=-1)[..., 0]


def _array_namespace(array: Any) -> Any:
    return array.__array_namespace__()
