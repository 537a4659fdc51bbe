r"""Reserves learnt from past bids, by whose bids they are set.

Truthful in one round is not truthful over rounds. If a bidder's past bids set the reserve that it
meets later, it bids low for a while, loses little, and buys cheaply afterwards. So a bidder's
reserve is set by the past bids of all *others* (`leave_own_out`). Two ways to sell with a reserve
$r_i$ for each bidder then differ:

- *Eager*: bids below their reserve are struck out, the highest of the rest wins. A bidder still
  gains by raising others' reserves: with high bids it has rivals struck out later.
- *Lazy*: the highest bid wins if it reaches its own reserve; otherwise the item is kept. The
  winner pays the larger of its reserve and the second highest bid.

**Truthful over rounds.** Sold lazily, with reserves that leave own bids out, bidder $i$ buys where
it bids more than $\max(r_i, \max_{l \ne i} b_l)$ and pays just that. Nothing of it depends on a bid
that $i$ has ever made, so whatever the others bid, truth is best in every round and over all of
them together. (Rivals that answer to what it bid would be another matter, as in any auction.)
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from edgepact.errors import InputError

Reserves = Callable[
    [Float[np.ndarray, "*batch rounds bidders"]], Float[np.ndarray, "*batch bidders"]
]
"""Sets a reserve for each bidder from past bids."""

SHARE_MIN = 0.02
"""Least share of past bids at or above a learnt price: the few highest bids say little of it."""


def best_price(bids: Float[np.ndarray, "*batch bids"]) -> Float[np.ndarray, " *batch"]:
    """The price that would have earned most if posted to each of these bids, credits.

    Raises:
        InputError: there are no bids, or some are not numbers of at least 0.
    """
    count = bids.shape[-1]
    if count == 0:
        raise InputError("reserves", "bids", "at least one past bid", "none")
    if not np.all((bids >= 0.0) & np.isfinite(bids)):
        raise InputError("reserves", "bids", "numbers of at least 0", "others")
    ranked = -np.sort(-bids, axis=-1)
    reached = np.arange(1, count + 1)
    earned = np.where(reached >= SHARE_MIN * count, ranked * reached, -1.0)
    best = np.argmax(earned, axis=-1)[..., None]
    return np.asarray(np.take_along_axis(ranked, best, axis=-1)[..., 0])


def own(past: Float[np.ndarray, "*batch rounds bidders"]) -> Float[np.ndarray, "*batch bidders"]:
    """Every bidder's reserve from its own past bids: an invitation to lie."""
    return best_price(np.swapaxes(past, -1, -2))


def pooled(past: Float[np.ndarray, "*batch rounds bidders"]) -> Float[np.ndarray, "*batch bidders"]:
    """One reserve from the past bids of all: a smaller invitation."""
    price = best_price(past.reshape(*past.shape[:-2], -1))
    return np.repeat(price[..., None], past.shape[-1], axis=-1)


def leave_own_out(
    past: Float[np.ndarray, "*batch rounds bidders"],
) -> Float[np.ndarray, "*batch bidders"]:
    """Every bidder's reserve from the past bids of all others.

    Raises:
        InputError: there are no others, or as in `best_price`.
    """
    bidders = past.shape[-1]
    if bidders < 2:
        raise InputError("reserves", "bidders", "at least 2, to learn of one from others", bidders)
    reserves = []
    for bidder in range(bidders):
        others = np.delete(past, bidder, axis=-1)
        reserves.append(best_price(others.reshape(*past.shape[:-2], -1)))
    return np.stack(reserves, axis=-1)


def sell(
    reserves: Float[np.ndarray, "*batch bidders"],
    bids: Float[np.ndarray, "*batch bidders"],
    *,
    lazy: bool = True,
) -> tuple[Bool[np.ndarray, "*batch bidders"], Float[np.ndarray, "*batch bidders"]]:
    """Who wins one item and what everybody pays, credits. Of equal bids the first wins.

    Args:
        reserves: of each bidder, credits.
        bids: of each bidder, credits.
        lazy: whether the highest bid alone may win, or the highest of those that reach their
            reserve.
    """
    standing = bids if lazy else np.where(bids >= reserves, bids, -np.inf)
    first = np.argmax(standing, axis=-1)[..., None] == np.arange(bids.shape[-1])
    won = first & (bids >= reserves)
    rival = np.max(np.where(first, -np.inf, standing), axis=-1, keepdims=True)
    return won, np.where(won, np.maximum(reserves, rival), 0.0)
