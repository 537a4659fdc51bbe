"""Figure 4: the server's utility while GDM, PPO and random pricing learn one fleet.

An *epoch* is 64 rounds of the game for every learner, however it uses them:
rounds are what an operator pays for. After each epoch the policy plays one
round in 16 games without exploring; the figure shows that utility. The dotted
line is the exact optimum under complete information, which no learner can
beat. PPO is shown twice: with the settings common in the literature, and with
settings chosen on this very game, in its favour.

Three more games show whether a learner finds the best price where that is hard (`false_peaks`): a
fleet whose profit has two peaks, the same fleet where ten times what a layer saves may be posted,
and fleets whose devices enter at prices far apart. There utilities are told as shares of the gain
over no trade (`mechanisms.stackelberg.score`).
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.score import Gain, Range, gain_of, range_of
from edgepact.pages import percent, table
from edgepact.palette import AMBER_LINE, BLUE_LINE, GREY, GREY_LINE, INK, PURPLE_LINE, Look
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver, train
from edgepact.studies import false_peaks
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import draw_curve, with_legend, write_findings, write_picture
from edgepact.studies.false_peaks import Learned, exact_game
from edgepact.studies.learned_before import NOTHING, Before, Learning, settle

SOLVERS: dict[str, Solver] = {
    "GDM": Diffusion(),
    "PPO, tuned on this game": PPO(learning_rate=3e-3, passes=10, minibatches=2, discount=0.0),
    "PPO, usual settings": PPO(learning_rate=3e-4, passes=10, minibatches=2, discount=0.99),
    "random": Random(),
}
LOOKS: dict[str, Look] = {
    "GDM": BLUE_LINE,
    "PPO, tuned on this game": AMBER_LINE,
    "PPO, usual settings": PURPLE_LINE,
    "random": GREY_LINE,
}
LEAST_MISSED = 1e-3
"""Where the logarithmic axis of what is missed ends, percent."""
HARD_SOLVERS = ("GDM", "PPO, tuned on this game")
"""Who plays the hard games: the diffusion model and the better of its rivals."""
SMOKED, HARD_SMOKED = ("GDM", "random"), ("PPO, tuned on this game",)
"""Learners of a smoke run, each of which costs its own compilation: every program once."""

DEVICES = 5
"""Of the fleet of the article's figures."""

BOUND = 0.99
"""An action beyond this, of [-1, 1], counts as sitting at a price bound."""


