"""Pictures drawn until they are appropriate: what another draw gains, and what it costs.

A picture is drawn up to so many times, until the judge sees what was meant at least so probably. A
judge that accepts is no judge of what it has accepted: it would find all of it good. So a second
one looks at what is shown, the embedded CLIP, by the picture alone; it had no part in accepting,
and of drawing only its text vectors had. All settings choose among the same draws.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact.inference.models import embedded, garments
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.jobs.picture.appropriate import Tries, Until, shown, tried, until
from edgepact.jobs.picture.chain import read_generator
from edgepact.jobs.picture.job import as_png_bytes
from edgepact.pages import percent, table
from edgepact.palette import GREY, LOOKS
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.studies.asked import Asked
from edgepact.studies.drawing import write_findings, write_picture
from edgepact.studies.picture_quality import spread

NAME = "best-of"

TITLE = "Pictures drawn until they are appropriate"

DRAWN_CPU_S = 0.005
"""CPU seconds of a draw and of what judges it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        pictures: that are asked for, as many of each class as of any other.
        draws: most of a picture.
        thresholds: least probabilities at which the judge accepts.
        seed: of the noise.
    """

    pictures: int = 1000
    draws: tuple[int, ...] = (1, 2, 3, 5, 8)
    thresholds: tuple[float, ...] = (0.5, 0.9)
    seed: int = 0


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    return Config(pictures=40, draws=(1, 3), thresholds=(0.5,)) if smoke else Config()


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the time of a draw recorded in November 2026."""
    return config.pictures * max(config.draws) * DRAWN_CPU_S


class Setting(NamedTuple):
    """What came of a setting.

    Attributes:
        accepted_at: least probability at which a draw is accepted; 0 takes the first.
        draws: most of a picture.
        until: draws that were made, and pictures that are appropriate.
        judged: share of what is shown that the judge names as meant.
        second: share that CLIP names as meant.
        error: standard error of that.
        spread: of pictures of a class, over that of first draws.
    """

    accepted_at: float
    draws: int
    until: Until
    judged: float
    second: float
    error: float
    spread: float


def measure(config: Config) -> tuple[list[Setting], int]:
    """All settings, the first without a judge; and the steps of a chain."""
    generator = read_generator(garments(), {})
    tries = tried(generator, trials=config.pictures, draws=max(config.draws), seed=config.seed)
    second = _second_opinion(tries)
    order = [tries.judge.labels.index(label) for label in tries.labels]
    first = spread(tries.pictures[:, 0], np.array(order))

    def setting(accepted_at: float, draws: int) -> Setting:
        rows, chosen = np.arange(config.pictures), shown(tries.judged, accepted_at, draws)
        right = second[rows, chosen]
        share = float(right.mean())
        return Setting(
            accepted_at=accepted_at,
            draws=draws,
            until=until(tries.judged, accepted_at, draws),
            judged=float(np.mean(tries.named[rows, chosen] == np.array(order))),
            second=share,
            error=float(np.sqrt(share * (1.0 - share) / len(right))),
            spread=spread(tries.pictures[rows, chosen], np.array(order)) / first,
        )

    found = [setting(0.0, 1)]
    found += [setting(each, draws) for each in config.thresholds for draws in config.draws]
    return found, generator.recipe.steps


def _second_opinion(tries: Tries) -> np.ndarray:
    """Whether CLIP names each draw as it was meant."""
    pipeline, known = Pipeline(embedded()), KnowledgeBase.from_texts(embedded())
    right = np.zeros(tries.judged.shape, bool)
    with progress_bar("Second opinions") as advance:
        for row, pictures in enumerate(tries.pictures):
            for draw, picture in enumerate(pictures):
                pixels = preprocess(as_png_bytes(picture.tobytes()), pipeline.info)
                said = known.classify(pipeline.run(pixels, 0, pipeline.stage_count))
                right[row, draw] = known.labels[int(np.argmax(said[0]))] == tries.labels[row]
            advance(row + 1, len(tries.pictures))
    return right


HEAD = (
    *("accepted at", "draws at most", "draws of a picture", "appropriate, %"),
    *("steps of an appropriate picture", "judged as meant, %", "by CLIP as meant, %", "spread"),
)


def parts_of(config: Config, found: list[Setting], steps: int) -> list[str]:
    """The page, from what was measured."""
    rows = [
        (
            "any" if each.accepted_at == 0.0 else f"{each.accepted_at:g}",
            each.draws,
            f"{each.until.draws:.3f}",
            percent(each.until.appropriate),
            f"{steps / each.until.sold_per_unit:.2f}" if each.until.appropriate else "-",
            percent(each.judged),
            percent(each.second, each.error),
            f"{each.spread:.2f}",
        )
        for each in found
    ]
    plain, best = found[0], max(found, key=lambda each: each.second)
    at_best = (
        "and no setting does better"
        if best is plain
        else f"and at best {best.second:.2%}, where a picture takes {best.until.draws:.2f} draws "
        f"(accepted at {best.accepted_at:g}, at most {best.draws})"
    )
    return [
        f"{config.pictures:,} pictures of ten classes, chains of {steps} steps. A picture is drawn "
        "until the judge sees what was meant with at least the probability of the first column, at "
        "most so often as the second says; if it never does, the best draw is shown, and a buyer "
        "does not pay. Devices and server are paid and computed for every draw that was made: what "
        "an appropriate picture costs is the steps of all draws over the pictures that are "
        "appropriate.",
        "The judge has chosen what is shown, so its own share of right ones says little. The "
        "embedded CLIP had no part in it: of first draws it names "
        f"{plain.second:.2%} as they were meant, {at_best}.",
        table(HEAD, rows),
        f"![What is gained for which steps]({NAME}.png)",
        "Spread: how far pictures of a class lie apart, over that of first draws. What a judge "
        "refuses is unusual too.",
    ]


def draw(config: Config, found: list[Setting], steps: int) -> Figure:
    """What the second judge finds right against what a picture takes."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for threshold, look in zip(config.thresholds, LOOKS, strict=False):
        chosen = [each for each in found if each.accepted_at == threshold]
        cost = [steps * each.until.draws for each in chosen]
        axes.errorbar(
            cost,
            [100.0 * each.second for each in chosen],
            yerr=[100.0 * each.error for each in chosen],
            **look.line,
            capsize=3,
            label=f"accepted at {threshold:g}",
        )
    axes.axhline(100.0 * found[0].second, color=GREY, linestyle=":", label="first draws")
    axes.set_xlabel("steps of a picture, mean")
    axes.set_ylabel("as meant by CLIP, %")
    axes.legend(frameon=False)
    return figure


def run(folder: Path, asked: Asked) -> None:
    """The whole study; results go into `folder`."""
    config = config_for(asked.smoke)
    folder.mkdir(parents=True, exist_ok=True)
    found, steps = measure(config)
    told = [
        {**each._asdict(), "until": {"draws": each.until.draws, "good": each.until.appropriate}}
        for each in found
    ]
    write_metrics(folder, config, {"settings": told}, asked.record(NAME))
    with (folder / f"{NAME}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["accepted_at", "draws_max", "draws", "appropriate", *Setting._fields[3:]])
        for each in found:
            taken = (each.until.draws, each.until.appropriate)
            writer.writerow([each.accepted_at, each.draws, *taken, *each[3:]])
    write_picture(folder, NAME, lambda: draw(config, found, steps), config, asked)
    write_findings(folder, NAME, TITLE, parts_of(config, found, steps), asked)
