"""Share of the optimum at quotes 1 to 20, for the GDM in context and every rival.

All methods meet the same fleets of the reference prior, which none has seen, with
continuous and with whole layers. All are shown by the quotes they post, and by their best so
far, as if they went back to it. What searching cost is in the regret, summed over the quotes
as posted. Intervals are standard errors over fleets, those of differences between methods over
the same fleets.
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.mechanisms.stackelberg.terms import Game
from edgepact.pages import percent, points, spans, table
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context.pricing import SHIPPED
from edgepact.solvers.pretrained import transformer
from edgepact.solvers.quoter import Quoter
from edgepact.solvers.quoting import best_so_far, play, reference_fleets, regret
from edgepact.studies.asked import Asked, size, sized
from edgepact.studies.drawing import draw_curve, with_legend, write_findings, write_picture
from edgepact.studies.methods import (
    CEILING,
    GDM,
    LOOKS,
    POSTED,
    QUOTE_CPU_S,
    TRANSFORMER,
    methods,
    train_to,
    train_transformer_to,
    with_ceiling,
)
from edgepact.studies.spread import spread, stretches

TRAINED, TRAINED_TRANSFORMER = "quoting.npz", "transformer.npz"
"""Weights that `--train` leaves in the folder, of the GDM and of the transformer."""

OFF_FIGURE = ("random", "Bayesian posted price")
"""The zero of the score, and what never changes: in the tables alone."""

KINDS = {"continuous": False, "integer": True}
SHOWN = (1, 2, 3, 4, 5, 8, 12, 20)
"""Quotes that the page shows; the CSV has all."""
LOW = 5.0
"""Percentile shown beside the mean."""
TAUGHT = (
    f"*{TRANSFORMER}* learnt on fleets of the GDM's prior, for no longer, to name the best price "
    "of a fleet from prices and what the fleet sold for them (DPT, OMGPT). It posts the price that "
    "it takes for the likeliest."
)
"""Words of the page where there are weights of it."""
FLEETS_AT_A_TIME = 10
"""Of one method, which one process meets before it is asked for the next."""
LEAST_SHOWN = 1e-3
"""Percent of the range; what is less is drawn as this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        fleets: of the reference prior, for each kind of layers.
        fleets_seed: draws them; no training uses it.
        seed: of the methods' own randomness.
        rounds: quotes to each fleet.
    """

    fleets: int = field(default=400, metadata=size("fleets"))
    fleets_seed: int = 20_312
    seed: int = 1
    rounds: int = 20


class Mark(NamedTuple):
    """What was asked for before anything was measured.

    Attributes:
        kind: of layers.
        quotes: first and last one it holds for.
        measure: of `Scores`.
        least: share.
    """

    kind: str
    quotes: tuple[int, int]
    measure: str
    least: float


MARKS = (
    Mark("continuous", (2, 2), "mean", 0.995),
    Mark("continuous", (4, 20), "mean", 0.9998),
    Mark("integer", (2, 2), "mean", 0.970),
    Mark("integer", (5, 5), "mean", 0.983),
    Mark("integer", (8, 8), "mean", 0.990),
    Mark("integer", (20, 20), "mean", 0.995),
)
REGRETS = {"continuous": 0.055, "integer": 0.29}
"""Most that may be missed over all quotes, in rounds of the full range."""

FIRST_QUOTE_BELOW_BEST = 0.005
"""By how much the first quote may stay behind the best that any first quote can do."""


class Verdict(NamedTuple):
    """A mark beside what came of it; `least` and `measured` are shares."""

    layers: str
    what: str
    least: float
    measured: float

    @property
    def reached(self) -> bool:
        """Whether it is enough."""
        return self.measured >= self.least


class Scores(NamedTuple):
    """Of one method on all fleets, by quote."""

    mean: np.ndarray
    error: np.ndarray
    low: np.ndarray


class Play(NamedTuple):
    """One method's quotes to all fleets of one kind.

    Attributes:
        shares: of the range, fleets x rounds.
        knows_form: whether the method was told how devices decide.
        seconds: of the processor, devices' answers included.
    """

    shares: np.ndarray
    knows_form: bool
    seconds: float

    def followed_by(self, later: "Play") -> "Play":
        """The same method on more fleets."""
        shares = np.concatenate([self.shares, later.shares])
        return Play(shares, self.knows_form, self.seconds + later.seconds)


Plays = dict[str, dict[str, Play]]
"""By kind of layers and method."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(fleets=10) if smoke else Config()


@cache
def quoters(weights: Path = SHIPPED, lessons: Path = transformer.SHIPPED) -> dict[str, Quoter]:
    """All methods, and the ceiling, once a process."""
    return with_ceiling(methods(weights, lessons))


