"""A way to quote, such as the diffusion model in context, as a `Pricer` of live rounds.

The server knows what a layer that runs elsewhere saves it, the model, and what it may
post. Of the devices it sees what they committed to at past prices, and nothing else.
"""

from dataclasses import replace

import numpy as np

from edgepact.market.rounds import RoundResult
from edgepact.solvers.quotes import Known, Quoter, ask


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

    def __call__(self, history: list[RoundResult]) -> float:
        """The next price, in credits per layer and image.

        It is meant for the devices of the latest round: who has left answers no more,
        and of who is new nothing is known yet.
        """
        seen = [each for each in history if each.layers]
        names = sorted(seen[-1].layers) if seen else []
        known = replace(self._known, devices=len(names)) if names else self._known
        shape = (len(seen), known.devices)
        layers = np.array([[each.layers.get(name, 0) for name in names] for each in seen], float)
        present = np.array([[name in each.layers for name in names] for each in seen], bool)
        return ask(
            self._quoter,
            self._seed,
            known,
            np.array([each.price for each in seen]),
            layers.reshape(shape),
            present.reshape(shape),
            np.array([np.mean(list(each.layers.values())) for each in seen], float),
        )
