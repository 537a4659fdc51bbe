"""What each part of quoting in context is worth: what is drawn from, H, samples, steps, training.

Quotes come from generated supply curves and exact arithmetic over them. Here one thing at a time
is other than in the quoter that ships, over the same fleets: those of the reference prior with
whole and with continuous layers, and odd ones that nothing was trained on. What is drawn from goes
from knowing nothing to being told everything but the costs:

- each price anywhere in its interval, each by itself;
- layers spread evenly in 1/P with a random phase for each device;
- the trained generator alone;
- the trained generator with the wide ways beside it, weighed by how well each foretold the answers;
- the exact posterior, told how devices decide and the prior, with the same rule to decide: the
  ceiling on the reference prior.

The shorter trainings are made by `--train`, into the folder; a run without finds them if they stand
there, and leaves them out if not.
"""

import csv
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pages import percent, table
from edgepact.palette import GREY, Look
from edgepact.palette import LOOKS as PALETTE
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context import curves, pricing
from edgepact.solvers.in_context.curves_training import Course
from edgepact.solvers.in_context.pricing import INDEPENDENT, SHIPPED, InContext, load
from edgepact.solvers.known_form.told_posterior import ToldPosterior
from edgepact.solvers.quoter import Quoter
from edgepact.solvers.quoting import play, reference_fleets, regret
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import log_ticks, scaled, write_findings, write_picture
from edgepact.studies.marks import standard_error
from edgepact.studies.methods import CEILING, GDM, QUOTE_CPU_S, SHIPPING, train_to
from edgepact.studies.odd_fleets import LAYERS, odd_fleets
from edgepact.studies.quoting import error_of
from edgepact.studies.spread import spread

BASE = "as shipped"

SHOWN = (2, 5, 8)
"""Quotes that the page shows; the CSV has all."""

HORIZONS = (0.0, 2.0, 24.0)
"""H in place of the one that ships."""

ROWS = (32, 128, 2048)
"""Rows generated for a quote in place of the number that ships."""

STEPS = (1, 2, 4)
"""Steps of sampling in place of the number that ships."""

TRAININGS = {
    "500 steps, 500 fleets": ("short-500.npz", Course(fleets=500, updates=500)),
    "2,000 steps, 2,000 fleets": ("short-2000.npz", Course(fleets=2_000, updates=2_000)),
    "8,000 steps, 8,000 fleets": ("short-8000.npz", Course(fleets=8_000, updates=8_000)),
}
"""Trainings shorter than the one that ships, and where their weights are put."""

LOOKS: dict[str, Look] = dict(
    zip(("drawn from", "H", "samples", "steps", "training"), PALETTE, strict=False)
)
"""Colour and marker of what is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        fleets: of the reference prior, for each kind of layers.
        odd: odd fleets; every other one with a model of 24 layers.
        fleets_seed: draws them; no training uses it.
        seed: of the quoters' own randomness.
        rounds: quotes to each fleet.
    """

    fleets: int = field(default=80, metadata=size("fleets"))
    odd: int = field(default=40, metadata=size("fleets"))
    fleets_seed: int = 20_319
    seed: int = 1
    rounds: int = 10


class Variant(NamedTuple):
    """A way to quote, and what is other about it than about the one that ships."""

    changed: str
    quoter: Quoter


class Result(NamedTuple):
    """One variant on fleets of one kind.

    Attributes:
        shares: of the range as posted, fleets x rounds.
        quote_ms: CPU milliseconds of a quote, devices' answers included.
    """

    shares: np.ndarray
    quote_ms: float


Found = dict[str, dict[str, Result]]
"""By variant and kind of fleets."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(fleets=2, odd=1, rounds=3) if smoke else Config()


def noises(steps: int) -> tuple[float, ...]:
    """So many of the noise levels that ship, from the first to the last."""
    every = curves.NOISE
    at = np.linspace(0, len(every) - 1, steps).round().astype(int)
    return tuple(every[each] for each in at)


def variants(folder: Path) -> dict[str, Variant]:
    """All of them by name, the one that ships first.

    Args:
        folder: may hold the weights of `TRAININGS`.
    """
    weights = load(SHIPPED)
    found = {BASE: Variant("drawn from", InContext(weights))}
    drawn = {
        "anywhere, each by itself": (INDEPENDENT,),
        "evenly in 1/P, random phases": ("even",),
        "learned alone": ("reference", "broad"),
    }
    for name, ways in drawn.items():
        found[name] = Variant("drawn from", InContext(weights, ways=ways))
    found[CEILING] = Variant("drawn from", ToldPosterior())
    for horizon in HORIZONS:
        found[f"H = {horizon:g}"] = Variant("H", InContext(weights, horizon=horizon))
    for rows in ROWS:
        found[f"{rows:,} rows"] = Variant("samples", InContext(weights, rows=rows))
    for steps in STEPS:
        name = "1 step" if steps == 1 else f"{steps} steps"
        found[name] = Variant("steps", InContext(weights, noises=noises(steps)))
    for name, (file, _) in TRAININGS.items():
        if (folder / file).is_file():
            found[name] = Variant("training", InContext(load(folder / file)))
    return found


def kinds(config: Config) -> dict[str, list[Game]]:
    """The fleets that all variants meet, by kind."""
    half = (config.odd + 1) // 2, config.odd // 2
    odd = [
        game
        for layers, number in zip(LAYERS, half, strict=True)
        for game in odd_fleets(config.fleets_seed, number, layers_max=layers, integer=True)
    ]
    return {
        "reference, whole": reference_fleets(config.fleets_seed, config.fleets, integer=True),
        "reference, continuous": reference_fleets(config.fleets_seed, config.fleets, integer=False),
        "odd, whole": odd,
    }


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the recorded times of quotes; without `--train`."""
    fleets = 2 * config.fleets + config.odd
    others = len(HORIZONS) + len(ROWS) + len(STEPS) + 4
    return fleets * config.rounds * others * QUOTE_CPU_S[GDM]


