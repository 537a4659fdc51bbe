"""What compressing a model gained and lost, measured on images.

Raw cosines of image vectors are close to 1 for any two models, since all vectors of a model
share a large mean; with the original's mean taken away they show what is left to tell images
apart. Top-1 agreement says how often the class stays the same, accuracy how often it is right.
Images are run one by one, as the market does: quantised activations depend on the batch.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from edgepact.efficiency.footprint import Footprint, footprint
from edgepact.errors import InputError
from edgepact.framework import Sheet
from edgepact.inference.pipeline import Pipeline
from edgepact.inference.zero_shot import TEXT_GRAPH, TEXT_VECTORS, KnowledgeBase
from edgepact.tables import Shown

REPEATS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What a model is judged on.

    Attributes:
        pixels: preprocessed, shape `images channels size size`.
        classes: index of each image's class among the model's labels; None if unknown.
    """

    pixels: Float32[np.ndarray, "images channels size size"]
    classes: Int[np.ndarray, " images"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One of the two models.

    Attributes:
        footprint: parameters, bytes and MACs.
        seconds_per_image: the whole encoder on one image and one thread, fastest run.
        accuracy: share of images with the right class; None without classes or texts.
    """

    footprint: Footprint
    seconds_per_image: float
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionReport(Shown):
    """A compressed model beside the one it was made from.

    Attributes:
        original: before.
        compressed: after.
        images: how many both were run on.
        centred_cosine: mean cosine of an image's two vectors, less the original's mean.
        top1_agreement: share of images to which both give the same class; None for a model
            without a text encoder.
    """

    original: Measured
    compressed: Measured
    images: int
    centred_cosine: float
    top1_agreement: float | None

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, texts and tables that JSON has."""
        table = asdict(self)
        for name, model in (("original", self.original), ("compressed", self.compressed)):
            table[name]["footprint"] = model.footprint.to_dict()
        return table

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Before and after, and how alike the two are."""
        before, after = self.original, self.compressed
        rows = []
        for label, name in (
            ("bytes: stages and weights", "bytes"),
            ("  as zlib would send them", "deflated_bytes"),
            ("  with sparse matrices", "sparse_bytes"),
            ("parameters", "parameters"),
            ("  of which 0", "zeros"),
            ("MAC per image", "macs"),
        ):
            was, is_ = (getattr(model.footprint, name) for model in (before, after))
            ratio = f"{is_ / was:.3f}" if was and name != "zeros" else ""
            rows.append((label, f"{was:,}", f"{is_:,}", ratio))
        was_s, is_s = before.seconds_per_image, after.seconds_per_image
        seconds = (f"{1e3 * was_s:.3f}", f"{1e3 * is_s:.3f}", f"{is_s / was_s:.3f}")
        rows.append(("ms per image", *seconds))
        if before.accuracy is not None and after.accuracy is not None:
            rows.append(("accuracy", f"{before.accuracy:.2%}", f"{after.accuracy:.2%}", ""))
        agreement = (
            "" if self.top1_agreement is None else f", top-1 agreement {self.top1_agreement:.2%}"
        )
        sheet = Sheet(
            title=f"{after.footprint.model}, on {self.images:,} images",
            head=("", "original", "compressed", "ratio"),
            rows=tuple(rows),
            notes=(f"Centred cosine {self.centred_cosine:.4f}{agreement}.",),
        )
        return (sheet,)


def report(
    model_dir: Path, original_dir: Path, images: Images, *, repeats: int = REPEATS
) -> CompressionReport:
    """Measure a compressed model against the one it was made from.

    Args:
        model_dir: the compressed model.
        original_dir: the other.
        images: preprocessed for both.
        repeats: runs of each model that are timed, of which the fastest counts.

    Raises:
        InputError: a model cannot be read, the two give vectors of different sizes, or
            there are no images or repeats.
    """
    if not len(images.pixels) or repeats < 1:
        found = f"{len(images.pixels)} images, {repeats} repeats"
        raise InputError("compression", "report", "one image and one repeat or more", found)
    pipelines = [Pipeline(folder) for folder in (original_dir, model_dir)]
    dims = [pipeline.info.dim for pipeline in pipelines]
    if dims[0] != dims[1]:
        raise InputError(model_dir, "dim", f"{dims[0]} as in {original_dir}", dims[1])
    seconds = _seconds(pipelines, images.pixels, repeats)
    vectors = [_vectors(pipeline, images.pixels) for pipeline in pipelines]
    answers: list[np.ndarray] | None = None
    if any((original_dir / name).is_file() for name in (TEXT_GRAPH, TEXT_VECTORS)):
        texts = KnowledgeBase.from_texts(original_dir)
        answers = [texts.classify(each).argmax(axis=1) for each in vectors]
    measured = [
        Measured(
            footprint=footprint(folder),
            seconds_per_image=seconds[at],
            accuracy=None
            if answers is None or images.classes is None
            else float(np.mean(answers[at] == images.classes)),
        )
        for at, folder in enumerate((original_dir, model_dir))
    ]
    return CompressionReport(
        original=measured[0],
        compressed=measured[1],
        images=len(images.pixels),
        centred_cosine=centred_cosine(*vectors),
        top1_agreement=None if answers is None else float(np.mean(answers[0] == answers[1])),
    )


def centred_cosine(
    original: Float[np.ndarray, "images dim"], other: Float[np.ndarray, "images dim"]
) -> float:
    """Mean cosine between rows after the mean of `original` has been taken from both.

    Rows that are the mean have no direction; they count as 1 where both are, else as 0.

    Example:
        >>> original = np.array([[1.0, 9.0], [-1.0, 9.0]])
        >>> centred_cosine(original, original), centred_cosine(original, original[::-1])
        (1.0, -1.0)
    """
    mean = original.mean(axis=0, dtype=np.float64)
    a, b = original - mean, other - mean
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths[0] * lengths[1]
    cosines = np.divide(np.sum(a * b, axis=1), product, out=np.zeros(len(a)), where=product > 0)
    cosines[(lengths[0] == 0) & (lengths[1] == 0)] = 1.0
    return float(cosines.mean())


def _vectors(pipeline: Pipeline, pixels: np.ndarray) -> np.ndarray:
    stop = pipeline.stage_count
    return np.concatenate([pipeline.run(pixels[at : at + 1], 0, stop) for at in range(len(pixels))])


def _seconds(pipelines: list[Pipeline], pixels: np.ndarray, repeats: int) -> list[float]:
    """Fastest run of each; they take turns, so that a slow moment falls on both."""
    fastest = [float("inf") for _ in pipelines]
    for repeat in range(repeats):
        one = pixels[repeat % len(pixels)][None]
        for at, pipeline in enumerate(pipelines):
            # The run before the timed one fills the caches with this model's weights.
            pipeline.run(one, 0, pipeline.stage_count)
            start = time.perf_counter()
            pipeline.run(one, 0, pipeline.stage_count)
            fastest[at] = min(fastest[at], time.perf_counter() - start)
    return fastest
