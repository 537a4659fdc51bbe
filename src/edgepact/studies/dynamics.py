"""Quotes to fleets that change: the price must follow.

Every method meets the same episodes. In each kind of change one thing moves, in the
last all of them together. A quote is scored by its share of the range of the fleet as
it is in that round, against that round's exact optimum: what its price would earn from
devices that answer at once and exactly. Where habits or noise come between, what it
did earn is shown beside it.

Beside these episodes stand fleets that stay as they are, quoted to as a live market does
(`live_quotes`): those that `edgepact run` draws, and that of `examples/live.toml`.
"""

import csv
import math
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.mechanisms.stackelberg.channel import Channel
from edgepact.mechanisms.stackelberg.dynamics import Dynamics
from edgepact.pages import count, percent, table
from edgepact.palette import AMBER_LINE, GREY
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.quoter import Quoter
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.changing import Episode, draw_episode, play_changing
from edgepact.studies.drawing import draw_curve, log_ticks, scaled, write_findings, write_picture
from edgepact.studies.live_quotes import live_example, play_live, run_market
from edgepact.studies.marks import Verdict, standard_error, verdict_table
from edgepact.studies.methods import GDM, LOOKS, QUOTE_CPU_S, TRANSFORMER, methods
from edgepact.studies.quoting import KINDS
from edgepact.studies.spread import spread

LEFT_OUT = ("CMA-ES",)
"""It needs a generation of quotes to one and the same fleet for each of its steps."""

RUN_MARK, RUN_ROUNDS = 0.985, (3, 12)
"""Least mean share of the gain over no trade that a live run reaches between two rounds."""

EXAMPLE_MARK, EXAMPLE_AFTER = 0.90, 2
"""Least share of any quote to the fleet of `examples/live.toml` after this many."""

STILL_FALL, STILL_AFTER = 0.01, 10
"""Most that a quote to a fleet that does not change is worse than its best, after this many."""

DRAWN = (
    GDM,
    TRANSFORMER,
    "golden section",
    "Gaussian process",
    "GP-TS-M",
    "identify, then solve",
    "Bayesian posterior",
)
"""Methods in the picture. Others miss so much that the scale would have to be another."""

TOLD = ("identify, then solve", "Bayesian posterior")
"""Those of them that are told how devices decide: their markers are hollow."""

RUN_LOOK, EXAMPLE_LOOK = LOOKS[GDM], AMBER_LINE
"""Of quotes to the fleets that `edgepact run` draws, and to that of `examples/live.toml`."""

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


SCORED_CPU_S = 0.001
"""CPU seconds of the exact optimum and of random prices in a fleet as it is in one round."""


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
        runs: live markets that `edgepact run` draws, of seeds from 0 on, and seeds of quotes to
            the fleet of `examples/live.toml`.
        run_rounds: of each as the marks of runs hold them.
        still_rounds: in which fleets that do not change are watched.
    """

    episodes: int = field(default=30, metadata=size("fleets"))
    rounds: int = 25
    early: int = 5
    window: int = 20
    slots: int = 24
    seed: int = 20_314
    everything: Dynamics = EVERYTHING
    runs: int = field(default=10, metadata=size("seeds"))
    run_rounds: int = 12
    still_rounds: int = 200


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


class Live(NamedTuple):
    """Shares of the gain over no trade that live quotes earn, `markets x rounds`.

    Attributes:
        runs: fleets that `edgepact run` draws, a row a seed.
        example: the fleet of `examples/live.toml`, a row a seed of quotes; the first row may be
            longer than is asked of the others, which end in NaN.
    """

    runs: np.ndarray
    example: np.ndarray


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return Config()
    return Config(episodes=1, rounds=3, early=1, runs=1, run_rounds=4, still_rounds=12)


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


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the recorded times of quotes."""
    every = sum(QUOTE_CPU_S[name] + SCORED_CPU_S for name in quoters())
    changing = len(kinds(config)) * len(KINDS) * config.episodes * config.rounds * every
    live = config.runs * (config.still_rounds + config.run_rounds) + config.still_rounds
    return changing + live * QUOTE_CPU_S[GDM]


class Piece(NamedTuple):
    """What one process does at a time: a method in all episodes of one kind of change."""

    config: Config
    change: str
    layers: str
    method: str


_quoters = cache(quoters)
"""Once a process."""


@cache
def _episodes(config: Config, change: str, layers: str) -> list[Episode]:
    """Drawn once a process."""
    return episodes_of(config, kinds(config)[change].dynamics, integer=KINDS[layers])


