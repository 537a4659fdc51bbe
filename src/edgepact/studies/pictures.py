"""Pictures by a server and devices: how good they are, and what sharing and splitting cost.

The judge had no part in making them. Every setting draws the same prompts from the same noise, so
that differences are those of the setting: labels of the ten classes in the generator's templates,
as many of each class as of any other. Guidance and steps are swept first; then steps are shared
between prompts of a class, and between any prompts; then the device takes over more and more of
the last steps, and the chain travels in each codec.
"""

import base64
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from edgepact.inference.codecs import BUILT_IN, packed_bytes
from edgepact.inference.judge import Judge
from edgepact.inference.models import garment_judge, garments, samples
from edgepact.inference.pictures import decoded, read_picture
from edgepact.jobs.classification import find_images
from edgepact.jobs.picture.audit import Margin, margins
from edgepact.jobs.picture.chain import Generator, TextVectors, read_generator
from edgepact.jobs.picture.job import as_png
from edgepact.jobs.picture.prompts import built_in
from edgepact.jobs.picture.sharing import SharedBeginnings
from edgepact.pages import percent, table
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.studies.asked import Asked
from edgepact.studies.drawing import write_findings, write_picture
from edgepact.studies.picture_quality import frechet, recall, spread
from edgepact.tensors import TensorSpec
from edgepact.training import fashion_mnist

ACCURACY_ASKED = 0.90
STEPS_ASKED = 8
SHARING_MAY_COST = 0.01
SHARING_STEPS = 16

PICTURE_CPU_S = 0.0036
"""CPU seconds of a picture of a setting, and of its part in all that is not swept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        pictures: of each setting.
        guidances: that are swept.
        steps: of chains, that are swept.
        shared: first steps that are shared, of chains of `SHARING_STEPS`.
        shown: pictures of each class in the grid.
        seed: of everything drawn.
    """

    pictures: int = 2000
    guidances: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    steps: tuple[int, ...] = (4, 8, 16)
    shared: tuple[int, ...] = (0, 1, 2, 4, 8)
    shown: int = 8
    seed: int = 0


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if smoke:
        return Config(pictures=60, guidances=(1.0, 2.0), steps=(4, 8), shared=(0, 1, 4), shown=3)
    return Config()


def seconds(config: Config) -> float:
    """CPU seconds that the study takes, by the time of a picture recorded in November 2026."""
    settings = len(config.guidances) * len(config.steps) + 2 * len(config.shared)
    return config.pictures * settings * PICTURE_CPU_S


class Quality(NamedTuple):
    """Of the pictures of one setting.

    Attributes:
        accuracy: share that the judge names as meant.
        error: its standard error.
        frechet: distance from real pictures in the judge's features.
        spread: of pictures of a class, over that of real ones.
        recall: share of real pictures that lie among them.
    """

    accuracy: float
    error: float
    frechet: float
    spread: float
    recall: float


class Real(NamedTuple):
    """Real pictures that nobody was trained on, and what the judge makes of them.

    Attributes:
        images, labels: of all.
        features: of all, by the judge.
        accuracy: of the judge.
        spread: of pictures of a class.
    """

    images: UInt8[np.ndarray, "n size size"]
    labels: Int[np.ndarray, " n"]
    features: Float[np.ndarray, "n features"]
    accuracy: float
    spread: float


class Split(NamedTuple):
    """A number of steps on the device, and a codec of the chain.

    Attributes:
        amount: steps of the device.
        codec: of the chain.
        quality: of the pictures.
        levels: that they differ from unsplit ones by: root mean square, mean over pictures.
        chain_bytes: of the chain on its way.
        device_share: of the multiplications of an unshared chain that the device does.
    """

    amount: int
    codec: str
    quality: Quality
    levels: float
    chain_bytes: int
    device_share: float


