"""A price for each step, quoted anew in each round by what finds prices from answers.

The server knows what a layer that runs elsewhere saves it, the model, and what it may post. Of
the devices it sees what they took at past prices, and nothing else.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgepact.credits import MICRO, PRICE_CREDITS_MAX, in_credits, in_microcredits
from edgepact.engagement import Answer, Finished, Item, Question, posted, taken
from edgepact.errors import MarketError
from edgepact.market.posted import price_in_microcredits
from edgepact.solvers.quoter import Known, Quoter, ask

ROUNDS_MAX = 1000
"""Rounds that are remembered."""


class QuotedPrice:
    """Quotes the next price from the rounds so far.

    Args:
        quoter: finds the price; one that is not told how devices decide.
        known: what the server knows; the number of devices is seen in each round.
        seed: of the noise that quotes are drawn from.
    """

    def __init__(self, quoter: Quoter, known: Known, seed: int) -> None:
        self._quoter = quoter
        self._known = known
        self._seed = seed
        self._seen: deque[tuple[float, dict[str, int]]] = deque(maxlen=ROUNDS_MAX)

    def question(self, round: int) -> Question:
        """The next price: a micro-credit at least, since nobody can learn from what 0 buys."""
        price = max(1, price_in_microcredits(self._quote()))
        return posted(price, self._known.layers_max)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Everybody for what it has taken."""
        return taken(question, answers)

    @property
    def price_bounds(self) -> tuple[float, float]:
        """Within which prices are quoted, credits."""
        return self._known.price_min, self._known.price_max

    def bound_prices(self, low: float, high: float) -> None:
        """Quotes within other bounds from the next round on.

        Raises:
            MarketError: they are none.
        """
        if not (1 <= in_microcredits(low) < in_microcredits(high) and high <= PRICE_CREDITS_MAX):
            raise MarketError(
                f"expected bounds of whole micro-credits, from {1 / MICRO:g} to "
                f"{PRICE_CREDITS_MAX:g} credits, the first below the second, found {low:g} and "
                f"{high:g}"
            )
        self._known = replace(self._known, price_min=low, price_max=high)

    def worth(self, amount: float) -> float:
        """What a unit saves the server when devices do so much of it, credits."""
        return self._known.saving * amount

    def observe(self, finished: Finished) -> None:
        """Remembers who took how much at which price; a round that nobody answered, or in which
        nothing was offered, tells nothing."""
        price = finished.question.price_microcredits
        if price and finished.answers:
            layers = {
                name: int(finished.assigned[name].amount) if name in finished.assigned else 0
                for name in finished.answers
            }
            self._seen.append((in_credits(price), layers))

    def _quote(self) -> float:
        """Credits per layer and unit.

        Meant for the devices of the latest round: who has left answers no more, and of who is
        new nothing is known yet.
        """
        names = sorted(self._seen[-1][1]) if self._seen else []
        known = replace(self._known, devices=len(names)) if names else self._known
        shape = (len(self._seen), known.devices)
        layers = [[each.get(name, 0) for name in names] for _, each in self._seen]
        present = [[name in each for name in names] for _, each in self._seen]
        return ask(
            self._quoter,
            self._seed,
            known,
            np.array([price for price, _ in self._seen]),
            np.array(layers, float).reshape(shape),
            np.array(present, bool).reshape(shape),
            np.array([np.mean(list(each.values())) for _, each in self._seen], float),
        )
