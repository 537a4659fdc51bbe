"""Figure 4: the server's utility while GDM, PPO and random pricing learn one fleet.

An *epoch* is 64 rounds of the game for every learner, however it uses them:
rounds are what an operator pays for. After each epoch the policy plays one
round in 16 games without exploring; the figure shows that utility. The dotted
line is the exact optimum under complete information, which no learner can
beat. PPO is shown twice: with the settings common in the literature, and with
settings chosen on this very game, in its favour.

Two more games show whether a learner finds the best price where that is hard: a fleet whose
profit has two peaks, and the same fleet where ten times what a layer saves may be posted.
There utilities are told as shares of the gain over no trade (`mechanisms.stackelberg.score`).
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.score import Gain, Range, gain_of, range_of
from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pages import table, write_page
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.learners.diffusion import Diffusion
from edgepact.solvers.learners.ppo import PPO
from edgepact.solvers.learners.random import Random
from edgepact.solvers.learners.training import Solver, train

SOLVERS: dict[str, Solver] = {
    "GDM": Diffusion(),
    "PPO, tuned on this game": PPO(learning_rate=3e-3, passes=10, minibatches=2, discount=0.0),
    "PPO, usual settings": PPO(learning_rate=3e-4, passes=10, minibatches=2, discount=0.99),
    "random": Random(),
}
COLOURS = {
    "GDM": "#0b6e4f",
    "PPO, tuned on this game": "#d1495b",
    "PPO, usual settings": "#edae49",
    "random": "#6c757d",
}
BOUND = 0.99
"""An action beyond this, of [-1, 1], counts as sitting at a price bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of figures 4 and 5.

    Attributes:
        fleet_seed: draws the fleet of five devices: alpha in [2, 6], W in [8, 14], A = 1, B = 0.5.
        seed: of everything else.
        seeds: independent learners.
        epochs: of 64 rounds each.
        settled_from: epoch from which the mean of figure 5 is taken.
        mark: share of the range a learner should reach and keep, and of the gain over no trade
            in which it should end.
    """

    fleet_seed: int = 0
    seed: int = 1
    seeds: int = 10
    epochs: int = 500
    settled_from: int = 200
    mark: float = 0.99


class Learning(NamedTuple):
    """One solver's training."""

    utility: np.ndarray
    action: np.ndarray
    cpu_seconds: float


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


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(seeds=2, epochs=20, settled_from=10) if smoke else Config()


def exact_game(problem: RepeatedPricing, fleet: Fleet) -> Game:
    """The game in NumPy arrays, so that its optimum and its range are exact."""
    return problem.game(jax.tree.map(lambda column: np.asarray(column, float), fleet))


def two_peaks(high: float) -> RepeatedPricing:
    """The fleet of `examples/two-peaks.toml`, priced from 0 to `high` credits per layer.

    The best price is 0.96, and at 5.37 there is a false peak of 69 % of its gain.
    """
    fleet = Fleet(*(jnp.asarray(each) for each in ([1.0, 60.0], [13.0] * 2, [1.0] * 2, [1.0] * 2)))
    return RepeatedPricing(fleet, price=Interval(0.0, high), beta=12.0, revenue=300.0)


def hard_games() -> dict[str, RepeatedPricing]:
    """Games in which the best price is hard to find, by the name of their panel."""
    return {
        "two peaks": two_peaks(12.0),
        "two peaks, prices to ten times b": two_peaks(120.0),
    }


def learn(config: Config) -> Curves:
    """Trains every solver on the fleet of figure 4."""
    fleet = FleetPrior().sample(jax.random.key(config.fleet_seed), 5)
    return learn_game(config, RepeatedPricing(fleet, price=Interval(0.05, 3.0)))


