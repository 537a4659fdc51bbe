"""Figure 4: the server's utility while GDM, PPO and random pricing learn one fleet.

An *epoch* is 64 rounds of the game for every learner, however it uses them:
rounds are what an operator pays for. After each epoch the policy plays one
round in 16 games without exploring; the figure shows that utility. The dotted
line is the exact optimum under complete information, which no learner can
beat. PPO is shown twice: with the settings common in the literature, and with
settings chosen on this very game, in its favour.
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.score import Range, range_of
from edgepact.mechanisms.stackelberg.terms import Game
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
        mark: share of the attainable range a learner should reach and keep.
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
    learning: dict[str, Learning]

    @property
    def random_mean(self) -> float:
        """Mean utility of a random price, credits: the zero of the score."""
        return float(self.range.zero)

    def share(self, utility: np.ndarray) -> np.ndarray:
        """Share of the range between random pricing and the optimum."""
        return np.asarray(self.range.share(utility))


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(seeds=2, epochs=20, settled_from=10) if smoke else Config()


def exact_game(problem: RepeatedPricing, fleet: Fleet) -> Game:
    """The game in NumPy arrays, so that its optimum and its range are exact."""
    return problem.game(jax.tree.map(lambda column: np.asarray(column, float), fleet))


def learn(config: Config) -> Curves:
    """Trains every solver on the same fleet."""
    fleet = FleetPrior().sample(jax.random.key(config.fleet_seed), 5)
    problem = RepeatedPricing(fleet, price=Interval(0.05, 3.0))
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
        learning=learning,
    )


def measures(curves: Curves, config: Config) -> dict[str, Any]:
    """The figures in numbers, solver by solver."""
    table: dict[str, Any] = {}
    for name, run in curves.learning.items():
        share = curves.share(run.utility)
        settled = run.utility[:, config.settled_from - 1 :]
        table[name] = {
            "final_utility": interval(run.utility[:, -1]),
            "mean_utility_settled": interval(settled.mean(axis=1)),
            "final_share": [round(float(x), 5) for x in share[:, -1]],
            "worst_final_share": float(share[:, -1].min()),
            "epochs_until_it_stays_above_mark": stays_above(share, config.mark),
            "seeds_at_a_price_bound": int(np.sum(np.abs(run.action[:, -1]) > BOUND)),
            "cpu_seconds_with_compilation": round(run.cpu_seconds, 2),
        }
    return {
        "rounds_per_epoch": SOLVERS["GDM"].rounds_per_epoch,
        "optimum": curves.optimum,
        "optimal_price": curves.optimal_price,
        "mean_utility_of_a_random_price": curves.random_mean,
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


def draw(curves: Curves, config: Config) -> Figure:
    """Utility against epochs, whole and close to the ceiling."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    whole, close = figure.subplots(1, 2)
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


def write_curves(folder: Path, curves: Curves) -> None:
    """Writes every point: solver, seed, epoch, utility, share of the range, action."""
    with (folder / "curves.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["solver", "seed", "epoch", "utility", "share", "action"])
        for name, run in curves.learning.items():
            share = curves.share(run.utility)
            for seed, epoch in np.ndindex(run.utility.shape):
                row = (run.utility[seed, epoch], share[seed, epoch], run.action[seed, epoch])
                table.writerow([name, seed, epoch + 1, *(f"{x:.6g}" for x in row)])


def run(folder: Path, smoke: bool) -> None:
    """Writes curves.csv, fig4.png and metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(smoke)
    curves = learn(config)
    write_curves(folder, curves)
    draw(curves, config).savefig(folder / "fig4.png", dpi=150)
    write_metrics(folder, config, measures(curves, config))
