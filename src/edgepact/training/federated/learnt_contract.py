"""Engaging by a contract whose menu is written anew for each round, from what was taken before.

The server knows what each kind of client bears; how many there are of each it learns. The first
menu is written for the frequencies that the contract states; every further one for those that
agree with what all earlier menus met with, as `solvers.in_context.menus` generates them.

A client that says it takes what no kind of client would take is served as it says, and teaches
nothing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from edgepact.credits import in_credits
from edgepact.engagement import Answer, Finished, Item, Question
from edgepact.errors import InputError
from edgepact.mechanisms.contract.local_work import whole_menu
from edgepact.mechanisms.contract.sure import sure_menu
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.solvers.in_context import takeup
from edgepact.solvers.in_context.deciding import Decider
from edgepact.solvers.in_context.menus import MenuDecision, Menus, offered_to
from edgepact.solvers.in_context.takeup import PastMenu, Public, TakeUp
from edgepact.training.federated.contract import engaged_in, items
from edgepact.training.federated.work import RATES, Variable

ROUNDS_MAX = 1000
"""Rounds that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """A menu, and what was believed when it was written.

    Attributes:
        menu: an item for each type of the contract.
        probability: of each type, as believed.
        profit: expected of a client, credits.
        devices: answers to menus that this was learnt from.
    """

    menu: Menu
    probability: Float[np.ndarray, " types"]
    profit: float
    devices: int


@dataclass(slots=True, kw_only=True, eq=False)
class ByLearntContract:
    """Menus of a contract whose quality is the amount.

    Attributes:
        contract: what the server knows of the types; its probabilities are what it believes first.
        variable: what an amount is.
        seed: of the draws, and of the noise that frequencies are generated from.
        per_round, budget_microcredits: as in `ByContract`.
        decider: writes menus from take-up.
        seen: past menus and what was taken of them.

    Raises:
        InputError: the contract's quality can be no amount, or it has too many types to learn of.
    """

    contract: Contract
    variable: Variable = RATES
    seed: int = 0
    per_round: int | None = None
    budget_microcredits: int | None = None
    decider: Decider[Public, TakeUp, MenuDecision] = field(default_factory=Menus.shipped)
    seen: deque[PastMenu] = field(default_factory=lambda: deque(maxlen=ROUNDS_MAX))

    def __post_init__(self) -> None:
        if self.contract.quality_max > self.variable.amount_max:
            expected = f"{self.variable.priced} of at most {self.variable.amount_max:g}"
            raise InputError("contract", "quality_max", expected, self.contract.quality_max)
        Public(contract=self.contract)  # Refuses what cannot be learnt of.

    @property
    def _public(self) -> Public:
        return Public(contract=self.contract)

    def written(self) -> Written:
        """The next menu, and what was believed."""
        contract, seen = self.contract, TakeUp(menus=tuple(self.seen))
        devices = int(sum(float(np.sum(past.taken)) + past.declined for past in self.seen))
        if devices == 0:
            return self._for(np.asarray(contract.probability, float), None, 0)
        decided = self.decider.decide(self._public, seen, self.seed)
        believed = np.empty(len(contract.psi))
        believed[np.argsort(-np.asarray(contract.psi), kind="stable")] = decided.probability
        # Whoever takes an item trains: no draws decide who is engaged.
        menu = None if np.any(decided.chance < 1.0) else offered_to(contract, decided)
        return self._for(believed, menu, devices)

    def _for(
        self, probability: Float[np.ndarray, " types"], menu: Menu | None, devices: int
    ) -> Written:
        believed = replace(self.contract, probability=probability)
        if self.variable.whole:
            menu = whole_menu(believed)
        elif menu is None:
            menu = sure_menu(believed)
        share = probability / np.sum(probability)
        earned = np.where(menu.served, self.contract.worth(menu.quality) - menu.reward, 0.0)
        return Written(menu=menu, probability=share, profit=float(share @ earned), devices=devices)

    def question(self, round: int) -> Question:
        """The next menu."""
        return Question(menu=items(self.contract, self.written().menu))

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

    def observe(self, finished: Finished) -> None:
        """Remembers what was taken, whoever then trained: answers are what tells of costs."""
        past = self._past(finished)
        if past is not None:
            self.seen.append(past)

    def _past(self, finished: Finished) -> PastMenu | None:
        menu = finished.question.menu
        said = [answer.item for answer in finished.answers.values()]
        if not menu or not said:
            return None
        taken = np.bincount([at for at in said if at is not None], minlength=len(menu))
        return self._possible(
            PastMenu(
                quality=np.array([item.amount for item in menu]),
                reward=np.array([in_credits(item.reward_microcredits) for item in menu]),
                taken=taken.astype(float),
                declined=float(said.count(None)),
            )
        )

    def _possible(self, past: PastMenu) -> PastMenu:
        """The same without answers that no type would give."""
        nobody = np.zeros(len(past.taken))

        def could(taken: np.ndarray, declined: float) -> bool:
            alone = replace(past, taken=taken, declined=declined)
            try:
                takeup.read(self._public, TakeUp(menus=(alone,)))
            except InputError:
                return False
            return True

        kept = [
            count
            if count == 0 or could(np.where(np.arange(len(nobody)) == at, 1.0, 0.0), 0.0)
            else 0.0
            for at, count in enumerate(past.taken)
        ]
        declined = past.declined if past.declined and could(nobody, 1.0) else 0.0
        return replace(past, taken=np.array(kept, float), declined=declined)