def meet_piece(piece: Piece) -> Shares:
    """Lets a method meet the episodes, each of which has its own seed."""
    config, quoter = piece.config, _quoters()[piece.method]
    episodes = _episodes(config, piece.change, piece.layers)
    met = [play_changing(quoter, each, window=config.window) for each in episodes]
    return Shares(np.stack([each.quoted for each in met]), np.stack([each.earned for each in met]))


def play_all(config: Config, *, workers: int = 1) -> Found:
    """Lets every method meet every episode; by as many processes as there are workers."""
    pieces = [
        Piece(config, change, layers, method)
        for change in kinds(config)
        for layers in KINDS
        for method in _quoters()
    ]
    with progress_bar(f"{config.episodes} episodes of each kind") as advance:
        met = spread(meet_piece, pieces, workers=workers, on_piece=advance)
    found: Found = {change: {layers: {} for layers in KINDS} for change in kinds(config)}
    for piece, shares in zip(pieces, met, strict=True):
        found[piece.change][piece.layers][piece.method] = shares
    return found


def by_episode(shares: np.ndarray) -> np.ndarray:
    """Means over the rounds in which somebody was there; episodes without any drop out."""
    some = ~np.all(np.isnan(shares), axis=1)
    return np.nanmean(shares[some], axis=1)


def measures(found: Found, config: Config) -> dict[str, Any]:
    """The figures of `metrics.json`."""

    def of(shares: np.ndarray) -> dict[str, float]:
        means = by_episode(shares)
        return {"mean": float(means.mean()), "standard_error": standard_error(means)}

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


