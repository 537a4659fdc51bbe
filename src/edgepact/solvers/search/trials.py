"""Trial and error on one peak: searches that see the profit of each quote, and nothing else.

They look among the prices worth posting (up to what a layer saves the server), on a
logarithmic scale. A search is written as a generator that yields a position and is sent
its profit; a quote replays it over the rounds seen, so a quoter keeps no memory and its
quotes depend on nothing but the rounds.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from edgepact.solvers.quoter import Known, profits

Trials = Generator[float, float, None]
"""Yields positions in [0, 1], is sent profits, and ends when it has found enough."""


class Search(ABC):
    """Trial and error that ends, and keeps to its best quote from then on."""

    __slots__ = ()
    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False

    @abstractmethod
    def trials(self, rng: np.random.Generator) -> Trials:
        """The search itself."""

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
        present: Bool[np.ndarray, "rounds devices"] | None = None,
    ) -> float:
        """The next trial, or the best price seen once the search has ended."""
        seen = profits(known, prices, layers)
        trials = self.trials(np.random.default_rng(seed))
        try:
            position = next(trials)
            for profit in seen:
                position = trials.send(float(profit))
        except StopIteration:
            best = float(prices[int(np.argmax(seen))])
            return min(max(best, known.price_min), known.price_max)
        return known.price_at(position)
