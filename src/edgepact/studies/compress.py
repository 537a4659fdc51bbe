"""Compress a model and measure it: what `edgepact model compress` does.

Images come from a folder, or from the files of Fashion-MNIST, whose test half judges and
whose training half is what pruning chooses its units by.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.efficiency.model_compression.int8 import quantise_int8
from edgepact.efficiency.model_compression.magnitude import prune_magnitude
from edgepact.efficiency.model_compression.model_folder import check_free
from edgepact.efficiency.model_compression.report import CompressionReport, Images, report
from edgepact.efficiency.model_compression.structured import prune_structured
from edgepact.efficiency.model_compression.weight_only import quantise_weights4, quantise_weights8
from edgepact.errors import InputError, InputWarning, shown
from edgepact.inference.models import samples
from edgepact.inference.pictures import read_picture
from edgepact.inference.pipeline import ModelInfo, preprocess
from edgepact.jobs.classification import find_images
from edgepact.training import fashion_mnist
from edgepact.training.pruning import PruningConfig, prune_heads

METHODS = ("int8", "weights8", "weights4", "magnitude", "structured", "heads")

WITHOUT_SHARE = ("int8", "weights8", "weights4")

FIT_IMAGES_MAX = 1000
"""Units are chosen by the first so many images; more change the choice no more."""

TEACH_IMAGES_MAX = 8000
"""Pruned heads are taught by so many at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressConfig:
    """What to do.

    Attributes:
        model: the folder to compress.
        out: the folder to write.
        method: one of `METHODS`.
        share: to remove; None where only bits become fewer.
        images: folder to judge by; None takes the sample images.
        fit_images: folder to choose hidden units by; None chooses by norms, or has pictures drawn
            to choose heads by.
    """

    model: Path
    out: Path
    method: str
    share: float | None = None
    images: Path | None = None
    fit_images: Path | None = None


def compress(config: CompressConfig) -> CompressionReport:
    """Write the compressed model, then measure it beside the original.

    Raises:
        InputError: an option does not fit the method, or something cannot be read.
    """
    if config.method not in METHODS:
        raise InputError("compress", "--method", " or ".join(METHODS), shown(config.method))
    if (config.share is None) != (config.method in WITHOUT_SHARE):
        word = "none" if config.method in WITHOUT_SHARE else "one"
        expected = f"{word} with {config.method}"
        raise InputError("compress", "--share", expected, config.share)
    if config.fit_images is not None and config.method not in ("structured", "heads"):
        expected = "only with structured or heads"
        raise InputError("compress", "--fit-from", expected, shown(config.method))
    check_free(config.out)
    info = ModelInfo.read(config.model)
    # Read first: a mistake in them must not leave a folder behind.
    images = read_images(config.images or samples(), info, split="test")
    _methods(config, info)[config.method]()
    return report(config.out, config.model, images)


def read_images(folder: Path, info: ModelInfo, *, split: str) -> Images:
    """Images of a folder, preprocessed, with their classes if all have one.

    Where only some have, `InputWarning` says why no accuracy will be told.

    Args:
        folder: flat or one folder for each class; or the files of Fashion-MNIST.
        info: of the model that shall see them.
        split: half of Fashion-MNIST, `train` or `test`.

    Raises:
        InputError: there are no images, or one cannot be read.
    """
    if any(folder.glob("*-idx3-ubyte.gz")):
        return _fashion_mnist(folder, info, split)
    pictures = find_images(folder)
    pixels = [
        preprocess(read_picture(picture.path), info, source=picture.path) for picture in pictures
    ]
    labels = [picture.label for picture in pictures]
    strange = {label for label in labels if label not in info.labels}
    if strange and set(labels) != {None}:
        found = ", ".join("images beside them" if each is None else shown(each) for each in strange)
        told = "so no accuracy is told: expected all images in folders named as the model's labels"
        warnings.warn(f"{folder}: {told}, found {found}", InputWarning, stacklevel=2)
    known = not strange
    classes = [info.labels.index(label) for label in labels if label is not None] if known else None
    return Images(
        pixels=np.concatenate(pixels),
        classes=None if classes is None else np.array(classes, np.int64),
    )


def _fashion_mnist(folder: Path, info: ModelInfo, split: str) -> Images:
    size = fashion_mnist.IMAGE_SIZE
    if (info.channels, info.image_size) != (1, size) or set(info.labels) != set(
        fashion_mnist.LABELS
    ):
        expected = f"images for {info.channels} channels of {info.image_size} pixels"
        raise InputError(folder, "", f"{expected} with the model's labels", "Fashion-MNIST")
    found = fashion_mnist.read(folder, split)
    order = np.array([info.labels.index(label) for label in fashion_mnist.LABELS])
    grey = found.images[:, None].astype(np.float32) / np.float32(255)
    pixels = (grey - np.float32(info.mean[0])) / np.float32(info.std[0])
    return Images(pixels=pixels, classes=order[found.labels])


def _methods(config: CompressConfig, info: ModelInfo) -> dict[str, Callable[[], None]]:
    share = config.share or 0.0

    def fit_pixels(most: int) -> np.ndarray | None:
        if config.fit_images is None:
            return None
        return read_images(config.fit_images, info, split="train").pixels[:most]

    def structured() -> None:
        prune_structured(config.model, config.out, share, pixels=fit_pixels(FIT_IMAGES_MAX))

    def heads() -> None:
        pruning = PruningConfig(share=share)
        prune_heads(config.model, config.out, pruning, pixels=fit_pixels(TEACH_IMAGES_MAX))

    return {
        "int8": lambda: quantise_int8(config.model, config.out),
        "magnitude": lambda: prune_magnitude(config.model, config.out, share),
        "structured": structured,
        "heads": heads,
        "weights8": lambda: quantise_weights8(config.model, config.out),
        "weights4": lambda: quantise_weights4(config.model, config.out),
    }