class Piece(NamedTuple):
    """What one process does at a time: a method's quotes to some of the fleets of a kind.

    Attributes:
        config: of the study.
        weights, lessons: of the GDM and of the transformer.
        kind: of layers.
        method: by name.
        fleets: by number.
    """

    config: Config
    weights: Path
    lessons: Path
    kind: str
    method: str
    fleets: range


def play_piece(piece: Piece) -> Play:
    """Lets a method meet some of the fleets; each has its own seed, whoever else is met."""
    config, fleets = piece.config, piece.fleets
    quoter = quoters(piece.weights, piece.lessons)[piece.method]
    games = _fleets(config.fleets_seed, config.fleets, KINDS[piece.kind])
    started = time.process_time()
    shares = play(
        quoter,
        games[fleets.start : fleets.stop],
        rounds=config.rounds,
        seed=config.seed,
        first=fleets.start,
    )
    return Play(shares, quoter.knows_form, time.process_time() - started)


@cache
def _fleets(seed: int, fleets: int, integer: bool) -> list[Game]:
    """Drawn once a process."""
    return reference_fleets(seed, fleets, integer=integer)


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the recorded times of quotes."""
    return len(KINDS) * config.fleets * config.rounds * sum(QUOTE_CPU_S.values())


def play_all(
    config: Config,
    *,
    weights: Path = SHIPPED,
    lessons: Path = transformer.SHIPPED,
    workers: int = 1,
) -> Plays:
    """Lets every method meet every fleet.

    Args:
        config: of the study.
        weights, lessons: of the GDM and of the transformer.
        workers: processes; how many does not change what comes.
    """
    pieces = [
        Piece(config, weights, lessons, kind, method, fleets)
        for kind in KINDS
        for method in quoters(weights, lessons)
        for fleets in stretches(config.fleets, FLEETS_AT_A_TIME)
    ]
    with progress_bar(f"{config.fleets} fleets of each kind") as advance:
        played = spread(play_piece, pieces, workers=workers, on_piece=advance)
    plays: Plays = {kind: {} for kind in KINDS}
    for piece, part in zip(pieces, played, strict=True):
        before = plays[piece.kind].get(piece.method)
        plays[piece.kind][piece.method] = part if before is None else before.followed_by(part)
    return plays


def scores(shares: np.ndarray) -> Scores:
    """Mean, its standard error and the low percentile over fleets."""
    return Scores(shares.mean(axis=0), error_of(shares), np.percentile(shares, LOW, axis=0))


def error_of(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over fleets, the first axis; 0 of a single one."""
    if len(values) < 2:
        return np.zeros(values.shape[1:])
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def as_posted(shares: np.ndarray) -> np.ndarray:
    """What each quote earned, whatever was seen before."""
    return shares


COUNTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "posted": as_posted,
    "best_so_far": best_so_far,
}
"""Ways to count quotes, of the GDM and its rivals alike."""

COUNTED_AS = {"posted": "as posted", "best_so_far": "by the best so far"}


class Lead(NamedTuple):
    """By how much the GDM is ahead of the best rival of a sort at one quote."""

    rival: str
    ahead: float
    error: float


def leads(plays: dict[str, Play], counted: str, *, knows_form: bool) -> list[Lead]:
    """The GDM against the best rival that knows the form, or does not, quote by quote.

    Args:
        plays: of all methods.
        counted: one of `COUNTED`.
        knows_form: of the rivals.
    """
    count = COUNTED[counted]
    own = count(plays[GDM].shares)
    rivals = {
        name: count(each.shares)
        for name, each in plays.items()
        if name != GDM and each.knows_form == knows_form
    }
    found = []
    for at in range(own.shape[1]):
        name = max(rivals, key=lambda name: float(rivals[name][:, at].mean()))
        ahead = own[:, at] - rivals[name][:, at]
        found.append(Lead(name, float(ahead.mean()), float(error_of(ahead))))
    return found


def marks(plays: Plays) -> list[Verdict]:
    """What was asked for, and what came."""
    found = []
    for kind in plays:
        own = float(plays[kind][GDM].shares[:, 0].mean())
        best = float(plays[kind][POSTED].shares[:, 0].mean())
        what = "mean at quote 1, half a point below the Bayesian posted price"
        found.append(Verdict(kind, what, best - FIRST_QUOTE_BELOW_BEST, own))
    for mark in MARKS:
        first, last = mark.quotes
        by_quote = getattr(scores(plays[mark.kind][GDM].shares), mark.measure)
        what = "mean" if mark.measure == "mean" else f"{LOW:.0f}th percentile"
        what += f" at quote {first}" if first == last else f" at quotes {first} to {last}"
        found.append(Verdict(mark.kind, what, mark.least, float(by_quote[first - 1 : last].min())))
    for kind, most in REGRETS.items():
        shares = plays[kind][GDM].shares
        what = f"mean of all quotes, which is a regret of {most:g}"
        found.append(Verdict(kind, what, 1.0 - most / shares.shape[1], float(shares.mean())))
    return found