class Shown(NamedTuple):
    """Pictures of one class in the grid.

    Attributes:
        drawn: from the first noise, not chosen.
        real: samples that come with the package.
    """

    drawn: UInt8[np.ndarray, "n size size"]
    real: UInt8[np.ndarray, "m size size"]


class Found(NamedTuple):
    """All that the study has found."""

    config: Config
    recipe_steps: int
    recipe_guidance: float
    real: Quality
    reduced: Quality
    swept: dict[tuple[int, float], Quality]
    within: dict[int, Quality]
    across: dict[int, Quality]
    split: list[Split]
    png_bytes: float
    margins: tuple[Margin, ...]
    grid: dict[str, Shown]


class Easel:
    """Draws the pictures of a setting, always from the same prompts and noise."""

    def __init__(self, config: Config, real: Real, judge: Judge) -> None:
        self.generator = read_generator(garments(), {})
        self._real, self._judge = real, judge
        labels, templates = self.generator.labels, self.generator.templates
        prompts = built_in(labels, templates)
        texts = TextVectors(self.generator.text_folder)
        rows = [prompts[at % len(prompts)] for at in range(config.pictures)]
        self.prompts = [prompt.text for prompt in rows]
        self.labels = np.array([labels.index(str(prompt.label)) for prompt in rows])
        self.texts = np.concatenate([texts.of(prompt.text) for prompt in rows])
        self.noise = self.generator.flow.noise(config.seed, len(rows))
        self._order = [judge.labels.index(label) for label in labels]

    def drawn(self, generator: Generator) -> UInt8[np.ndarray, "n size size"]:
        """Pictures of a recipe, nothing shared."""
        return generator.flow.decoded(
            generator.passed(self.noise, 0, generator.recipe.steps, self.texts)
        )

    def shared(
        self, generator: Generator, steps: int, *, across: bool, seed: int
    ) -> UInt8[np.ndarray, "n size size"]:
        """Pictures whose first steps are shared by groups, of a class or of any prompts."""
        if steps == 0:
            return self.drawn(generator)
        beginnings = SharedBeginnings(generator, -1.0) if across else SharedBeginnings(generator)
        meant = [
            beginnings.begun(self.texts[at : at + 1], steps, seed + at)
            for at in range(len(self.texts))
        ]
        x = generator.after_shared(self.noise, np.concatenate(meant), steps)
        return generator.flow.decoded(
            generator.passed(x, steps, generator.recipe.steps, self.texts)
        )

    def judged(self, images: UInt8[np.ndarray, "n size size"]) -> Quality:
        """How good pictures are."""
        seen, features = self._judge.seen(images)
        right = seen.argmax(axis=1) == np.array(self._order)[self.labels]
        return _quality(right, features, spread(images, self.labels), self._real)


def real_pictures(judge: Judge, smoke: bool) -> Real:
    """The test images; in small the samples that come with the package, which are some of them.

    Raises:
        InputError: they are not on this machine.
    """
    if smoke:
        found = find_images(samples())
        images = np.stack(
            [
                np.asarray(decoded(read_picture(each.path), image_size=28).convert("L"))
                for each in found
            ]
        )
        labels = np.array([judge.labels.index(str(each.label)) for each in found])
    else:
        test = fashion_mnist.read(fashion_mnist.DEBIAN_FOLDER, "test")
        order = [judge.labels.index(label) for label in fashion_mnist.LABELS]
        images, labels = test.images, np.array(order)[test.labels]
    seen, features = judge.seen(images)
    return Real(
        images=images,
        labels=labels,
        features=features,
        accuracy=float(np.mean(seen.argmax(axis=1) == labels)),
        spread=spread(images[:3000], labels[:3000]),
    )


