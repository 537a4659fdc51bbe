"""Trial and error on one peak: searches that see the profit of each quote, and nothing else.

They look among the prices worth posting (up to what a layer saves the server), on a
logarithmic scale. A search is written as a generator that yields a position and is sent
its profit; a quote replays it over the rounds seen, so a quoter keeps no memory and its
quotes depend on nothing but the rounds.
"""

from abc import abstractmethod
from collections.abc import Generator

import numpy as np

from edgepact.solvers.quoter import Rival, Rounds

Trials = Generator[float, float, None]
"""Yields positions in [0, 1], is sent profits, and ends when it has found enough."""


class Search(Rival):
    """Trial and error that ends, and keeps to its best quote from then on."""

    __slots__ = ()

    @abstractmethod
    def trials(self, rng: np.random.Generator) -> Trials:
        """The search itself."""

    def next_price(self, seen: Rounds) -> float:
        """The next trial, or the best price seen once the search has ended."""
        known = seen.known
        trials = self.trials(np.random.default_rng(seen.seed))
        try:
            position = next(trials)
            for profit in seen.profits:
                position = trials.send(float(profit))
        except StopIteration:
            best = float(seen.prices[int(np.argmax(seen.profits))])
            return min(max(best, known.price_min), known.price_max)
        return known.price_at(position)
