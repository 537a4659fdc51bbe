"""The time of one quote, for every method, fleets of 1 to 10,000 devices and 1 to 20 rounds seen.

Measured on one core with one thread, as CPU time, which waiting for other programs is no part of,
in turns that end after a while: slow methods get fewer. The GDM is the one that ships, with the
setting in which its quotes are scored everywhere else. The answers that are read come from fleets
of the reference prior at prices spread over the range. Times differ between machines and, by what
caches hold, with what else runs; ratios less so.

The training of the generator that ships is begun too, on all cores, for the pace of its steps.
"""

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.mechanisms.stackelberg.responses import outcome
from edgepact.pages import table
from edgepact.palette import INK
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.solvers.in_context.curves_training import train_generator
from edgepact.solvers.quoter import Known, Quoter
from edgepact.solvers.quoting import REFERENCE
from edgepact.studies import THREADS
from edgepact.studies.asked import Asked
from edgepact.studies.drawing import draw_curve, write_findings, write_picture
from edgepact.studies.marks import Verdict, verdict_table
from edgepact.studies.methods import (
    GDM,
    LOOKS,
    SHIPPING,
    TRAINING_SEED,
    TRANSFORMER,
    methods,
)

ASKED_MS = {16: 40.0, 1000: 100.0, 10_000: 400.0}
"""CPU milliseconds that a quote of the GDM to so many devices should take at most."""

TRAINING_MINUTES, TRAINING_CORES = 10.0, 2
"""In which the generator should be taught, and on how many cores."""

DRAWN = (
    GDM,
    TRANSFORMER,
    "golden section",
    "GP-TS-M",
    "identify, then solve",
    "Bayesian posterior",
)
"""Methods in the picture."""


TAUGHT_CPU_S, TIMED_CPU_S = 56.0, 3.2
"""CPU seconds of the pace of training, and of all methods in one situation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        devices: sizes of fleets.
        history: rounds seen before the quote.
        seed: of the fleets and the methods.
        integer: whether devices run whole layers.
        turns, turns_min: most and fewest quotes that are timed.
        budget_s: after so long no further turn is begun, once there are `turns_min`.
        slow_s: a single quote that takes longer than this is not repeated.
        blocks, block: of gradient steps that are timed, and gradient steps of each.
        fleets: to learn on; None for as many as the whole course has.
    """

    devices: tuple[int, ...] = (1, 16, 100, 1000, 10_000)
    history: tuple[int, ...] = (1, 4, 20)
    seed: int = 0
    integer: bool = True
    turns: int = 51
    turns_min: int = 3
    budget_s: float = 0.6
    slow_s: float = 2.0
    blocks: int = 4
    block: int = 100
    fleets: int | None = None


