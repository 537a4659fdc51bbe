"""Fleets as they come: unlike those that anything here was trained on.

20 to 200 devices, costs that differ by a lognormal, capacities of a few layers or of many, and
models of 12 or 24 layers. Devices of one fleet have nothing in common but that.
"""

from dataclasses import replace

import numpy as np

from edgepact.fleet import Fleet
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.quoting import REFERENCE

DEVICES = (20, 200)
"""Fewest and most devices."""

ALPHA = (1.3, 0.8)
"""Mean and standard deviation of the logarithm of alpha."""

CAPACITY = (4.0, 22.0)
"""Ends of the range that capacities are uniform on."""

LAYERS = (12, 24)
"""Numbers of layers of the model."""


def odd_fleets(
    seed: int,
    fleets: int,
    *,
    layers_max: int,
    integer: bool,
    devices: tuple[int, int] = DEVICES,
) -> list[Game]:
    """Games with odd fleets; one seed gives the same devices whatever the layers.

    Args:
        seed: draws them; no training uses it.
        fleets: number of games.
        layers_max: layers of the model.
        integer: whether devices run whole layers.
        devices: fewest and most of a fleet.
    """
    prior = replace(REFERENCE, layers_max=layers_max)
    rng = np.random.default_rng(seed)
    games = []
    for _ in range(fleets):
        number = int(rng.integers(devices[0], devices[1] + 1))
        fleet = Fleet(
            alpha=np.exp(ALPHA[0] + ALPHA[1] * rng.standard_normal(number)),
            capacity=rng.uniform(*CAPACITY, number),
            A=np.full(number, prior.A),
            B=np.full(number, prior.B),
        )
        games.append(prior.game(fleet, integer=integer))
    return games
