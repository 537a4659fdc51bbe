"""The few best of many scores, and how low a winner's may fall: what most rules share."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Top:
    """The best scores of each auction.

    Attributes:
        wins: the K best of those above 0; of equal ones the first in order.
        bar: best score left out, at least 0; shape `*batch 1`.
        wins_ties: whether a winner would still win if its score were just the bar.
    """

    wins: Bool[np.ndarray, "*batch bidders"]
    bar: Float[np.ndarray, "*batch 1"]
    wins_ties: Bool[np.ndarray, "*batch bidders"]


def best_scores(
    scores: Float[np.ndarray, "*batch bidders"], winners_max: int, *, zero_wins: bool = False
) -> Top:
    """The best scores, in O(n): a partition, not a sort.

    Args:
        scores: of each bidder; minus infinity cannot win.
        winners_max: K.
        zero_wins: whether a score of 0 may win.
    """
    size = scores.shape[-1]
    able = (scores >= 0.0 if zero_wins else scores > 0.0) & (scores > -np.inf)
    held = np.where(able, scores, -np.inf)
    if winners_max >= size:
        bar = np.zeros((*scores.shape[:-1], 1))
        return Top(wins=able, bar=bar, wins_ties=able & zero_wins)
    cut = size - winners_max
    parted = np.partition(held, (cut - 1, cut), axis=-1)
    last, left_out = parted[..., cut, None], parted[..., cut - 1, None]
    tied = (held == last) & able
    surely = held > last
    room = winners_max - np.count_nonzero(surely, axis=-1, keepdims=True)
    wins = surely | (tied & (np.cumsum(tied, axis=-1) <= room))
    # A winner that scored just the bar would stand among those that do, in order: it stays in
    # if few enough of them come before it.
    at_bar = held == left_out
    over_bar = held > left_out
    earlier = np.cumsum(at_bar, axis=-1)
    free = winners_max - np.count_nonzero(over_bar, axis=-1, keepdims=True)
    rivals = np.where(over_bar, earlier <= free, wins)
    wins_ties = np.where(left_out > -np.inf, rivals, zero_wins)
    return Top(wins=wins, bar=np.maximum(left_out, 0.0), wins_ties=wins & wins_ties)
