"""Who should train: accuracy against money, time and rounds, for every selector and the auction.

A hundred clients hold Fashion-MNIST unevenly and bear private costs. Random selection, FedCS,
power of choice and Oort choose among those who take a posted pay; the auction buys from those who
ask least for what their data, speed and loss are worth. All train the same model from the same
start, pay from a ledger, and run on the clients' own simulated clocks.

The target is what random selection at the pay that everybody takes reaches at its end. The warm
start is short, so that there is something left to learn from clients who hold one or two kinds of
garments: after a long one, uneven data make the model worse before they make it better. A second
part asks what a client gains by lying, if winners are paid their threshold or what they bid.
"""

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.credits import MICRO
from edgepact.efficiency.selection import (
    Deadline,
    Oort,
    PowerOfChoice,
    RandomSelection,
    Selector,
)
from edgepact.engagement import Engagement
from edgepact.mechanisms.auction.proportional_share import ProportionalShare
from edgepact.pages import percent, table
from edgepact.palette import (
    AMBER_LINE,
    BLUE_LINE,
    BROWN_LINE,
    GREY,
    GREY_LINE,
    INK_LINE,
    PURPLE_LINE,
    Look,
)
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import draw_curve, write_findings, write_picture
from edgepact.studies.federation import UPDATE_CPU_S, federate, task_for
from edgepact.studies.spread import spread
from edgepact.training.federated.bidding import ByAuction
from edgepact.training.federated.config import TrainConfig
from edgepact.training.federated.rounds import Round
from edgepact.training.federated.selecting import BySelector
from edgepact.training.federated.simulated import CostRange, Simulated, name_of
from edgepact.training.federated.speed import Speed, drawn_speed
from edgepact.training.federated.task import task_of

RANDOM = "random, pay for all"
AUCTION = "auction"
LOOKS: dict[str, Look] = {
    AUCTION: BLUE_LINE,
    RANDOM: INK_LINE,
    "random, pay for half": GREY_LINE,
    "FedCS": PURPLE_LINE,
    "power of choice": AMBER_LINE,
    "Oort": BROWN_LINE,
}
SMOOTHED = 5
"""Rounds over which accuracy is averaged before it is held against the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        clients, per_round, rounds: of a federation.
        dirichlets: concentrations of the labels, a federation of each method for each.
        cost_min, cost_max: private costs of an update, credits, uniform between.
        budget: of the auction in a round, credits.
        rate: compression rate of all updates.
        deadline_quantile: FedCS's deadline, as a quantile of the clients' times.
        warm_up_steps: batches of the server's own images before the first round.
        seeds: of everything; curves are means over them.
        money_max: share of random selection's money for which the auction should reach the target;
            it plays as many rounds as that money lasts for.
        lies: factors by which a client multiplies its cost in the second part.
        auctions: drawn for the second part.
    """

    clients: int = 100
    per_round: int = 10
    rounds: int = 30
    dirichlets: tuple[float, ...] = (0.1, 1.0)
    cost_min: float = 0.5
    cost_max: float = 1.5
    budget: float = 7.0
    rate: float = 0.09
    deadline_quantile: float = 0.5
    warm_up_steps: int = 24
    seeds: tuple[int, ...] = field(default=(0, 1), metadata=size("seeds"))
    money_max: float = 0.7
    lies: tuple[float, ...] = (0.8, 1.0, 1.1, 1.25, 1.5, 2.0)
    auctions: int = 500

    @property
    def rounds_of_auction(self) -> int:
        """Rounds that `money_max` of random selection's money lasts for."""
        money = self.money_max * self.rounds * self.per_round * self.cost_max
        return max(1, int(money / self.budget + 1e-9))


class Course(NamedTuple):
    """A federation's course: by round, from 0; clients are a single number.

    Of several seeds, all are means; `low` and `high` are the least and the most of the smoothed
    accuracies over seeds.
    """

    accuracy: np.ndarray
    credits: np.ndarray
    seconds: np.ndarray
    trained: np.ndarray
    clients: np.ndarray
    low: np.ndarray
    high: np.ndarray


