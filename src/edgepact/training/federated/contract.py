"""Engaging by contract: one menu of (rate, reward), each client takes what suits it best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgepact.errors import InputError
from edgepact.mechanisms.contract.optimum import Contract, Menu
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.training.federated.engagement import (
    MICRO,
    Answer,
    Assignment,
    Item,
    Question,
    drawn,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByContract:
    """The menu of a contract whose quality is the compression rate.

    Attributes:
        contract: what the server knows of the types; qualities of at most 1.
        offer: the menu; the exact optimal one if None.
        per_round: how many train at most, drawn from those who took an item; None for all.
        budget_microcredits: most to promise in a round; None for no limit. The contract's own
            budget holds in expectation, this one in every round.
        seed: of the draws.

    Raises:
        InputError: the contract's quality can be no rate.
    """

    contract: Contract
    offer: Menu | None = None
    per_round: int | None = None
    budget_microcredits: int | None = None
    seed: int = 0
    menu: tuple[Item, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.contract.quality_max > 1.0:
            found = self.contract.quality_max
            raise InputError("contract", "quality_max", "a rate, at most 1", found)
        object.__setattr__(
            self, "menu", items(self.contract, self.offer or sure_menu(self.contract))
        )

    def question(self, round: int) -> Question:
        """The menu."""
        return Question(menu=self.menu)

    def engage(self, round: int, answers: Mapping[str, Answer]) -> dict[str, Assignment]:
        """What each one took, for as many as are drawn and the budget allows."""
        taken = {
            name: self.menu[answer.item]
            for name, answer in answers.items()
            if answer.item is not None
        }
        left = math.inf if self.budget_microcredits is None else self.budget_microcredits
        engaged: dict[str, Assignment] = {}
        for name in drawn(taken, None, seed=self.seed, round=round):
            item = taken[name]
            if self.per_round is not None and len(engaged) == self.per_round:
                break
            if item.reward_microcredits <= left:
                engaged[name] = item
                left -= item.reward_microcredits
        return engaged


def items(contract: Contract, menu: Menu) -> tuple[Item, ...]:
    """A menu as clients see it: what is not nothing, each once, the server's favourites first.

    Rewards are rounded up: down, the type that is just paid its cost would stay away.
    """
    gain = contract.worth(menu.quality) - menu.reward
    offered: list[Item] = []
    for at in np.argsort(-gain, kind="stable"):
        if menu.served[at] and menu.quality[at] > 0.0:
            reward = math.ceil(menu.reward[at] * MICRO - 1e-6)
            item = Item(rate=float(menu.quality[at]), reward_microcredits=reward)
            if item not in offered:
                offered.append(item)
    return tuple(offered)