def measure(config: Config, smoke: bool) -> Found:
    """Draws and judges all settings."""
    judge = Judge(garment_judge())
    real = real_pictures(judge, smoke)
    easel = Easel(config, real, judge)
    base = easel.generator
    steps, guidance = base.recipe.steps, base.recipe.guidance
    sweeps = [(count, value) for count in config.steps for value in config.guidances]
    todo = len(sweeps) + 2 * len(config.shared) + steps + len(BUILT_IN) - 1
    done = 0
    with progress_bar("Pictures") as advance:

        def one(images: np.ndarray) -> Quality:
            nonlocal done
            done += 1
            advance(done, todo)
            return easel.judged(images)

        swept = {
            (count, value): one(easel.drawn(_with(base, steps=count, guidance=value)))
            for count, value in sweeps
        }
        long = _with(base, steps=SHARING_STEPS)
        within, across = (
            {
                count: one(easel.shared(long, count, across=kind, seed=config.seed))
                for count in config.shared
            }
            for kind in (False, True)
        )
        whole = easel.drawn(base)
        png_bytes = float(np.mean([len(base64.b64decode(as_png(x.tobytes()))) for x in whole]))
        split = _splits(easel, whole, one)
    texts = [easel.texts[at : at + 1] for at in range(min(10, len(easel.texts)))]
    return Found(
        config=config,
        recipe_steps=steps,
        recipe_guidance=guidance,
        real=_quality(
            judge.seen(real.images)[0].argmax(axis=1) == real.labels,
            real.features,
            real.spread,
            real,
        ),
        reduced=_reduced(easel, judge, real),
        swept=swept,
        within=within,
        across=across,
        split=split,
        png_bytes=png_bytes,
        margins=margins(base, texts, seed=config.seed),
        grid=_shown(config, easel, whole),
    )


