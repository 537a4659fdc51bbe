"""The best lie over a horizon, where reserves are learnt from past bids.

Rounds come in blocks. In the first there is no reserve; in each later one the reserves are set
from all bids of the block before. One bidder may lie in every block but the last, the others tell
the truth. It bids a share of its value, never more than a cap, or never less than a least bid:
low to lower the reserves it meets, high to raise those of its rivals. The best of these lies is
chosen on one half of the horizons, and what it brings is measured on the other.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.auction.learnt_reserves import Reserves, sell

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the value that are tried as bids."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
"""Quantiles of values that are tried as caps and as least bids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """What a bidder bids in every block but the last.

    Attributes:
        share: of its value.
        least, most: bids below and above are raised and lowered to these, credits.
    """

    share: float = 1.0
    least: float = 0.0
    most: float = math.inf

    def bids(self, values: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        """The bids, credits."""
        return np.clip(self.share * values, self.least, self.most)

    def __str__(self) -> str:
        if self == Lie():
            return "the truth"
        if self.share != 1.0:
            return f"{100.0 * self.share:.0f} % of the value"
        return f"never over {self.most:.2f}" if self.least == 0.0 else f"at least {self.least:.2f}"


class BestLie(NamedTuple):
    """What lying brings.

    Attributes:
        lie: the best that was found; the truth, if no lie pays.
        gain: what it brings the liar over the horizon, as a share of what truth earns it.
        error: standard error of that share.
        revenue: of the seller if all tell the truth, credits an auction.
        revenue_lied: if one tells that lie, credits an auction.
    """

    lie: Lie
    gain: float
    error: float
    revenue: float
    revenue_lied: float


def best_lie(
    reserves: Reserves, values: Float[np.ndarray, "horizons blocks rounds bidders"], *, lazy: bool
) -> BestLie:
    """Searches the best lie of the first bidder.

    Args:
        reserves: how they are learnt.
        values: of all bidders, credits; horizons are independent of each other.
        lazy: as in `learnt_reserves.sell`.

    Raises:
        InputError: fewer than 4 horizons or 2 blocks, so that nothing can be measured or learnt.
    """
    if values.shape[0] < 4 or values.shape[1] < 2:
        expected = "at least 4 horizons of at least 2 blocks"
        raise InputError("lies", "values", expected, f"{values.shape[0]} of {values.shape[1]}")
    half = len(values) // 2
    levels = np.quantile(values[:half, ..., 0], LEVELS)
    lies = [Lie(), *(Lie(share=share) for share in SHARES)]
    lies += [Lie(most=float(level)) for level in levels]
    lies += [Lie(least=float(level)) for level in levels]
    earned = [played(reserves, values[:half], lie, lazy=lazy)[0].mean() for lie in lies]
    best = lies[int(np.argmax(earned))]
    truth, revenue = played(reserves, values[half:], Lie(), lazy=lazy)
    lied, revenue_lied = played(reserves, values[half:], best, lazy=lazy)
    gain, scale = lied - truth, float(truth.mean())
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) / scale
    return BestLie(best, float(gain.mean()) / scale, error, revenue, revenue_lied)


def played(
    reserves: Reserves,
    values: Float[np.ndarray, "horizons blocks rounds bidders"],
    lie: Lie,
    *,
    lazy: bool,
) -> tuple[Float[np.ndarray, " horizons"], float]:
    """What the first bidder earns over each horizon, and revenue; credits an auction."""
    bids = values.copy()
    bids[:, :-1, :, 0] = lie.bids(values[:, :-1, :, 0])
    met = np.zeros((*values.shape[:2], 1, values.shape[3]))
    met[:, 1:, 0] = reserves(bids[:, :-1])
    won, paid = sell(np.broadcast_to(met, bids.shape), bids, lazy=lazy)
    utility = np.where(won, values, 0.0) - paid
    return utility[..., 0].mean(axis=(1, 2)), float(paid.sum(axis=-1).mean())