class Piece(NamedTuple):
    """What one process does at a time: a variant's quotes to all fleets of a kind.

    Attributes:
        config: of the study.
        folder: may hold the weights of `TRAININGS`.
        kind: of fleets.
        variant: by name.
    """

    config: Config
    folder: Path
    kind: str
    variant: str


_kinds = cache(kinds)
"""Once a process."""


@cache
def _quoter(folder: Path, variant: str) -> Quoter:
    return variants(folder)[variant].quoter


def play_piece(piece: Piece) -> Result:
    """Lets a variant quote to the fleets of a kind, each of which has its own seed."""
    quoter, games = _quoter(piece.folder, piece.variant), _kinds(piece.config)[piece.kind]
    rounds, seed = piece.config.rounds, piece.config.seed
    play(quoter, games[:1], rounds=rounds, seed=seed)  # compiles what is not to be timed
    started = time.process_time()
    shares = play(quoter, games, rounds=rounds, seed=seed)
    return Result(shares, 1e3 * (time.process_time() - started) / shares.size)


def play_all(
    config: Config, chosen: dict[str, Variant], folder: Path, *, workers: int = 1
) -> Found:
    """Lets every variant quote to every fleet; the ceiling to those of whose prior it is told."""
    pieces = [
        Piece(config, folder, kind, name)
        for kind in _kinds(config)
        for name in chosen
        if name != CEILING or not kind.startswith("odd")
    ]
    with progress_bar(f"{len(chosen)} variants") as advance:
        played = spread(play_piece, pieces, workers=workers, on_piece=advance)
    found: Found = {name: {} for name in chosen}
    for piece, result in zip(pieces, played, strict=True):
        found[piece.variant][piece.kind] = result
    return found


class Lost(NamedTuple):
    """Regret of a variant, and by how much it is more than that of the one that ships.

    Errors are standard errors over fleets, those of `more` over the same fleets.
    """

    mean: float
    error: float
    more: float
    more_error: float


def lost(found: Found, name: str, kind: str) -> Lost:
    """What a variant missed over all quotes, in rounds of the full range."""
    own, base = (regret(found[each][kind].shares) for each in (name, BASE))
    more = own - base
    return Lost(float(own.mean()), standard_error(own), float(more.mean()), standard_error(more))


def measures(found: Found, chosen: dict[str, Variant]) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    return {
        name: {
            "changed": chosen[name].changed,
            "kinds": {
                kind: {
                    "mean": each.shares.mean(axis=0).tolist(),
                    "standard_error": error_of(each.shares).tolist(),
                    "regret": lost(found, name, kind)._asdict(),
                    "cpu_ms_a_quote": round(each.quote_ms, 3),
                }
                for kind, each in of_variant.items()
            },
        }
        for name, of_variant in found.items()
    }


def write_curves(folder: Path, found: Found, chosen: dict[str, Variant]) -> None:
    """Writes `curves.csv`, a line for every variant, kind of fleets and quote."""
    with (folder / "curves.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["variant", "changed", "fleets", "quote", "mean", "standard_error"])
        for name, of_variant in found.items():
            for kind, each in of_variant.items():
                curve = zip(each.shares.mean(axis=0), error_of(each.shares), strict=True)
                for at, (mean, error) in enumerate(curve):
                    place = [name, chosen[name].changed, kind, at + 1]
                    rows.writerow([*place, f"{mean:.6g}", f"{error:.6g}"])


def draw(found: Found, chosen: dict[str, Variant]) -> Figure:
    """Regret of every variant with its standard error, a panel for each kind of fleets."""
    names, every = list(found), list(found[BASE])
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(every), sharey=True)
    for axes, kind in zip(panels, every, strict=True):
        base = lost(found, BASE, kind)
        axes.axvspan(base.mean - base.error, base.mean + base.error, color=GREY, alpha=0.4)
        for row, name in enumerate(names):
            if kind not in found[name]:
                continue
            each, changed = lost(found, name, kind), LOOKS[chosen[name].changed]
            look: dict[str, Any] = {"color": changed.colour, "marker": changed.marker}
            # The axis is logarithmic: an error bar must not reach down to 0.
            below = min(each.error, 0.9 * each.mean)
            bars = [[below], [each.error]]
            axes.errorbar([each.mean], [row], xerr=bars, markersize=scaled(7.0), capsize=3, **look)
        axes.set_xscale("log")
        axes.invert_xaxis()
        log_ticks(axes.xaxis)
        axes.set_title(kind)
        axes.grid(axis="both", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.supxlabel(
        "regret over all quotes, rounds of the full range; better to the right\n"
        "(± standard error; grey: as shipped)",
    )
    there = dict.fromkeys(chosen[name].changed for name in names)
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", label=each)
        for each, look in ((each, LOOKS[each]) for each in there)
    ]
    figure.legend(handles=handles, frameon=False, loc="outside upper center", ncols=5)
    return figure