def learn_game(config: Config, problem: RepeatedPricing) -> Curves:
    """Trains every solver on a game with one fleet."""
    fleet = problem.fleets
    assert isinstance(fleet, Fleet)
    game = exact_game(problem, fleet)
    best = equilibrium(game)
    learning = {}
    for name, solver in SOLVERS.items():
        with progress_bar(name) as advance:

            def on_epochs(done: int, show: Callable[[int, int], None] = advance) -> None:
                show(done, config.epochs)

            started = time.process_time()
            training = train(
                solver,
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


def measures(curves: Curves, config: Config) -> dict[str, Any]:
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


def draw(curves: Curves, hard: dict[str, Curves], config: Config) -> Figure:
    """Utility against epochs, whole and close to the ceiling; below, the hard games."""
    figure = Figure(figsize=(10, 8.0), layout="constrained")
    (whole, close), below = figure.subplots(2, 2)
    for axes, (name, game) in zip(below, hard.items(), strict=True):
        _draw_gain(axes, name, game, config)
    epochs = np.arange(1, config.epochs + 1)
    for axes in (whole, close):
        for name, run in curves.learning.items():
            mean = run.utility.mean(axis=0)
            half = stats.t.ppf(0.975, config.seeds - 1) * stats.sem(run.utility, axis=0)
            axes.plot(epochs, mean, color=COLOURS[name], label=name, linewidth=1.6)
            axes.fill_between(
                epochs, mean - half, mean + half, color=COLOURS[name], alpha=0.2, linewidth=0
            )
        axes.axhline(curves.optimum, color="black", linestyle=":", label="exact optimum")
        axes.set_xlabel("epoch (64 rounds each)")
        axes.spines[["top", "right"]].set_visible(False)
    whole.set_ylabel("utility of the server, credits")
    whole.legend(frameon=False, loc="center right")
    whole.set_title("All of training")
    close.set_title("The last two percent of the range")
    reach = curves.optimum - curves.random_mean
    whole.set_ylim(curves.random_mean - 0.25 * reach, curves.optimum + 0.06 * reach)
    close.set_ylim(curves.optimum - 0.02 * reach, curves.optimum + 0.002 * reach)
    close.axhline(curves.optimum - 0.01 * reach, color="grey", linewidth=0.8, linestyle="--")
    close.annotate(
        "99 % of the range", (config.epochs, curves.optimum - 0.0098 * reach), ha="right"
    )
    return figure


def _draw_gain(axes: Any, title: str, curves: Curves, config: Config) -> None:
    """Share of the gain over no trade: the mean over seeds, and all of them as a band."""
    epochs = np.arange(1, config.epochs + 1)
    for name, run in curves.learning.items():
        gain = 100.0 * curves.gain_share(run.utility)
        axes.plot(epochs, gain.mean(axis=0), color=COLOURS[name], linewidth=1.6)
        axes.fill_between(
            epochs, gain.min(axis=0), gain.max(axis=0), color=COLOURS[name], alpha=0.15, linewidth=0
        )
    axes.axhline(100.0, color="black", linestyle=":")
    axes.axhline(100.0 * config.mark, color="grey", linewidth=0.8, linestyle="--")
    axes.set(title=title, xlabel="epoch (64 rounds each)", ylim=(40.0, 102.0))
    axes.set_ylabel("share of the gain over no trade, %\nmean, and all seeds as a band")
    axes.spines[["top", "right"]].set_visible(False)


def page(games: dict[str, Curves], config: Config) -> list[str]:
    """The findings in words and tables."""
    rows = []
    for game, curves in games.items():
        for name, run in curves.learning.items():
            share, gain = (of(run.utility[:, -1]) for of in (curves.share, curves.gain_share))
            reached = int(np.sum(gain >= config.mark))
            rows.append(
                [
                    game,
                    name,
                    f"{run.utility[:, -1].mean():.2f}",
                    f"{100 * share.mean():.2f}",
                    f"{100 * gain.mean():.2f}",
                    f"{100 * gain.min():.2f}",
                    f"{reached} of {len(gain)}",
                ]
            )
    head = [
        "game",
        "learner",
        "utility, credits",
        "share of the range, %",
        "share of the gain over no trade, %",
        "its worst seed, %",
        f"seeds at {100 * config.mark:g} % of the gain",
    ]
    return [
        f"After {config.epochs} epochs of 64 rounds, {config.seeds} seeds. The two shares are "
        "those of {doc}`../theory/scores`: random pricing has 0 by the first and, where prices may "
        "be posted that are far too high, far less than 0 by the second.",
        "![Utility, and shares of the gain, against epochs](fig4.png)",
        table(head, rows),
    ]


def write_curves(folder: Path, curves: Curves, file_name: str = "curves.csv") -> None:
    """Writes every point: solver, seed, epoch, utility, both shares, action."""
    with (folder / file_name).open("w", newline="") as file:
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
                row = (f"{column[seed, epoch]:.6g}" for column in columns)
                lines.writerow([name, seed, epoch + 1, *row])


def run(folder: Path, smoke: bool) -> None:
    """Writes curves.csv, one more of each hard game, fig4.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(smoke)
    curves = learn(config)
    hard = {name: learn_game(config, problem) for name, problem in hard_games().items()}
    write_curves(folder, curves)
    for number, each in enumerate(hard.values(), 1):
        write_curves(folder, each, f"curves-hard-{number}.csv")
    draw(curves, hard, config).savefig(folder / "fig4.png", dpi=150)
    found = measures(curves, config)
    found["hard_games"] = {name: measures(each, config) for name, each in hard.items()}
    write_metrics(folder, config, found)
    lines = page({"figure 4's fleet": curves, **hard}, config)
    write_page(
        folder, "fig4", "Learning one fleet: figure 4 and two hard games", lines, smoke=smoke
    )
