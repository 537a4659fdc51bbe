"""Federations that studies compare: real training and payments, the clients in this process.

Messages are the same as over Flower, and so are checks, compression and the ledger; only the
processes are missing, so that many federations can be played one after another.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from edgepact.engagement import Engagement
from edgepact.market.ledger import Ledger
from edgepact.training.fashion_mnist import DEBIAN_FOLDER
from edgepact.training.federated.aggregate import AGGREGATES
from edgepact.training.federated.client import Client, Memory
from edgepact.training.federated.composition import rounds_config
from edgepact.training.federated.config import TrainConfig
from edgepact.training.federated.messages import Fields
from edgepact.training.federated.rounds import Round, play, start
from edgepact.training.federated.simulated import Simulated, name_of
from edgepact.training.federated.task import read_data, task_of
from edgepact.training.federated.task_config import SAMPLES, TaskConfig
from edgepact.training.federated.transport import Handler, InMemory, Request

UPDATE_CPU_S = 0.5
"""CPU seconds of a client's update, with its share of what is computed once a round; recorded in
November 2026 on a slow core. Durations are reckoned from it."""


def task_for(smoke: bool, *, seed: int) -> TaskConfig:
    """What studies train: Fashion-MNIST with all test images; a smoke run has the samples."""
    if not smoke:
        return TaskConfig(data=str(DEBIAN_FOLDER), layers=4, test_images=10_000, seed=seed)
    return TaskConfig(
        data=SAMPLES,
        layers=1,
        public_images=40,
        warm_up_steps=4,
        test_images=60,
        steps=2,
        batch=8,
        seed=seed,
    )


def federate(
    config: TrainConfig,
    engagement: Engagement,
    fleet: Simulated,
    on_round: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Round, ...]:
    """Plays all rounds of a configuration; returns round 0 and every round after it.

    Args:
        config: rounds, bounds, aggregation and task.
        engagement: who trains for what.
        fleet: the clients.
        on_round: told how many rounds are done, of how many.
    """
    task = task_of(config.task)
    aggregate = AGGREGATES[config.aggregate]
    shared = len(read_data(config.task).shared)
    with tempfile.TemporaryDirectory(prefix="edgepact-study-") as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with Ledger(url, synchronous="OFF") as books:
            progress = play(
                start(task, aggregate, task.start()),
                transport=InMemory({name_of(n): _handler(fleet, n) for n in range(fleet.clients)}),
                engagement=engagement,
                aggregate=aggregate,
                task=task,
                config=rounds_config(config, shared, task.size),
                keep=lambda progress: None,
                books=books,
                report=lambda finished: on_round(finished.number, config.rounds),
            )
            debits, credits = books.totals()
            paid = sum(each.paid_microcredits for each in progress.history)
            assert debits == credits == paid, (debits, credits, paid)
    return progress.history


def _handler(fleet: Simulated, number: int) -> Handler:
    """One client with its memory, made when it is first asked."""
    made: list[Client] = []
    memory = [Memory()]

    def handle(kind: str, request: Request) -> Fields:
        if not made:
            made.append(fleet.client(number))
        fields, memory[0] = made[0].handle(kind, request, memory[0])
        return fields

    return handle
