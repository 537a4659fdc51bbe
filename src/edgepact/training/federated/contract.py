"""Engaging by contract: one menu of (amount, reward), each client takes what suits it best.

The amount is the rate of an update, or the epochs a client trains.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgepact.credits import rounded_up
from edgepact.engagement import Answer, Item, Question, taken
from edgepact.errors import InputError
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.training.federated.everyone import drawn
from edgepact.training.federated.work import RATES, Variable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByContract:
    """The menu of a contract whose quality is the amount.

    Attributes:
        contract: what the server knows of the types; its qualities are amounts.
        variable: what an amount is.
        offer: the menu; the exact best one of rates if None, which draws nobody.
        per_round: how many train at most, drawn from those who took an item; None for all.
        budget_microcredits: most to promise in a round; None for no limit. The contract's own
            budget holds in expectation, this one in every round.
        seed: of the draws.

    Raises:
        InputError: the contract's quality can be no amount.
    """

    contract: Contract
    variable: Variable = RATES
    offer: Menu | None = None
    per_round: int | None = None
    budget_microcredits: int | None = None
    seed: int = 0
    menu: tuple[Item, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.contract.quality_max > self.variable.amount_max:
            expected = f"{self.variable.priced} of at most {self.variable.amount_max:g}"
            raise InputError("contract", "quality_max", expected, self.contract.quality_max)
        if self.variable.whole and self.offer is None:
            raise InputError("contract", "offer", "a menu of whole amounts", "none")
        object.__setattr__(
            self, "menu", items(self.contract, self.offer or sure_menu(self.contract))
        )

    def question(self, round: int) -> Question:
        """The menu."""
        return Question(menu=self.menu)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """What each one took, for as many as are drawn and the budget allows."""
        return engaged_in(
            question,
            answers,
            per_round=self.per_round,
            budget_microcredits=self.budget_microcredits,
            seed=self.seed,
            round=round,
        )


def engaged_in(
    question: Question,
    answers: Mapping[str, Answer],
    *,
    per_round: int | None,
    budget_microcredits: int | None,
    seed: int,
    round: int,
) -> dict[str, Item]:
    """What each one took of a menu, for as many as are drawn and the budget allows.

    Args:
        question: the menu.
        answers: places in it.
        per_round: how many train at most; None for all.
        budget_microcredits: most to promise; None for no limit.
        seed, round: of the draw.
    """
    wanted = taken(question, answers)
    left = math.inf if budget_microcredits is None else budget_microcredits
    engaged: dict[str, Item] = {}
    for name in drawn(wanted, None, seed=seed, round=round):
        item = wanted[name]
        if per_round is not None and len(engaged) == per_round:
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
            reward = rounded_up(float(menu.reward[at]))
            item = Item(amount=float(menu.quality[at]), reward_microcredits=reward)
            if item not in offered:
                offered.append(item)
    return tuple(offered)
