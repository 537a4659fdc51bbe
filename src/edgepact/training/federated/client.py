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
from edgepact.training.fashion_mnist import LabelledImages
from edgepact.training.federated.engagement import (
    Answer,
    PrivateCost,
    Question,
    bids,
    chosen,
)
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
from edgepact.training.federated.speed import Speed
from edgepact.training.federated.transport import Request


@runtime_checkable
class Trains(Protocol):
    """What a client needs of a task."""

    def train(
        self, weights: Vector, images: LabelledImages, *, seed: Sequence[int]
    ) -> tuple[Vector, float]:
        """Weights [n] after a round's work on the images, and the images' loss in it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What a client carries from one request to the next.

    Attributes:
        residual: what compression has cut off so far [n]; None before the first update.
        seconds: how long its last training took.
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
            answer = self.answer(read_question(request.fields), memory)
            return answer_fields(answer), memory
        assert request.weights is not None, "an order comes with weights"
        update, memory = self.train(read_order(request.fields), request.weights, memory)
        return update_fields(update), memory

    def answer(self, question: Question, memory: Memory) -> Answer:
        """Takes the item that pays best, and bids what an update costs."""
        return Answer(
            item=chosen(question.menu, self.cost),
            bids_microcredits=bids(question.bid_rates, self.cost, claimed=self.claimed),
            examples=len(self.images),
            compute_s=memory.seconds if self.speed is None else self.speed.compute_s,
            upload_s=self._upload_s(question),
            loss=memory.loss,
        )

    def _upload_s(self, question: Question) -> float:
        """Of the heaviest update it is asked for."""
        rates = [item.rate for item in question.menu] or list(question.bid_rates) or [1.0]
        return 0.0 if self.speed is None else self.speed.upload_s * max(rates)

    def train(self, order: Order, weights: Vector, memory: Memory) -> tuple[Update, Memory]:
        """Trains from the weights [n] and packs the change and the residual at the order's rate."""
        began = time.monotonic()
        trained, loss = self.task.train(weights, self.images, seed=[*self.seed, order.round])
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
        return update, Memory(residual=residual, seconds=time.monotonic() - began, loss=loss)
