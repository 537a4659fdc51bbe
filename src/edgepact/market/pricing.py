"""The in-context diffusion model as a `Pricer` of live rounds.

The server knows what a layer that runs elsewhere saves it, the model, and what it may
post. Of the devices it sees what they committed to at past prices, and nothing else.
"""

from dataclasses import replace

import numpy as np

from edgepact.market.rounds import RoundResult
from edgepact.solvers.quotes import Known
from edgepact.solvers.quoting import InContext


class QuotedPrice:
    """Quotes the next price from the rounds so far.

    Args:
        quoter: the trained policy.
        known: what the server knows; the number of devices is seen in each round.
        seed: of the noise that quotes are drawn from.
    """

    def __init__(self, quoter: InContext, known: Known, seed: int) -> None:
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
        shape = (len(seen), len(names))
        layers = np.array([[each.layers.get(name, 0) for name in names] for each in seen], float)
        present = np.array([[name in each.layers for name in names] for each in seen], bool)
        return self._quoter.quote(
            self._seed,
            replace(self._known, devices=len(names)) if names else self._known,
            np.array([each.price for each in seen]),
            layers.reshape(shape) if names else np.empty((0, self._known.devices)),
            present.reshape(shape) if names else np.empty((0, self._known.devices), bool),
        )
