"""Guessing: the rival that is worth 0 by the score."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from edgepact.solvers.quoter import Known, profits


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomQuotes:
    """A price drawn log-uniformly from all that may be posted: the zero of the score."""

    knows_form: ClassVar[bool] = False
    knows_absence: ClassVar[bool] = False

    def quote(
        self,
        seed: int,
        known: Known,
        prices: Float[np.ndarray, " rounds"],
        layers: Float[np.ndarray, "rounds devices"],
        present: Bool[np.ndarray, "rounds devices"] | None = None,
    ) -> float:
        """A draw of its own for each round."""
        profits(known, prices, layers)
        position = np.random.default_rng([seed, len(prices)]).uniform()
        price = known.price_min * (known.price_max / known.price_min) ** position
        return float(min(max(price, known.price_min), known.price_max))