def _splits(easel: Easel, whole: np.ndarray, one: object) -> list[Split]:
    """Every number of steps on the device with the favourite codec, and half of them with each."""
    assert callable(one)
    base = easel.generator
    steps, flow = base.recipe.steps, base.flow
    spec = TensorSpec(name="chain", datatype="FP32", shape=(1, flow.components), coded=True)
    found = []
    chosen = [(amount, BUILT_IN[0]) for amount in range(1, steps + 1)]
    chosen += [(steps // 2, codec) for codec in BUILT_IN[1:]]
    for amount, codec in chosen:
        x = base.passed(easel.noise, 0, steps - amount, easel.texts)
        packed = codec.pack({"chain": x}, [spec])
        x = np.asarray(codec.unpack(packed, [spec])["chain"], np.float32)
        images = flow.decoded(base.passed(x, steps - amount, steps, easel.texts))
        apart = (images.astype(np.float64) - whole) ** 2
        device = amount * flow.step_gmac + flow.decode_gmac
        found.append(
            Split(
                amount=amount,
                codec=codec.name,
                quality=one(images),
                levels=float(np.sqrt(apart.reshape(len(apart), -1).mean(axis=1)).mean()),
                chain_bytes=packed_bytes(packed) // len(x),
                device_share=device / (steps * flow.step_gmac + flow.decode_gmac),
            )
        )
    return found


def _reduced(easel: Easel, judge: Judge, real: Real) -> Quality:
    """Real pictures as far as the generator's components hold them: what it cannot surpass."""
    flow = easel.generator.flow
    images = flow.decoded(flow.encoded(real.images))
    seen, features = judge.seen(images)
    wide = spread(images[:3000], real.labels[:3000])
    return _quality(seen.argmax(axis=1) == real.labels, features, wide, real)


def _quality(right: np.ndarray, features: np.ndarray, wide: float, real: Real) -> Quality:
    share = float(np.mean(right))
    count = min(len(features), len(real.features), 2000)
    return Quality(
        accuracy=share,
        error=float(np.sqrt(share * (1 - share) / len(right))),
        frechet=frechet(features, real.features),
        spread=wide / real.spread,
        recall=recall(real.features[:count], features[:count]),
    )


def _with(base: Generator, *, steps: int | None = None, guidance: float | None = None) -> Generator:
    recipe = base.recipe
    return replace(
        base,
        recipe=replace(
            recipe,
            steps=recipe.steps if steps is None else steps,
            guidance=recipe.guidance if guidance is None else guidance,
        ),
    )


# ---------------------------------------------------------------- what is told


def verdicts(found: Found) -> list[tuple[str, str, bool]]:
    """What was asked for, what was measured, and whether it was reached."""
    few = {key: each for key, each in found.swept.items() if key[0] <= STEPS_ASKED}
    own = found.swept.get((found.recipe_steps, found.recipe_guidance))
    best_key = max(few, key=lambda key: few[key].accuracy)
    best = few[best_key] if own is None else own
    steps, guidance = best_key if own is None else (found.recipe_steps, found.recipe_guidance)
    alone, together = found.within[0], found.within[1]
    cost = alone.accuracy - together.accuracy
    int8 = next(each for each in found.split if each.codec == "int8")
    return [
        (
            f"the judge names at least {ACCURACY_ASKED:.0%} as meant, with at most {STEPS_ASKED} "
            "steps",
            f"{best.accuracy:.2%} with {steps} steps and a guidance of {guidance:g}",
            best.accuracy >= ACCURACY_ASKED and steps <= STEPS_ASKED,
        ),
        (
            f"sharing one step of {SHARING_STEPS} within a class costs at most one point",
            f"{100 * cost:.2f} points",
            cost <= SHARING_MAY_COST,
        ),
        (
            "the chain in int8 is smaller than the picture's PNG",
            f"{int8.chain_bytes} bytes against {found.png_bytes:.0f}",
            int8.chain_bytes < found.png_bytes,
        ),
    ]


HEAD = ("judged as meant, %", "Fréchet distance", "spread over real", "recall")


def _cells(quality: Quality) -> tuple[str, ...]:
    return (
        percent(quality.accuracy, quality.error),
        f"{quality.frechet:.2f}",
        f"{quality.spread:.3f}",
        f"{quality.recall:.3f}",
    )


def parts_of(found: Found) -> list[str]:
    """The page."""
    config = found.config
    told = "\n".join(
        f"- {asked}: {measured}, **{'reached' if reached else 'missed'}**."
        for asked, measured, reached in verdicts(found)
    )
    swept = table(
        ("steps, guidance", *HEAD),
        [
            (f"{steps}, {guidance:g}", *_cells(each))
            for (steps, guidance), each in found.swept.items()
        ]
        + [("real pictures", *_cells(found.real))]
        + [("real pictures, by their components alone", *_cells(found.reduced))],
    )
    shared = table(
        ("steps shared", *HEAD),
        [(f"{count}, within a class", *_cells(each)) for count, each in found.within.items()]
        + [(f"{count}, across all", *_cells(each)) for count, each in found.across.items()],
    )
    split = table(
        ("steps on the device, codec", "share of computing, %", "bytes", "levels moved", *HEAD),
        [
            (
                f"{each.amount}, {each.codec}",
                f"{100 * each.device_share:.0f}",
                each.chain_bytes,
                f"{each.levels:.2f}",
                *_cells(each.quality),
            )
            for each in found.split
        ],
    )
    audit = table(
        ("steps on the device", "honest", "tolerance", "least cheat", "which", "power"),
        [
            (
                each.amount,
                f"{each.honest:.2f}",
                f"{each.tolerance:.2f}",
                f"{each.cheat:.2f}",
                each.cheat_name,
                f"{each.power:.2f}",
            )
            for each in found.margins
        ],
    )
    return [
        f"{config.pictures:,} pictures of ten classes in each setting, from the same prompts and "
        f"noise. The generator ships with {found.recipe_steps} steps and a guidance of "
        f"{found.recipe_guidance:g}. The judge took no part in making them; of real pictures that "
        f"nobody was trained on it names {found.real.accuracy:.2%} right. Model cards: "
        "[generator](../../src/edgepact/inference/models/garments/MODEL_CARD.md), "
        "[judge](../../src/edgepact/inference/models/garment_judge/MODEL_CARD.md).",
        "## What was asked",
        told,
        f"![Drawn pictures of each class, and real ones]({NAME}.png)",
        "A row for each class. Left: drawn, the first of the setting that ships, not chosen. "
        "Right: real pictures.",
        "## Guidance and steps",
        "More guidance makes a picture more typical of its text, which the judge rewards; spread "
        "and recall tell what variety is left. A judge's accuracy above that of real pictures says "
        "that what is drawn is typical, not that it is better.",
        swept,
        "## Steps shared",
        f"Of chains of {SHARING_STEPS} steps the first are done once for a group of prompts, whose "
        "text is that of the prompt that came first; each picture goes on from noise of its own. "
        "Prompts of a class belong together by the cosine of their vectors; across all, any do.",
        shared,
        "## Steps split",
        "The device does the last steps, on what the codec leaves of the chain. Levels moved: how "
        "far pictures are from those of the unsplit chain, root mean square of 256 grey levels.",
        split,
        "## What an audit tells apart",
        "Grey levels, root mean square, between the server's picture and one delivered: what is "
        "granted to another processor's rounding, and the least that any cheat makes.",
        audit,
    ]


NAME = "pictures"


def run(folder: Path, asked: Asked) -> None:
    """The whole study; results go into `folder`."""
    config = config_for(asked.smoke)
    folder.mkdir(parents=True, exist_ok=True)
    found = measure(config, asked.smoke)
    write_metrics(
        folder,
        config,
        {"verdicts": [list(each) for each in verdicts(found)]},
        asked.record("pictures"),
    )
    with (folder / "pictures.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", *Quality._fields])
        writer.writerow(["real", *found.real])
        writer.writerow(["real, by their components alone", *found.reduced])
        for (steps, guidance), each in found.swept.items():
            writer.writerow([f"{steps} steps, guidance {guidance:g}", *each])
        for name, by_count in (("within a class", found.within), ("across all", found.across)):
            for count, each in by_count.items():
                writer.writerow([f"{count} steps shared {name}", *each])
        for one in found.split:
            writer.writerow([f"{one.amount} steps on the device, {one.codec}", *one.quality])
    write_picture(folder, NAME, lambda: draw(found.grid, config), config, asked)
    write_findings(folder, NAME, "Pictures made together", parts_of(found), asked)


def _shown(
    config: Config, easel: Easel, images: UInt8[np.ndarray, "n size size"]
) -> dict[str, Shown]:
    """The first pictures of each class, drawn and real."""
    samples_found = find_images(samples())
    grid = {}
    for row, label in enumerate(easel.generator.labels):
        known = [each.path for each in samples_found if each.label == label][: config.shown]
        real = [decoded(read_picture(path), image_size=28).convert("L") for path in known]
        drawn = images[easel.labels == row][: config.shown]
        grid[label] = Shown(drawn, np.array([np.asarray(each) for each in real], np.uint8))
    return grid


def draw(grid: dict[str, Shown], config: Config) -> Figure:
    """A row for each class: what was drawn, a gap, and real pictures."""
    rows, columns = len(grid), 2 * config.shown + 1
    wide_in = 0.55 * (columns + 3)
    figure = Figure(figsize=(wide_in, 0.55 * rows))
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for row, (label, shown) in zip(panels, grid.items(), strict=True):
        beside = row[0].transAxes
        row[0].text(-0.15, 0.5, label, transform=beside, ha="right", va="center", fontsize=8)
        for first, images in ((0, shown.drawn), (config.shown + 1, shown.real)):
            for axes, image in zip(row[first:], images, strict=False):
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for first, title in ((0, "drawn"), (config.shown + 1, "real")):
        panels[0, first].set_title(title, loc="left", fontsize=9, pad=3)
    figure.subplots_adjust(0.9 / wide_in, 0.01, 0.99, 0.95, 0.05, 0.08)
    return figure
