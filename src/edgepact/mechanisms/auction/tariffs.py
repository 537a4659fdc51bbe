r"""Tariffs set by rivals: a truthful auction of several items richer than affine maximisers.

For each item $j$ the highest bid of the others is a floor,
$p_j = \max_{l \ne i} v_{lj}$. The others' bids also set a few tariffs for bidder $i$: a fee $e$
and a price $r_j \ge p_j$ for each item. The bidder takes the tariff that serves it best, or none,
pays the fee, and buys what is worth more to it than its price:

$$u_i = \max\Bigl(0,\ \max_\ell \sum_j (v_{ij} - r^\ell_j)_+ - e^\ell\Bigr).$$

*Truthful*: what is on offer to a bidder does not depend on its bid, and it gets what it would
choose (the taxation principle). *Nobody loses*: it may take nothing. *Feasible*: an item is bought
only by a bidder that bids more for it than everybody else, so by one at most. All three hold for
any functions of the others' bids, so a network may propose them; only revenue is at stake. Fees
that depend on the others' bids are what makes simple auctions of many items nearly optimal (Yao,
SODA 2015; Cai, Devanur and Weinberg, STOC 2016).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.fleet import Array
from edgepact.mechanisms.auction.affine_maximiser import Sale


class Tariffs(NamedTuple):
    """What is offered to one bidder, or to a batch of them.

    Attributes:
        fees: of a tariff, at least 0, credits.
        prices: of the items in a tariff, credits; at least the floors.
    """

    fees: Float[Array, "*batch tariffs"]
    prices: Float[Array, "*batch tariffs items"]


Offer = Callable[[int, Float[np.ndarray, "batch rivals items"]], Tariffs]
"""Sets tariffs for the bidder of that number, from the bids of the others alone."""


def no_fee(reserve: float) -> Offer:
    """Item by item: one tariff without a fee, whose prices are the floors or a reserve.

    With the reserve of Myerson this is the best that selling items separately can do.

    Args:
        reserve: credits.
    """

    def offer(bidder: int, others: Float[np.ndarray, "batch rivals items"]) -> Tariffs:
        prices = np.maximum(floors(others), reserve)
        return Tariffs(np.zeros((len(others), 1)), prices[:, None, :])

    return offer


def floors(others: Float[Array, "*batch rivals items"]) -> Float[Array, "*batch items"]:
    """The highest bid of the others for each item; 0 if there is nobody."""
    xp = _array_namespace(others)
    if others.shape[-2] == 0:
        return xp.zeros(others.shape[:-2] + others.shape[-1:], dtype=others.dtype)
    return xp.max(others, axis=-2)


def sell(offer: Offer, bids: Float[np.ndarray, "batch bidders items"]) -> Sale:
    """The auction itself, in float64. Bidders take nothing rather than break even.

    Raises:
        InputError: a price below its floor, a fee below 0, or either not a number.
    """
    allocation, payments = np.zeros_like(bids), np.zeros(bids.shape[:2])
    for bidder in range(bids.shape[1]):
        others = np.delete(bids, bidder, axis=1)
        tariffs = offer(bidder, others)
        _check(tariffs, floors(others))
        gains = bids[:, bidder, None, :] - tariffs.prices
        surplus = np.maximum(gains, 0.0).sum(-1) - tariffs.fees
        taken = np.argmax(surplus, axis=-1)
        rows = np.arange(len(bids))
        takes = surplus[rows, taken] > 0.0
        # Two bids that are equal are both no higher than the floor, so neither buys.
        bought = (gains[rows, taken] > 0.0) & takes[:, None]
        allocation[:, bidder] = bought
        paid = tariffs.fees[rows, taken] + (tariffs.prices[rows, taken] * bought).sum(-1)
        payments[:, bidder] = np.where(takes, paid, 0.0)
    return Sale(allocation, payments)


def softly(
    tariffs: Tariffs,
    values: Float[Array, "batch items"],
    temperature: Float[Array, ""] | float,
) -> Float[Array, " batch"]:
    """What bidders pay whose choices are smoothed, for gradients.

    Args:
        tariffs: on offer to each of them.
        values: of the items to them.
        temperature: credits below which they hardly tell apart; at 0 they pay what `sell` says.
    """
    xp = _array_namespace(values)
    gains = (values[:, None, :] - tariffs.prices) / temperature
    # The larger of a gain and 0, and its slope, without overflow where gains are large.
    kept = xp.where(gains > 0.0, gains, 0.0) + xp.log1p(xp.exp(-xp.abs(gains)))
    buys = xp.exp(gains - kept)
    surplus = xp.sum(kept, axis=-1) - tariffs.fees / temperature
    surplus = xp.concat([xp.zeros_like(surplus[:, :1]), surplus], axis=-1)
    odds = xp.exp(surplus - xp.max(surplus, axis=-1, keepdims=True))
    odds = odds / xp.sum(odds, axis=-1, keepdims=True)
    pays = tariffs.fees + xp.sum(buys * tariffs.prices, axis=-1)
    return xp.sum(odds[:, 1:] * pays, axis=-1)


def _check(tariffs: Tariffs, floor: Float[np.ndarray, "batch items"]) -> None:
    # Written so that what is not a number fails, too.
    if not np.all(tariffs.fees >= 0.0):
        raise InputError("tariffs", "fees", "at least 0", "less, or not a number")
    if not np.all(tariffs.prices >= floor[:, None, :]):
        raise InputError("tariffs", "prices", "at least the others' highest bids", "less")


def _array_namespace(array: Any) -> Any:
    return array.__array_namespace__()
