"""A contract at work in the live market: the same menu in every round, or one that is learnt.

Who answers takes the item that is best for it, and is paid the item's reward for each unit of
work. How the menu was written is its mechanism's business.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgepact.credits import MICRO, in_credits, rounded_up
from edgepact.engagement import Answer, Finished, Item, Question, taken
from edgepact.solvers.in_context.deciding import Decider
from edgepact.solvers.in_context.layer_menus import (
    LayerMenuDecision,
    LayersPublic,
    PastLayerMenu,
)

ROUNDS_MAX = 1000
"""Rounds that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedMenu:
    """One menu for everybody and every round.

    Attributes:
        items: the server's favourites first: whoever is indifferent takes the first.
        saving: what the server saves by a step and unit, credits.
    """

    items: tuple[Item, ...]
    saving: float

    def worth(self, amount: float) -> float:
        """What a unit saves the server at this amount, credits."""
        return self.saving * amount

    def question(self, round: int) -> Question:
        """The menu, whatever happened."""
        return Question(menu=self.items)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Everybody for what it has taken."""
        return taken(question, answers)


class LearntMenu:
    """A menu of whole steps, written anew for each round from what was taken before.

    Args:
        first: the menu of the first round, written for what is believed.
        decider: writes all others.
        known: what is public, in credits a step.
        seed: of the noise that frequencies are generated from.
        saving: what the server saves by a step and unit, credits.
    """

    def __init__(
        self,
        first: tuple[Item, ...],
        decider: Decider[LayersPublic, Sequence[PastLayerMenu], LayerMenuDecision],
        known: LayersPublic,
        seed: int,
        saving: float,
    ) -> None:
        self._first = first
        self._decider = decider
        self._known = known
        self._seed = seed
        self._saving = saving
        self._seen: deque[PastLayerMenu] = deque(maxlen=ROUNDS_MAX)

    def worth(self, amount: float) -> float:
        """What a unit saves the server at this amount, credits."""
        return self._saving * amount

    def decided(self) -> LayerMenuDecision | None:
        """The next menu and what is expected of it; None before anybody has answered."""
        if not self._seen:
            return None
        return self._decider.decide(self._known, tuple(self._seen), self._seed)

    def question(self, round: int) -> Question:
        """The next menu."""
        decided = self.decided()
        if decided is None:
            return Question(menu=self._first)
        offered = np.flatnonzero(np.isfinite(decided.reward))
        rewards = [(int(at), float(decided.reward[at])) for at in offered if at > 0]
        return Question(menu=items_of(rewards, float(self._known.kinds.saving[0])))

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """Everybody for what it has taken."""
        return taken(question, answers)

    def observe(self, finished: Finished) -> None:
        """Remembers who took what; a round nobody answered tells nothing."""
        menu = finished.question.menu
        if finished.answers and menu:
            reward: Float[np.ndarray, " items"] = np.full(self._known.kinds.cost.shape[1], -np.inf)
            reward[0] = 0.0
            for item in menu:
                reward[int(item.amount)] = in_credits(item.reward_microcredits)
            layers = {
                name: 0 if answer.item is None else int(menu[answer.item].amount)
                for name, answer in finished.answers.items()
            }
            self._seen.append(PastLayerMenu(reward=reward, layers=layers))


def items_of(rewards: Sequence[tuple[int, float]], saving: float) -> tuple[Item, ...]:
    """A menu of whole steps as it is offered, the server's favourites first.

    Rewards are rounded up to whole micro-credits, so that whoever is just paid its cost takes part.

    Args:
        rewards: steps, and what they are paid, credits.
        saving: what a step saves the server, credits.
    """
    offered = [(number, rounded_up(paid)) for number, paid in rewards]
    offered.sort(key=lambda each: (each[1] - saving * MICRO * each[0], each[0]))
    return tuple(
        Item(amount=float(number), reward_microcredits=microcredits)
        for number, microcredits in offered
    )
