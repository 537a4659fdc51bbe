"""Share of the optimum at quotes 1 to 20, for the GDM in context and every rival.

All methods meet the same fleets of the reference prior, which none has seen, with
continuous and with whole layers. The GDM is scored by the quotes it posts; a rival may
count its best quote so far as the one it would go back to. What searching cost is in the
regret, summed over the quotes as posted. Intervals are standard errors over fleets, those
of differences between methods over the same fleets.
"""

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.pages import percent, points, spans, table, write_page
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context.pricing import SHIPPED
from edgepact.solvers.quoter import Quoter
from edgepact.solvers.quoting import best_so_far, play, reference_fleets, regret
from edgepact.studies.methods import COLOURS, GDM, POSTED, methods, train_to

TRAINED = "quoting.npz"
"""Weights that `--train` leaves in the folder."""

KINDS = {"continuous": False, "integer": True}
SHOWN = (1, 2, 3, 4, 5, 8, 12, 20)
"""Quotes that the page shows; the CSV has all."""
LOW = 5.0
"""Percentile shown beside the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        fleets: of the reference prior, for each kind of layers.
        fleets_seed: draws them; no training uses it.
        seed: of the methods' own randomness.
        rounds: quotes to each fleet.
    """

    fleets: int = 2000
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
        seconds: spent, devices' answers included.
    """

    shares: np.ndarray
    knows_form: bool
    seconds: float


Plays = dict[str, dict[str, Play]]
"""By kind of layers and method."""


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(fleets=10) if smoke else Config()


def play_all(config: Config, quoters: dict[str, Quoter]) -> Plays:
    """Lets every method meet every fleet."""
    plays: Plays = {kind: {} for kind in KINDS}
    for kind, integer in KINDS.items():
        games = reference_fleets(config.fleets_seed, config.fleets, integer=integer)
        for name, quoter in quoters.items():
            with progress_bar(f"{name}, {kind}") as advance:
                started = time.perf_counter()
                shares = play(
                    quoter, games, rounds=config.rounds, seed=config.seed, on_fleet=advance
                )
                spent = time.perf_counter() - started
            plays[kind][name] = Play(shares, quoter.knows_form, spent)
    return plays


def scores(shares: np.ndarray) -> Scores:
    """Mean, its standard error and the low percentile over fleets."""
    return Scores(shares.mean(axis=0), error_of(shares), np.percentile(shares, LOW, axis=0))


def error_of(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over fleets, the first axis; 0 of a single one."""
    if len(values) < 2:
        return np.zeros(values.shape[1:])
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def counted(name: str, played: Play) -> np.ndarray:
    """What counts in the comparison: the GDM's quotes as posted, a rival's best so far."""
    return played.shares if name == GDM else best_so_far(played.shares)


class Lead(NamedTuple):
    """By how much the GDM is ahead of the best rival of a sort at one quote."""

    rival: str
    ahead: float
    error: float


