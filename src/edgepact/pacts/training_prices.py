"""Steps 2 and 3 of pacts that train for a posted price: the best, and those that were posted."""

from dataclasses import dataclass

import numpy as np

from edgepact.credits import MICRO
from edgepact.engagement import chosen
from edgepact.framework import Json, Sheet
from edgepact.pacts.training_outcome import share
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.simulated import Simulated


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestPrice:
    """The price that would earn most, were every private cost known.

    Attributes:
        posted: how prices are posted, and what a step is worth.
        fleet: the clients with their costs.
        price_microcredits: the best, of a step.
    """

    posted: ByPrice
    fleet: Simulated
    price_microcredits: int

    @classmethod
    def of(cls, posted: ByPrice, fleet: Simulated) -> "BestPrice":
        """The best price for these clients."""
        price = best_price(posted, fleet)
        return cls(posted=posted, fleet=fleet, price_microcredits=price)

    @property
    def broken(self) -> tuple[str, ...]:
        """None can be: a client that would lose takes nothing."""
        return ()

    @property
    def left_credits(self) -> float:
        """What it leaves the server of a round."""
        return earned(self.posted, self.fleet, self.price_microcredits)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """One table."""
        unit = _unit(self.posted)
        steps = steps_taken(self.posted, self.fleet, self.price_microcredits)
        return (
            Sheet(
                title=f"Stackelberg game: the server posts a price for {unit}; its exact optimum",
                head=("if every private cost were known", "value"),
                rows=(
                    (f"worth of {unit}, credits", f"{self.posted.saving_credits:.5g}"),
                    ("best price, credits", f"{self.price_microcredits / MICRO:.5g}"),
                    (f"{_taken(self.posted)} for it", f"{steps}"),
                    ("left to the server, credits a round", f"{self.left_credits:.5g}"),
                    ("kept by all clients beyond staying away, credits", f"{self._kept():.5g}"),
                ),
                notes=("Clients answer with what pays them best, none being a choice.",),
            ),
        )

    def _kept(self) -> float:
        question = self.posted.asked(self.price_microcredits)
        kept = 0.0
        for number in range(self.fleet.clients):
            cost = self.fleet.cost(number)
            place = chosen(question, cost.microcredits)
            if place is not None:
                item = question.menu[place]
                kept += item.reward_microcredits - cost.microcredits(item.amount)
        return kept / MICRO

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "price": self.price_microcredits / MICRO,
            "server_utility": self.left_credits,
            "steps": steps_taken(self.posted, self.fleet, self.price_microcredits),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting:
    """The solver that finds a price in each round; what it found is told with the rounds.

    Attributes:
        solver: its name.
    """

    solver: str

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """None before the first round."""
        return ()

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {"solver": self.solver}


def prices_posted(best: BestPrice, solver: str, history: tuple[Round, ...]) -> Sheet:
    """The prices of all rounds, held against the best one."""
    rows = []
    for played in history[1:]:
        price = played.question.price_microcredits
        if price is None:
            continue
        left = earned(best.posted, best.fleet, price)
        rows.append(
            (
                f"{played.number}",
                f"{price / MICRO:.5g}",
                f"{steps_taken(best.posted, best.fleet, price)}",
                f"{left:.5g}",
                share(left, best.left_credits),
            )
        )
    return Sheet(
        title=f"{solver}: prices posted in the rounds of training",
        head=("round", "price", _taken(best.posted), "left to the server", "share of the optimum"),
        rows=tuple(rows),
        notes=("A share of 0 is nothing left.",),
    )


def steps_taken(posted: ByPrice, fleet: Simulated, price_microcredits: int) -> int:
    """Steps that all clients together take at a price."""
    question = posted.asked(price_microcredits)
    taken = [chosen(question, fleet.cost(number).microcredits) for number in range(fleet.clients)]
    return sum(posted.steps - place for place in taken if place is not None)


def earned(posted: ByPrice, fleet: Simulated, price_microcredits: int) -> float:
    """What a price leaves the server, credits."""
    margin = posted.saving_credits - price_microcredits / MICRO
    return margin * steps_taken(posted, fleet, price_microcredits)


def best_price(posted: ByPrice, fleet: Simulated) -> int:
    """The price that earns most of all, in micro-credits, if every private cost were known.

    Costs are convex in the rate, so a client takes a step more exactly where the price reaches
    what that step costs it: some of those prices is best, and no other.
    """
    steps = np.arange(posted.steps + 1) / posted.steps * posted.rate_max
    prices = set()
    for number in range(fleet.clients):
        cost = fleet.cost(number)
        total = np.array([cost.microcredits(rate) for rate in steps])
        total -= cost.participation_credits * MICRO * (steps == 0.0)
        # With a cost for taking part at all, the first steps are taken together.
        first = np.min((total[1:] - total[0]) / np.arange(1, posted.steps + 1))
        prices |= {int(np.ceil(each)) for each in (*np.diff(total), first)}
    allowed = [each for each in prices if 0 < each <= posted.saving_credits * MICRO] or [1]
    return max(sorted(allowed), key=lambda price: earned(posted, fleet, price))


def _unit(posted: ByPrice) -> str:
    return "an update" if posted.steps == 1 else f"one of {posted.steps} steps of the rate"


def _taken(posted: ByPrice) -> str:
    return "clients that train" if posted.steps == 1 else "steps of all clients"
