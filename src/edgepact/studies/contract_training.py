"""Part B of the study of contracts: menus in real federated training.

What a compression rate is worth is measured first: the same federation is trained at several
rates, and a saturating curve is fitted to its accuracies. Clients of private cost types are
then offered menus for that value, the exact one, the GDM's and one item for all, and train at
the rates they take. Accuracy stands against the bytes that were sent and the credits paid.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.credits import MICRO
from edgepact.engagement import Engagement
from edgepact.mechanisms.contract.optimum import menu_at
from edgepact.mechanisms.contract.quality import Saturating, fit_saturating
from edgepact.mechanisms.contract.terms import Contract, Menu
from edgepact.pages import count, percent, table
from edgepact.palette import (
    AMBER_LINE,
    BLUE_LINE,
    BROWN_LINE,
    GREEN_LINE,
    GREY_LINE,
    INK_LINE,
    PURPLE_LINE,
    SKY_LINE,
    Look,
)
from edgepact.progress import progress_bar
from edgepact.solvers.in_context.menus import gdm_menu
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import draw_curve, log_ticks, with_legend, write_picture
from edgepact.studies.federation import UPDATE_CPU_S, federate, task_for
from edgepact.studies.spread import spread
from edgepact.training.federated.config import TrainConfig
from edgepact.training.federated.contract import ByContract
from edgepact.training.federated.everyone import Everyone
from edgepact.training.federated.simulated import CostTypes, Simulated

UNCOMPRESSED = "no compression, unpaid"
LOOKS: dict[str, Look] = {
    UNCOMPRESSED: INK_LINE,
    "optimal menu": PURPLE_LINE,
    "GDM's menu": BLUE_LINE,
    "one item for all": AMBER_LINE,
}
UNPAID = (SKY_LINE, BROWN_LINE, GREEN_LINE, GREY_LINE)
"""Of federations that compress by one rate and are not paid, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationConfig:
    """Settings of part B.

    Attributes:
        clients: all of them train in every round, if they take an item.
        rounds: of training.
        dirichlet: concentration of the labels over clients.
        rates: at which accuracy is measured, 1 (no compression) last.
        psi: cost of a float32 update to each type, in points of accuracy: whole credits.
        probability: of each type.
        credits: what a point of accuracy in a hundred is worth, credits a client.
        seeds: of data, weights and costs; figures are means over them.
        within, fewer: accuracy may fall by so much for so many times fewer bytes.
    """

    clients: int = 20
    rounds: int = 20
    dirichlet: float = 1.0
    rates: tuple[float, ...] = (0.02, 0.05, 0.09, 1.0)
    psi: tuple[float, ...] = (12.0, 6.0, 2.0)
    probability: tuple[float, ...] = (0.3, 0.3, 0.4)
    credits: float = 1.0
    seeds: tuple[int, ...] = field(default=(0, 1), metadata=size("seeds"))
    within: float = 0.01
    fewer: float = 10.0


class Federation(NamedTuple):
    """One federation's course: by round, from 0.

    Attributes:
        accuracy: on the test images.
        bytes_up: sent so far.
        paid: credits so far.
        updates: accepted in all.
    """

    accuracy: np.ndarray
    bytes_up: np.ndarray
    paid: np.ndarray
    updates: int


Found = dict[str, list[Federation]]
"""By what was offered, a federation for each seed."""


def config_for(smoke: bool) -> FederationConfig:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return FederationConfig()
    return FederationConfig(clients=3, rounds=1, rates=(0.05, 0.2, 1.0), seeds=(0,))


Accuracies = dict[float, list[float]]
"""By rate, an accuracy for each seed; that before any training by rate 0."""


def study(
    config: FederationConfig, smoke: bool, *, workers: int = 1
) -> tuple[Accuracies, Contract, Found]:
    """Measures what rates are worth, writes menus for it, and trains by them."""
    unpaid = {
        UNCOMPRESSED if rate == 1.0 else f"rate {rate:g}, unpaid": partial(_unpaid, rate)
        for rate in config.rates
    }
    found = _train_all(config, smoke, unpaid, workers)
    measured: Accuracies = {}
    for rate, courses in zip(config.rates, found.values(), strict=True):
        measured[0.0] = [float(each.accuracy[0]) for each in courses]
        measured[rate] = [float(each.accuracy[-1]) for each in courses]
    contract = contract_of(config, measured)
    paid = {name: partial(_offered, contract, menu) for name, menu in menus(contract).items()}
    return measured, contract, found | _train_all(config, smoke, paid, workers)


