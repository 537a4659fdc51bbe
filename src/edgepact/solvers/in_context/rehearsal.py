"""Quotes in context to a fleet that is given in full: what a live server would post.

The policy is told what is public (`Known.of_any`) and sees the devices' answers; the
private rest serves to answer for the devices and to score the quotes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.framework import Json, Sheet
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import Outcome
from edgepact.mechanisms.stackelberg.score import LEAST_SHARE, range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.solvers.in_context.pricing import InContext
from edgepact.solvers.quoter import Known
from edgepact.solvers.quoting import meet
from edgepact.tables import Shown

DEVICES_MAX = 100_000
"""Most devices quoted to: their answers in all rounds are held at once."""

DEVICES_SHOWN = 6
"""Most devices that have a column each in a sheet; the JSON has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted(Shown):
    """Rounds played with one fleet.

    Attributes:
        known: what the policy was told.
        rounds: prices of shape `(rounds)`, layers `(rounds, devices)`, utilities.
        best: the exact equilibrium.
        shares: of the range between a random price (0) and the exact optimum (1).
        integer: whether devices run whole layers.
        names: of the devices.
        notes: what was done about terms that quotes cannot follow, in sentences.
    """

    known: Known
    rounds: Outcome
    best: Outcome
    shares: Float[np.ndarray, " rounds"]
    integer: bool
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact quote --json`; layers in the order of `names`."""
        whole = int if self.integer else float
        rounds = zip(
            self.rounds.price,
            self.rounds.layers.astype(whole),
            self.rounds.server_utility,
            self.shares,
            strict=True,
        )
        return {
            "rounds": [
                {
                    "price": float(price),
                    "layers": row.tolist(),
                    "server_utility": float(utility),
                    "share": float(share),
                }
                for price, row, utility, share in rounds
            ],
            "optimum": {
                "price": float(self.best.price),
                "server_utility": float(self.best.server_utility),
                "share": 1.0,
                "layers": self.best.layers.astype(whole).tolist(),
            },
            "best_round": int(np.argmax(self.shares)) + 1,
            "names": list(self.names),
            "notes": list(self.notes),
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Rounds of quotes, what devices answered, and a sentence on how good that is."""
        number, shares = int(np.argmax(self.shares)), self.shares
        few = len(self.names) <= DEVICES_SHOWN
        meaning = (
            f"The best quote, in round {number + 1} of {len(shares)}, earned "
            f"{100.0 * float(shares[number]):.2f} % of what the exact optimum earns beyond prices "
            f"drawn at random; the last one {100.0 * float(shares[-1]):.2f} %. Quotes are made "
            "without seeing what is private to devices; the optimum sees it."
        )
        rows = [
            self._row(str(at + 1), self.rounds, at, float(share)) for at, share in enumerate(shares)
        ]
        quotes = Sheet(
            title="Prices posted without knowing the fleet",
            head=(
                *("round", "price"),
                *(self.names if few else ("layers, all devices",)),
                *("server's utility", "share of the range"),
            ),
            rows=(*rows, self._row("best", self.best, ..., 1.0)),
            notes=(meaning, *self.notes),
        )
        return (quotes,)

    def _row(
        self, label: str, of: Outcome, at: int | EllipsisType, share: float
    ) -> tuple[str, ...]:
        layers, digits = np.asarray(of.layers)[at], 0 if self.integer else 3
        shown = layers if len(self.names) <= DEVICES_SHOWN else [np.sum(layers)]
        return (
            label,
            f"{float(np.asarray(of.price)[at]):.5g}",
            *(f"{float(each):.{digits}f}" for each in shown),
            f"{float(np.asarray(of.server_utility)[at]):.6g}",
            f"{100.0 * share:.2f} %",
        )


def quoted(game: Game, *, rounds: int, seed: int, source: object, names: Sequence[str]) -> Quoted:
    """Plays rounds of in-context pricing with the policy that ships.

    Args:
        game: as NumPy arrays; devices may differ in A and B.
        rounds: to play.
        seed: of the noise that prices are drawn from.
        source: where the game stands, for errors.
        names: of the devices.

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
    return Quoted(
        known=known,
        rounds=met,
        best=best,
        shares=shares,
        integer=game.integer,
        names=tuple(names),
        notes=_notes(game, known),
    )


def _notes(game: Game, known: Known) -> tuple[str, ...]:
    notes = []
    if float(game.price_min) <= 0:
        low = known.price_min
        notes.append(
            f"Prices below {low:.4g} ({LEAST_SHARE:.1%} of a layer's saving) are not posted."
        )
    if np.ptp(game.fleet.A) > 0:
        notes.append("A layer saves different amounts on different devices; the mean was used.")
    return tuple(notes)
