r"""A model in several forms, each half its own: what they weigh, cost and get right, at every cut.

A form is a model folder like any other. With one form on the device and another on the server, the
device runs the first $L$ layers of its own and the server the rest of its own: what travels has the
same size, whatever the forms. Accuracy is measured for every pair of forms at every cut.

Seconds of a form are a line, $A L + B$, as in `profile`; forms take turns, so that a busy moment
falls on all of them. In the game they count as shares of the original's.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from edgepact.efficiency.footprint import footprint
from edgepact.efficiency.model_compression.model_folder import check_free
from edgepact.efficiency.model_compression.report import Images
from edgepact.efficiency.partition import LayerCosts
from edgepact.efficiency.profile import LineFit, Progress, fit_line, seconds_together
from edgepact.errors import InputError
from edgepact.framework import Sheet
from edgepact.inference.digests import state_weights
from edgepact.inference.pipeline import MODEL_JSON, SERVER_HALF, ModelInfo, Pipeline
from edgepact.inference.tolerances import TOLERANCES_JSON
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.mechanisms.stackelberg.halves import Forms
from edgepact.palette import AMBER_LINE, BLUE_LINE, GREY
from edgepact.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORIGINAL = "original"
"""Name of the form in which a model comes."""

SAME_SPEED = 0.97
"""Share of the original's seconds below which a form counts as faster: less is within what two
measurements of one form differ by."""

COSTS = ("seconds", "gmac")
"""What a form's layers cost in the game: their seconds on this machine, or their operations."""

_BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FormMeasured:
    """One form of a model.

    Attributes:
        name: of the form.
        weight_bytes: of the image encoder's weights, as they are stored.
        embed_bytes: of these, before the first block.
        gmac_per_stage: embed, blocks, head.
        seconds_per_stage: likewise, one image and one thread, the fastest of the repeats.
        fit: seconds of the first L layers as a line.
        accuracy: with this form on both sides.
    """

    name: str
    weight_bytes: int
    embed_bytes: int
    gmac_per_stage: tuple[float, ...]
    seconds_per_stage: tuple[float, ...]
    fit: LineFit
    accuracy: float

    @property
    def costs(self) -> LayerCosts:
        """GMAC of the stages."""
        return LayerCosts(per_stage=self.gmac_per_stage)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalvesMeasured(Shown):
    """Forms of a model, and every pair of them.

    Attributes:
        model: name of the original.
        forms: the original first.
        accuracy: shape `(forms, forms, layers_max + 1)`: device's form, server's, its layers.
        images: how many it was measured on.
    """

    model: str
    forms: tuple[FormMeasured, ...]
    accuracy: Float[np.ndarray, "forms forms cuts"]
    images: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the forms."""
        return tuple(form.name for form in self.forms)

    @property
    def layers_max(self) -> int:
        """Layers of the model."""
        return int(self.accuracy.shape[-1]) - 1

    @property
    def error(self) -> float:
        """Standard error of an accuracy, at that of the original."""
        right = self.forms[0].accuracy
        return float(np.sqrt(right * (1 - right) / self.images))

    def as_forms(self, cost: str) -> Forms:
        """For the game.

        Args:
            cost: one of `COSTS`.
        """
        first = self.forms[0]

        def share(form: FormMeasured, *, before: bool = False) -> float:
            if cost == "gmac":
                own, its = (each.costs.B if before else each.costs.A for each in (form, first))
            elif before:
                own, its = (each.seconds_per_stage[0] for each in (form, first))
            else:
                own, its = (each.fit.A_s for each in (form, first))
            return own / its

        layers = np.array([share(form) for form in self.forms])
        return Forms(
            names=self.names,
            layer_share=layers,
            before_share=np.array([share(form, before=True) for form in self.forms]),
            server_share=layers,
            accuracy=self.accuracy,
        )

    def seconds(self, device: int, server: int, layers: int) -> float:
        """Computing of both sides for an image, seconds."""
        own, rest = (self.forms[at].seconds_per_stage for at in (device, server))
        stop = _device_stages(layers, self.layers_max)
        return sum(own[:stop]) + sum(rest[stop:])

    def pareto(self, layers: int) -> list[tuple[int, int]]:
        """Pairs at a cut that no other pair beats in both seconds and accuracy, fastest first."""
        pairs = [(d, s) for d in range(len(self.forms)) for s in range(len(self.forms))]
        right = self.accuracy[:, :, layers]
        pairs.sort(key=lambda pair: (self.seconds(pair[0], pair[1], layers), -right[pair]))
        front: list[tuple[int, int]] = []
        for pair in pairs:
            if not front or right[pair] > right[front[-1]]:
                front.append(pair)
        return front

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts, lists and tables that JSON has."""
        forms = []
        for form in self.forms:
            table = asdict(form)
            for name in ("gmac_per_stage", "seconds_per_stage"):
                table[name] = list(table[name])
            forms.append(table | {"A_gmac": form.costs.A, "B_gmac": form.costs.B})
        middle = self.layers_max // 2
        return {
            "model": self.model,
            "images": self.images,
            "accuracy_error": self.error,
            "forms": forms,
            "accuracy": self.accuracy.tolist(),
            "pareto_cut": middle,
            "pareto": [[self.names[d], self.names[s]] for d, s in self.pareto(middle)],
        }

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Forms, then pairs cut in the middle."""
        return (self._forms_sheet(), self._pairs_sheet())

    def _forms_sheet(self) -> Sheet:
        first = self.forms[0]
        rows = tuple(
            (
                form.name,
                f"{form.weight_bytes:,}",
                f"{form.costs.total:.6f}",
                f"{1e3 * form.fit.A_s:.4f}",
                f"{1e3 * form.fit.B_s:.4f}",
                f"{form.fit.A_s / first.fit.A_s:.2f}",
                f"{form.accuracy:.2%}",
            )
            for form in self.forms
        )
        slow = [form.name for form in self.forms[1:] if form.fit.A_s > SAME_SPEED * first.fit.A_s]
        notes = [f"Accuracy on {self.images} images, standard error {self.error:.2%}."]
        if slow:
            notes.append(f"Not faster than the original here: {', '.join(slow)}.")
        return Sheet(
            title=f"{self.model} in its forms: one image, one thread",
            head=("form", "bytes", "GMAC", "A, ms", "B, ms", "A over the original's", "accuracy"),
            rows=rows,
            notes=tuple(notes),
        )

    def _pairs_sheet(self) -> Sheet:
        middle = self.layers_max // 2
        front = set(self.pareto(middle))
        rows = tuple(
            (
                self.names[d],
                self.names[s],
                f"{1e3 * self.seconds(d, s, middle):.4f}",
                f"{self.accuracy[d, s, middle]:.2%}",
                f"{self.accuracy[d, s].min():.2%}",
                "yes" if (d, s) in front else "",
            )
            for d in range(len(self.forms))
            for s in range(len(self.forms))
        )
        return Sheet(
            title=f"Each half its own form, cut after layer {middle}",
            head=("device", "server", "ms", "accuracy", "at its worst cut", "Pareto"),
            rows=rows,
        )


def measure_halves(
    folders: Mapping[str, Path],
    images: Images,
    *,
    repeats: int = 30,
    progress: Progress | None = None,
) -> HalvesMeasured:
    """Measure forms of a model, and every pair of them at every cut.

    Args:
        folders: of each form by name, the original first; cut into stages.
        images: with their classes.
        repeats: runs that are timed, of which the fastest counts.
        progress: told after each form that stood on the device how many are done.

    Raises:
        InputError: a form cannot be read or is of another shape, or no image has a class.
    """
    classes = images.classes
    if classes is None or not len(classes):
        raise InputError("halves", "images", "images in a folder for each class", "none")
    pipelines = [Pipeline(folder) for folder in folders.values()]
    for folder, pipeline in zip(folders.values(), pipelines, strict=True):
        _expect_alike(pipeline.info, pipelines[0].info, folder)
    texts = KnowledgeBase.from_texts(next(iter(folders.values())))
    accuracy = _accuracies(pipelines, texts, images.pixels, classes, progress)
    seconds = seconds_together(pipelines, repeats)
    forms = []
    for at, (name, folder) in enumerate(folders.items()):
        weighed = footprint(folder)
        forms.append(
            FormMeasured(
                name=name,
                weight_bytes=weighed.weight_bytes,
                embed_bytes=weighed.stages[0].weight_bytes,
                gmac_per_stage=LayerCosts.of_model(folder).per_stage,
                seconds_per_stage=seconds[at][0],
                fit=fit_line(seconds[at][1]),
                accuracy=float(accuracy[at, at, 0]),
            )
        )
    return HalvesMeasured(
        model=pipelines[0].info.name, forms=tuple(forms), accuracy=accuracy, images=len(classes)
    )


def write_halves(device: Path, server: Path, out_dir: Path, *, name: str) -> None:
    """Write a model folder whose device runs one form and whose server another.

    The folder is the device's form, and holds the server's in a folder of its own, which a device
    does not need. Its `model.json` names both, so that its digest is no other pair's.

    Args:
        device, server: folders of two forms of one model.
        out_dir: a folder that is new or empty.
        name: of the model in it.

    Raises:
        InputError: they are not forms of one model, or `out_dir` is taken.
    """
    check_free(out_dir)
    own, other = ModelInfo.read(device), ModelInfo.read(server)
    _expect_alike(other, own, server)
    out_dir = out_dir.resolve()
    draft = out_dir.with_name(f".{out_dir.name}.{os.getpid()}")
    try:
        _copied(device, draft)
        _copied(server, draft / SERVER_HALF)
        table = json.loads((device / MODEL_JSON).read_text(encoding="utf-8"))
        table |= {"name": name, "halves": {"device": own.name, "server": other.name}}
        (draft / MODEL_JSON).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        state_weights(draft)
        draft.replace(out_dir)
    except OSError as error:
        raise InputError(out_dir, "", "a folder that can be made", error.strerror or "") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def picture(measured: HalvesMeasured) -> "Figure":
    """Accuracy against seconds: forms on both sides, and pairs cut in the middle."""
    from matplotlib.figure import Figure

    middle, names = measured.layers_max // 2, measured.names
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    pairs = [(d, s) for d in range(len(names)) for s in range(len(names))]
    for same, look, size in ((False, BLUE_LINE, 22.0), (True, AMBER_LINE, 48.0)):
        kept = [pair for pair in pairs if (pair[0] == pair[1]) == same]
        axes.scatter(
            [1e3 * measured.seconds(*pair, middle) for pair in kept],
            [100 * measured.accuracy[(*pair, middle)] for pair in kept],
            s=size,
            marker=look.marker,
            color=look.colour,
            label="one form on both sides" if same else "two forms",
            zorder=3,
        )
    front = measured.pareto(middle)
    axes.step(
        [1e3 * measured.seconds(*pair, middle) for pair in front],
        [100 * measured.accuracy[(*pair, middle)] for pair in front],
        where="post",
        color=GREY,
        label="Pareto front",
    )
    for d, s in {*front, *((at, at) for at in range(len(names)))}:
        axes.annotate(
            names[d] if d == s else f"{names[d]} | {names[s]}",
            (1e3 * measured.seconds(d, s, middle), 100 * measured.accuracy[d, s, middle]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_xlabel("computing of both sides for an image, ms")
    axes.set_ylabel(f"accuracy on {measured.images} images, %")
    axes.set_title(f"{measured.model}: device | server, cut after layer {middle}")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def _accuracies(
    pipelines: Sequence[Pipeline],
    texts: KnowledgeBase,
    pixels: np.ndarray,
    classes: Int[np.ndarray, " images"],
    progress: Progress | None,
) -> Float[np.ndarray, "forms forms cuts"]:
    layers_max, count = pipelines[0].layers_max, len(pipelines)
    accuracy = np.zeros((count, count, layers_max + 1))
    # A form whose scales span a batch takes images one by one, as the market does.
    sizes = [_BATCH if each.takes_batches() else 1 for each in pipelines]

    def right(x: np.ndarray, server: int, start: int) -> float:
        pipeline, size = pipelines[server], sizes[server]
        stop = pipeline.stage_count
        parts = [pipeline.run(x[at : at + size], start, stop) for at in range(0, len(x), size)]
        found = texts.classify(np.concatenate(parts)).argmax(axis=1)
        return float(np.mean(found == classes))

    for d, (pipeline, size) in enumerate(zip(pipelines, sizes, strict=True)):
        x = pixels
        for stage in range(layers_max):
            batches = range(0, len(x), size)
            x = np.concatenate(
                [pipeline.run(x[at : at + size], stage, stage + 1) for at in batches]
            )
            if stage == 0:
                continue  # no cut of the game: a device without layers sends the image
            for s in range(count):
                # A form with itself is the whole model at every cut.
                if s != d:
                    accuracy[d, s, stage] = right(x, s, stage + 1)
        whole = right(x, d, layers_max)
        accuracy[d, :, layers_max] = whole
        accuracy[d, d, :] = whole
        if progress is not None:
            progress(d + 1, count)
    for s in range(count):
        accuracy[:, s, 0] = accuracy[s, s, 0]
    return accuracy


def _device_stages(layers: int, layers_max: int) -> int:
    """First stage that is the server's, as `Pipeline.device_stages` has it."""
    if layers == layers_max:
        return layers_max + 2
    return layers + 1 if layers else 0


def _expect_alike(info: ModelInfo, first: ModelInfo, folder: Path) -> None:
    for field in ("layers_max", "image_size", "channels", "mean", "std", "tokens", "width", "dim"):
        own, expected = getattr(info, field), getattr(first, field)
        if own != expected:
            raise InputError(folder / MODEL_JSON, field, f"{expected} as in {first.name}", own)


def _copied(source: Path, target: Path) -> None:
    """A form's files, without what was measured of it alone."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name != TOLERANCES_JSON:
            shutil.copyfile(path, target / path.name)
