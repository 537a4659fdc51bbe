"""Engaging without an incentive: a random share of those present trains, unpaid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepact.engagement import Answer, Item, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone:
    """A random share of those present trains at one rate, unpaid.

    Attributes:
        per_round: how many train at most; None for all.
        rate: of everybody.
        seed: of the draws.
    """

    per_round: int | None = None
    rate: float = 1.0
    seed: int = 0

    def question(self, round: int) -> Question:
        """Nothing but whether a client is there."""
        return Question()

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """A random share at the common rate."""
        named = drawn(answers, self.per_round, seed=self.seed, round=round)
        return {name: Item(amount=self.rate, reward_microcredits=0) for name in named}


def drawn(names: Mapping[str, object], most: int | None, *, seed: int, round: int) -> list[str]:
    """At most so many of the names, drawn at random, in a random order."""
    order = np.random.default_rng([seed, round, 0xE6]).permutation(len(names))
    ordered = sorted(names)
    return [ordered[at] for at in order[: len(names) if most is None else most]]
