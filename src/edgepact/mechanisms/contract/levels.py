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

import numpy as np
from jaxtyping import Float

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
    place = np.arange(size)
    block = np.zeros(size, int) if ordered else place
    below, above = np.full(size, low), np.full(size, high)
    level = below
    for halving in range(HALVINGS):
        first = np.flatnonzero(np.diff(block, prepend=-1))
        number = np.cumsum(np.diff(block, prepend=-1) != 0) - 1
        upper = slope(level)
        if ordered:
            total = np.append(np.cumsum(upper[::-1])[::-1], 0.0)
            end = np.append(first[1:], size)[number]
            with np.errstate(invalid="ignore"):
                # An infinite slope, at level 0 alone, belongs to the one block there is.
                upper = total[:-1] - total[end]
        most = np.maximum.reduceat(upper, first)
        start = np.minimum.reduceat(np.where(upper == most[number], place, size), first)
        rises = (place >= start[number]) & (most[number] >= 0.0)
        if halving == 0:  # the first question is about the lowest level
            above = np.where(rises, above, low)
        else:
            below, above = np.where(rises, level, below), np.where(rises, above, level)
        block = 2 * number + rises
        level = 0.5 * (below + above)
        if np.all((level == below) | (level == above)):
            break
    return above
