r"""Selling computing: so many units, one for each bidder, and a reserve price.

A server has $m$ equal units, each of which costs it $c_0$; bidder $i$ values one at $w_i \sim F$,
unit and no more. The seller's best auction sells to the $m$ highest virtual values
$\varphi(w) = w - (1 - F(w))/f(w)$ that reach $c_0$ (Myerson 1981). If $\varphi$ rises, those are
the $m$ highest bids from the *reserve* $r = \varphi^{-1}(c_0)$ on, and each pays the larger of $r$
and the highest losing bid. If it does not, it is ironed, and bids on an ironed stretch are
treated alike: the first in order wins.

The same code as for buying, since a value $w$ is a cost of $-w$.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.auction.best_scores import best_scores
from edgepact.mechanisms.auction.terms import Auction, Award, check_count
from edgepact.mechanisms.auction.virtual_cost import VirtualCost


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReserveAuction(Auction):
    """The auction that earns a seller most in expectation. O(n).

    Attributes:
        virtual: of all bidders' values; `virtual_cost.virtual_value` makes it.
        units: m.
        unit_cost: what a sold unit costs the seller, credits.

    Raises:
        InputError: something is out of range.
    """

    virtual: VirtualCost
    units: int
    unit_cost: float = 0.0

    def __post_init__(self) -> None:
        check_count("units", self.units)
        if not 0.0 <= self.unit_cost < np.inf:
            raise InputError("auction", "unit_cost", "a number of at least 0", self.unit_cost)

    @property
    def sells(self) -> bool:
        """It does."""
        return True

    @property
    def bidders(self) -> int | None:
        """Any number."""
        return None

    @property
    def reserve(self) -> float:
        """The lowest bid that can win, credits."""
        return float(self._lowest(np.zeros(1), np.ones(1, bool))[0])

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        bids = self._checked(bids)
        top = best_scores(self._score(bids), self.units, zero_wins=True)
        bar = np.broadcast_to(top.bar, bids.shape)
        paid = np.zeros(bids.shape)
        paid[top.wins] = self._lowest(bar[top.wins], top.wins_ties[top.wins])
        return Award(wins=top.wins, payments=paid)

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids that score as each rival does, both ends where many do; reserve and support."""
        bids = self._checked(bids)
        bar = np.maximum(self._score(bids), 0.0)
        points = [
            self._lowest(bar.ravel(), np.full(bar.size, ties)).reshape(bar.shape)
            for ties in (False, True)
        ]
        fixed = np.array([self.reserve, -self.virtual.cost[-1], -self.virtual.cost[0]])
        points += [bids, np.broadcast_to(fixed, (*bids.shape[:-1], 3))]
        joined = np.maximum(np.concatenate(points, axis=-1), 0.0)[..., None, :]
        return np.broadcast_to(joined, (*bids.shape, joined.shape[-1]))

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """Revenue less the cost of the units sold."""
        gain = np.where(award.wins, award.payments - self.unit_cost, 0.0)
        return np.asarray(np.sum(gain, axis=-1))

    def _score(self, bids: np.ndarray) -> np.ndarray:
        """Virtual value less the unit's cost."""
        return -self.unit_cost - self.virtual.at(-bids)

    def _lowest(self, bar: np.ndarray, wins_ties: np.ndarray) -> np.ndarray:
        """The lowest bid that beats a bar."""
        value = np.full(len(bar), -self.unit_cost)
        # A bid below 0 is none, even if the prior holds values below 0 possible.
        return np.maximum(-self.virtual.threshold(value, bar, wins_ties), 0.0)