def page(found: Found, chosen: dict[str, Variant], config: Config, made: str) -> list[str]:
    """The findings in words and tables."""
    parts = [
        f"The quoter that ships draws from four ways, weighed by how well they foretold the "
        f"answers, with H = {pricing.HORIZON:g}, {pricing.ROWS} rows a way and quote, "
        f"{len(curves.NOISE)} steps, and a generator taught on {SHIPPING.fleets:,} fleets in "
        f"{SHIPPING.updates:,} gradient steps. In each line below one thing is other. All meet the "
        f"same {config.fleets} fleets of the reference prior with whole layers, the same with "
        f"continuous ones, and {config.odd} odd fleets (20 to 200 devices with lognormal costs, "
        "12 or 24 layers), none of them seen in training. Shares of the range as posted, in "
        f"percent; regret is what was missed over all {config.rounds} quotes, in rounds of the "
        "full range, and what is more than as shipped is over the same fleets. After ± stands the "
        "standard error over fleets. A quote's CPU time includes the devices' answers. "
        f"`{CEILING}` knows how devices decide and the prior of their costs, decides by the same "
        "rule, and is the ceiling; it is not asked about odd fleets, which are not of that prior.",
        made,
        "![Regret of every variant](ablation.png)",
    ]
    rounds = found[BASE][next(iter(found[BASE]))].shares.shape[1]
    shown = [at for at in SHOWN if at <= rounds]
    for kind in found[BASE]:
        rows = []
        for name, of_variant in found.items():
            if kind not in of_variant:
                continue
            each, missed = of_variant[kind], lost(found, name, kind)
            mean, error = each.shares.mean(axis=0), error_of(each.shares)
            rows.append(
                [
                    name,
                    chosen[name].changed,
                    *(percent(mean[at - 1], error[at - 1]) for at in shown),
                    f"{missed.mean:.3f} ± {missed.error:.3f}",
                    "" if name == BASE else f"{missed.more:+.3f} ± {missed.more_error:.3f}",
                    f"{each.quote_ms:.1f}",
                ]
            )
        head = [
            "variant",
            "changed",
            *(f"quote {at}" for at in shown),
            "regret",
            "more than as shipped",
            "CPU ms a quote",
        ]
        parts += [f"## {kind[0].upper()}{kind[1:]}", *_in_words(found, chosen, kind)]
        parts.append(table(head, rows))
    return parts


def _in_words(found: Found, chosen: dict[str, Variant], kind: str) -> list[str]:
    """Which changes make quotes clearly worse or better: by more than two standard errors."""
    worse: list[str] = []
    better: list[str] = []
    for name in found:
        if name == BASE or kind not in found[name]:
            continue
        each = lost(found, name, kind)
        if abs(each.more) > 2.0 * each.more_error:
            (worse if each.more > 0 else better).append(f"`{name}`")
    rest = len([name for name in found if kind in found[name]]) - 1 - len(worse) - len(better)
    sentences = [
        f"Worse than as shipped by more than two standard errors: {', '.join(worse) or 'none'}.",
        f"Better by as much: {', '.join(better) or 'none'}.",
        f"The other {rest} cannot be told from it on so many fleets.",
    ]
    return [" ".join(sentences)]


def train(folder: Path, smoke: bool) -> None:
    """Makes the trainings that are shorter than the one that ships, into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, course in TRAININGS.values():
        train_to(folder / file, smoke=smoke, course=course)


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, ablation.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config, chosen = sized(config_for(asked.smoke), asked), variants(folder)
    found = play_all(config, chosen, folder, workers=asked.workers)
    write_curves(folder, found, chosen)
    write_picture(folder, "ablation", lambda: draw(found, chosen), config, asked)
    write_metrics(folder, config, {"variants": measures(found, chosen)}, asked.record("ablation"))
    trained = [name for name in TRAININGS if name in chosen]
    made = (
        "The shorter trainings were made for this page, by `--train`, from nothing and with the "
        "settings of the one that ships but for their length."
        if trained
        else "Shorter trainings are not here, since they take `--train`."
    )
    title = "What each part of quoting in context is worth"
    command = "ablation" + (" --train" if trained else "")
    write_findings(folder, command, title, page(found, chosen, config, made), asked)
