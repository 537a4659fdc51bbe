r"""Rising levels that maximise a sum of concave functions, without pooling by comparison.

Given concave $f_1, \dots, f_K$ on $[0, \bar t]$, find $t_1 \le \dots \le t_K$ that maximise
$\sum_k f_k(t_k)$. Joining neighbours in the wrong order until none is left does it (Best,
Chakravarti and Ubhaya 2000), but there whether two blocks are joined hangs on comparing two
computed optima, which rounding can turn around. Here levels are asked for instead: at a level
$t$, the types that stand above it are those from $m$ on with the largest $\sum_{k \ge m} f_k'(t)$
(maximum upper sets; Robertson, Wright and Dykstra 1988, ch. 1). Halving the range of each block
that is still together finds all levels at once. Types that belong together are never separated,
so they end on the same float, and levels rise by construction.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

HALVINGS = 100
"""Most halvings; a range of floats is exhausted before, unless the level is next to nothing."""


def rising_levels(
    slope: Callable[[Float[np.ndarray, " types"]], Float[np.ndarray, " types"]],
    size: int,
    low: float,
    high: float,
    *,
    ordered: bool = True,
) -> Float[np.ndarray, " types"]:
    """The largest of the best levels.

    Args:
        slope: of each function at a level of its own, from the right; falling, and finite above
            `low`. A factor of all slopes at one level is free.
        size: K.
        low, high: range of levels.
        ordered: whether levels have to rise; otherwise each is the best of its own function.
    """
    below, above = np.full(size, low), np.full(size, high)
    blocks = _Blocks.one(size)
    level = below
    for halving in range(HALVINGS):
        upper = slope(level)
        rises = blocks.upper_set(upper) if ordered else upper >= 0.0
        if halving == 0:  # the first question is about the lowest level
            above = np.where(rises, above, low)
        else:
            below, above = np.where(rises, level, below), np.where(rises, above, level)
        if ordered:
            blocks = blocks.split(rises)
        level = 0.5 * (below + above)
        if np.all((level == below) | (level == above)):
            break
    return above


class _Blocks(NamedTuple):
    """Neighbours that are still together: their first places, and the block of each place."""

    first: Int[np.ndarray, " blocks"]
    number: Int[np.ndarray, " types"]

    @staticmethod
    def one(size: int) -> "_Blocks":
        return _Blocks(np.zeros(1, int), np.zeros(size, int))

    def upper_set(self, slope: np.ndarray) -> np.ndarray:
        """In each block the last ones with the largest sum of slopes, most of them, if not < 0."""
        size, first, number = len(self.number), self.first, self.number
        total = np.zeros(size + 1)
        total[:-1] = np.cumsum(slope[::-1])[::-1]
        if len(first) > 1:  # an infinite slope, at the lowest level, belongs to the one block
            end = np.empty(len(first), int)
            end[:-1], end[-1] = first[1:], size
            own = total[:-1] - total[end[number]]
        else:
            own = total[:-1]
        most = np.maximum.reduceat(own, first)
        place = np.arange(size)
        start = np.minimum.reduceat(np.where(own == most[number], place, size), first)
        return np.asarray((place >= start[number]) & (most[number] >= 0.0))

    def split(self, rises: np.ndarray) -> "_Blocks":
        """Where some of a block rise and others do not."""
        apart = (rises[1:] != rises[:-1]) & (self.number[1:] == self.number[:-1])
        if not apart.any():
            return self
        begins = np.zeros(len(rises), bool)
        begins[self.first] = True
        begins[1:] |= apart
        return _Blocks(np.flatnonzero(begins), np.cumsum(begins) - 1)
