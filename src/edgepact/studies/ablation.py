"""What each part of the GDM is worth: steps, schedules, sampling, modes and seeds.

One setting at a time is changed from those of figure 4, on the same fleet, over the same
rounds of play. Every variant is scored by the share of the range between a random price
and the exact optimum that it ends with, seed by seed, and by the epochs it needs to stay
above the mark.

The article's own reward, 1 if the utility rose and 0 if not, is shown twice: as a mode
that learns with gamma = 0, and over a horizon, where going down and up again earns more
than staying at the best price.
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from edgepact.fleet import Fleet, FleetPrior, Interval
from edgepact.mechanisms.stackelberg.problem import RepeatedPricing
from edgepact.mechanisms.stackelberg.score import Range, range_of
from edgepact.pages import percent, table, write_page
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.learners.diffusion import STEPS_MAX, Diffusion
from edgepact.solvers.learners.training import train
from edgepact.studies.false_peaks import exact_game
from edgepact.studies.fig4 import stays_above

BASE = "as in figure 4"
COLOURS = {
    "base": "#0b6e4f",
    "steps": "#2f6690",
    "schedule": "#edae49",
    "sampling": "#8f6bb3",
    "mode": "#d1495b",
}
SMOKED = (BASE, "1 step", "DDIM", "expert", "paper")
"""Variants of a smoke run: each costs its own compilation."""

LEAST_MISSED = 1e-5
"""Where the logarithmic axis ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        fleet_seed: draws the fleet of five devices, the one of figure 4.
        seed: of everything else.
        seeds: independent learners of each variant.
        seeds_base: of the base, of which none may fail.
        epochs: of 64 rounds each.
        mark: share of the range a learner should reach and keep.
        rounds: length of the episodes in which the article's reward is summed.
    """

    fleet_seed: int = 0
    seed: int = 1
    seeds: int = 10
    seeds_base: int = 100
    epochs: int = 200
    mark: float = 0.99
    rounds: int = 20


class Variant(NamedTuple):
    """The GDM with one setting changed."""

    changed: str
    solver: Diffusion


def variants() -> dict[str, Variant]:
    """All variants by name, the base first."""
    base = Diffusion()
    found = {BASE: Variant("base", base)}
    for steps in (1, 2, 3, 10, STEPS_MAX):
        name = "1 step" if steps == 1 else f"{steps} steps"
        found[name] = Variant("steps", replace(base, steps=steps))
    found["cosine schedule"] = Variant("schedule", replace(base, schedule="cosine"))
    found["linear schedule"] = Variant("schedule", replace(base, schedule="linear"))
    found["DDIM"] = Variant("sampling", replace(base, sampling="ddim"))
    found["DDIM, 20 steps"] = Variant("sampling", replace(base, sampling="ddim", steps=STEPS_MAX))
    found["expert"] = Variant("mode", replace(base, mode="expert"))
    found["paper"] = Variant("mode", replace(base, mode="paper"))
    return found


class Result(NamedTuple):
    """One variant's training.

    Attributes:
        changed: which setting.
        share: of the range, seeds x epochs.
        cpu_seconds: compilation included.
    """

    changed: str
    share: np.ndarray
    cpu_seconds: float


class Horizon(NamedTuple):
    """What a way to price earns over an episode.

    Attributes:
        reward: the article's 0/1 reward, mean of a round.
        share: of the range, mean of the rounds.
    """

    reward: float
    share: float


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(seeds=2, seeds_base=3, epochs=4) if smoke else Config()


def problem_of(config: Config) -> RepeatedPricing:
    """The game of figure 4."""
    fleet = FleetPrior().sample(jax.random.key(config.fleet_seed), 5)
    return RepeatedPricing(fleet, price=Interval(0.05, 3.0))


def range_to_gain(problem: RepeatedPricing) -> Range:
    """What there is to gain from the fleet of the game, exactly."""
    assert isinstance(problem.fleets, Fleet)
    return range_of(exact_game(problem, problem.fleets))


def learn(config: Config, chosen: dict[str, Variant]) -> dict[str, Result]:
    """Trains every variant on the same fleet."""
    problem = problem_of(config)
    reach = range_to_gain(problem)
    results = {}
    for name, variant in chosen.items():
        # The article's reward is a matter of the game that is played, and of no other variant.
        rewarded = replace(
            problem, reward="binary" if variant.solver.mode == "paper" else "utility"
        )
        with progress_bar(name) as advance:

            def on_epochs(done: int, show: Callable[[int, int], None] = advance) -> None:
                show(done, config.epochs)

            started = time.process_time()
            training = train(
                variant.solver,
                rewarded,
                jax.random.key(config.seed),
                seeds=config.seeds_base if name == BASE else config.seeds,
                epochs=config.epochs,
                on_epochs=on_epochs,
            )
            spent = time.process_time() - started
        share = np.asarray(reach.share(np.asarray(training.utility)))
        results[name] = Result(variant.changed, share, spent)
    return results


def over_a_horizon(config: Config) -> dict[str, Horizon]:
    """The article's reward summed over an episode: the best price for ever, and a cycle."""
    problem = replace(problem_of(config), reward="binary")
    reach = range_to_gain(problem)
    start = problem.reset(jax.random.key(0))
    optimal = float(problem.best_action(start)[0])
    ways = {
        "the best price in every round": [optimal] * config.rounds,
        "the highest price and the best one in turns": [1.0, optimal] * (config.rounds // 2),
    }
    found = {}
    for name, actions in ways.items():
        state, rewards, utilities = start, [], []
        for at, action in enumerate(actions):
            key = jax.random.fold_in(jax.random.key(config.seed), at)
            state, payoff = problem.step(key, state, jnp.asarray([action]))
            rewards.append(float(payoff.reward))
            utilities.append(float(payoff.leader))
        share = float(reach.share(float(np.mean(utilities))))
        found[name] = Horizon(float(np.mean(rewards)), share)
    return found


def measures(
    results: dict[str, Result], horizon: dict[str, Horizon], config: Config
) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    found = {}
    for name, each in results.items():
        final = each.share[:, -1]
        found[name] = {
            "changed": each.changed,
            "final_share_mean": float(final.mean()),
            "final_share_worst": float(final.min()),
            "final_share": final.tolist(),
            "epochs_until_it_stays_above_mark": stays_above(each.share, config.mark),
            "cpu_seconds_with_compilation": round(each.cpu_seconds, 2),
        }
    return {
        "variants": found,
        "article_reward_over_a_horizon": {name: each._asdict() for name, each in horizon.items()},
    }


def write_curves(folder: Path, results: dict[str, Result]) -> None:
    """Writes `curves.csv`, a line for every variant, seed and epoch."""
    with (folder / "curves.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["variant", "changed", "seed", "epoch", "share"])
        for name, each in results.items():
            for seed, epoch in np.ndindex(each.share.shape):
                rows.writerow(
                    [name, each.changed, seed, epoch + 1, f"{each.share[seed, epoch]:.6g}"]
                )


def draw(results: dict[str, Result], config: Config) -> Figure:
    """What every seed misses at the end, and the epochs it needs to stay above the mark."""
    figure = Figure(figsize=(10, 0.8 + 0.36 * len(results)), layout="constrained")
    missed, needed = figure.subplots(1, 2, sharey=True)
    for row, each in enumerate(results.values()):
        look = {"color": COLOURS[each.changed], "alpha": 0.6, "linestyle": "none", "marker": "o"}
        lost = np.maximum(1.0 - each.share[:, -1], LEAST_MISSED)
        missed.plot(100.0 * lost, [row] * len(lost), **look)
        epochs = [epoch for epoch in stays_above(each.share, config.mark) if epoch is not None]
        needed.plot(np.asarray(epochs) + 1, [row] * len(epochs), **look)
        never = len(lost) - len(epochs)
        if never:
            needed.annotate(
                f"{never} never",
                (0.98, row),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="center",
                fontsize=8,
            )
    missed.set_xscale("log")
    missed.axvline(100.0 * (1.0 - config.mark), color="grey", linewidth=0.8, linestyle="--")
    missed.set_xlabel("missed share of the range after the last epoch, %")
    needed.set_xlabel(f"epochs until a seed stays above {100 * config.mark:g} %")
    missed.set_yticks(range(len(results)), list(results))
    missed.invert_yaxis()
    for axes in (missed, needed):
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def page(results: dict[str, Result], horizon: dict[str, Horizon], config: Config) -> list[str]:
    """The findings in words and tables."""
    rows = []
    for name, each in results.items():
        final = each.share[:, -1]
        error = float(final.std(ddof=1) / np.sqrt(len(final))) if len(final) > 1 else 0.0
        epochs = stays_above(each.share, config.mark)
        kept = sorted(epoch for epoch in epochs if epoch is not None)
        rows.append(
            [
                name,
                each.changed,
                percent(float(final.mean()), error),
                percent(float(final.min())),
                f"{len(kept)} of {len(epochs)}",
                f"{np.median(kept):g}" if kept else "never",
                f"{each.cpu_seconds:.0f}",
            ]
        )
    head = [
        "variant",
        "changed",
        "share at the end",
        "worst seed",
        "seeds above the mark",
        "epochs needed (median)",
        "CPU seconds",
    ]
    ways = [[name, f"{each.reward:.3f}", percent(each.share)] for name, each in horizon.items()]
    return [
        f"One fleet of five devices, {config.seeds} seeds a variant and {config.seeds_base} of "
        f"the base, {config.epochs} epochs of 64 rounds. Only the named setting differs from "
        "figure 4. A share of 100 is the exact optimum, 0 the mean of a random price; the mark "
        f"is {100 * config.mark:g}. After ± stands the standard error over seeds; CPU seconds "
        "include compilation.",
        "![What every seed misses, and the epochs it needs](ablation.png)",
        table(head, rows),
        "## The article's reward over a horizon",
        "1 if the utility is above the previous round's, else 0. A learner that looks further "
        "than one round is paid for pricing badly in every second one, so the mode `paper` "
        "learns with gamma = 0:",
        table(["prices", "reward a round", "mean share of the range"], ways),
    ]


def run(folder: Path, smoke: bool) -> None:
    """Writes curves.csv, ablation.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(smoke)
    chosen = variants()
    if smoke:
        chosen = {name: chosen[name] for name in SMOKED}
    results = learn(config, chosen)
    horizon = over_a_horizon(config)
    write_curves(folder, results)
    draw(results, config).savefig(folder / "ablation.png", dpi=120)
    write_metrics(folder, config, measures(results, horizon, config))
    title = "What each part of the diffusion model is worth"
    write_page(folder, "ablation", title, page(results, horizon, config), smoke=smoke)