Found = dict[float, dict[str, Course]]
"""By concentration of the labels and method."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return Config()
    return Config(
        clients=8, per_round=2, rounds=2, dirichlets=(1.0,), budget=2.0, auctions=5, seeds=(0,)
    )


def methods(config: Config, speeds: list[Speed], seed: int) -> dict[str, Engagement]:
    """All of them, fresh: they remember who took part."""
    seconds = np.array([each.compute_s + config.rate * each.upload_s for each in speeds])
    deadline_s = float(np.quantile(seconds, config.deadline_quantile))

    def posted(selector: Selector, pay: float) -> BySelector:
        return BySelector(
            selector=selector,
            per_round=config.per_round,
            rate=config.rate,
            pay_microcredits=round(pay * MICRO),
            seed=seed,
        )

    half = (config.cost_min + config.cost_max) / 2.0
    return {
        RANDOM: posted(RandomSelection(), config.cost_max),
        "random, pay for half": posted(RandomSelection(), half),
        "FedCS": posted(Deadline(deadline_s=deadline_s, asked=1.0), config.cost_max),
        "power of choice": posted(PowerOfChoice(), config.cost_max),
        "Oort": posted(Oort(), config.cost_max),
        AUCTION: ByAuction(
            budget_microcredits=round(config.budget * MICRO),
            rate=config.rate,
            preferred_s=float(np.median(seconds)),
        ),
    }


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the recorded time of an update."""
    rounds = (len(LOOKS) - 1) * config.rounds + config.rounds_of_auction
    federations = len(config.dirichlets) * len(config.seeds)
    return federations * rounds * config.per_round * UPDATE_CPU_S


class Piece(NamedTuple):
    """What one process does at a time: a federation of one method, split and seed."""

    config: Config
    smoke: bool
    dirichlet: float
    seed: int
    method: str


def train_all(config: Config, smoke: bool, *, workers: int = 1) -> Found:
    """Every method on every split, the mean over seeds."""
    pieces = [
        Piece(config, smoke, dirichlet, seed, method)
        for dirichlet in config.dirichlets
        for method in LOOKS
        for seed in config.seeds
    ]
    with progress_bar(f"{len(pieces)} federations") as advance:
        courses = spread(train_piece, pieces, workers=workers, on_piece=advance)
    seeds, found = len(config.seeds), Found()
    for at in range(0, len(pieces), seeds):
        of_method = found.setdefault(pieces[at].dirichlet, {})
        of_method[pieces[at].method] = _mean(courses[at : at + seeds])
    return found


def _mean(courses: list[Course]) -> Course:
    mean = Course(*(np.mean(part, axis=0) for part in zip(*courses, strict=True)))
    smoothed = np.stack([smooth(each.accuracy) for each in courses])
    return mean._replace(low=smoothed.min(axis=0), high=smoothed.max(axis=0))


def train_piece(piece: Piece) -> Course:
    """Plays one federation."""
    config, seed = piece.config, piece.seed
    task_config = task_for(piece.smoke, seed=seed)
    if not piece.smoke:
        task_config = replace(task_config, warm_up_steps=config.warm_up_steps)
    auction = piece.method == AUCTION
    run = TrainConfig(
        clients=config.clients,
        rounds=config.rounds_of_auction if auction else config.rounds,
        dirichlet=piece.dirichlet,
        task=task_config,
    )
    fleet = Simulated(
        task=run.task,
        clients=run.clients,
        dirichlet=run.dirichlet,
        costs=CostRange(low=config.cost_min, high=config.cost_max),
        seed=seed,
    )
    task = task_of(run.task)
    speeds = [
        drawn_speed(seed, number, config.clients, task=task) for number in range(config.clients)
    ]
    engagement = methods(config, speeds, seed)[piece.method]
    return _course(federate(run, engagement, fleet), speeds, config)