def leads(plays: dict[str, Play], *, knows_form: bool) -> list[Lead]:
    """The GDM against the best rival that knows the form, or does not, quote by quote."""
    own = counted(GDM, plays[GDM])
    rivals = {
        name: counted(name, each)
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
                "posted": _as_lists(scores(each.shares)),
                "best_so_far": _as_lists(scores(best_so_far(each.shares))),
                "regret": {"mean": float(lost.mean()), "error": float(error_of(lost))},
                "seconds": round(each.seconds, 2),
            }
        layers[kind] = {
            "methods": table,
            "ahead_of_best_without_form": [
                lead._asdict() for lead in leads(of_kind, knows_form=False)
            ],
            "ahead_of_best_with_form": [lead._asdict() for lead in leads(of_kind, knows_form=True)],
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
    """What is still missed at each quote, on a logarithmic scale."""
    figure = Figure(figsize=(10, 7.4), layout="constrained")
    panels = figure.subplots(2, len(plays), sharex=True, squeeze=False)
    for column, (kind, of_kind) in enumerate(plays.items()):
        for row, of_mean in enumerate((True, False)):
            axes = panels[row, column]
            for name, each in of_kind.items():
                found = scores(counted(name, each))
                missed = 100.0 * (1.0 - (found.mean if of_mean else found.low))
                numbers = np.arange(1, len(missed) + 1)
                axes.plot(
                    numbers,
                    np.maximum(missed, 1e-3),
                    color=COLOURS[name],
                    label=name,
                    linewidth=2.4 if name == GDM else 1.3,
                    linestyle="--" if each.knows_form else "-",
                    zorder=3 if name == GDM else 2,
                )
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.invert_yaxis()
            axes.grid(axis="y", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if row == 0:
                axes.set_title(f"{kind} layers")
        panels[1, column].set_xlabel("quote")
    panels[0, 0].set_ylabel("missed share of the range, %: mean")
    panels[1, 0].set_ylabel(f"missed by the fleet at the {LOW:.0f}th percentile, %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=5, fontsize=9)
    figure.suptitle("Rivals by their best quote so far; dashed: told how devices decide")
    return figure


def write_tables(folder: Path, plays: Plays) -> None:
    """Writes `curves.csv`, a line a quote, and `shares.csv`, a line a fleet."""
    with (
        (folder / "curves.csv").open("w", newline="") as of_curves,
        (folder / "shares.csv").open("w", newline="") as of_shares,
    ):
        curves, shares = csv.writer(of_curves), csv.writer(of_shares)
        counts = ("posted", "best_so_far")
        columns = ("mean", "standard_error", "percentile_5")
        curves.writerow(
            ["layers", "method", "quote", *(f"{c}_{x}" for c in counts for x in columns)]
        )
        rounds = len(next(iter(plays[next(iter(plays))].values())).shares[0])
        shares.writerow(["layers", "method", "fleet", *(f"quote_{at + 1}" for at in range(rounds))])
        for kind, of_kind in plays.items():
            for name, each in of_kind.items():
                found = (*scores(each.shares), *scores(best_so_far(each.shares)))
                for at in range(rounds):
                    curves.writerow([kind, name, at + 1, *(f"{x[at]:.6g}" for x in found)])
                for fleet, row in enumerate(each.shares):
                    shares.writerow([kind, name, fleet, *(f"{x:.6g}" for x in row)])


def page(plays: Plays, config: Config) -> list[str]:
    """The findings in words and tables."""
    parts = [
        f"Every method quotes {config.rounds} prices to each of {config.fleets} fleets of the "
        "reference prior that nobody has seen, once with continuous and once with whole layers. "
        "A share of 100 is the exact optimum of that fleet, 0 the mean of random prices. The GDM "
        "is held to the quotes it posts; a rival to its best quote so far, as if it went back to "
        "it. After ± stands the standard error over fleets.",
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
        parts += [f"## {kind.capitalize()} layers", *_comparison(of_kind), *_tables(of_kind)]
    return parts


def _comparison(plays: dict[str, Play]) -> list[str]:
    blind, told = leads(plays, knows_form=False), leads(plays, knows_form=True)
    own = scores(plays[GDM].shares)
    behind = [at + 1 for at, lead in enumerate(blind) if lead.ahead < 0]
    sentence = (
        "The GDM's mean is at or above every rival that does not know how devices decide at "
        f"{len(blind) - len(behind)} of {len(blind)} quotes"
    )
    if behind:
        most = min(blind, key=lambda lead: lead.ahead)
        sentence += (
            f"; it is behind at quotes {spans(behind)}, by "
            f"{points(-most.ahead, most.error)[1:]} points at most ({most.rival})."
        )
    else:
        sentence += "."
    lost = [at + 1 for at, lead in enumerate(told) if lead.ahead < 0]
    if lost:
        most = min(told, key=lambda lead: lead.ahead)
        sentence += (
            f" A rival that is told it wins at quotes {spans(lost)}, by "
            f"{points(-most.ahead, most.error)[1:]} points at most ({most.rival})."
        )
    else:
        sentence += " No rival that is told it wins at any."
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
    return [sentence, table(head, rows)]


def _tables(plays: dict[str, Play]) -> list[str]:
    rounds = plays[GDM].shares.shape[1]
    shown = [at for at in SHOWN if at <= rounds]
    head = ["method", "told", *(str(at) for at in shown)]
    means, lows, posted, losses = [], [], [], []
    for name, each in plays.items():
        told = "yes" if each.knows_form else "no"
        found, raw = scores(counted(name, each)), scores(each.shares)
        means.append(
            [name, told, *(percent(found.mean[at - 1], found.error[at - 1]) for at in shown)]
        )
        lows.append([name, told, *(percent(found.low[at - 1]) for at in shown)])
        posted.append([name, told, *(percent(raw.mean[at - 1]) for at in shown)])
        lost = regret(each.shares)
        losses.append([name, told, f"{lost.mean():.3f} ± {float(error_of(lost)):.3f}"])
    return [
        "Mean share in percent; rivals by their best quote so far:",
        table(head, means),
        f"{LOW:.0f}th percentile over fleets; rivals by their best quote so far:",
        table(head, lows),
        "Mean share of the quotes as they were posted, by everyone:",
        table(head, posted),
        f"Regret: what was missed over all {rounds} quotes as posted, in rounds of the full range:",
        table(["method", "told", "regret"], losses),
    ]


def train(folder: Path, smoke: bool) -> None:
    """Trains the policy that ships from nothing, into the folder."""
    train_to(folder / TRAINED, smoke=smoke)


def run(folder: Path, smoke: bool) -> None:
    """Writes curves.csv, shares.csv, quoting.png, metrics.json and page.md.

    The weights are those in the folder, if it was trained to, or else those that ship.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, trained = config_for(smoke), folder / TRAINED
    plays = play_all(config, methods(trained if trained.is_file() else SHIPPED))
    write_tables(folder, plays)
    draw(plays).savefig(folder / "quoting.png", dpi=120)
    write_metrics(folder, config, measures(plays))
    title = "Quotes to fleets never seen: the GDM in context and its rivals"
    write_page(folder, "quoting", title, page(plays, config), smoke=smoke)