class Timing(NamedTuple):
    """CPU milliseconds of one quote: median, quartiles and how many were timed."""

    method: str
    devices: int
    history: int
    median_ms: float
    low_ms: float
    high_ms: float
    turns: int


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return (
        Config(devices=(1, 16), history=(1, 4), budget_s=0.02, blocks=1, block=5, fleets=100)
        if smoke
        else Config()
    )


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by times recorded in November 2026."""
    return TAUGHT_CPU_S + len(config.devices) * len(config.history) * TIMED_CPU_S


@contextmanager
def one_core() -> Iterator[bool]:
    """Keeps to one core while the block runs, where the system can; yields whether it can."""
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, before)


def measure(config: Config, quoters: dict[str, Quoter]) -> list[Timing]:
    """Times every method in every situation."""
    found = []
    situations = [(n, h, name) for n in config.devices for h in config.history for name in quoters]
    with progress_bar("time of a quote") as advance:
        for done, (devices, history, name) in enumerate(situations):
            milliseconds = 1e3 * _times(config, quoters[name], devices, history)
            low, median, high = np.percentile(milliseconds, (25, 50, 75))
            found.append(
                Timing(
                    name,
                    devices,
                    history,
                    float(median),
                    float(low),
                    float(high),
                    len(milliseconds),
                )
            )
            advance(done + 1, len(situations))
    return found


def _times(config: Config, quoter: Quoter, devices: int, history: int) -> np.ndarray:
    """CPU seconds of single quotes."""
    rng = np.random.default_rng([config.seed, devices])
    game = REFERENCE.game(REFERENCE.fleet(rng, devices), integer=config.integer)
    known = Known.of(game, form=quoter.knows_form)
    positions = np.mod(0.6 + 0.618 * np.arange(history), 1.0)
    prices = np.array([known.price_at(float(position)) for position in positions])
    layers = outcome(game, prices).layers
    seconds: list[float] = []
    began = time.process_time()
    # The first quote reads files and fills caches, and is not counted, unless it was slow.
    for turn in range(config.turns + 1):
        started = time.process_time()
        quoter.quote(config.seed, known, prices, layers)
        now = time.process_time()
        slow = now - started > config.slow_s
        if turn > 0 or slow:
            seconds.append(now - started)
        if slow or (len(seconds) >= config.turns_min and now - began > config.budget_s):
            break
    return np.array(seconds)


class Training(NamedTuple):
    """What teaching the policy takes, from how it begins.

    Attributes:
        first_s: seconds for the fleets, the compiler and the first gradient steps.
        step_s: seconds of a gradient step after that, median over blocks of them.
        begun: the first gradient steps.
        first_cpu_s, step_cpu_s: the same as CPU seconds of all cores together.
        steps: of the whole course.
    """

    first_s: float
    step_s: float
    first_cpu_s: float
    step_cpu_s: float
    begun: int
    steps: int

    @property
    def minutes(self) -> float:
        """Of the whole course, if it goes on as it began."""
        return (self.first_s + (self.steps - self.begun) * self.step_s) / 60.0

    @property
    def cpu_minutes(self) -> float:
        """The same of all cores together."""
        return (self.first_cpu_s + (self.steps - self.begun) * self.step_cpu_s) / 60.0


def time_training(config: Config) -> Training:
    """Begins the course of the generator that ships, and stops when its pace is known."""
    course = SHIPPING if config.fleets is None else replace(SHIPPING, fleets=config.fleets)
    begun = replace(course, updates=(1 + config.blocks) * config.block)
    clocks = [(time.perf_counter(), time.process_time())]
    with progress_bar("pace of training") as advance:

        def on_block(done: int, of: int) -> None:
            clocks.append((time.perf_counter(), time.process_time()))
            advance(done, of)

        train_generator(TRAINING_SEED, begun, on_block, chunk=config.block)
    first, *others = np.diff(clocks, axis=0)
    step, step_cpu = np.median(others, axis=0) / config.block
    begin = (float(first[0]), float(step), float(first[1]), float(step_cpu))
    return Training(*begin, config.block, SHIPPING.updates)


def measures(found: list[Timing], pinned: bool, training: Training) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    own = {(each.devices, each.history): each.median_ms for each in found if each.method == GDM}
    return {
        "one_core": pinned,
        "training": training._asdict()
        | {
            "minutes": training.minutes,
            "cpu_minutes": training.cpu_minutes,
            "cores": os.cpu_count(),
        },
        "threads": {name: os.environ.get(name) for name in THREADS},
        "marks": [each.to_dict() for each in verdicts(found, training)],
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "quotes": [
            each._asdict() | {"gdm_times": each.median_ms / own[each.devices, each.history]}
            for each in found
        ],
    }


def draw(found: list[Timing], config: Config) -> Figure:
    """Time against devices, a panel for each length of history, with what was asked."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, len(config.history), sharey=True, squeeze=False)[0]
    for axes, history in zip(panels, config.history, strict=True):
        timed = {each.method for each in found}
        for name in DRAWN:
            if name not in timed:
                continue
            here = [each for each in found if (each.method, each.history) == (name, history)]
            devices = [each.devices for each in here]
            low, high = [each.low_ms for each in here], [each.high_ms for each in here]
            middle, width = [each.median_ms for each in here], 2.4 if name == GDM else 1.6
            draw_curve(axes, devices, middle, (low, high), LOOKS[name], label=name, width=width)
        asked = {"linestyle": "none", "marker": "_", "markersize": 18, "markeredgewidth": 2.5}
        label = "asked of the GDM, at most"
        axes.plot(list(ASKED_MS), list(ASKED_MS.values()), color=INK, label=label, **asked)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("devices")
        axes.set_title(f"{history} round{'s' if history > 1 else ''} seen")
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("CPU milliseconds a quote: median, quartiles")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=4)
    return figure


