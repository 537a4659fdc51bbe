"""Most value for a budget, at one price per unit of value (Singer 2010)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.mechanisms.auction.terms import Auction, Award, check_budget, check_values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProportionalShare(Auction):
    r"""Most value for a budget: everybody who wins is paid one price per unit of value.

    In the order of $r_i = b_i / v_i$ the first $k$ win, with the largest $k$ such that a share
    of the budget in proportion to $v$ covers every winner's bid: $r_k \le B / V_k$,
    $V_k = v_1 + \dots + v_k$. The price is $\min(B / V_k, r_{k+1})$, which makes $v_i$ times it
    each winner's threshold and keeps payments within $B$ (Singer 2010). O(n log n).

    The value bought is at least half of what the whole budget could buy from bidders that
    are paid just their costs and take part in fractions, less half the largest value.

    Among equal ratios the first in order wins; a winner beside a loser of the same ratio is
    paid its bid, so neither has anything to gain.

    Attributes:
        values: v, above 0, shape `bidders`.
        budget: B, credits.
    """

    values: Float[np.ndarray, " bidders"]
    budget: float

    def __post_init__(self) -> None:
        check_values(self.values)
        check_budget(self.budget)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n log n)."""
        bids = self._checked(bids)
        ratio = bids / self.values
        order = np.argsort(ratio, axis=-1, kind="stable")
        ranked = np.take_along_axis(ratio, order, axis=-1)
        price = self.budget / np.cumsum(np.asarray(self.values)[order], axis=-1)
        # `ranked` rises and `price` falls, in floats too, so those who can be paid come first.
        winners = np.count_nonzero(ranked <= price, axis=-1, keepdims=True)
        shared = np.take_along_axis(price, np.maximum(winners - 1, 0), axis=-1)
        ranked = np.append(ranked, np.full((*ranked.shape[:-1], 1), np.inf), axis=-1)
        unit = np.minimum(shared, np.take_along_axis(ranked, winners, axis=-1))
        unit = np.where(winners > 0, unit, 0.0)
        wins = np.zeros(bids.shape, bool)
        np.put_along_axis(wins, order, np.arange(bids.shape[-1]) < winners, axis=-1)
        paid = np.where(wins, unit * self.values, 0.0)
        total = np.sum(paid, axis=-1, keepdims=True)
        if np.any(total > self.budget):  # by rounding of a long sum; the budget is a promise
            less = np.divide(
                self.budget, total, out=np.ones(total.shape), where=total > self.budget
            )
            unit = np.where(total > self.budget, unit * less * (1.0 - 1e-14), unit)
            paid = np.where(wins, unit * self.values, 0.0)
        return Award(wins=wins, payments=paid, unit_price=unit[..., 0])

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Every rival's ratio, and the price when the j best of the rivals win beside it."""
        bids = self._checked(bids)
        size = bids.shape[-1]
        ratio = bids / self.values
        order = np.argsort(ratio, axis=-1, kind="stable")
        ranked = np.asarray(self.values)[order]
        own = order[..., None, :] == np.arange(size)[:, None]
        rivals = np.cumsum(np.where(own, 0.0, ranked[..., None, :]), axis=-1)
        values = np.asarray(self.values)[:, None]
        shares = self.budget / (rivals + values)
        beside = np.broadcast_to(ratio[..., None, :], shares.shape)
        alone = np.full((*bids.shape, 1), self.budget)
        return np.concatenate([values * shares, values * beside, alone], axis=-1)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """What is left of the budget."""
        return np.asarray(self.budget - np.sum(award.payments, axis=-1))