def contract_of(config: FederationConfig, measured: Accuracies) -> Contract:
    """Types as configured, and what a rate is worth by the accuracies measured."""
    rates = np.array(sorted(measured))
    accuracy = np.array([np.mean(measured[rate]) for rate in rates])
    fitted = fit_saturating(rates, 100.0 * config.credits * accuracy)
    return Contract(
        psi=np.array(config.psi),
        probability=np.array(config.probability),
        value=Saturating(scale=fitted.scale, rate=fitted.rate),
        quality_max=max(rate for rate in config.rates if rate < 1.0),
    )


def menus(contract: Contract) -> dict[str, Menu | None]:
    """What clients are offered; None is the exact optimal menu."""
    # Nobody is left out: the item is best for the dearest type, and paid as that one needs.
    one = menu_at(contract, np.full(len(contract.psi), np.max(contract.psi)))
    return {"optimal menu": None, "GDM's menu": gdm_menu(contract), "one item for all": one}


def _unpaid(rate: float, seed: int) -> Engagement:
    return Everyone(rate=rate, seed=seed)


def _offered(contract: Contract, menu: Menu | None, seed: int) -> Engagement:
    return ByContract(contract=contract, offer=menu, seed=seed)


def seconds(config: FederationConfig) -> float:
    """CPU seconds that part B takes, by the recorded time of an update."""
    federations = (len(config.rates) + len(LOOKS) - 1) * len(config.seeds)
    return federations * config.rounds * config.clients * UPDATE_CPU_S


class Piece(NamedTuple):
    """What one process does at a time: a federation of one seed, and what its clients are offered
    in it."""

    config: FederationConfig
    smoke: bool
    seed: int
    engagement: Callable[[int], Engagement]


def _train_all(
    config: FederationConfig,
    smoke: bool,
    offers: Mapping[str, Callable[[int], Engagement]],
    workers: int,
) -> Found:
    """A federation of every seed for each of what is offered."""
    seeds = config.seeds
    pieces = [Piece(config, smoke, seed, offer) for offer in offers.values() for seed in seeds]
    with progress_bar(f"{len(pieces)} federations") as advance:
        courses = spread(train_piece, pieces, workers=workers, on_piece=advance)
    return {
        name: courses[at : at + len(seeds)]
        for name, at in zip(offers, range(0, len(courses), len(seeds)), strict=True)
    }


def train_piece(piece: Piece) -> Federation:
    """Plays one federation."""
    config, seed = piece.config, piece.seed
    run = TrainConfig(
        clients=config.clients,
        rounds=config.rounds,
        dirichlet=config.dirichlet,
        task=task_for(piece.smoke, seed=seed),
    )
    fleet = Simulated(
        task=run.task,
        clients=run.clients,
        dirichlet=run.dirichlet,
        costs=CostTypes(
            psi=config.psi,
            probability=config.probability,
            form="linear",
            participation_credits=0.0,
        ),
        seed=seed,
    )
    history = federate(run, piece.engagement(seed), fleet)
    return Federation(
        accuracy=np.array([each.accuracy for each in history]),
        bytes_up=np.cumsum([each.bytes_up for each in history]),
        paid=np.cumsum([each.paid_microcredits for each in history]) / MICRO,
        updates=sum(len(each.accepted) for each in history),
    )


def measures(measured: Accuracies, contract: Contract, found: Found) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    value = contract.value
    assert isinstance(value, Saturating)
    return {
        "accuracy_by_rate": {f"{rate:g}": each for rate, each in measured.items()},
        "value": {"form": "saturating", "scale": value.scale, "rate": value.rate},
        "federations": {
            name: [
                {
                    "accuracy_by_round": each.accuracy.tolist(),
                    "bytes_up": int(each.bytes_up[-1]),
                    "paid_credits": float(each.paid[-1]),
                    "updates": each.updates,
                }
                for each in of_name
            ]
            for name, of_name in found.items()
        },
    }


