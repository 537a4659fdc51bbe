"""Quotes to fleets that change: the price must follow.

Every method meets the same episodes. In each kind of change one thing moves, in the
last all of them together. A quote is scored by its share of the range of the fleet as
it is in that round, against that round's exact optimum: what its price would earn from
devices that answer at once and exactly. Where habits or noise come between, what it
did earn is shown beside it.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.mechanisms.stackelberg.channel import Channel
from edgepact.mechanisms.stackelberg.dynamics import Dynamics
from edgepact.pages import percent, table, write_page
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.quoter import Quoter
from edgepact.studies.changing import Episode, draw_episode, play_changing
from edgepact.studies.methods import COLOURS, GDM, methods
from edgepact.studies.quoting import KINDS, error_of

LEFT_OUT = ("CMA-ES",)
"""It needs a generation of quotes to one and the same fleet for each of its steps."""

RANDOM = "random"
"""The zero of the score: in the tables, but off the figure."""

EVERYTHING = Dynamics(
    channel=Channel(),
    arrivals=0.8,
    stay=10.0,
    drift=0.05,
    drift_bound=0.4,
    inertia=0.5,
    noise=0.05,
    liars=0.3,
    lie=1.5,
)
"""All kinds of change, each so strong that a price of long ago is a wrong one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        episodes: of each kind of change, for each kind of layers.
        rounds: of each.
        early: rounds that count as the beginning.
        window: latest rounds that methods are shown.
        slots: most devices at a time.
        seed: of the episodes.
        everything: all that changes; each kind takes its own part of it.
    """

    episodes: int = 40
    rounds: int = 40
    early: int = 5
    window: int = 20
    slots: int = 24
    seed: int = 20_314
    everything: Dynamics = EVERYTHING


class Kind(NamedTuple):
    """One kind of change: what happens, in words, and the dynamics that make it."""

    what: str
    dynamics: Dynamics


class Shares(NamedTuple):
    """One method in all episodes of a kind, episodes x rounds; NaN with nobody there."""

    quoted: np.ndarray
    earned: np.ndarray


Found = dict[str, dict[str, dict[str, Shares]]]
"""By kind of change, kind of layers and method."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(episodes=1, rounds=5, early=2) if smoke else Config()


def kinds(config: Config) -> dict[str, Kind]:
    """All kinds of change, by name."""
    every = config.everything
    channel = every.channel
    assert channel is not None
    still = Dynamics()
    return {
        "still": Kind("nothing changes", still),
        "fading": Kind(
            "links fade anew in every round (TR 38.901 UMi, Rayleigh), devices up to "
            f"{channel.distance_max_m:g} m away, {channel.bits / 8e3:g} kB to send within "
            f"{channel.deadline_s:g} s",
            replace(still, channel=channel),
        ),
        "churn": Kind(
            f"{every.arrivals:g} devices come per round and stay {every.stay:g} on average",
            replace(still, arrivals=every.arrivals, stay=every.stay),
        ),
        "drift": Kind(
            f"capacities wander by {100 * every.drift:g} % a round, at most by a factor of "
            f"{math.exp(every.drift_bound):.2f}",
            replace(still, drift=every.drift, drift_bound=every.drift_bound),
        ),
        "inertia": Kind(
            f"devices go {100 * every.inertia:g} % of the way to their best response in a round",
            replace(still, inertia=every.inertia),
        ),
        "noise": Kind(
            f"logit responses with tau {every.noise:g} credits",
            replace(still, noise=every.noise),
        ),
        "liars": Kind(
            f"{100 * every.liars:g} % of the devices answer as if their alpha were "
            f"{every.lie:g} times what it is",
            replace(still, liars=every.liars, lie=every.lie),
        ),
        "all together": Kind("all of these at once", every),
    }


def quoters() -> dict[str, Quoter]:
    """The GDM in context and its rivals."""
    return {name: each for name, each in methods().items() if name not in LEFT_OUT}


def episodes_of(config: Config, dynamics: Dynamics, *, integer: bool) -> list[Episode]:
    """The episodes of one kind of change; one seed gives the same ones for both layers."""
    return [
        draw_episode(
            dynamics,
            rounds=config.rounds,
            slots=config.slots,
            seed=config.seed + at,
            integer=integer,
        )
        for at in range(config.episodes)
    ]


def play_all(config: Config, who: dict[str, Quoter]) -> Found:
    """Lets every method meet every episode."""
    found: Found = {}
    for name, kind in kinds(config).items():
        found[name] = {}
        for layers, integer in KINDS.items():
            with progress_bar(f"{name}, {layers}") as advance:
                episodes = episodes_of(config, kind.dynamics, integer=integer)
                found[name][layers] = _meet(episodes, who, config, advance)
    return found


def _meet(
    episodes: list[Episode],
    who: dict[str, Quoter],
    config: Config,
    advance: Callable[[int, int], None],
) -> dict[str, Shares]:
    shares = {}
    for done, (method, quoter) in enumerate(who.items()):
        met = [play_changing(quoter, each, window=config.window) for each in episodes]
        shares[method] = Shares(
            np.stack([each.quoted for each in met]), np.stack([each.earned for each in met])
        )
        advance(done + 1, len(who))
    return shares


def by_episode(shares: np.ndarray) -> np.ndarray:
    """Means over the rounds in which somebody was there; episodes without any drop out."""
    some = ~np.all(np.isnan(shares), axis=1)
    return np.nanmean(shares[some], axis=1)


