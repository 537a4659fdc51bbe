"""The whole of `edgepact train`: a simulated federation that pays, in a folder of its own."""

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.credits import MICRO
from edgepact.engagement import Engagement
from edgepact.errors import InputError, MissingExtraError
from edgepact.framework import Sheet
from edgepact.market.ledger import Ledger
from edgepact.tables import Shown
from edgepact.training.federated import folder as files
from edgepact.training.federated.aggregate import AGGREGATES
from edgepact.training.federated.composition import engagement_of, fleet_of, rounds_config
from edgepact.training.federated.config import TrainConfig
from edgepact.training.federated.rounds import Progress, Round, play, start
from edgepact.training.federated.simulated import CostTypes, Simulated, name_of
from edgepact.training.federated.task import read_data, task_of
from edgepact.training.federated.transport import InMemory, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeTakeUp:
    """What clients of one cost type did. Known to who simulates them, not to the server.

    Attributes:
        psi: credits per unit of c(amount).
        clients: of the type.
        trained: updates of theirs that were accepted.
        mean_rate: of these.
        mean_epochs: trained before each of these.
        paid_microcredits: for these.
    """

    psi: float
    clients: int
    trained: int
    mean_rate: float
    mean_epochs: float
    paid_microcredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Shown):
    """What came of a run.

    Attributes:
        out: its folder.
        size: weights of the model.
        history: round 0 and all finished rounds.
        types: take-up by cost type; empty without a contract.
        balanced: whether the books balance.
    """

    out: Path
    size: int
    history: tuple[Round, ...]
    types: tuple[TypeTakeUp, ...]
    balanced: bool

    @property
    def accuracy(self) -> float:
        """After the last round."""
        return self.history[-1].accuracy

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json` and `edgepact train --json`."""
        updates = sum(len(each.accepted) for each in self.history)
        engaged = sum(len(each.deliveries) for each in self.history)
        bytes_up = sum(each.bytes_up for each in self.history)
        return {
            "rounds": self.history[-1].number,
            "accuracy_start": self.history[0].accuracy,
            "accuracy": self.accuracy,
            "accuracy_by_round": [each.accuracy for each in self.history],
            "weights": self.size,
            "updates": updates,
            "rejected": engaged - updates,
            "bytes_up": bytes_up,
            "bytes_up_float32": 4 * self.size * updates,
            "times_fewer_bytes": 4 * self.size * updates / bytes_up if bytes_up else None,
            "bytes_down": 4 * self.size * engaged,
            "paid_microcredits": sum(each.paid_microcredits for each in self.history),
            "books_balance": self.balanced,
            "seconds": sum(each.seconds for each in self.history),
            "types": [
                {
                    "psi": each.psi,
                    "clients": each.clients,
                    "trained": each.trained,
                    "mean_rate": each.mean_rate,
                    "mean_epochs": each.mean_epochs,
                    "paid_microcredits": each.paid_microcredits,
                }
                for each in self.types
            ],
            "out": str(self.out),
        }

    def figures(self) -> list[tuple[str, str]]:
        """What came of it in words."""
        facts = self.to_dict()
        fewer = facts["times_fewer_bytes"]
        balance = "balance" if self.balanced else "DO NOT BALANCE"
        return [
            ("rounds", f"{facts['rounds']}"),
            ("accuracy before the first round", f"{facts['accuracy_start']:.2%}"),
            ("accuracy after the last", f"{self.accuracy:.2%}"),
            ("updates accepted", f"{facts['updates']}"),
            ("updates rejected, unpaid", f"{facts['rejected']}"),
            ("bytes up", f"{facts['bytes_up']:,}"),
            ("bytes up as float32", f"{facts['bytes_up_float32']:,}"),
            ("times fewer bytes", "none sent" if fewer is None else f"{fewer:.1f}"),
            ("bytes down, weights as float32", f"{facts['bytes_down']:,}"),
            ("paid, credits", f"{facts['paid_microcredits'] / MICRO:.6f}"),
            ("the books", balance),
            ("seconds", f"{facts['seconds']:.1f}"),
        ]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The figures, and what clients of each type took."""
        figures = Sheet(
            title="Federated training",
            head=("figure", "value"),
            rows=tuple(self.figures()),
            notes=(f"Results: {self.out}",),
        )
        if not self.types:
            return (figures,)
        types = Sheet(
            title="Who took what",
            head=("cost psi", "clients", "updates", "mean rate", "mean epochs", "paid, credits"),
            rows=tuple(
                (
                    f"{each.psi:g}",
                    f"{each.clients}",
                    f"{each.trained}",
                    f"{each.mean_rate:.4f}",
                    f"{each.mean_epochs:g}",
                    f"{each.paid_microcredits / MICRO:.6f}",
                )
                for each in self.types
            ),
        )
        return figures, types


def train(
    config: TrainConfig,
    advance: Callable[[int, int], None] = lambda *_: None,
    *,
    engagement: Engagement | None = None,
) -> Trained:
    """Trains together, from the start or from where the folder's last run stopped.

    Args:
        config: what and how.
        advance: told how many rounds are done, of how many.
        engagement: the mechanism at work; None for the one that the configuration names.

    Raises:
        MissingExtraError: Flower or Ray is not installed.
        InputError: a setting, a file or the folder cannot be used.
        MarketError: the simulation broke down.
    """
    simulate = _simulation()
    fleet = fleet_of(config)
    workers = config.workers or min(os.cpu_count() or 1, config.clients)
    trained = train_over(
        config,
        lambda serve: simulate(fleet, serve, workers=workers, log=config.out / files.LOG),
        advance,
        engagement=engagement,
    )
    return _written(replace(trained, types=_take_up(fleet, trained.history)))


def expect_ready(config: TrainConfig) -> None:
    """Finds out what is missing before anything is started.

    Raises:
        MissingExtraError, InputError: as `train`.
    """
    _simulation()
    read_data(config.task)


Reach = Callable[[Callable[[Transport], None]], None]
"""Calls what it is given with a transport to the clients, and returns when that is done."""


def train_over(
    config: TrainConfig,
    reach: Reach,
    advance: Callable[[int, int], None] = lambda *_: None,
    *,
    engagement: Engagement | None = None,
) -> Trained:
    """The same over any transport; what costs clients have is not known."""
    mechanism = engagement_of(config) if engagement is None else engagement
    shared = len(read_data(config.task).shared)
    if config.clients > shared:
        raise InputError("train", "clients", f"at most {shared}, the images", config.clients)
    with files.locked(config.out):
        files.keep_config(config.out, config.settings(), may_differ=frozenset({"rounds"}))
        task = task_of(config.task)
        aggregate = AGGREGATES[config.aggregate]
        progress = files.read_checkpoint(config.out, task.size)
        if progress is None:
            progress = start(task, aggregate, task.start())
            files.write_checkpoint(config.out, progress)
        reached = [progress]
        advance(progress.round, config.rounds)

        def keep(now: Progress) -> None:
            files.write_checkpoint(config.out, now)
            reached[0] = now

        with Ledger(f"sqlite:///{config.out / files.LEDGER}") as books:

            def serve(transport: Transport) -> None:
                play(
                    reached[0],
                    transport=transport,
                    engagement=mechanism,
                    aggregate=aggregate,
                    task=task,
                    config=rounds_config(config, shared, task.size),
                    keep=keep,
                    books=books,
                    report=lambda finished: advance(finished.number, config.rounds),
                )

            if progress.round < config.rounds:
                reach(serve)
            else:
                # Nobody has to be reached for what the last round may still owe.
                serve(InMemory({}))
            debits, credits = books.totals()
            unbalanced = books.unbalanced()
        return _written(
            Trained(
                out=config.out,
                size=task.size,
                history=reached[0].history,
                types=(),
                balanced=debits == credits and not unbalanced,
            )
        )


def _simulation() -> Callable[..., None]:
    try:
        from edgepact.training.federated.flower import simulate
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "flwr":
            raise
        raise MissingExtraError("federated training", "federated") from None
    # Flower imports Ray late, where nobody could be told what is missing.
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("federated training", "federated")
    return simulate


def _take_up(fleet: Simulated, history: tuple[Round, ...]) -> tuple[TypeTakeUp, ...]:
    if not isinstance(fleet.costs, CostTypes):
        return ()
    costs = fleet.costs
    type_of = {name_of(number): costs.drawn(fleet.seed, number) for number in range(fleet.clients)}
    rows = []
    for at, psi in enumerate(costs.psi):
        done = [each for past in history for each in past.accepted if type_of[each.client] == at]
        rows.append(
            TypeTakeUp(
                psi=psi,
                clients=sum(kind == at for kind in type_of.values()),
                trained=len(done),
                mean_rate=float(np.mean([each.rate for each in done])) if done else 0.0,
                mean_epochs=float(np.mean([each.epochs for each in done])) if done else 0.0,
                paid_microcredits=sum(each.paid_microcredits for each in done),
            )
        )
    return tuple(rows)


def _written(trained: Trained) -> Trained:
    """The same, with `rounds.csv`, `metrics.json` and `accuracy.png` in its folder."""
    files.write_rounds(trained.out, trained.history)
    metrics = json.dumps(trained.to_dict(), indent=2, allow_nan=False)
    files.write_durably(trained.out / files.METRICS, metrics.encode() + b"\n")
    _draw(trained)
    return trained


def _draw(trained: Trained) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0))
    axes.plot(
        [each.number for each in trained.history], [each.accuracy for each in trained.history], "o-"
    )
    axes.set_xlabel("round")
    axes.set_ylabel("share of the test images told right")
    axes.grid(alpha=0.3)
    figure.savefig(trained.out / files.FIGURE, dpi=150, bbox_inches="tight")
    pyplot.close(figure)
