"""A client: answers for its own good, trains on its own images, sends a compressed change.

What it keeps to itself are its images, its cost and what compression has cut off so far, the
residual, which is added to its next update (error feedback).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from edgepact.efficiency.compression import Vector, at_rate, with_error_feedback
from edgepact.engagement import Answer, Question, chosen, truthful_bids
from edgepact.training.fashion_mnist import LabelledImages
from edgepact.training.federated.messages import (
    QUESTION,
    Fields,
    Order,
    Update,
    answer_fields,
    read_order,
    read_question,
    update_fields,
)
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.speed import Speed
from edgepact.training.federated.transport import Request
from edgepact.training.federated.work import RATES, RoundWork, Variable


@runtime_checkable
class Trains(Protocol):
    """What a client needs of a task."""

    def train(
        self, weights: Vector, images: LabelledImages, *, seed: Sequence[int], epochs: int = 1
    ) -> tuple[Vector, float]:
        """Weights [n] after a round's epochs on the images, and the images' loss in them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What a client carries from one request to the next.

    Attributes:
        residual: what compression has cut off so far [n]; None before the first update.
        seconds: how long its last training took; an epoch of it.
        loss: root mean square of its images' losses in it; None before the first.
    """

    residual: Vector | None = None
    seconds: float = 0.0
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Client:
    """One client: pure functions of what it has and what it is asked.

    Attributes:
        task: shared by the clients of a process.
        images: its own.
        cost: its own, told to nobody.
        seed: of its order, augmentation and rounding.
        speed: of a simulated client; None for one that has only its own clock.
        claimed: by what it multiplies its cost when it bids; 1 is the truth.
    """

    task: Trains
    images: LabelledImages
    cost: PrivateCost
    seed: tuple[int, ...]
    speed: Speed | None = None
    claimed: float = 1.0

    def handle(self, kind: str, request: Request, memory: Memory) -> tuple[Fields, Memory]:
        """Answers a request of either kind; the memory is for the next one."""
        if kind == QUESTION:
            question, variable = read_question(request.fields)
            return answer_fields(self.answer(question, memory, variable)), memory
        assert request.weights is not None, "an order comes with weights"
        update, memory = self.train(read_order(request.fields), request.weights, memory)
        return update_fields(update), memory

    def answer(self, question: Question, memory: Memory, variable: Variable = RATES) -> Answer:
        """Takes the item that pays best, and bids what an update costs.

        Args:
            question: what is asked.
            memory: of rounds before.
            variable: what amounts are.
        """
        most = _most_work(question, variable)
        compute_s = memory.seconds if self.speed is None else self.speed.compute_s
        upload_s = 0.0 if self.speed is None else self.speed.upload_s
        claims: dict[str, float] = {
            "examples": float(len(self.images)),
            "compute_s": compute_s * most.epochs,
            "upload_s": upload_s * most.rate,
        }
        return Answer(
            item=chosen(question, self.cost.microcredits),
            bids_microcredits=truthful_bids(
                question.bid_amounts, self.cost.microcredits, claimed=self.claimed
            ),
            claims=claims if memory.loss is None else claims | {"loss": memory.loss},
        )

    def train(self, order: Order, weights: Vector, memory: Memory) -> tuple[Update, Memory]:
        """Trains from the weights [n] and packs the change and the residual at the order's rate."""
        began = time.monotonic()
        trained, loss = self.task.train(
            weights, self.images, seed=[*self.seed, order.round], epochs=order.epochs
        )
        change = trained - weights
        residual = np.zeros_like(change) if memory.residual is None else memory.residual
        random = np.random.default_rng([*self.seed, order.round, 0xC0])
        payload, residual = with_error_feedback(at_rate(order.rate), change, residual, random)
        update = Update(
            round=order.round,
            nonce=order.nonce,
            rate=order.rate,
            examples=len(self.images),
            payload=payload,
        )
        seconds = (time.monotonic() - began) / order.epochs
        return update, Memory(residual=residual, seconds=seconds, loss=loss)


def _most_work(question: Question, variable: Variable) -> RoundWork:
    """The most that a question asks of anybody."""
    amounts = [*(item.amount for item in question.menu), *question.bid_amounts]
    if not amounts:
        return RoundWork() if variable.priced == "rate" else RoundWork(rate=variable.rate)
    return variable.work(max(amounts))