def measures(plays: Plays) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    layers: dict[str, Any] = {}
    for kind, of_kind in plays.items():
        table: dict[str, Any] = {}
        for name, each in of_kind.items():
            lost = regret(each.shares)
            table[name] = {
                "knows_form": each.knows_form,
                **{
                    counted: _as_lists(scores(count(each.shares)))
                    for counted, count in COUNTED.items()
                },
                "regret": {"mean": float(lost.mean()), "error": float(error_of(lost))},
                "seconds": round(each.seconds, 2),
            }
        layers[kind] = {
            "methods": table,
            **{
                f"ahead_of_best_{sort}_form": {
                    counted: [lead._asdict() for lead in leads(of_kind, counted, knows_form=told)]
                    for counted in COUNTED
                }
                for sort, told in (("without", False), ("with", True))
            },
        }
    return {
        "layers": layers,
        "marks": [each._asdict() | {"reached": each.reached} for each in marks(plays)],
    }


def _as_lists(found: Scores) -> dict[str, list[float]]:
    return {
        "mean": found.mean.tolist(),
        "standard_error": found.error.tolist(),
        "percentile_5": found.low.tolist(),
    }


def draw(plays: Plays) -> Figure:
    """What is still missed at each quote, up to nothing, with two standard errors.

    A row for each way to count and each sort of rivals, with the GDM in all of them.
    """
    rows = [(counted, told) for counted in COUNTED for told in (False, True)]
    figure = Figure(figsize=(10, 12), layout="constrained")
    panels = figure.subplots(len(rows), len(plays), sharex=True, sharey=True, squeeze=False)
    for column, (kind, of_kind) in enumerate(plays.items()):
        for row, (counted, told) in enumerate(rows):
            axes = panels[row, column]
            for name, each in of_kind.items():
                if name in OFF_FIGURE or (name != GDM and each.knows_form != told):
                    continue
                found = scores(COUNTED[counted](each.shares))
                missed, near = 100.0 * (1.0 - found.mean), 200.0 * found.error
                draw_curve(
                    axes,
                    np.arange(1, len(missed) + 1),
                    np.maximum(missed, LEAST_SHOWN),
                    tuple(np.maximum(missed + side * near, LEAST_SHOWN) for side in (-1.0, 1.0)),
                    LOOKS[name],
                    label=name,
                    width=2.2 if name == GDM else 1.4,
                )
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(axis="y", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            rivals = "rivals told how devices decide" if told else "rivals not told"
            axes.set_title(f"{kind} layers, {COUNTED_AS[counted]}:\n{rivals}")
    panels[0, 0].invert_yaxis()
    for axes in panels[-1]:
        axes.set_xlabel("quote")
    figure.supylabel("missed share of the range, %: mean, and two standard errors")
    return with_legend(figure, panels, ncols=4)


def write_tables(folder: Path, plays: Plays) -> None:
    """Writes `curves.csv`, a line for each quote, and `shares.csv`, one for each to each fleet."""
    with (
        (folder / "curves.csv").open("w", newline="") as of_curves,
        (folder / "shares.csv").open("w", newline="") as of_shares,
    ):
        curves, shares = csv.writer(of_curves), csv.writer(of_shares)
        columns = ("mean", "standard_error", "percentile_5")
        curves.writerow(["layers", "method", "counted", "quote", *columns])
        shares.writerow(["layers", "method", "fleet", "quote", "share"])
        for kind, of_kind in plays.items():
            for name, each in of_kind.items():
                for counted, count in COUNTED.items():
                    for at, found in enumerate(zip(*scores(count(each.shares)), strict=True)):
                        row = (f"{x:.6g}" for x in found)
                        curves.writerow([kind, name, counted, at + 1, *row])
                for fleet, at in np.ndindex(each.shares.shape):
                    share = f"{each.shares[fleet, at]:.6g}"
                    shares.writerow([kind, name, fleet, at + 1, share])


def page(plays: Plays, config: Config) -> list[str]:
    """The findings in words and tables."""
    parts = [
        f"Every method quotes {config.rounds} prices to each of {config.fleets} fleets of the "
        "reference prior that nobody has seen, once with continuous and once with whole layers. "
        "A share of 100 is the exact optimum of that fleet, 0 the mean of random prices. All are "
        "shown by the quotes they post, and by their best so far, as if they went back to it. "
        "After ± stands the standard error over fleets; bands are two of them wide on either side, "
        f"and what is below {LEAST_SHOWN:g} % is drawn there.",
        f"*{CEILING}* is the ceiling: it is told how devices decide and the prior of their costs, "
        "draws supply curves from the exact posterior where the GDM generates them, and decides by "
        "the same rule.",
        *([TAUGHT] if all(TRANSFORMER in each for each in plays.values()) else []),
        "![What is missed at each quote](quoting.png)",
        "## What was asked for",
        table(
            ["layers", "GDM in context", "at least", "measured", "reached"],
            [
                [
                    each.layers,
                    each.what,
                    percent(each.least),
                    percent(each.measured),
                    "yes" if each.reached else "**no**",
                ]
                for each in marks(plays)
            ],
        ),
    ]
    for kind, of_kind in plays.items():
        parts += [f"## {kind.capitalize()} layers"]
        for counted in COUNTED:
            parts += _comparison(of_kind, counted)
        parts += _tables(of_kind)
    return parts


def _comparison(plays: dict[str, Play], counted: str) -> list[str]:
    """The GDM against the best rivals, counted in one way."""
    blind, told = (leads(plays, counted, knows_form=form) for form in (False, True))
    own = scores(COUNTED[counted](plays[GDM].shares))
    rows = [
        [
            at + 1,
            percent(own.mean[at], own.error[at]),
            blind[at].rival,
            points(blind[at].ahead, blind[at].error),
            told[at].rival,
            points(told[at].ahead, told[at].error),
        ]
        for at in range(len(blind))
    ]
    head = ["quote", "GDM", "best rival not told", "GDM ahead", "best rival told", "GDM ahead"]
    sentence = (
        f"All {COUNTED_AS[counted]}: {_where_ahead('not told how devices decide', blind)}; "
        f"{_where_ahead('told it', told)}."
    )
    return [sentence, table(head, rows)]


def _where_ahead(sort: str, found: list[Lead]) -> str:
    """Against how many quotes of the best rivals of a sort the GDM stands, in a sentence."""
    behind = [at + 1 for at, lead in enumerate(found) if lead.ahead < 0]
    sentence = (
        f"of rivals {sort} the best is behind or level at {len(found) - len(behind)} of "
        f"{len(found)} quotes"
    )
    if behind:
        most = min(found, key=lambda lead: lead.ahead)
        sentence += (
            f" and ahead at quotes {spans(behind)}, by {points(-most.ahead, most.error)[1:]} "
            f"points at most ({most.rival})"
        )
    return sentence


def _tables(plays: dict[str, Play]) -> list[str]:
    rounds = plays[GDM].shares.shape[1]
    shown = [at for at in SHOWN if at <= rounds]
    head = ["method", "told", *(str(at) for at in shown)]
    parts = []
    for counted, count in COUNTED.items():
        means, lows = [], []
        for name, each in plays.items():
            found, told = scores(count(each.shares)), _told(each)
            means.append(
                [name, told, *(percent(found.mean[at - 1], found.error[at - 1]) for at in shown)]
            )
            lows.append([name, told, *(percent(found.low[at - 1]) for at in shown)])
        how = COUNTED_AS[counted]
        parts += [f"Mean share in percent, {how}:", table(head, means)]
        parts += [f"{LOW:.0f}th percentile over fleets, {how}:", table(head, lows)]
    losses = []
    for name, each in plays.items():
        lost = regret(each.shares)
        seconds = 100.0 * each.seconds / len(each.shares)
        regrets = f"{lost.mean():.3f} ± {float(error_of(lost)):.3f}"
        losses.append([name, _told(each), regrets, f"{seconds:.1f}"])
    return [
        *parts,
        f"Regret: what was missed over all {rounds} quotes as posted, in rounds of the full range; "
        "and seconds of the processor that 100 fleets took:",
        table(["method", "told", "regret", "seconds"], losses),
    ]


def _told(played: Play) -> str:
    return "yes" if played.knows_form else "no"


def train(folder: Path, smoke: bool) -> None:
    """Trains what ships from nothing, into the folder: the generator, and the transformer."""
    train_to(folder / TRAINED, smoke=smoke)
    train_transformer_to(folder / TRAINED_TRANSFORMER, smoke=smoke)


def run(folder: Path, asked: Asked) -> None:
    """Writes curves.csv, shares.csv, quoting.png, metrics.json and page.md.

    The weights are those in the folder, if it was trained to, or else those that ship.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = sized(config_for(asked.smoke), asked)
    weights, lessons = (
        folder / own if (folder / own).is_file() else shipped
        for own, shipped in ((TRAINED, SHIPPED), (TRAINED_TRANSFORMER, transformer.SHIPPED))
    )
    plays = play_all(config, weights=weights, lessons=lessons, workers=asked.workers)
    write_tables(folder, plays)
    write_picture(folder, "quoting", lambda: draw(plays), config, asked)
    write_metrics(folder, config, measures(plays), asked.record("quoting"))
    title = "Quotes to fleets never seen: the GDM in context and its rivals"
    write_findings(folder, "quoting", title, page(plays, config), asked)
