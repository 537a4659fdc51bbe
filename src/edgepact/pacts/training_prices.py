"""Steps 2 and 3 of pacts that train for a posted price: the best, and those that were posted."""

from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Float, Int

from edgepact.credits import MICRO
from edgepact.engagement import TIE_MICROCREDITS, chosen
from edgepact.framework import Json, Sheet
from edgepact.mechanisms.promises import Promise, broken
from edgepact.pacts.training_outcome import share
from edgepact.tables import IF_KNOWN, NOBODY_LOSES, Shown, audit_sheet, decimals, figure, yes
from edgepact.training.federated.posted import ByPrice
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.simulated import Simulated

Costs = Float[np.ndarray, "clients items"]
"""Of 0, 1, ... steps, in micro-credits; nothing done costs nothing."""

LIES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.001, 1.003, 1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)
"""By what a client multiplies its costs, to see what a lie would bring if the price were set by
what clients say."""

LIARS_MAX = 8
"""Most clients in whose place lies are tried: those that gain least, by whom the price is set."""

PROMISES = (Promise.INDIVIDUALLY_RATIONAL, Promise.BUDGET_BALANCED)
"""What a posted price promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedPriceAudit:
    """What was found.

    Attributes:
        individually_rational: no client loses by what it takes, and not the server.
        budget_balanced: payments stay within what the work is worth.
        least_gain: of a client that takes anything, over staying away, credits; None if none does.
        largest_gain_from_lying: credits, if the price were computed from what clients report; a
            lower bound, since a search found it.
        lies_tried: how many.
    """

    individually_rational: bool
    budget_balanced: bool
    least_gain: float | None
    largest_gain_from_lying: float
    lies_tried: int

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that do not hold, in words."""
        return broken(self, PROMISES)

    def as_json(self) -> dict[str, Json]:
        """The keys of `edgepact solve --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestPrice(Shown):
    """The price that would earn most, were every private cost known.

    Attributes:
        posted: how prices are posted, and what a step is worth.
        fleet: the clients with their costs.
        price_microcredits: the best, of a step.
        steps: that each client takes for it.
        gains: of each client over staying away, credits a round.
        audit: of the price.
    """

    posted: ByPrice = field(repr=False)
    fleet: Simulated = field(repr=False)
    price_microcredits: int
    steps: Int[np.ndarray, " clients"]
    gains: Float[np.ndarray, " clients"]
    audit: PostedPriceAudit

    @classmethod
    def of(cls, posted: ByPrice, fleet: Simulated) -> "BestPrice":
        """The best price for these clients, audited."""
        costs = _costs(posted, fleet)
        price = _best_price(posted, costs)
        steps, gains = _taken_at(costs, price)
        lied, tried = _largest_gain_from_lying(posted, costs, gains)
        margin = posted.saving_credits - price / MICRO
        tie = posted.asked(price).tie_microcredits
        return cls(
            posted=posted,
            fleet=fleet,
            price_microcredits=price,
            steps=steps,
            gains=gains / MICRO,
            audit=PostedPriceAudit(
                individually_rational=bool(np.all(gains >= -tie)) and margin >= 0.0,
                budget_balanced=margin >= 0.0,
                least_gain=float(np.min(gains[steps > 0])) / MICRO if np.any(steps > 0) else None,
                largest_gain_from_lying=lied / MICRO,
                lies_tried=tried,
            ),
        )

    @property
    def broken(self) -> tuple[str, ...]:
        """Promises that the price does not keep."""
        return self.audit.broken

    @property
    def price(self) -> float:
        """Of a step, credits."""
        return self.price_microcredits / MICRO

    @property
    def left_credits(self) -> float:
        """What it leaves the server of a round."""
        return (self.posted.saving_credits - self.price) * self.steps_taken

    @property
    def steps_taken(self) -> int:
        """Of all clients together."""
        return int(np.sum(self.steps))

    @property
    def kept(self) -> float:
        """What all clients keep beyond staying away, credits a round."""
        return float(np.sum(self.gains))

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The price and what comes of it; the audit."""
        unit, audit = _unit(self.posted), self.audit
        rows = [
            (f"worth of {unit}, credits", f"{self.posted.saving_credits:.5g}"),
            ("best price, credits", f"{self.price:.5g}"),
            ("clients that train for it", f"{self.engaged} of {self.fleet.clients}"),
            ("left to the server, credits a round", f"{self.left_credits:.5g}"),
            ("kept by all clients beyond staying away, credits a round", f"{self.kept:.5g}"),
            (
                "least gain of a client that trains, credits a round",
                "-" if audit.least_gain is None else decimals(audit.least_gain),
            ),
        ]
        if self.posted.steps > 1:
            rows.insert(3, (_taken(self.posted), f"{self.steps_taken}"))
        best = Sheet(
            title=f"Stackelberg game: the server posts a price for {unit}; {IF_KNOWN}",
            head=("of the best price", "value"),
            rows=tuple(rows),
            notes=("Clients answer with what pays them best, none being a choice.",),
        )
        gain = figure(audit.largest_gain_from_lying, 1.0, 4)
        return best, audit_sheet(
            (NOBODY_LOSES, yes(audit.individually_rational)),
            ("payments stay within what the work is worth", yes(audit.budget_balanced)),
            (
                f"largest gain from lying about costs ({audit.lies_tried:,} lies tried)",
                f"at least {gain} credits",
            ),
        )

    @property
    def engaged(self) -> int:
        """How many clients train for the price."""
        return int(np.sum(self.steps > 0))

    def to_dict(self) -> dict[str, Json]:
        """For `edgepact solve --json`."""
        return {
            "price": self.price,
            "server_utility": self.left_credits,
            "steps": self.steps_taken,
            "worth": self.posted.saving_credits,
            "clients": self.fleet.clients,
            "engaged": self.engaged,
            "kept": self.kept,
            "steps_of_clients": self.steps.tolist(),
            "over_staying_away": self.gains.tolist(),
            "audit": self.audit.as_json(),
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
        title=f"Prices posted in the rounds of training by {solver}",
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
    return _best_price(posted, _costs(posted, fleet))


def _costs(posted: ByPrice, fleet: Simulated) -> Costs:
    rates = np.arange(posted.steps + 1) / posted.steps * posted.rate_max
    costs = np.empty((fleet.clients, len(rates)))
    for number in range(fleet.clients):
        cost = fleet.cost(number)
        costs[number] = [cost.microcredits(rate) for rate in rates]
    costs[:, 0] = 0.0
    return costs


def _best_price(posted: ByPrice, costs: Costs) -> int:
    # With a cost for taking part at all, the first steps are taken together.
    first = np.min(costs[:, 1:] / np.arange(1, costs.shape[1]), axis=1)
    prices = np.unique(np.ceil(np.concatenate([np.diff(costs).ravel(), first])))
    ceiling = posted.saving_credits * MICRO
    allowed = [int(each) for each in prices if 0 < each <= ceiling] or [1]

    def left(price: int) -> float:
        steps, _ = _taken_at(costs, price)
        return float((posted.saving_credits - price / MICRO) * np.sum(steps))

    return max(allowed, key=left)


def _taken_at(
    costs: Costs, price_microcredits: int
) -> tuple[Int[np.ndarray, " clients"], Float[np.ndarray, " clients"]]:
    """Steps of each client at a price and what it gains, in micro-credits: `engagement.chosen` of
    the menu that `ByPrice.asked` makes of it, for all clients at once."""
    gains = price_microcredits * np.arange(1, costs.shape[1]) - costs[:, 1:]
    tie = max(TIE_MICROCREDITS, gains.shape[1])  # `Question.tie_microcredits` of a posted price
    least = np.maximum(0.0, np.max(gains, axis=1, keepdims=True)) - tie
    good = gains >= least
    # The menu begins with the most steps, and of equally good items the first is taken.
    last = good.shape[1] - np.argmax(good[:, ::-1], axis=1)
    steps = np.where(np.any(good, axis=1), last, 0)
    kept = np.take_along_axis(gains, np.maximum(steps - 1, 0)[:, None], axis=1)[:, 0]
    return steps, np.where(steps > 0, kept, 0.0)


def _largest_gain_from_lying(
    posted: ByPrice, costs: Costs, honest: Float[np.ndarray, " clients"]
) -> tuple[float, int]:
    """Micro-credits that the best of `LIES` would bring, were the price computed from reports,
    and how many were tried; the liar answers that price with its true best response."""
    best, tried = 0.0, 0
    for client in np.argsort(honest, kind="stable")[:LIARS_MAX].tolist():
        for factor in LIES:
            told = costs.copy()
            told[client] *= factor
            _, gains = _taken_at(costs[client : client + 1], _best_price(posted, told))
            best, tried = max(best, float(gains[0] - honest[client])), tried + 1
    return best, tried


def _unit(posted: ByPrice) -> str:
    return "an update" if posted.steps == 1 else f"one of {posted.steps} steps of the rate"


def _taken(posted: ByPrice) -> str:
    return "clients that train" if posted.steps == 1 else "steps of all clients"
