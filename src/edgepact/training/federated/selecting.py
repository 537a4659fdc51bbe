"""Engaging by a selector: it chooses among the willing, who are paid a price fixed beforehand.

The pay does not depend on what a client says of its cost, so there is nothing to lie about:
who would lose by it stays away. How the chosen are found is the selector's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgepact.efficiency.selection import Selector
from edgepact.engagement import Answer, Engagement, Finished, Item, Learning, Question
from edgepact.errors import InputError
from edgepact.training.federated.standing import Standing

_DRAW = 0x5E
"""Keeps the selectors' randomness apart from that of data and costs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BySelector:
    """The selector's choice of clients, at one rate and one pay.

    Attributes:
        selector: chooses.
        per_round: how many at most.
        rate: compression rate of everybody.
        pay_microcredits: for an accepted update; with 0 everybody present is willing.
        budget_microcredits: most to promise in a round; None for no limit.
        seed: of the draws.
    """

    selector: Selector
    per_round: int
    rate: float = 1.0
    pay_microcredits: int = 0
    budget_microcredits: int | None = None
    seed: int = 0
    standing: Standing = field(default_factory=Standing)

    def question(self, round: int) -> Question:
        """Who takes the pay."""
        item = Item(amount=self.rate, reward_microcredits=self.pay_microcredits)
        return Question(menu=(item,) if self.pay_microcredits else ())

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """As many of the willing as there are places and money."""
        willing = {
            name: answer
            for name, answer in answers.items()
            if not self.pay_microcredits or answer.item is not None
        }
        places = self.per_round
        if self.budget_microcredits is not None and self.pay_microcredits:
            places = min(places, self.budget_microcredits // self.pay_microcredits)
        item = Item(amount=self.rate, reward_microcredits=self.pay_microcredits)
        return dict.fromkeys(
            selected(self.selector, self.standing, round, willing, places, self.seed), item
        )

    def observe(self, finished: Finished) -> None:
        """Remembers who took part."""
        self.standing.observe(finished)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Narrowed:
    """Another mechanism's engaged clients, of whom a selector keeps only some.

    The choice must not depend on what was offered or taken: a client that could better its
    chances by another answer would no longer give the true one. So the selector sees data,
    speed and loss, and never an item or a bid.

    Attributes:
        mechanism: such as a contract, without a limit of its own on the clients of a round.
        selector: chooses.
        per_round: how many at most.
        budget_microcredits: most to promise in a round, filled in the selector's random order.
        seed: of the draws.
    """

    mechanism: Engagement
    selector: Selector
    per_round: int
    budget_microcredits: int | None = None
    seed: int = 0
    standing: Standing = field(default_factory=Standing)

    def question(self, round: int) -> Question:
        """The mechanism's."""
        return self.mechanism.question(round)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """The mechanism's assignments of the clients that the selector keeps."""
        engaged = self.mechanism.engage(round, question, answers)
        willing = {name: answers[name] for name in answers if name in engaged}
        kept = selected(self.selector, self.standing, round, willing, self.per_round, self.seed)
        chosen: dict[str, Item] = {}
        left = self.budget_microcredits
        for name in kept:
            reward = engaged[name].reward_microcredits
            if left is not None and reward > left:
                continue
            chosen[name] = engaged[name]
            left = None if left is None else left - reward
        return chosen

    def observe(self, finished: Finished) -> None:
        """Remembers who took part, and lets the mechanism do so."""
        self.standing.observe(finished)
        if isinstance(self.mechanism, Learning):
            self.mechanism.observe(finished)


def selected(
    selector: Selector,
    standing: Standing,
    round: int,
    willing: Mapping[str, Answer],
    count: int,
    seed: int,
) -> list[str]:
    """Names of at most `count` willing clients, in a random order.

    Raises:
        InputError: the selector chose somebody twice, or too many.
    """
    if not willing or count < 1:
        return []
    rng = np.random.default_rng([seed, round, _DRAW])
    places = selector.select(rng, standing.candidates(round, willing), count)
    names = list(willing)
    chosen = [names[int(at)] for at in rng.permutation(places)]
    if len(set(chosen)) < len(chosen):
        raise InputError("selector", "select", "clients none of which is twice there", "others")
    return chosen
