"""Golden-section search (Kiefer 1953): shrinks a bracket around a peak."""

import math
from dataclasses import dataclass

import numpy as np

from edgepact.solvers.search.trials import Search, Trials

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSection(Search):
    """Shrinks a bracket by the golden ratio; right only where there is one peak.

    Args:
        tolerance: width of the bracket at which it ends, as a share of the scale.
    """

    tolerance: float = 0.02

    def trials(self, rng: np.random.Generator) -> Trials:
        """One quote a shrinking, after two to begin with."""
        low, high = 0.0, 1.0
        x, y = 1.0 - GOLDEN, GOLDEN
        at_x = yield x
        at_y = yield y
        while high - low > self.tolerance:
            if at_x > at_y:
                high, y, at_y = y, x, at_x
                x = high - GOLDEN * (high - low)
                at_x = yield x
            else:  # also where both are 0: nobody supplies yet
                low, x, at_x = x, y, at_y
                y = low + GOLDEN * (high - low)
                at_y = yield y
