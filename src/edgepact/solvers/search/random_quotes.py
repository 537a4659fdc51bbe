"""Guessing: the rival that is worth 0 by the score."""

from dataclasses import dataclass

import numpy as np

from edgepact.solvers.quoter import Rival, Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomQuotes(Rival):
    """A price drawn log-uniformly from all that may be posted: the zero of the score."""

    def next_price(self, seen: Rounds) -> float:
        """A draw of its own for each round."""
        known = seen.known
        position = np.random.default_rng([seen.seed, len(seen)]).uniform()
        price = known.price_min * (known.price_max / known.price_min) ** position
        return float(min(max(price, known.price_min), known.price_max))