def measures(found: Found, config: Config) -> dict[str, Any]:
    """The figures of `metrics.json`."""

    def of(shares: np.ndarray) -> dict[str, float]:
        means = by_episode(shares)
        return {"mean": float(means.mean()), "standard_error": float(error_of(means))}

    return {
        kind: {
            layers: {
                method: {
                    "quoted": of(each.quoted),
                    "quoted_early": of(each.quoted[:, : config.early]),
                    "quoted_late": of(each.quoted[:, config.early :]),
                    "earned": of(each.earned),
                }
                for method, each in of_layers.items()
            }
            for layers, of_layers in of_kind.items()
        }
        for kind, of_kind in found.items()
    }


def by_round(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over episodes and its standard error; NaN in rounds in which all are empty."""
    number = np.sum(~np.isnan(shares), axis=0)
    known = np.where(np.isnan(shares), 0.0, shares)
    mean = np.where(number > 0, known.sum(axis=0) / np.maximum(number, 1), np.nan)
    off = np.where(np.isnan(shares), 0.0, shares - mean)
    return mean, np.sqrt(np.sum(off**2, axis=0) / np.maximum(number - 1, 1) / np.maximum(number, 1))


def write_tables(folder: Path, found: Found) -> None:
    """Writes `curves.csv`: a line for each kind, layers, method and round."""
    with (folder / "curves.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        columns = [f"{count}_{each}" for count in Shares._fields for each in ("mean", "error")]
        rows.writerow(["change", "layers", "method", "round", "episodes", *columns])
        for kind, of_kind in found.items():
            for layers, of_layers in of_kind.items():
                for method, each in of_layers.items():
                    curves = [*by_round(each.quoted), *by_round(each.earned)]
                    number = np.sum(~np.isnan(each.quoted), axis=0)
                    for at, values in enumerate(zip(*curves, strict=True)):
                        place = [kind, layers, method, at + 1, int(number[at])]
                        rows.writerow([*place, *(f"{x:.6g}" for x in values)])


def draw(found: Found) -> Figure:
    """What each round's quote misses, a panel for each kind of change and layers."""
    figure = Figure(figsize=(11, 2.2 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), len(KINDS), sharex=True, sharey=True, squeeze=False)
    for row, (kind, of_kind) in enumerate(found.items()):
        for column, (layers, of_layers) in enumerate(of_kind.items()):
            axes = panels[row, column]
            for method, each in of_layers.items():
                if method == RANDOM:
                    continue
                missed = 100.0 * (1.0 - by_round(each.quoted)[0])
                axes.plot(
                    np.arange(1, len(missed) + 1),
                    np.maximum(missed, 1e-3),
                    color=COLOURS[method],
                    label=method,
                    linewidth=2.2 if method == GDM else 1.1,
                    zorder=3 if method == GDM else 2,
                )
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{kind}, {layers} layers", fontsize=9)
            axes.grid(axis="y", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0, 0].invert_yaxis()
    figure.supxlabel("round")
    figure.supylabel("missed share of the range, %: mean over episodes")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=4)
    return figure


def page(found: Found, config: Config) -> list[str]:
    """The findings in words and tables."""
    named, figures = kinds(config), measures(found, config)
    parts = [
        f"Every method prices the same {config.episodes} episodes of {config.rounds} rounds for "
        "each kind of change and of layers, with devices of the reference prior. A share of 100 "
        "is the exact optimum of the fleet as it is in that round, 0 the mean of random prices "
        "in it. All are scored by the quotes they post, of which none can be taken back. Methods "
        f"see the last {config.window} rounds. The GDM is told which answers are missing since a "
        "device was not there yet; for the others the mean answer of those who were there is "
        "filled in. Which method knows how devices decide, or the prior, is said in the study of "
        "quotes; none is told what changes. After ± stands the standard error over episodes.",
        table(["kind", "what happens"], [[name, kind.what] for name, kind in named.items()]),
        "![What the quote of every round misses](dynamics.png)",
    ]
    for layers in KINDS:
        parts.append(f"## {layers.capitalize()} layers")
        sets = (
            (f"Mean share of the quotes of rounds 1 to {config.early}:", "quoted_early"),
            (f"Of rounds {config.early + 1} to {config.rounds}:", "quoted_late"),
        )
        for title, measure in sets:
            parts += [title, _table(figures, layers, measure, tuple(named))]
        parts += [
            "What was earned, over all rounds, where devices do not answer at once or not "
            "exactly. Devices that are slow to run fewer layers after the price fell can take "
            "it above 100:",
            _table(figures, layers, "earned", ("inertia", "noise", "all together")),
        ]
        parts.append(_places(figures, layers))
    return parts


def _table(figures: dict[str, Any], layers: str, measure: str, shown: tuple[str, ...]) -> str:
    names = list(figures["still"][layers])
    rows = []
    for method in names:
        cells = [figures[kind][layers][method][measure] for kind in shown]
        rows.append([method, *(percent(x["mean"], x["standard_error"]) for x in cells)])
    return table(["method", *shown], rows)


def _places(figures: dict[str, Any], layers: str) -> str:
    """Who is first in each kind of change, after the beginning."""
    rows = []
    for kind, of_kind in figures.items():
        late = {name: each["quoted_late"]["mean"] for name, each in of_kind[layers].items()}
        order = sorted(late, key=lambda name: -late[name])
        place = order.index(GDM) + 1 if GDM in order else "-"
        rows.append([kind, order[0], percent(late[order[0]]), place])
    title = "Who is first after the beginning, and the place of the GDM:"
    return title + "\n\n" + table(["kind", "first", "its share", "place of the GDM"], rows)


def run(folder: Path, smoke: bool) -> None:
    """Writes curves.csv, dynamics.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(smoke)
    found = play_all(config, quoters())
    write_tables(folder, found)
    draw(found).savefig(folder / "dynamics.png", dpi=80)
    write_metrics(folder, config, {"changes": measures(found, config)})
    title = "Quotes to fleets that change"
    write_page(folder, "dynamics", title, page(found, config), smoke=smoke)
