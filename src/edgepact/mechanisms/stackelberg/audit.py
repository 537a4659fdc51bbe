"""Does a mechanism keep its promises? Measured on a result, not assumed.

*Individually rational*: nobody is worse off than by taking no part.
*Budget balanced*: the server pays no more than the computing it saves.
*Gain from lying*: if the price were computed from what the devices report about
themselves, how much the best lie found would bring a device. A uniform price is
not truthful; the gain falls about as one over the number of devices.

A posted price promises the first two. Where the lowest price that may be posted is too high for
the server, it cannot keep them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from edgepact.fleet import Array, Fleet
from edgepact.mechanisms.promises import Promise, broken
from edgepact.mechanisms.stackelberg.optimum import candidates, equilibrium
from edgepact.mechanisms.stackelberg.responses import Outcome, best_response, outcome, settle
from edgepact.mechanisms.stackelberg.terms import Game

PROMISES = (Promise.INDIVIDUALLY_RATIONAL, Promise.BUDGET_BALANCED)
"""What every posted price has to keep."""

DEVICES_MAX = 8
"""Most devices for which lies are searched."""

CROWD = 2000
"""Fleet size from which one device hardly moves the price."""

REACH = 1000.0
"""Lies scale alpha or W by up to this factor, and down to its inverse."""

COARSE, STARTS, ZOOMS, FINE = 80, 3, 3, 8
"""Factors tried first; then from the best few of them, so many rounds of so many nearby."""

TOLERANCE = 1e-9
"""Relative slack for rounding in comparisons of utilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found.

    Attributes:
        individually_rational: no device and not the server is worse off than without them.
        budget_balanced: payments stay within the saving they buy.
        largest_gain_from_lying: credits; a lower bound, since a search found it.
        lies_tried: how many lies the search weighed.
    """

    individually_rational: bool
    budget_balanced: bool
    largest_gain_from_lying: float
    lies_tried: int

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that do not hold, in words."""
        return broken(self, PROMISES)

    def as_json(self) -> dict[str, bool | float]:
        """The keys of `edgepact solve --json`."""
        return {
            "individually_rational": self.individually_rational,
            "budget_balanced": self.budget_balanced,
            "largest_gain_from_lying": self.largest_gain_from_lying,
        }


def audit_price(game: Game, result: Outcome) -> Audit:
    """Audits a uniform price and the layers it led to (NumPy arrays)."""
    idle = _idle(game, result)
    slack = TOLERANCE * (1.0 + np.max(np.abs(idle.device_utility)))
    devices_gain = np.all(result.device_utility >= idle.device_utility - slack)
    server_slack = TOLERANCE * (1.0 + abs(float(idle.server_utility)))
    server_gains = result.server_utility >= idle.server_utility - server_slack
    saved = float(np.sum(game.saving * result.layers))
    paid = float(np.sum(result.payments))
    gain, tried = largest_gain_from_lying(game, result)
    return Audit(
        individually_rational=bool(devices_gain and server_gains),
        budget_balanced=paid <= saved + TOLERANCE * (1.0 + saved),
        largest_gain_from_lying=gain,
        lies_tried=tried,
    )


def gains_over_staying_away(game: Game, result: Outcome) -> Array:
    """What each device has beyond its utility at no layers and no pay, credits, shape `devices`.

    A utility counts what a device keeps for itself, whose worth may be negative: whether taking
    part is worth it shows here.
    """
    return result.device_utility - _idle(game, result).device_utility


def _idle(game: Game, result: Outcome) -> Outcome:
    return settle(game, result.price, np.zeros_like(game.fleet.A))


def largest_gain_from_lying(game: Game, result: Outcome) -> tuple[float, int]:
    """Searches lies about alpha and W; returns the best gain and the lies tried.

    The liar answers the price its report led to with its true best response.
    Each lie scales alpha or W of one device. Of many devices those are searched
    that supply most, which gain most from a higher price, and those that value
    their computing most.
    """
    price_after = _price_in_crowd(game) if len(game.fleet) >= CROWD else _price_by_solving(game)
    suppliers = np.argsort(-result.layers, kind="stable")[: DEVICES_MAX - 2]
    keenest = np.argsort(-game.fleet.alpha, kind="stable")[:2]
    best, tried = 0.0, 0
    for device in dict.fromkeys([*suppliers.tolist(), *keenest.tolist()]):
        only = jax.tree.map(lambda column, at=device: column[at : at + 1], game.fleet)
        link = None if game.link is None else game.link[device : device + 1]
        alone = replace(game, fleet=only, link=link)
        for report in ("alpha", "capacity"):

            def gain(factor: float) -> float:
                told = _told(only, report, factor)  # noqa: B023
                answer = outcome(alone, price_after(device, alone, told))  # noqa: B023
                return float(answer.device_utility[0] - result.device_utility[device])  # noqa: B023

            found, lies = _climb(gain)
            best, tried = max(best, found), tried + lies
    return best, tried


def _told(fleet: Fleet, report: str, factor: float) -> Fleet:
    """What a liar says of itself."""
    alpha, capacity = fleet.alpha, fleet.capacity
    if report == "alpha":
        return Fleet.derived(alpha * factor, capacity, fleet.A, fleet.B)
    return Fleet.derived(alpha, capacity * factor, fleet.A, fleet.B)


def _climb(gain: Callable[[float], float]) -> tuple[float, int]:
    """The largest gain found over all factors, and the number tried."""
    lies = np.geomspace(1.0 / REACH, REACH, COARSE)
    gains = [gain(lie) for lie in lies]
    best, tried = max(gains), COARSE
    # The most profitable lie often lies next to one that goes too far, so the
    # neighbourhoods of several good ones are searched.
    for start in np.argsort(-np.array(gains), kind="stable")[:STARTS]:
        around, step = float(lies[start]), float(lies[1] / lies[0])
        for _ in range(ZOOMS):
            near = np.geomspace(max(around / step, lies[0]), min(around * step, lies[-1]), FINE)
            gains = [gain(lie) for lie in near]
            around, step = float(near[int(np.argmax(gains))]), step ** (2.0 / FINE)
            best, tried = max(best, *gains), tried + FINE
    return best, tried


PriceAfter = Callable[[int, Game, Fleet], Any]
"""Price posted when a device, alone in a game, reports the given fleet of one."""


def _price_by_solving(game: Game) -> PriceAfter:
    def price_after(device: int, alone: Game, told: Fleet) -> Any:
        def put(column: Array, value: Array) -> Array:
            column = np.array(column)
            column[device] = value[0]
            return column

        fleet = jax.tree.map(put, game.fleet, told)
        return equilibrium(replace(game, fleet=fleet)).price

    return price_after


def _price_in_crowd(game: Game) -> PriceAfter:
    """Among many devices one lie can only move the price to another near-optimal one.

    A device changes the server's profit by at most its saving on all layers, so
    prices further below the optimum than twice that need not be looked at, and
    in a crowd breakpoints are so dense that no others are needed.
    """
    reach = 2.0 * game.saving.max() * game.layers_max
    prices, profits = candidates(game, below_best=reach)
    near = profits >= profits.max() - reach
    prices, order = np.unique(prices[near], return_index=True)
    profits = profits[near][order]

    def profit_from(alone: Game, fleet: Fleet) -> Any:
        layers = best_response(replace(alone, fleet=fleet), prices)[:, 0]
        return (alone.saving[0] - prices) * layers

    def price_after(device: int, alone: Game, told: Fleet) -> Any:
        total = profits - profit_from(alone, alone.fleet) + profit_from(alone, told)
        return prices[len(prices) - 1 - np.argmax(total[::-1])]

    return price_after