def write_table(folder: Path, found: Found) -> None:
    """Writes `federations.csv`, a line for each federation and round."""
    with (folder / "federations.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["offered", "seed", "round", "accuracy", "bytes_up", "paid_credits"])
        for name, of_name in found.items():
            for seed, each in enumerate(of_name):
                for at, values in enumerate(zip(*each[:3], strict=True)):
                    rows.writerow([name, seed, at, *(f"{x:.8g}" for x in values)])


def draw(found: Found) -> Figure:
    """Accuracy against bytes and against money: means over seeds, and bands of all of them."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    by_bytes, by_money = panels
    others = [name for name in found if name not in LOOKS]
    looks = LOOKS | dict(zip(others, cycle(UNPAID), strict=False))
    for name, of_name in found.items():
        told = 100.0 * np.array([each.accuracy[1:] for each in of_name])
        band = told.min(axis=0), told.max(axis=0)
        sent = np.mean([each.bytes_up[1:] for each in of_name], axis=0) / 1e6
        draw_curve(by_bytes, sent, told.mean(axis=0), band, looks[name], label=name)
        paid = np.mean([each.paid[1:] for each in of_name], axis=0)
        if paid[-1] > 0:
            draw_curve(by_money, paid, told.mean(axis=0), band, looks[name])
    by_bytes.set_xscale("log")
    log_ticks(by_bytes.xaxis)
    by_bytes.set_xlabel("megabytes sent by clients, mean")
    by_bytes.set_ylabel("test images told right, %")
    by_money.set_xlabel("credits paid, mean")
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return with_legend(figure, panels, ncols=4)


def page(contract: Contract, found: Found, config: FederationConfig) -> list[str]:
    """Part B in words and tables."""
    whole = found[UNCOMPRESSED]
    value = contract.value
    assert isinstance(value, Saturating)
    rows = []
    for name, of_name in found.items():
        rows.append(
            [
                name,
                percent(float(np.mean([each.accuracy[-1] for each in of_name]))),
                _times(whole, of_name),
                f"{np.mean([each.paid[-1] for each in of_name]):.3f}",
                f"{np.mean([each.updates for each in of_name]):.0f}",
            ]
        )
    reached = [
        name
        for name, of_name in found.items()
        if name != UNCOMPRESSED
        and _lost(whole, of_name) <= config.within
        and _ratio(whole, of_name) >= config.fewer
    ]
    verdict = ", ".join(reached) if reached else "none"
    return [
        "## Part B: accuracy against bytes and money",
        f"{config.clients} clients hold Fashion-MNIST by a Dirichlet distribution of concentration "
        f"{config.dirichlet:g}; {count(config.rounds, 'round')}, "
        f"{count(len(config.seeds), 'seed')}, accuracy on all test images. "
        "What a rate is worth was fitted to the accuracies of the unpaid runs: "
        f"{value.scale:.4g} (1 - exp(-{value.rate:.4g} rate)) credits a client and round.",
        "![Accuracy against bytes and money](federations.png)",
        "Curves are means over seeds, bands go from the worst seed to the best.",
        table(["offered", "accuracy", "times fewer bytes", "credits paid", "updates"], rows),
        f"Within {100 * config.within:g} point of the uncompressed accuracy with at least "
        f"{config.fewer:g} times fewer bytes: {verdict}.",
    ]


def _lost(whole: list[Federation], other: list[Federation]) -> float:
    """By how much the final accuracy is lower, mean over seeds."""
    pairs = zip(whole, other, strict=True)
    return float(np.mean([each.accuracy[-1] - own.accuracy[-1] for each, own in pairs]))


def _ratio(whole: list[Federation], other: list[Federation]) -> float:
    """Times fewer bytes an update, so that clients who stay away save nothing by it."""
    each = np.mean([w.bytes_up[-1] / max(w.updates, 1) for w in whole])
    own = np.mean([o.bytes_up[-1] / max(o.updates, 1) for o in other])
    return float(each / own) if own > 0 else float("inf")


def _times(whole: list[Federation], other: list[Federation]) -> str:
    ratio = _ratio(whole, other)
    return f"{ratio:.1f}" if np.isfinite(ratio) else "none sent"


def write(folder: Path, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """Plays part B into a folder; returns its figures and its page."""
    config = sized(config_for(asked.smoke), asked)
    measured, contract, found = study(config, asked.smoke, workers=asked.workers)
    write_table(folder, found)
    write_picture(folder, "federations", lambda: draw(found), config, asked)
    return measures(measured, contract, found), page(contract, found, config)
