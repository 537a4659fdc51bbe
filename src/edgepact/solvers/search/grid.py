"""A grid of prices, from coarse to fine."""

from dataclasses import dataclass

import numpy as np

from edgepact.solvers.search.trials import Search, Trials


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSearch(Search):
    """Tries a grid, the middle first and then always where the largest gap is.

    Args:
        points: of the grid; after them the best is kept.
    """

    points: int = 8

    def trials(self, rng: np.random.Generator) -> Trials:
        """From coarse to fine."""
        left = [(index + 0.5) / self.points for index in range(self.points)]
        tried = [left.pop(self.points // 2)]
        yield tried[0]
        while left:
            # Of equal gaps the higher price: devices enter there rather than leave.
            gaps = [(min(abs(x - y) for y in tried), x) for x in left]
            tried.append(max(gaps)[1])
            left.remove(tried[-1])
            yield tried[-1]