def _course(history: tuple[Round, ...], speeds: list[Speed], config: Config) -> Course:
    by_name = {name_of(number): speed for number, speed in enumerate(speeds)}
    seconds = [
        max(
            (
                by_name[each.client].compute_s + each.rate * by_name[each.client].upload_s
                for each in played.deliveries
            ),
            default=0.0,
        )
        for played in history
    ]
    taken_part = {each.client for played in history for each in played.accepted}
    accuracy = np.array([each.accuracy for each in history])
    return Course(
        accuracy=accuracy,
        credits=np.cumsum([each.paid_microcredits for each in history]) / MICRO,
        seconds=np.cumsum(seconds),
        trained=np.array([len(each.accepted) for each in history]),
        clients=np.array(len(taken_part)),
        low=smooth(accuracy),
        high=smooth(accuracy),
    )


def smooth(accuracy: np.ndarray) -> np.ndarray:
    """Mean of the last `SMOOTHED` rounds, or of as many as there are."""
    return np.array(
        [accuracy[max(0, at - SMOOTHED + 1) : at + 1].mean() for at in range(len(accuracy))]
    )


def reached(course: Course, target: float) -> int | None:
    """The first round whose smoothed accuracy is the target; None if there is none."""
    there = np.flatnonzero(smooth(course.accuracy) >= target)
    return int(there[0]) if len(there) else None


def target_of(courses: dict[str, Course]) -> float:
    """Smoothed accuracy at the end of random selection at the pay that everybody takes."""
    return float(smooth(courses[RANDOM].accuracy)[-1])


class Lie(NamedTuple):
    """What a client keeps on average, credits, that multiplies its cost by a factor."""

    factor: float
    threshold: float
    pay_as_bid: float


def lies(config: Config) -> list[Lie]:
    """One client of each of many auctions lies, the others tell the truth."""
    rng = np.random.default_rng(config.seeds[0])
    kept: dict[float, list[tuple[float, float]]] = {factor: [] for factor in config.lies}
    for _ in range(config.auctions):
        costs = rng.uniform(config.cost_min, config.cost_max, config.clients)
        values = rng.integers(50, 500, config.clients).astype(float)
        auction = ProportionalShare(values=values, budget=config.budget)
        for factor in config.lies:
            bids = costs.copy()
            bids[0] *= factor
            award = auction.award(bids)
            won = bool(award.wins[0])
            by_threshold = float(award.payments[0]) - costs[0] if won else 0.0
            kept[factor].append((by_threshold, bids[0] - costs[0] if won else 0.0))
    means = {factor: np.mean(each, axis=0) for factor, each in kept.items()}
    return [Lie(factor, float(each[0]), float(each[1])) for factor, each in means.items()]


def measures(found: Found, told: list[Lie]) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    splits = {}
    for dirichlet, courses in found.items():
        target = target_of(courses)
        splits[f"{dirichlet:g}"] = {
            "target": target,
            "methods": {
                name: {
                    "final_accuracy": float(course.accuracy[-1]),
                    "round_at_target": reached(course, target),
                    "credits_at_target": _at_target(course, target, course.credits),
                    "seconds_at_target": _at_target(course, target, course.seconds),
                    "credits": float(course.credits[-1]),
                    "seconds": float(course.seconds[-1]),
                    "clients_that_trained": float(course.clients),
                    "updates": float(course.trained.sum()),
                }
                for name, course in courses.items()
            },
        }
    return {"dirichlet": splits, "lies": [each._asdict() for each in told]}


def _at_target(course: Course, target: float, column: np.ndarray) -> float | None:
    at = reached(course, target)
    return None if at is None else float(column[at])


