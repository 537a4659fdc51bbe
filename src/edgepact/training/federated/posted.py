r"""Engaging by a posted price: the Stackelberg game, with steps of the rate for layers.

The server posts a price $P$ for each step of the rate; a client answers with the number of steps
that pays it best, none being one of them, and is paid $P$ for each. With a single step the price
selects: a client trains for it or stays away. The next price comes from a way to quote, the
diffusion model in context by default, which sees prices and answers only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgepact.credits import MICRO
from edgepact.engagement import Answer, Finished, Item, Question
from edgepact.errors import InputError
from edgepact.solvers.quoter import Known, Quoter

STEPS = 12
"""Steps of the rate, if nothing else is said: as many as the embedded CLIP has layers."""

STEPS_MAX = 48
"""Most steps; the diffusion model has learned on models of up to as many layers."""

LAYERS_LEARNED = 12
"""Layers that fewer steps stand for to whoever quotes, so that they look like a model it knows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByPrice:
    """A price per step of the rate, new in each round.

    Attributes:
        quoter: finds the price.
        saving_credits: what a step of one client's rate is worth to the server.
        steps: of the rate, from 0 to `rate_max`.
        rate_max: rate of all steps.
        clients: how many there are expected to be; their names are those of who answers.
        seed: of the quotes.
        played: prices, and the steps of each client that answered, so far.
    """

    quoter: Quoter
    saving_credits: float
    clients: int
    steps: int = STEPS
    rate_max: float = 1.0
    seed: int = 0
    played: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0.0 < self.saving_credits < 1e9:
            raise InputError("price", "saving_credits", "above 0, below 1e9", self.saving_credits)
        if not 1 <= self.steps <= STEPS_MAX:
            raise InputError("price", "steps", f"1 to {STEPS_MAX}", self.steps)
        if self.clients < 1:
            raise InputError("price", "clients", "1 or more", self.clients)
        if not 0.0 < self.rate_max <= 1.0:
            raise InputError("price", "rate_max", "above 0, at most 1", self.rate_max)

    @property
    def layers_a_step(self) -> int:
        """What a step stands for to the quoter."""
        return max(1, LAYERS_LEARNED // self.steps)

    @property
    def known(self) -> Known:
        """What the server knows of the game before the first round, in the quoter's layers."""
        return self._known(self.clients)

    def _known(self, clients: int) -> Known:
        saving = self.saving_credits / self.layers_a_step
        return Known(
            saving=saving,
            layers_max=self.steps * self.layers_a_step,
            price_min=saving / 50.0,
            price_max=saving,
            devices=clients,
            integer=True,
        )

    def price_microcredits(self, round: int) -> int:
        """The price of a round, from those before it; whole micro-credits a step."""
        before, scale = self.played[: round - 1], self.layers_a_step
        prices = np.array([price for price, _ in before]) / scale
        names = sorted({name for _, steps in before for name in steps})
        # Who is expected and has never been heard has taken no step.
        columns = max(self.clients, len(names))
        layers = np.zeros((len(before), columns))
        for row, (_, steps) in enumerate(before):
            layers[row, : len(names)] = [scale * steps.get(name, 0) for name in names]
        price = self.quoter.quote(self.seed, self._known(columns), prices, layers) * scale
        return max(1, int(np.rint(price * MICRO)))

    def question(self, round: int) -> Question:
        """A menu with an item for each number of steps; the order has ties favour the server."""
        return self.asked(self.price_microcredits(round))

    def asked(self, price_microcredits: int) -> Question:
        """What a price a step offers, the most steps first."""
        menu = tuple(
            Item(
                amount=self.rate_max * step / self.steps,
                reward_microcredits=price_microcredits * step,
            )
            for step in range(self.steps, 0, -1)
        )
        return Question(menu=menu, price_microcredits=price_microcredits)

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        """What each client took."""
        return {
            name: question.menu[answer.item]
            for name, answer in answers.items()
            if answer.item is not None
        }

    def observe(self, finished: Finished) -> None:
        """Keeps the answers of a finished round; who was not engaged ran no step.

        Raises:
            InputError: the round is on record without its price.
        """
        price = finished.question.price_microcredits
        if price is None:
            raise InputError(
                "checkpoint",
                f"history[{finished.number}].question",
                "the price that was asked; begin in a new folder",
                "none: it was written by an earlier version",
            )
        steps = dict.fromkeys(finished.answers, 0)
        for name, item in finished.assigned.items():
            steps[name] = int(np.rint(item.amount / self.rate_max * self.steps))
        self.played.append((price / MICRO, steps))