def write_tables(folder: Path, found: Found, live: Live) -> None:
    """Writes `curves.csv`, a line for each kind, layers, method and round, and `live.csv`."""
    with (folder / "live.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["market", "seed", "round", "share_of_gain_over_no_trade"])
        for market, shares in live._asdict().items():
            for seed, at in zip(*np.nonzero(~np.isnan(shares)), strict=True):
                rows.writerow([market, seed, at + 1, f"{shares[seed, at]:.6g}"])
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


def play_seed(piece: tuple[Config, int]) -> tuple[np.ndarray, np.ndarray]:
    """Live quotes of one seed to a fleet that `edgepact run` draws, and to that of the example."""
    config, seed = piece
    example = np.full(config.still_rounds, np.nan)
    rounds = config.run_rounds if seed else config.still_rounds
    example[:rounds] = play_live(live_example(), rounds=rounds, seed=seed)
    return play_live(run_market(seed), rounds=config.still_rounds, seed=seed), example


def play_lives(config: Config, *, workers: int = 1) -> Live:
    """Live quotes to fleets that do not change."""
    pieces = [(config, seed) for seed in range(config.runs)]
    with progress_bar("live markets") as advance:
        played = spread(play_seed, pieces, workers=workers, on_piece=advance)
    return Live(*(np.stack(each) for each in zip(*played, strict=True)))


def live_verdicts(live: Live, config: Config) -> list[Verdict]:
    """What was asked of live quotes, and what came."""
    first, last = RUN_ROUNDS
    held = []
    for seed, shares in enumerate(live.runs):
        what = f"`edgepact run --seed {seed}`: mean of quotes {first} to {last}"
        held.append(Verdict(what, RUN_MARK, float(shares[first - 1 : last].mean())))
    later = live.example[:, EXAMPLE_AFTER : config.run_rounds]
    seeds = "seed 0" if len(later) == 1 else f"seeds 0 to {len(later) - 1}"
    what = f"`examples/live.toml`, {seeds}: worst quote from {EXAMPLE_AFTER + 1} on"
    held.append(Verdict(what, EXAMPLE_MARK, float(later.min())))
    still = {"fleets of `edgepact run`": live.runs, "`examples/live.toml`": live.example}
    for name, rows in still.items():
        whole = rows[~np.isnan(rows).any(axis=1)]
        below = whole.max(axis=1) - whole[:, STILL_AFTER:].min(axis=1)
        what = f"{name}, {config.still_rounds} rounds: most below its best after round "
        what += f"{STILL_AFTER}, points"
        held.append(Verdict(what, STILL_FALL, float(below.max()), most=True))
    return held


class Behind(NamedTuple):
    """The GDM beside the first of the methods that are not told how devices decide.

    Attributes:
        first: the method with the highest mean.
        error: standard error of that mean.
        behind: by how much the GDM is behind it, 0 if it is the first itself.
        behind_error: standard error of that over the same episodes.
    """

    first: str
    error: float
    behind: float
    behind_error: float

    @property
    def reached(self) -> bool:
        """Whether the GDM is the first or within one standard error of it."""
        return self.behind <= self.error


def behind(of_layers: dict[str, Shares], told: frozenset[str], rounds: slice) -> Behind:
    """The GDM's place in one kind of change.

    Args:
        of_layers: all methods on the same episodes.
        told: those that do not count, since they are told how devices decide.
        rounds: of the episodes that are compared.
    """
    means = {
        name: by_episode(each.quoted[:, rounds])
        for name, each in of_layers.items()
        if name not in told
    }
    first = max(means, key=lambda name: float(means[name].mean()))
    apart = means[first] - means[GDM]
    error = standard_error(means[first])
    return Behind(first, error, float(apart.mean()), standard_error(apart))


def places(found: Found, told: frozenset[str], config: Config) -> dict[str, dict[str, Any]]:
    """The GDM's place in every kind of change, by layers and part of the episodes."""
    parts = {"early": slice(0, config.early), "late": slice(config.early, None)}
    return {
        kind: {
            layers: {part: behind(of_layers, told, rounds) for part, rounds in parts.items()}
            for layers, of_layers in of_kind.items()
        }
        for kind, of_kind in found.items()
    }


def draw(found: Found, figures: dict[str, Any], live: Live, config: Config) -> Figure:
    """What quotes miss after the beginning by kind of change, and live quotes by round."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    panels = figure.subplots(2, 2, gridspec_kw={"height_ratios": [1.5, 1.0]})
    names = list(found)
    for axes, layers in zip(panels[0], KINDS, strict=True):
        drawn = [name for name in DRAWN if name in figures[names[0]][layers]]
        for place, method in enumerate(drawn):
            late = [figures[kind][layers][method]["quoted_late"] for kind in names]
            missed = np.array([max(1.0 - each["mean"], 1e-5) for each in late])
            error = np.array([each["standard_error"] for each in late])
            below = np.minimum(error, 0.9 * missed)
            at = np.arange(len(names)) + 0.11 * (place - (len(drawn) - 1) / 2.0)
            bars = [100.0 * below, 100.0 * error]
            usual = {"linestyle": "none", "capsize": 2, "markersize": scaled(7.0), "label": method}
            look = {"color": LOOKS[method].colour, "marker": LOOKS[method].marker}
            if method in TOLD:
                look["fillstyle"] = "none"
            axes.errorbar(100.0 * missed, at, xerr=bars, **(usual | look))
        axes.set_xscale("log")
        axes.invert_xaxis()
        log_ticks(axes.xaxis)
        axes.set_yticks(range(len(names)), names if layers == next(iter(KINDS)) else [])
        axes.invert_yaxis()
        axes.set_xlabel(
            f"missed share of the range from round {config.early + 1} on, %\n(better to the right)"
        )
        axes.set_title(f"{layers} layers")
        for row in range(len(names) - 1):
            axes.axhline(row + 0.5, color=GREY, alpha=0.5, linewidth=0.8)
    _draw_runs(panels[1, 0], live, config)
    _draw_still(panels[1, 1], live)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=4)
    return figure


def _draw_runs(axes: Any, live: Live, config: Config) -> None:
    """The first quotes of live markets: the range over seeds, and the mean."""
    shown = min(config.run_rounds, live.runs.shape[1])
    rounds = np.arange(1, shown + 1)
    looks = {
        "edgepact run": (live.runs[:, :shown], RUN_LOOK),
        "examples/live.toml": (live.example[:, :shown], EXAMPLE_LOOK),
    }
    for name, (shares, look) in looks.items():
        band = 100.0 * shares.min(axis=0), 100.0 * shares.max(axis=0)
        label = f"{name}: mean and range"
        draw_curve(axes, rounds, 100.0 * shares.mean(axis=0), band, look, label=label)
    axes.axhline(100.0 * EXAMPLE_MARK, color=GREY, linewidth=0.8, linestyle=":")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("round of a live market")
    axes.set_ylabel("share of the gain over no trade, %")
    axes.legend(frameon=False, loc="lower right")


def _draw_still(axes: Any, live: Live) -> None:
    """How far quotes to fleets that do not change lie below the best of all, the worst of them."""
    for shares, look in ((live.runs, RUN_LOOK), (live.example[:1], EXAMPLE_LOOK)):
        below = 100.0 * (shares.max(axis=1, keepdims=True) - shares)
        rounds = np.arange(1, below.shape[1] + 1)
        draw_curve(axes, rounds, below.max(axis=0), (below.min(axis=0), below.max(axis=0)), look)
    axes.axhline(100.0 * STILL_FALL, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(100.0, 0.0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("round of a live market")
    axes.set_ylabel("below its best quote, points:\nworst fleet, and all as a band")


def page(
    found: Found, figures: dict[str, Any], live: Live, told: frozenset[str], config: Config
) -> list[str]:
    """The findings in words and tables."""
    named = kinds(config)
    parts = [
        f"Every method prices the same {count(config.episodes, 'episode')} of "
        f"{config.rounds} rounds for "
        "each kind of change and of layers, with devices of the reference prior. A share of 100 "
        "is the exact optimum of the fleet as it is in that round, 0 the mean of random prices "
        "in it. All are scored by the quotes they post, of which none can be taken back. Methods "
        f"see the last {config.window} rounds. The GDM is told which answers are missing since a "
        "device was not there yet; for the others the mean answer of those who were there is "
        "filled in. Which method knows how devices decide, or the prior, is said in the study of "
        "quotes; none is told what changes. After ± stands the standard error over episodes.",
        table(["kind", "what happens"], [[name, kind.what] for name, kind in named.items()]),
        "![What quotes miss by kind of change, and live quotes by round](dynamics.png)",
        "## What was asked for",
        *_places(places(found, told, config), config),
        "Live quotes, as `edgepact run` makes them for a fleet that does not change; shares of "
        "the gain over no trade, of which 100 is all that is attainable:",
        verdict_table(live_verdicts(live, config)),
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
    return parts


def _table(figures: dict[str, Any], layers: str, measure: str, shown: tuple[str, ...]) -> str:
    names = list(figures["still"][layers])
    rows = []
    for method in names:
        cells = [figures[kind][layers][method][measure] for kind in shown]
        rows.append([method, *(percent(x["mean"], x["standard_error"]) for x in cells)])
    return table(["method", *shown], rows)


def _places(found: dict[str, dict[str, Any]], config: Config) -> list[str]:
    """Where the GDM stands among methods that are not told how devices decide."""
    every = [
        each for of_kind in found.values() for parts in of_kind.values() for each in parts.values()
    ]
    head = ["kind"]
    for layers in KINDS:
        head += [
            f"{layers}, rounds 1 to {config.early}",
            f"{layers}, rounds {config.early + 1} to {config.rounds}",
        ]
    rows = [
        [kind, *(_place(each) for parts in of_kind.values() for each in parts.values())]
        for kind, of_kind in found.items()
    ]
    lead = (
        "The GDM should be the first of the methods that are not told how devices decide, or "
        "within one standard error of the first. It is in "
        f"{sum(each.reached for each in every)} of {len(every)} columns of the tables below; where "
        "it is not the first, the first stands here, with the points by which it is ahead and "
        "their standard error over the same episodes:"
    )
    return [lead, table(head, rows)]


def _place(each: Behind) -> str:
    if each.first == GDM:
        return "reached: first"
    apart = f"{each.first} is {percent(each.behind, each.behind_error)} ahead"
    return f"reached: {apart}" if each.reached else f"**missed**: {apart}"


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, dynamics.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config, workers = sized(config_for(asked.smoke), asked), asked.workers
    told = frozenset(name for name, each in _quoters().items() if each.knows_form)
    found, live = play_all(config, workers=workers), play_lives(config, workers=workers)
    figures = measures(found, config)
    write_tables(folder, found, live)
    write_picture(folder, "dynamics", lambda: draw(found, figures, live, config), config, asked)
    held = places(found, told, config)
    write_metrics(
        folder,
        config,
        {
            "changes": figures,
            "places": {
                kind: {
                    layers: {
                        part: each._asdict() | {"reached": each.reached}
                        for part, each in parts.items()
                    }
                    for layers, parts in of_kind.items()
                }
                for kind, of_kind in held.items()
            },
            "live_marks": [each.to_dict() for each in live_verdicts(live, config)],
        },
        asked.record("dynamics"),
    )
    title = "Quotes to fleets that change"
    parts = page(found, figures, live, told, config)
    write_findings(folder, "dynamics", title, parts, asked)