def write_tables(folder: Path, found: Found) -> None:
    """Writes `curves.csv`, a line for each split, method and round."""
    with (folder / "curves.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["dirichlet", "method", "round", "accuracy", "credits", "seconds", "updates"])
        for dirichlet, courses in found.items():
            for name, course in courses.items():
                for at, values in enumerate(zip(*course[:4], strict=True)):
                    rows.writerow([dirichlet, name, at, *(f"{x:.8g}" for x in values)])


def draw(found: Found) -> Figure:
    """Smoothed accuracy against money, simulated time and rounds; a row a split."""
    figure = Figure(figsize=(11, 3.4 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 3, sharey="row", squeeze=False)
    for row, (dirichlet, courses) in enumerate(found.items()):
        for name, course in courses.items():
            accuracy = 100.0 * smooth(course.accuracy)
            rounds = np.arange(len(accuracy))
            band = 100.0 * course.low, 100.0 * course.high
            for axes, x in zip(panels[row], (course.credits, course.seconds, rounds), strict=True):
                label = name if row == 0 and axes is panels[row, 0] else None
                draw_curve(axes, x, accuracy, band, LOOKS[name], label=label)
        for axes, what in zip(
            panels[row], ("credits paid", "simulated seconds", "rounds"), strict=True
        ):
            look = {"color": GREY, "linewidth": 0.8, "linestyle": "--"}
            label = "target" if axes is panels[0, 0] else None
            axes.axhline(100.0 * target_of(courses), **look, label=label)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel(what)
        panels[row, 2].xaxis.get_major_locator().set_params(integer=True)
        panels[row, 0].set_ylabel(f"test images told right, %\nDirichlet {dirichlet:g}")
    figure.legend(frameon=False, loc="outside lower center", ncols=4)
    return figure


def _seeds(config: Config) -> str:
    return "one seed" if len(config.seeds) == 1 else f"{len(config.seeds)} seeds"


def page(found: Found, told: list[Lie], config: Config) -> list[str]:
    """The findings in words and tables."""
    parts = [
        f"{config.clients} clients with costs from {config.cost_min:g} to {config.cost_max:g} "
        f"credits an update, {config.per_round} of them chosen in each of {config.rounds} rounds; "
        f"the auction has {config.budget:g} credits a round instead, and plays the "
        f"{config.rounds_of_auction} rounds for which {percent(config.money_max)} % of random "
        f"selection's money lasts. Accuracy is the mean of {SMOOTHED} rounds on all test "
        f"images and of {_seeds(config)}. The target is what random "
        "selection reaches at its end, paying what everybody takes. Time is the clients' own: the "
        "slowest of a round ends it.",
        "![Accuracy against money, time and rounds](selection.png)",
    ]
    for dirichlet, courses in found.items():
        target, rows = target_of(courses), []
        for name, course in courses.items():
            at = reached(course, target)
            rows.append(
                [
                    name,
                    percent(float(smooth(course.accuracy)[-1])),
                    "never" if at is None else at,
                    "" if at is None else f"{course.credits[at]:.1f}",
                    "" if at is None else f"{course.seconds[at]:.0f}",
                    f"{course.credits[-1]:.1f}",
                    f"{float(course.clients):g}",
                ]
            )
        head = [
            "who trains",
            "accuracy at the end",
            "rounds to the target",
            "credits",
            "seconds",
            "credits in all",
            "clients that trained",
        ]
        spent = _at_target(courses[RANDOM], target, courses[RANDOM].credits)
        own = _at_target(courses[AUCTION], target, courses[AUCTION].credits)
        verdict = "The auction spends nothing before the target, or does not reach it."
        if own is not None and spent:
            share = own / spent
            word = "as was asked" if share <= config.money_max else "more than was asked"
            verdict = (
                f"The auction reaches it for {percent(share)} % of the money of random selection; "
                f"at most {percent(config.money_max)} % was asked for, so this is {word}."
            )
        parts += [
            f"## Dirichlet {dirichlet:g}, target {percent(target)} %",
            table(head, rows),
            verdict,
        ]
    kept = [
        [f"{each.factor:g}", f"{each.threshold:.4f}", f"{each.pay_as_bid:.4f}"] for each in told
    ]
    return [
        *parts,
        "## What a lie brings",
        f"One client of {config.clients} multiplies its cost by a factor when it bids, the others "
        f"tell the truth; what it keeps on average over {config.auctions} auctions, credits. "
        "Paid its threshold it can do no better than the truth; paid what it bids it gains by "
        "asking for more, so that bids say nothing of costs any more.",
        table(["factor", "paid its threshold", "paid its bid"], kept),
    ]


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, selection.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = sized(config_for(asked.smoke), asked)
    found, told = train_all(config, asked.smoke, workers=asked.workers), lies(config)
    write_tables(folder, found)
    write_picture(folder, "selection", lambda: draw(found), config, asked)
    write_metrics(folder, config, measures(found, told), asked.record("selection"))
    write_findings(folder, "selection", "Who should train", page(found, told, config), asked)
