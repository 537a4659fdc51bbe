"""What is drawn for one interleaving: who takes part, on which terms, and what happens when."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from chaos import adding
from chaos.simulation.wire import Faults
from edgepact.engagement import Answer, Item, Question, posted, taken

STEPS_MAX = adding.MODEL.amount_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Bids:
    """A mechanism whose answers wait for each other: each is taken at the amount it bids most for.

    Attributes:
        reward_microcredits: of a unit.
    """

    reward_microcredits: int

    def question(self, round: int) -> Question:
        """Bids for one step and for two."""
        return Question(bid_amounts=(1.0, 2.0))

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Who has bid for something works at the larger amount it has bid for."""
        found = {}
        for name, answer in answers.items():
            offered = [
                amount
                for amount, bid in zip(question.bid_amounts, answer.bids_microcredits, strict=False)
                if bid is not None
            ]
            if offered:
                found[name] = Item(
                    amount=max(offered), reward_microcredits=self.reward_microcredits
                )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A posted price, another in each round.

    Attributes:
        microcredits: of a step and unit, by round.
    """

    microcredits: tuple[int, ...]

    def question(self, round: int) -> Question:
        """The price of this round."""
        return posted(self.microcredits[(round - 1) % len(self.microcredits)], STEPS_MAX)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Everybody for what it has taken."""
        return taken(question, answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens at a time.

    Attributes:
        at_s: from the beginning.
        kind: what: `kill`, `stop`, `pause`, `set clock`, `revoke`, `cut off`, `lock`.
        whom: process, if one.
        lasts_s: until it is over, or until the process is back.
    """

    at_s: float
    kind: str
    whom: str = ""
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A device.

    Attributes:
        name: of it.
        first: number of its first piece: equal ones are repeats.
        lies: whether it sends numbers of its own invention.
        pause_s: time it takes for a piece.
        away_timeout_s: after which it gives up.
        in_flight: pieces at a time; None as it likes.
    """

    name: str
    first: int
    lies: bool
    pause_s: float
    away_timeout_s: float
    in_flight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One interleaving; see the attributes' names."""

    parties: tuple[Party, ...]
    servers: tuple[str, ...]
    engagement: Bids | Prices
    rounds: int
    units_per_round: int
    commit_timeout_s: float
    round_timeout_s: float
    audit_timeout_s: float
    audit_rate: float | None
    strikes_max: int
    repeat_rounds: int
    budget: int | None
    round_budget: int | None
    faults: Faults
    events: tuple[Event, ...]
    trouble_s: float


def drawn(draws: random.Random) -> Plan:
    """A plan."""
    count = draws.choice((1, 2, 2, 3))
    rounds = draws.choice((1, 2, 2, 3))
    repeats = draws.choice((0, 0, 2))
    servers = ("one", "two") if draws.random() < 0.4 else ("one",)
    parties = tuple(
        Party(
            name=f"cam-{at}",
            first=1000 * at if draws.random() < 0.85 else 0,
            lies=at > 0 and draws.random() < 0.25,
            pause_s=draws.choice((0.0, 0.05, 1.0)),
            away_timeout_s=draws.choice((8.0, 30.0, float("inf"))),
            in_flight=draws.choice((None, 1, 3)),
        )
        for at in range(count)
    )
    trouble_s = draws.uniform(3.0, 25.0)
    names = (*servers, *(each.name for each in parties))
    events = []
    for _ in range(draws.randrange(6)):
        kind = draws.choice(("kill", "kill", "kill", "stop", "pause", "cut off", "set clock"))
        kind = draws.choice((kind, kind, kind, "lock")) if draws.random() < 0.5 else kind
        whom = draws.choice(names)
        if kind == "cut off":
            whom = draws.choice(parties).name
        if kind == "pause":
            whom = draws.choice(servers)
        lasts_s = draws.choice((0.2, 1.0, 5.0, 15.0))
        at_s = draws.uniform(0.0, trouble_s)
        events.append(Event(at_s=at_s, kind=kind, whom=whom, lasts_s=lasts_s))
    if count > 1 and draws.random() < 0.15:
        at_s = draws.uniform(0.0, trouble_s)
        events.append(Event(at_s=at_s, kind="revoke", whom=parties[-1].name))
    bad = draws.choice((0.0, 0.3, 1.0))
    price = draws.choice((0, 1, 7, 1_000_000))
    return Plan(
        parties=parties,
        servers=servers,
        engagement=(
            Bids(reward_microcredits=price + 3)
            if draws.random() < 0.3
            else Prices(microcredits=(price, 1 + draws.randrange(5), 3))
        ),
        rounds=rounds,
        units_per_round=draws.choice((1, 2, 3, 4)),
        commit_timeout_s=draws.choice((1.0, 5.0)),
        round_timeout_s=draws.choice((3.0, 15.0)),
        audit_timeout_s=draws.choice((25.0, 40.0)),
        audit_rate=draws.choice((None, None, 0.3, 1.0)),
        strikes_max=draws.choice((1, 2)),
        repeat_rounds=repeats,
        budget=draws.choice((None, None, 0, 25, 40 + price * 5)),
        round_budget=draws.choice((None, None, None, 12, 20 + price * 3)),
        faults=Faults(
            lost=0.08 * bad * draws.random(),
            doubled=0.2 * bad,
            cut=0.1 * bad * draws.random(),
            again=0.15 * bad,
            mangled=0.1 * bad,
            slow=draws.choice((0.0, 0.1, 0.5)),
            late_s=draws.choice((0.3, 3.0)),
        ),
        events=tuple(sorted(events, key=lambda event: event.at_s)),
        trouble_s=trouble_s,
    )
