"""Most welfare with at most so many winners, each paid what it adds (Vickrey, Clarke, Groves)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.mechanisms.auction.best_scores import best_scores
from edgepact.mechanisms.auction.terms import Auction, Award, check_count, check_values, value_left


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vcg(Auction):
    r"""Most welfare $\sum (v_i - b_i)$ with at most K winners; each is paid what it adds.

    The K best of $s_i = v_i - b_i > 0$ win and are paid $v_i - \max(s_{K+1}, 0)$
    (Vickrey 1961, Clarke 1971, Groves 1973). O(n).

    Attributes:
        values: v, above 0, shape `bidders`.
        winners_max: K.
    """

    values: Float[np.ndarray, " bidders"]
    winners_max: int

    def __post_init__(self) -> None:
        check_values(self.values)
        check_count("winners_max", self.winners_max)

    @property
    def bidders(self) -> int | None:
        """As many as values."""
        return len(self.values)

    def award(self, bids: Float[np.ndarray, "*batch bidders"]) -> Award:
        """See `Auction.award`; O(n)."""
        top = best_scores(self.values - self._checked(bids), self.winners_max)
        return Award(wins=top.wins, payments=np.where(top.wins, self.values - top.bar, 0.0))

    def critical_bids(
        self, bids: Float[np.ndarray, "*batch bidders"]
    ) -> Float[np.ndarray, "*batch bidders points"]:
        """Bids that score as each rival does, and the one that scores 0."""
        bids = self._checked(bids)
        same = np.asarray(self.values)[:, None] - (self.values - bids)[..., None, :]
        zero = np.broadcast_to(np.asarray(self.values), bids.shape)[..., None]
        return np.maximum(np.concatenate([same, zero], axis=-1), 0.0)

    def spare(self, award: Award) -> Float[np.ndarray, "*batch"]:
        """The value bought less the payments."""
        return value_left(self.values, award)
