"""A posted price, solved: the best price, what everybody does and gets, and the audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from edgepact.errors import InputError
from edgepact.fields import check_kind
from edgepact.files.stackelberg import GameFile, game_of
from edgepact.framework import Document, Json, Sheet
from edgepact.mechanisms.stackelberg.audit import Audit, audit_price, gains_over_staying_away
from edgepact.mechanisms.stackelberg.benchmarks import first_best, personalised
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.tables import DEVICES_SHOWN, NOBODY_LOSES, Shown, audit_sheet, decimals, figure, yes

BENCHMARKS = {
    "alone": "alone, no device takes part",
    "uniform_price": "one price for all (this result)",
    "personalised_prices": "a price for each device",
    "first_best": "first best, all surplus to the server",
}
"""What the server could earn by other rules, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSolution(Shown):
    """The exact answer to a market with one price per layer; devices in the order of the file.

    Attributes:
        price: credits per layer.
        server_utility: credits.
        layers: that each device runs.
        device_utility: credits.
        payments: to each device, credits.
        over_staying_away: what each device has beyond its utility without the server, credits.
        audit: whether the promises of a posted price are kept.
        benchmarks: the server's utility by the rules of `BENCHMARKS`, credits.
        names, alpha, capacity: of the devices, as the terms have them.
        integer: whether layers are whole.
    """

    price: float
    server_utility: float
    layers: Float[np.ndarray, " devices"]
    device_utility: Float[np.ndarray, " devices"]
    payments: Float[np.ndarray, " devices"]
    over_staying_away: Float[np.ndarray, " devices"]
    audit: Audit
    benchmarks: Mapping[str, float]
    names: tuple[str, ...]
    alpha: Float[np.ndarray, " devices"]
    capacity: Float[np.ndarray, " devices"]
    integer: bool

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the answer does not keep."""
        return self.audit.broken

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact solve --json`."""
        layers = self.layers.astype(int) if self.integer else self.layers
        return {
            "price": self.price,
            "server_utility": self.server_utility,
            "layers": layers.tolist(),
            "device_utility": self.device_utility.tolist(),
            "payments": self.payments.tolist(),
            "audit": self.audit.as_json() | {"lies_tried": self.audit.lies_tried},
            "benchmarks": dict(self.benchmarks),
            "over_staying_away": self.over_staying_away.tolist(),
            "names": list(self.names),
            "alpha": self.alpha.tolist(),
            "capacity": self.capacity.tolist(),
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The devices; what other rules would earn; the audit."""
        return self._devices(), self._benchmarks(), price_audit(self.audit)

    def _devices(self) -> Sheet:
        size, digits = len(self.names), 0 if self.integer else 4
        rows: list[tuple[str, ...]] = [
            (
                self.names[at],
                f"{self.alpha[at]:.4g}",
                f"{self.capacity[at]:.4g}",
                f"{self.layers[at]:.{digits}f}",
                f"{self.payments[at]:.4f}",
                f"{self.device_utility[at]:.4f}",
                decimals(self.over_staying_away[at]),
            )
            for at in range(min(size, DEVICES_SHOWN))
        ]
        if size > 1:
            of_all = (self.payments, self.device_utility, self.over_staying_away)
            totals = (decimals(np.sum(each)) for each in of_all)
            everybody = "all" if size <= DEVICES_SHOWN else f"all {size}"
            rows.append((everybody, "", "", f"{np.sum(self.layers):.{digits}f}", *totals))
        least = decimals(np.min(self.over_staying_away))
        notes = [f"The least a device gains over staying away is {least} credits."]
        if not np.any(self.layers):
            notes.append(
                "Nobody takes a layer at a price that is worth posting. If that is not meant: A, B "
                "and capacity are in one unit, such as GMAC, and price_max has to be high enough."
            )
        if size > DEVICES_SHOWN:
            notes.insert(
                0,
                f"Shown are the first {DEVICES_SHOWN} of {size} devices; the last row adds up all "
                f"{size}. --json has each.",
            )
        return Sheet(
            title=f"Best price {self.price:.6g} credits per layer; "
            f"server's utility {self.server_utility:.6g} credits",
            head=(
                *("device", "alpha", "capacity", "layers", "payment", "utility"),
                "over staying away",
            ),
            rows=tuple(rows),
            notes=tuple(notes),
        )

    def _benchmarks(self) -> Sheet:
        alone = self.benchmarks["alone"]
        return Sheet(
            title="What the server could earn",
            head=("rule", "server's utility", "over doing it alone"),
            rows=tuple(
                (BENCHMARKS[rule], f"{utility:.6g}", f"{utility - alone:+.6g}")
                for rule, utility in self.benchmarks.items()
            ),
        )


def price_audit(audit: Audit) -> Sheet:
    """The audit of a posted price."""
    return audit_sheet(
        (NOBODY_LOSES, yes(audit.individually_rational)),
        ("payments stay within the saving", yes(audit.budget_balanced)),
        (
            "largest gain from lying about own cost or computing power, alpha or capacity "
            f"({audit.lies_tried:,} lies tried)",
            f"at least {figure(audit.largest_gain_from_lying, 1.0, 4)} credits",
        ),
    )


def solve_market(market: GameFile) -> PriceSolution:
    """The price that is best for the server when everybody's costs are known, audited.

    Raises:
        InputError: the market has no finite solution in float64.
    """
    game, fleet = market.game, market.game.fleet
    with np.errstate(all="ignore"):  # what is not finite is refused below, in words
        best = equilibrium(game)
        benchmarks = {
            "alone": float(game.revenue - np.sum(game.saving) * game.layers_max),
            "uniform_price": float(best.server_utility),
            "personalised_prices": float(personalised(game).server_utility),
            "first_best": float(first_best(game).server_utility),
        }
        gains = np.asarray(gains_over_staying_away(game, best))
    results = (best.price, best.device_utility, best.payments, gains, *benchmarks.values())
    if not all(np.isfinite(each).all() for each in results):
        expected = "numbers whose sizes lie closer together"
        found = "a market without a finite solution in float64"
        raise InputError(market.source, "", expected, found)
    return PriceSolution(
        price=float(best.price),
        server_utility=float(best.server_utility),
        layers=np.asarray(best.layers),
        device_utility=np.asarray(best.device_utility),
        payments=np.asarray(best.payments),
        over_staying_away=gains,
        audit=audit_price(game, best),
        benchmarks=benchmarks,
        names=tuple(market.names),
        alpha=np.asarray(fleet.alpha),
        capacity=np.asarray(fleet.capacity),
        integer=game.integer,
    )


@dataclass(frozen=True, slots=True)
class Stackelberg:
    """The mechanism as a part: the server posts a price per layer, devices answer."""

    name: str = "stackelberg"
    about: str = "The server posts one price per layer, and each device answers with its layers."

    def read(self, source: Path, document: Document) -> GameFile:
        """The market that a file states."""
        return game_of(source, document)

    def solve(self, terms: Any) -> PriceSolution:
        """The equilibrium and its audit.

        Raises:
            InputError: these are no terms of a market.
        """
        check_kind("solve", "terms", terms, GameFile, "a market: a Game or a GameFile")
        return solve_market(terms)


STACKELBERG = Stackelberg()