def page(found: list[Timing], config: Config, pinned: bool, training: Training) -> list[str]:
    """The findings in words and tables."""
    where = "one core" if pinned else "as many cores as the system gave"
    load = f" (load of the machine: {os.getloadavg()[0]:.1f})" if hasattr(os, "getloadavg") else ""
    parts = [
        f"CPU milliseconds of one quote, whole layers, one thread on {where}{load}: the median, "
        "and in brackets the quartiles. `×` is the median over the GDM's. Slow methods were timed "
        "less often; `metrics.json` says how often. The Bayesian posted price is computed once "
        "and kept, which is what is timed. Nothing is asserted: seconds belong to a machine and "
        "to what else it was doing.",
        "![Time of a quote](speed.png)",
        "## What was asked for",
        "CPU milliseconds of a quote of the GDM, the slowest upper quartile over rounds seen, and "
        f"CPU minutes of its training, of which {TRAINING_CORES} cores have "
        f"{_plain(TRAINING_CORES * TRAINING_MINUTES)} in the {TRAINING_MINUTES:g} minutes that it "
        "may take:",
        verdict_table(verdicts(found, training), _plain),
    ]
    own = {(each.devices, each.history): each.median_ms for each in found if each.method == GDM}
    for history in config.history:
        rows = []
        for name in dict.fromkeys(each.method for each in found):
            here = [each for each in found if (each.method, each.history) == (name, history)]
            rows.append(
                [
                    name,
                    *(
                        f"{_plain(each.median_ms)} ({_plain(each.low_ms)} to "
                        f"{_plain(each.high_ms)}), "
                        f"{_plain(each.median_ms / own[each.devices, history])} ×"
                        for each in here
                    ),
                ]
            )
        parts.append(f"## {history} round{'s' if history > 1 else ''} seen")
        parts.append(table(["devices", *(f"{number:,}" for number in config.devices)], rows))
    return [
        *parts,
        "## Training",
        f"Teaching the generator that ships from nothing takes {_plain(training.cpu_minutes)} CPU "
        "minutes of all cores together, if it goes on as it began: "
        f"{_plain(training.first_cpu_s)} CPU seconds for the fleets, the compiler and the first "
        f"{training.begun} of {training.steps:,} gradient steps, then "
        f"{_plain(1e3 * training.step_cpu_s)} CPU ms a step. By the clock, on {os.cpu_count()} "
        f"cores and beside all else that this machine did, it would be {_plain(training.minutes)} "
        "minutes.",
    ]


def verdicts(found: list[Timing], training: Training) -> list[Verdict]:
    """What was asked for, and the slowest that was measured."""
    held = []
    for devices, most in ASKED_MS.items():
        slowest = max(
            (each.high_ms for each in found if (each.method, each.devices) == (GDM, devices)),
            default=None,
        )
        if slowest is not None:
            held.append(Verdict(f"{devices:,} devices, ms", most, slowest, most=True))
    most = TRAINING_CORES * TRAINING_MINUTES
    return [*held, Verdict("training, CPU minutes", most, training.cpu_minutes, most=True)]


def _plain(number: float) -> str:
    """Three digits, and never an exponent."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def run(folder: Path, asked: Asked) -> None:
    """Writes times.csv, speed.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(asked.smoke)
    training = time_training(config)
    with one_core() as pinned:
        found = measure(config, methods())
    with (folder / "times.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Timing._fields)
        rows.writerows(found)
    write_picture(folder, "speed", lambda: draw(found, config), config, asked)
    write_metrics(folder, config, measures(found, pinned, training), asked.record("speed"))
    parts = page(found, config, pinned, training)
    write_findings(folder, "speed", "The time of a quote", parts, asked)
