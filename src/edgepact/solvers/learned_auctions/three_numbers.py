"""Auctions of three numbers, fitted by search: what a learnt auction has to beat.

Both are truthful whatever the numbers are. An *affine maximiser* of two items for bidders that
are alike, without lotteries: a boost for selling one item, for selling both to one bidder, and
for selling them to two. *Tariffs*: a bidder buys item by item at the rivals' highest bids and a
reserve, or pays a fee and buys at those bids alone; the fee is so many credits and so large a
share of what a bidder is expected to gain there. The numbers are fitted on one sample of values
by a search without gradients; what they earn is for fresh values to say.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import fmin

from edgepact.errors import InputError
from edgepact.mechanisms.auction import affine_maximiser, tariffs
from edgepact.mechanisms.auction.affine_maximiser import AffineMaximiser, deterministic
from edgepact.mechanisms.auction.tariffs import Offer, Tariffs, floors

Numbers = tuple[float, float, float]
"""Of an affine maximiser: boosts, credits. Of tariffs: reserve and fee, credits, and a share."""


def maximiser_of(numbers: Numbers, bidders: int) -> AffineMaximiser:
    """The affine maximiser of two items with these boosts.

    Args:
        numbers: boosts of selling one item, both to one bidder, and both to two bidders; not to
            sell has none.
        bidders: how many.
    """
    one, together, apart = numbers
    allocations = deterministic(bidders, 2)
    taken = allocations.sum(axis=2)
    sold, most = taken.sum(axis=1), taken.max(axis=1)
    boosts = np.select([sold == 0.0, sold == 1.0, most == 2.0], [0.0, one, together], apart)
    return AffineMaximiser(allocations, boosts, np.ones(bidders))


def tariffs_of(numbers: Numbers, *, low: float, high: float) -> Offer:
    """A tariff without a fee and one with, for values that are uniform on an interval.

    Args:
        numbers: the reserve of the first; the fixed part of the fee of the second, and the share
            that it takes of the gain that a bidder expects at its rivals' bids. A reserve or a
            fee below 0 is none.
        low, high: ends of the interval, credits.
    """
    reserve, fixed, share = numbers

    def offer(bidder: int, others: Float[np.ndarray, "batch rivals items"]) -> Tariffs:
        floor = floors(others)
        over = np.maximum(high - np.maximum(floor, low), 0.0)
        gain = np.maximum(low - floor, 0.0) + over**2 / (2.0 * (high - low))
        fee = np.maximum(fixed + share * gain.sum(axis=1), 0.0)
        fees = np.stack([np.zeros_like(fee), fee], axis=1)
        return Tariffs(fees, np.stack([np.maximum(floor, reserve), floor], axis=1))

    return offer


def fit_maximiser(values: Float[np.ndarray, "samples bidders items"]) -> Numbers:
    """Boosts that earn most on a sample of values.

    Raises:
        InputError: there are not two items.
    """
    if values.shape[2] != 2:
        raise InputError("three numbers", "items", "2", values.shape[2])
    bidders, unit = values.shape[1], float(values.max())

    def earned(numbers: Numbers) -> float:
        sale = affine_maximiser.sell(maximiser_of(numbers, bidders), values)
        return float(sale.payments.sum(axis=1).mean())

    return _search(earned, (-0.5 * unit, -0.6 * unit, -0.8 * unit), unit)


def fit_tariffs(
    values: Float[np.ndarray, "samples bidders items"], *, low: float, high: float
) -> Numbers:
    """Reserve and fee that earn most on a sample of values."""

    def earned(numbers: Numbers) -> float:
        sale = tariffs.sell(tariffs_of(numbers, low=low, high=high), values)
        return float(sale.payments.sum(axis=1).mean())

    return _search(earned, (0.5 * (low + high), -0.2 * (high - low), 0.75), high - low)


def _search(earned: Callable[[Numbers], float], start: Numbers, unit: float) -> Numbers:
    """Nelder and Mead from a simplex a tenth of a unit wide."""

    def numbers(at: np.ndarray) -> Numbers:
        return float(at[0]), float(at[1]), float(at[2])

    def lost(at: np.ndarray) -> float:
        return -earned(numbers(at))

    simplex = np.array([start, *(np.array(start) + 0.1 * unit * row for row in np.eye(3))])
    found = fmin(
        lost,
        np.array(start),
        xtol=1e-4 * unit,
        ftol=1e-6 * unit,
        maxfun=200,
        disp=False,
        initial_simplex=simplex,
    )
    return numbers(np.asarray(found))