TWO_PEAKS = "two peaks"
WIDE = "two peaks, prices to ten times b"
FAR_APART = "fleets that enter far apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneFleet:
    """Settings of learning the fleet of the article's figures, which figure 5 needs alone.

    Attributes:
        fleet_seed: draws the fleet of five devices: alpha in [2, 6], W in [8, 14], A = 1, B = 0.5.
        seed: of everything else.
        seeds: independent learners.
        epochs: of 64 rounds each.
        settled_share: share of the epochs before the mean of figure 5 begins: of 500, 200.
        mark: share of the range a learner should reach and keep, and of the gain over no trade
            in which it should end.
        solvers: names of the learners.
    """

    fleet_seed: int = 0
    seed: int = 1
    seeds: int = field(default=16, metadata=size("seeds", least=2))
    epochs: int = field(default=500, metadata=size("epochs"))
    settled_share: float = 0.4
    mark: float = 0.99
    solvers: tuple[str, ...] = tuple(SOLVERS)

    @property
    def settled_from(self) -> int:
        """Epoch from which the mean of figure 5 is taken."""
        return max(1, round(self.settled_share * self.epochs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OneFleet):
    """Settings of figure 4: those of its fleet, and of the hard games.

    Attributes:
        hard_epochs: of the hard games. Rates of learning fall over as many.
        fleets: whose devices enter at prices far apart.
        seeds_of_fleets: learners on each of them.
        hard: names of the hard games that are played.
        hard_solvers: of the learners on the hard games.
    """

    hard_epochs: int = field(default=160, metadata=size("epochs"))
    fleets: int = field(default=20, metadata=size("fleets"))
    seeds_of_fleets: int = 2
    hard: tuple[str, ...] = (TWO_PEAKS, WIDE, FAR_APART)
    hard_solvers: tuple[str, ...] = HARD_SOLVERS


class Curves(NamedTuple):
    """All that the two figures show."""

    problem: RepeatedPricing
    optimum: float
    optimal_price: float
    range: Range
    gain: Gain
    learning: dict[str, Learning]

    @property
    def random_mean(self) -> float:
        """Mean utility of a random price, credits: the zero of the score."""
        return float(self.range.zero)

    def share(self, utility: np.ndarray) -> np.ndarray:
        """Share of the range between random pricing and the optimum."""
        return np.asarray(self.range.share(utility))

    def gain_share(self, utility: np.ndarray) -> np.ndarray:
        """Share of the gain over no trade."""
        return np.asarray(self.gain.share(utility))


class HardGame(NamedTuple):
    """Fleets of one size that are learned side by side, and the highest price, credits."""

    fleets: list[Fleet]
    high: float
    seeds: int


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return Config()
    return Config(
        seeds=2,
        epochs=20,
        hard_epochs=20,
        fleets=2,
        hard=(FAR_APART,),
        solvers=SMOKED,
        hard_solvers=HARD_SMOKED,
    )


EPOCH_CPU_S = {
    "GDM": 0.0177,
    "PPO, tuned on this game": 0.0059,
    "PPO, usual settings": 0.0059,
    "random": 0.0009,
}
"""CPU seconds of one epoch of one learner of many, compiling included: those of the full figure 4
on `docs/studies/fig4.md`, recorded in November 2026."""


def seconds_of_fleet(config: OneFleet) -> float:
    """CPU seconds of learning figure 4's fleet, by the recorded times of epochs."""
    return config.seeds * config.epochs * sum(EPOCH_CPU_S[name] for name in config.solvers)


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the recorded times of epochs."""
    learners = 2 * config.seeds + config.fleets * config.seeds_of_fleets
    each = sum(EPOCH_CPU_S[name] for name in config.hard_solvers)
    return seconds_of_fleet(config) + learners * config.hard_epochs * each


def hard_games(config: Config) -> dict[str, HardGame]:
    """Games in which the best price is hard to find, by the name of their panel."""
    fleet, wide = [false_peaks.two_peaks()], 10.0 * false_peaks.BETA
    every = {
        TWO_PEAKS: HardGame(fleet, false_peaks.BETA, config.seeds),
        WIDE: HardGame(fleet, wide, config.seeds),
        FAR_APART: HardGame(
            false_peaks.far_apart(config.fleets), false_peaks.BETA, config.seeds_of_fleets
        ),
    }
    return {name: every[name] for name in config.hard}


def over_epochs(solver: Solver, epochs: int) -> Solver:
    """The solver, its rate of learning falling over so many epochs."""
    if isinstance(solver, Diffusion):
        return replace(solver, learning_updates=solver.updates * epochs)
    return replace(solver, learning_epochs=epochs) if isinstance(solver, PPO) else solver


def learn_hard(config: Config, before: Before = NOTHING) -> dict[str, dict[str, Learned]]:
    """Trains the diffusion model and its best rival on the hard games: game, solver, shares.

    What an earlier run learned is taken from there.
    """
    found: dict[str, dict[str, Learned]] = {}
    for game, (fleets, high, seeds) in hard_games(config).items():
        found[game] = {}
        for name in config.hard_solvers:
            if name in before.hard.get(game, {}):
                found[game][name] = before.hard[game][name]
                continue
            with progress_bar(f"{name}: {game}") as advance:

                def on_epochs(done: int, show: Callable[[int, int], None] = advance) -> None:
                    show(done, config.hard_epochs)

                found[game][name] = false_peaks.learn(
                    over_epochs(SOLVERS[name], config.hard_epochs),
                    fleets,
                    high,
                    seed=config.seed,
                    seeds=seeds,
                    epochs=config.hard_epochs,
                    on_epochs=on_epochs,
                )
    return found


def learn(config: OneFleet, before: Before = NOTHING) -> Curves:
    """Trains every solver on the fleet of figure 4, but those that an earlier run trained."""
    fleet = FleetPrior().sample(jax.random.key(config.fleet_seed), DEVICES)
    problem = RepeatedPricing(fleet, price=Interval(0.05, 3.0))
    game = exact_game(problem, fleet)
    best = equilibrium(game)
    learning = {}
    for name in config.solvers:
        if name in before.learning:
            learning[name] = before.learning[name]
            continue
        with progress_bar(name) as advance:

            def on_epochs(done: int, show: Callable[[int, int], None] = advance) -> None:
                show(done, config.epochs)

            started = time.process_time()
            training = train(
                SOLVERS[name],
                problem,
                jax.random.key(config.seed),
                seeds=config.seeds,
                epochs=config.epochs,
                on_epochs=on_epochs,
            )
            spent = time.process_time() - started
        learning[name] = Learning(np.asarray(training.utility), np.asarray(training.action), spent)
    return Curves(
        problem=problem,
        optimum=float(best.server_utility),
        optimal_price=float(best.price),
        range=range_of(game),
        gain=gain_of(game),
        learning=learning,
    )


def measures(curves: Curves, config: OneFleet) -> dict[str, Any]:
    """The figures in numbers, solver by solver."""
    table: dict[str, Any] = {}
    for name, run in curves.learning.items():
        share, gain = curves.share(run.utility), curves.gain_share(run.utility)
        settled = run.utility[:, config.settled_from - 1 :]
        table[name] = {
            "final_utility": interval(run.utility[:, -1]),
            "mean_utility_settled": interval(settled.mean(axis=1)),
            "final_share": [round(float(x), 5) for x in share[:, -1]],
            "worst_final_share": float(share[:, -1].min()),
            "final_gain_share": [round(float(x), 5) for x in gain[:, -1]],
            "worst_final_gain_share": float(gain[:, -1].min()),
            "seeds_at_the_global_optimum": int(np.sum(gain[:, -1] >= config.mark)),
            "epochs_until_it_stays_above_mark": stays_above(share, config.mark),
            "seeds_at_a_price_bound": int(np.sum(np.abs(run.action[:, -1]) > BOUND)),
            "cpu_seconds_with_compilation": round(run.cpu_seconds, 2),
        }
    return {
        "rounds_per_epoch": SOLVERS["GDM"].rounds_per_epoch,
        "optimum": curves.optimum,
        "optimal_price": curves.optimal_price,
        "mean_utility_of_a_random_price": curves.random_mean,
        "utility_of_no_trade": float(curves.gain.alone),
        "solvers": table,
    }


def stays_above(share: np.ndarray, mark: float) -> list[int | None]:
    """Epochs after which each seed never falls below the mark again; None if it ends below."""
    epochs = share.shape[1]
    after = [int(epochs - np.argmax(row[::-1])) if row.any() else 0 for row in share < mark]
    return [None if count == epochs else count for count in after]


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean over seeds and its 95 % confidence interval (Student's t)."""
    mean, spread = float(values.mean()), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return {"mean": mean, "low": mean - half, "high": mean + half}


def draw(curves: Curves, hard: dict[str, dict[str, Learned]], config: Config) -> Figure:
    """Utility against epochs, whole and close to the ceiling; below, what hard games miss."""
    figure = Figure(figsize=(12, 8.0), layout="constrained")
    places = figure.add_gridspec(2, 6)
    whole, close = (figure.add_subplot(places[0, at : at + 3]) for at in (0, 3))
    below = [figure.add_subplot(places[1, at : at + 2]) for at in range(0, 2 * len(hard), 2)]
    for axes, (name, learned) in zip(below, hard.items(), strict=True):
        _draw_missed(axes, name, learned, config)
    below[0].set_ylabel("missed of the gain over no trade, %\nmean, and all learners as a band")
    epochs = np.arange(1, config.epochs + 1)
    for axes in (whole, close):
        for name, run in curves.learning.items():
            mean = run.utility.mean(axis=0)
            half = stats.t.ppf(0.975, config.seeds - 1) * stats.sem(run.utility, axis=0)
            draw_curve(axes, epochs, mean, (mean - half, mean + half), LOOKS[name], label=name)
        axes.axhline(curves.optimum, color=INK, linestyle=":", label="exact optimum")
        axes.set_xlabel("epoch (64 rounds each)")
        axes.locator_params(axis="x", integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    whole.set_ylabel("utility of the server, credits")
    whole.set_title("All of training")
    close.set_title("The last two percent of the range")
    reach = curves.optimum - curves.random_mean
    whole.set_ylim(curves.random_mean - 0.25 * reach, curves.optimum + 0.06 * reach)
    close.set_ylim(curves.optimum - 0.02 * reach, curves.optimum + 0.002 * reach)
    close.axhline(curves.optimum - 0.01 * reach, color=GREY, linewidth=0.8, linestyle="--")
    # At the end and below, since by then learners are above it.
    close.annotate(
        "99 % of the range",
        (0.99, curves.optimum - 0.0102 * reach),
        xycoords=close.get_yaxis_transform(),
        ha="right",
        va="top",
    )
    return with_legend(figure, np.array([whole, *below]), ncols=5, place="upper center")


def _draw_missed(axes: Any, title: str, learned: dict[str, Learned], config: Config) -> None:
    """What is missed of the gain: the mean over learners, and all of them as a band."""
    epochs = np.arange(1, config.hard_epochs + 1)
    for name, shares in learned.items():
        missed = np.maximum(100.0 * (1.0 - shares.gain), LEAST_MISSED)
        band = missed.min(axis=0), missed.max(axis=0)
        draw_curve(axes, epochs, missed.mean(axis=0), band, LOOKS[name], label=name)
    mark = 100.0 * (1.0 - config.mark)
    axes.axhline(mark, color=GREY, linewidth=0.8, linestyle="--")
    axes.annotate(f"{mark:.2g} %", (config.hard_epochs, 1.08 * mark), ha="right", va="top")
    axes.set(title=title, xlabel="epoch (64 rounds each)", yscale="log", ylim=(100.0, LEAST_MISSED))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def final_shares(learned: Learned, config: Config) -> dict[str, Any]:
    """How learners of a hard game ended."""
    gain, share = learned.gain[:, -1], learned.range[:, -1]
    return {
        "final_gain_share": [round(float(x), 5) for x in gain],
        "final_gain_share_mean": float(gain.mean()),
        "final_gain_share_standard_error": float(stats.sem(gain)),
        "worst_final_gain_share": float(gain.min()),
        "final_share": [round(float(x), 5) for x in share],
        "learners_at_the_global_optimum": int(np.sum(gain >= config.mark)),
        "epochs_until_it_stays_above_mark": stays_above(learned.gain, config.mark),
    }


def page(curves: Curves, hard: dict[str, dict[str, Learned]], config: Config) -> list[str]:
    """The findings in words and tables."""
    first = {
        name: Learned(curves.gain_share(run.utility), curves.share(run.utility))
        for name, run in curves.learning.items()
    }
    rows = []
    for game, learners in {"figure 4's fleet": first, **hard}.items():
        for name, learned in learners.items():
            gain, share = learned.gain[:, -1], learned.range[:, -1]
            rows.append(
                [
                    game,
                    name,
                    percent(float(share.mean())),
                    f"{100 * gain.mean():.3f} ± {100 * stats.sem(gain):.3f}",
                    percent(float(gain.min())),
                    f"{int(np.sum(gain >= config.mark))} of {len(gain)}",
                ]
            )
    head = [
        "game",
        "learner",
        "share of the range, %",
        "share of the gain over no trade, %",
        "its worst learner, %",
        f"learners at {100 * config.mark:g} % of the gain",
    ]
    return [
        f"Figure 4's fleet after {config.epochs} epochs of 64 rounds, the hard games after "
        f"{config.hard_epochs}; {config.seeds} seeds of each, and {config.seeds_of_fleets} on each "
        f"of {config.fleets} fleets that enter far apart. The two shares are those of "
        "[How good a price is](../theory/scores.md): random pricing has 0 by the first and, where "
        "prices may be posted that are far too high, far less than 0 by the second. After ± stands "
        "the standard error over learners.",
        "![Utility, and what is missed of the gain, against epochs](fig4.png)",
        table(head, rows),
        *beside_the_article(curves, config),
    ]


def beside_the_article(curves: Curves, config: OneFleet) -> list[str]:
    """What figures 4 and 5 have in common with the article's, and what had to be inferred."""
    ends = {name: float(run.utility[:, -1].mean()) for name, run in curves.learning.items()}
    rows = [
        ["who decides", "a GDM, PPO, random pricing", "the same; PPO with two settings"],
        ["order at the end", "the GDM ahead of PPO and of random pricing", in_order(ends)],
        ["how soon", "the GDM converges faster than PPO", "the curves of figure 4"],
        ["runs", "three", f"{config.seeds} seeds, bands are 95 % confidence intervals"],
        ["mean of figure 5", "over epochs 200 to 500", f"from epoch {config.settled_from} on"],
        ["the best that can be", "not shown", "the exact optimum, dotted"],
        ["an epoch", "not said", "64 rounds of the game for every learner *(inferred)*"],
        [
            "fleet",
            "not said in full",
            f"{DEVICES} devices, drawn once from ranges of our own *(inferred)*",
        ],
        ["satisfaction", "rises with what is kept", "its logarithm, `log1p` *(inferred)*"],
        ["PPO's settings", "not said", "those usual in the literature, and tuned *(inferred)*"],
        ["reward", "whether utility rose", "the utility itself: the other rewards cycles"],
    ]
    return [
        "## Beside the article",
        "The middle column is what the article's text says. The values that its figures plot could "
        "not be read for this page, so none is quoted; and since the article does not give all "
        "settings of its game, order can be compared, and values could not be. What it does not "
        "say is marked as inferred.",
        table(["what", "the article", "here"], rows),
    ]


def in_order(utilities: dict[str, float]) -> str:
    """Learners from the best to the worst; those that differ by less than a table shows are equal.

    Example:
        >>> in_order({"random": 1.0, "GDM": 2.0001, "PPO": 2.0})
        'GDM = PPO > random'
    """
    names = sorted(utilities, key=lambda name: -utilities[name])
    told = names[0]
    for better, name in pairwise(names):
        equal = f"{utilities[better]:.3f}" == f"{utilities[name]:.3f}"
        told += (" = " if equal else " > ") + name
    return told


def write_hard_curves(folder: Path, hard: dict[str, dict[str, Learned]]) -> None:
    """Writes every point of the hard games: game, solver, learner, epoch, both shares."""
    with (folder / "curves-hard.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["game", "solver", "learner", "epoch", "share", "gain_share"])
        for game, learners in hard.items():
            for name, learned in learners.items():
                for at, epoch in np.ndindex(learned.gain.shape):
                    row = (f"{part[at, epoch]:.9g}" for part in (learned.range, learned.gain))
                    lines.writerow([game, name, at, epoch + 1, *row])


def write_curves(folder: Path, curves: Curves) -> None:
    """Writes every point: solver, seed, epoch, utility, both shares, action."""
    with (folder / "curves.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["solver", "seed", "epoch", "utility", "share", "gain_share", "action"])
        for name, run in curves.learning.items():
            columns = (
                run.utility,
                curves.share(run.utility),
                curves.gain_share(run.utility),
                run.action,
            )
            for seed, epoch in np.ndindex(run.utility.shape):
                row = (f"{column[seed, epoch]:.9g}" for column in columns)
                lines.writerow([name, seed, epoch + 1, *row])


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, curves-hard.csv, fig4.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    asked, config, before = settle(asked, sized(config_for(asked.smoke), asked))
    hard = learn_hard(config, before)
    write_hard_curves(folder, hard)
    curves = learn(config, before)
    write_curves(folder, curves)
    write_picture(folder, "fig4", lambda: draw(curves, hard, config), config, asked)
    found = measures(curves, config)
    found["hard_games"] = {
        game: {name: final_shares(each, config) for name, each in learners.items()}
        for game, learners in hard.items()
    }
    write_metrics(folder, config, found, asked.record("fig4") | before.record())
    title = "Learning one fleet: figure 4 and hard games"
    write_findings(folder, "fig4", title, page(curves, hard, config), asked)
