"""Most profit in expectation over the bidders' priors (Myerson 1981, as a buyer)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.mechanisms.auction.best_scores import best_scores
from edgepact.mechanisms.auction.terms import Auction, Award, check_count, check_values, value_left
from edgepact.mechanisms.auction.virtual_cost import VirtualCost, by_virtual_cost, check_virtual


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OptimalProcurement(Auction):
    r"""Most profit in expectation over the bidders' priors, with at most K winners.

    The K best of $v_i - \varphi_i(b_i) > 0$ win, with the ironed virtual cost $\varphi_i$ in
    place of the bid, and are paid their thresholds, at most the top of their support
    (Myerson 1981). On an ironed stretch all costs are treated alike; ties go to the first in
    order, and thresholds respect that. Bids above the support lose. O(n).

    Attributes:
        values: v, above 0, shape `bidders`.
        virtual: of all bidders, or one for each; `virtual_cost.virtual_cost` makes them.
        winners_max: K.
    """

    values: Float[np.ndarray, " bidders"]
    virtual: VirtualCost | Sequence[VirtualCost]
    winners_max: int

    def __post_init__(self) -> None:
        check_values(self.values)
        check_virtual(self.virtual, len(self.values))
        check_count("winners_max", self.winners_max)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        bids = self._checked(bids)
        top = best_scores(self._score(bids), self.winners_max)
        paid = np.zeros(bids.shape)
        for virtual, own in by_virtual_cost(self.virtual, len(self.values)):
            part, columns = top.wins[..., own], np.broadcast_to(self.values, bids.shape)[..., own]
            bar = np.broadcast_to(top.bar, bids.shape)[..., own]
            threshold = np.zeros(part.shape)
            threshold[part] = virtual.threshold(
                columns[part], bar[part], top.wins_ties[..., own][part]
            )
            paid[..., own] = threshold
        return Award(wins=top.wins, payments=paid)

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids that score as each rival or 0 does, both ends where many do; ends of support."""
        bids = self._checked(bids)
        score = np.maximum(self._score(bids), 0.0)
        rivals = np.broadcast_to(score[..., None, :], (*bids.shape, bids.shape[-1]))
        bar = np.append(rivals, np.zeros((*bids.shape, 1)), axis=-1)
        values = np.broadcast_to(np.asarray(self.values)[:, None], bar.shape)
        found = np.zeros((*bids.shape, 2 * bar.shape[-1] + 2))
        for virtual, own in by_virtual_cost(self.virtual, len(self.values)):
            v, s = values[..., own, :], bar[..., own, :]
            for at, ties in enumerate((False, True)):
                ends = virtual.threshold(v.ravel(), s.ravel(), np.full(s.size, ties))
                found[..., own, at : 2 * s.shape[-1] : 2] = ends.reshape(s.shape)
            found[..., own, -2:] = virtual.cost[[0, -1]]
        return np.maximum(found, 0.0)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The value bought less the payments."""
        return value_left(self.values, award)

    def _score(self, bids: np.ndarray) -> np.ndarray:
        score = np.empty(bids.shape)
        for virtual, own in by_virtual_cost(self.virtual, len(self.values)):
            score[..., own] = np.asarray(self.values)[own] - virtual.at(bids[..., own])
        return score
