"""A federation that takes milliseconds: weights wander towards a target, and clients are functions.

Run as a program (`python -m tests.training.federated.toy FOLDER [SECONDS]`) it plays its rounds in
a folder. After so many seconds of its own computing it dies, as abruptly as by SIGKILL: how far it
has come by then does not hang on how busy the machine is.
"""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepact.efficiency.compression import Vector
from edgepact.engagement import Engagement
from edgepact.market.ledger import Ledger
from edgepact.mechanisms.contract.quality import Saturating
from edgepact.mechanisms.contract.terms import Contract
from edgepact.training.fashion_mnist import LabelledImages
from edgepact.training.federated import folder as files
from edgepact.training.federated.aggregate import FedAvg
from edgepact.training.federated.client import Client, Memory
from edgepact.training.federated.contract import ByContract
from edgepact.training.federated.messages import Fields
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.rounds import Progress, RoundsConfig, play, start
from edgepact.training.federated.transport import Handler, InMemory, Request
from edgepact.training.federated.work import RATES, Variable

SIZE, CLIENTS, ROUNDS = 2000, 6, 12
PSI = (12.0, 6.0, 2.0)
TARGET = np.random.default_rng(5).normal(size=SIZE).astype(np.float32)


class ToyTask:
    """Each client pulls the weights a part of the way to the target in every epoch, with noise of
    its own."""

    size = SIZE

    def train(
        self, weights: Vector, images: LabelledImages, *, seed: Sequence[int], epochs: int = 1
    ) -> tuple[Vector, float]:
        noise = np.random.default_rng(list(seed)).normal(size=SIZE) * 0.05
        share = 1.0 - 0.7**epochs
        moved = (weights + share * (TARGET - weights) + noise).astype(np.float32)
        return moved, float(np.linalg.norm(TARGET - weights))

    def accuracy(self, weights: Vector) -> float:
        return float(1.0 / (1.0 + np.linalg.norm(weights - TARGET) / np.sqrt(SIZE)))


def handler(number: int, psi: float) -> Handler:
    """A client that remembers, as Flower's context makes it."""
    images = LabelledImages(
        images=np.zeros((10 + number, 28, 28), np.uint8), labels=np.zeros(10 + number, np.uint8)
    )
    client = Client(task=ToyTask(), images=images, cost=PrivateCost(psi=psi), seed=(number,))
    memory = [Memory()]

    def handle(kind: str, request: Request) -> Fields:
        fields, memory[0] = client.handle(kind, request, memory[0])
        return fields

    return handle


def handlers() -> dict[str, Handler]:
    return {f"client-{n}": handler(n, PSI[n % len(PSI)]) for n in range(CLIENTS)}


def menu() -> ByContract:
    return ByContract(
        contract=Contract(
            psi=np.array(PSI),
            probability=np.array([0.3, 0.3, 0.4]),
            value=Saturating(scale=1.0, rate=40.0),
            quality_max=0.5,
        )
    )


def play_in(
    folder: Path,
    clients: Mapping[str, Handler] | None = None,
    *,
    engagement: Engagement | None = None,
    variable: Variable = RATES,
    rounds: int = ROUNDS,
    budget_microcredits: int | None = None,
    on_keep: Callable[[Progress], None] = lambda progress: None,
    synchronous: str = "OFF",
) -> Progress:
    """Plays or resumes the rounds of a folder."""
    task = ToyTask()
    with files.locked(folder):
        progress = files.read_checkpoint(folder, SIZE)
        if progress is None:
            progress = start(task, FedAvg(), np.zeros(SIZE, np.float32))

        def keep(now: Progress) -> None:
            files.write_checkpoint(folder, now)
            on_keep(now)

        with Ledger(f"sqlite:///{folder / files.LEDGER}", synchronous=synchronous) as books:
            return play(
                progress,
                transport=InMemory(handlers() if clients is None else clients),
                engagement=engagement or menu(),
                aggregate=FedAvg(),
                task=task,
                config=RoundsConfig(
                    rounds=rounds,
                    examples_max=100,
                    norm_max=1e3,
                    variable=variable,
                    budget_microcredits=budget_microcredits,
                ),
                keep=keep,
                books=books,
            )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[2]))
    play_in(Path(sys.argv[1]), synchronous="FULL")
    print("done", flush=True)
