"""Quotes in context to a fleet that is given in full: what a live server would post.

The policy is told what is public (`Known.of_any`) and sees the devices' answers; the
private rest serves to answer for the devices and to score the quotes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.optimum import Game, Outcome, equilibrium
from edgepact.mechanisms.stackelberg.score import range_of
from edgepact.solvers.in_context.pricing import InContext
from edgepact.solvers.quotes import Known, meet

DEVICES_MAX = 100_000
"""Most devices quoted to: their answers in all rounds are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """Rounds played with one fleet.

    Attributes:
        known: what the policy was told.
        rounds: prices of shape `(rounds)`, layers `(rounds, devices)`, utilities.
        best: the exact equilibrium.
        shares: of the range between a random price (0) and the exact optimum (1).
        integer: whether devices run whole layers.
    """

    known: Known
    rounds: Outcome
    best: Outcome
    shares: Float[np.ndarray, " rounds"]
    integer: bool

    def as_json(self) -> dict[str, Any]:
        """What `edgepact quote --json` prints; layers in the order of the file."""
        layers = self.rounds.layers.astype(int) if self.integer else self.rounds.layers
        return {
            "rounds": [
                {"price": float(price), "layers": row.tolist(), "server_utility": float(utility)}
                for price, row, utility in zip(
                    self.rounds.price, layers, self.rounds.server_utility, strict=True
                )
            ],
            "optimum": {
                "price": float(self.best.price),
                "server_utility": float(self.best.server_utility),
            },
        }


def quoted(game: Game, *, rounds: int, seed: int, source: object) -> Quoted:
    """Plays rounds of in-context pricing with the policy that ships.

    Args:
        game: as NumPy arrays; devices may differ in A and B.
        rounds: to play.
        seed: of the noise that prices are drawn from.
        source: where the game stands, for errors.

    Raises:
        InputError: no price above 0 is worth posting, there are too many devices, or
            the numbers lie too far apart for float64.
    """
    known = Known.of_any(game, source=source)
    if known.devices > DEVICES_MAX:
        raise InputError(source, "devices", f"at most {DEVICES_MAX} to quote to", known.devices)
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        met = meet(InContext.shipped(), game, known, rounds=rounds, seed=seed)
        best = equilibrium(game)
        shares = range_of(game).share(met.server_utility)
    results = (met.price, met.layers, met.server_utility, best.price, best.server_utility, shares)
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        raise InputError(source, "", expected, "a market without a finite solution in float64")
    return Quoted(known=known, rounds=met, best=best, shares=shares, integer=game.integer)
