"""Image classification, split: the device runs the first layers, the server the rest.

A piece is an image, and so is a unit; a step of the amount is a layer. It takes one exchange:

===========  ======================  =================================
amount       what travels            what the server does
===========  ======================  =================================
0            the image file          all of it
1 to L-1     an activation, coded    the layers that are left
L            the image's vector      names the class
===========  ======================  =================================

Every cut is a model of its own to clients of the Open Inference Protocol (`fashion-clip-cut-4`),
whose metadata states exactly what it takes.

An audit runs the device's part again on the image itself, packs it as the device did, and
compares it with the 1 KB that was kept of what came (`inference.compact_evidence`). The two sides
may differ by what two processors make of the same sum. How much that is, and how far beyond it a
skipped block or rounded weights lie, was measured for each cut (`inference.calibration`).
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.exhibit import Exhibit, named
from edgepact.inference.codecs import BUILT_IN
from edgepact.inference.compact_evidence import deviation, kept
from edgepact.inference.digests import digest_of
from edgepact.inference.models import embedded, samples
from edgepact.inference.pictures import decoded, read_picture, thumbnail
from edgepact.inference.pipeline import (
    MODEL_JSON,
    SERVER_HALF,
    Pipeline,
    preprocess,
    stage_path,
)
from edgepact.inference.sketch import sketch
from edgepact.inference.tolerances import Tolerances, read_tolerances
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import NEAR_REPEAT_DISTANCE, Json, Model, Reply, ServerAway, Work

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
IMAGES_MAX = 1_000_000
NOT_CLASSES = frozenset(
    {"__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information"}
)
"""Folders that archives, file servers and tools leave behind, beside all whose names begin with
a dot."""

JPEG_QUALITY = 90

POWER_LEAST = 0.01
"""Of an audit; where calibration found none at all, no rate is enough, and the market says so."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file, and the class it stands for if its folder says."""

    path: Path
    label: str | None


def find_images(folder: Path) -> list[Picture]:
    """Images of a folder: flat, or one folder for each class; in the order of their names.

    Hidden files and folders, such as `._1.png` and `.ipynb_checkpoints`, are passed over, and so
    are `NOT_CLASSES`.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(folder, "", "a folder of images", "no such folder")
    classes = [(path, path.name) for path in _seen(folder) if path.is_dir()]
    pictures = [
        Picture(path, label)
        for place, label in [(folder, None), *classes]
        for path in _seen(place)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    if not 1 <= len(pictures) <= IMAGES_MAX:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(
            folder, "", f"1 to {IMAGES_MAX} images ({kinds})", f"{len(pictures)} images"
        )
    return pictures


def _seen(folder: Path) -> list[Path]:
    """What a folder shows of itself, in the order of names."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name.lower() not in NOT_CLASSES
    ]


@dataclass(frozen=True, slots=True)
class Classification:
    """Classifies images: the device runs the first layers of a model, the server the rest."""

    name: str = "classification"
    about: str = "Tells what is on an image; the device runs the first layers of the model."
    unit: str = "image"
    step: str = "layer"
    codecs: tuple[str, ...] = ("int8", "fp16", "fp32")

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "DeviceHalf":
        """The device's half.

        Raises:
            InputError: the model or the images cannot be used, or there is a setting.
        """
        _expect_no_settings(settings)
        return DeviceHalf(model or embedded(), inputs or samples())

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "ServerHalf":
        """The server's half.

        Raises:
            InputError: the model cannot be used, or there is a setting.
        """
        _expect_no_settings(settings)
        return ServerHalf(model or embedded())


CLASSIFICATION = Classification()


class _Half:
    """What both sides share: the stages, and what travels between them."""

    def __init__(self, model: Path) -> None:
        self._pipeline = Pipeline(model, threads=1)
        info = self._pipeline.info
        self._digest = digest_of(model) if stage_path(model, 0).is_file() else ""
        self._model = Model(name=info.name, amount_max=info.layers_max, digest=self._digest)

    @property
    def model(self) -> Model:
        """The model it holds."""
        return self._model

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """The tensors that an image brings."""
        if amount == 0:
            return (TensorSpec(name="image", datatype="BYTES", shape=(1,)),)
        info = self._pipeline.info
        if amount == info.layers_max:
            return (TensorSpec(name="vector", datatype="FP32", shape=(1, info.dim)),)
        shape = (1, info.tokens, info.width)
        return (TensorSpec(name="tokens", datatype="FP32", shape=shape, coded=True),)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """A probability for each class."""
        classes = len(self._pipeline.info.labels)
        return (TensorSpec(name="probabilities", datatype="FP32", shape=(1, classes)),)


class DeviceHalf(_Half):
    """The images of a device, and the layers it runs on them.

    Args:
        model: a model directory with its stages.
        images: folder of images, flat or with one folder for each class.

    Raises:
        InputError: there is no image, or no usable model.
    """

    def __init__(self, model: Path, images: Path) -> None:
        self._pictures = find_images(images)
        super().__init__(model)
        self._folder, self._images = model, images

    def pieces(self) -> Sequence[Picture]:
        """All images of the folder."""
        return self._pictures

    def prepare(self, amount: int) -> None:
        """Opens the stages of the cut."""
        self._pipeline.load(self._pipeline.device_stages(amount))

    def work(self, piece: Picture, amount: int) -> Work:
        """Sends the image or what its layers make of it; is told the class."""
        start_s = time.perf_counter()
        image = self.source(piece)
        read_s = time.perf_counter() - start_s
        jpeg_bytes = self._jpeg_bytes(piece.path, image)  # refuses what is no image
        start_s = time.perf_counter()
        sent = self._sent(piece.path, image, amount)
        device_s = read_s + time.perf_counter() - start_s
        try:
            reply = yield sent
            label = str(reply.told.get("label"))
        except ServerAway:
            label = self._alone(image)
        return {
            "file": piece.path.relative_to(self._images).as_posix(),
            "label_true": piece.label,
            "label_predicted": label,
            "image_bytes": len(image),
            "jpeg_bytes": jpeg_bytes,
            "device_seconds": device_s,  # finding the JPEG's size is no work
        }

    def source(self, piece: Picture) -> bytes:
        """The image file."""
        return read_picture(piece.path)

    def exhibit(self, piece: Picture, result: Mapping[str, Json]) -> Exhibit:
        """The image, and its class."""
        size = self._pipeline.info.image_size
        return Exhibit(
            answer=named(result["label_predicted"], result["label_true"]),
            picture=thumbnail(decoded(self.source(piece), image_size=size, source=piece.path)),
        )

    def _sent(self, path: Path, image: bytes, amount: int) -> Tensors:
        if amount == 0:
            return {"image": (image,)}
        pixels = preprocess(image, self._pipeline.info, source=path)
        boundary = self._pipeline.device_part(pixels, amount)
        return {"vector" if amount == self.model.amount_max else "tokens": boundary}

    def _jpeg_bytes(self, path: Path, image: bytes) -> int:
        """Size of the image as a JPEG: what sending the picture itself would have cost."""
        buffer = io.BytesIO()
        size = self._pipeline.info.image_size
        decoded(image, image_size=size, source=path).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.tell()

    def _alone(self, image: bytes) -> str:
        """The class of an image by the whole model, on the device."""
        pixels = preprocess(image, self._pipeline.info)
        vector = self._pipeline.device_part(pixels, self.model.amount_max)
        classes = KnowledgeBase.from_texts(self._folder)
        return classes.labels[int(np.argmax(classes.classify(vector)[0]))]


class ServerHalf(_Half):
    """The model, cut everywhere, with its classes. Used by one thread.

    A folder may hold another form of the model for the server's stages (`SERVER_HALF`): with fewer
    bits, or pruned. Audits run the device's stages again, which are those of the folder itself.

    Images pass the stages together from wherever they come in (`work.StagedPart`), unless the
    model's stages take one image at a time only.

    Args:
        model: a model directory with its stages.

    Raises:
        InputError: the directory holds no usable model.
    """

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self._folder = model
        self._own = self._server_form(model / SERVER_HALF)
        self._classes = KnowledgeBase.from_texts(model)
        self._known: Tolerances | None = None
        self._together = False

    def _server_form(self, folder: Path) -> Pipeline:
        """What the server's stages are of."""
        if not (folder / MODEL_JSON).is_file():
            return self._pipeline
        digest_of(folder)  # refuses damaged weights
        own, info = Pipeline(folder, threads=1), self._pipeline.info
        for field in ("layers_max", "image_size", "channels", "tokens", "width", "dim"):
            found, expected = getattr(own.info, field), getattr(info, field)
            if found != expected:
                expected = f"{expected} as in {info.name}"
                raise InputError(folder / MODEL_JSON, field, expected, found)
        return own

    @property
    def about(self) -> Mapping[str, Json]:
        """The labels of the classes."""
        return {"labels": list(self._classes.labels)}

    @property
    def audit_power(self) -> float:
        """Least share of audits, at any cut, that found the least noticeable cheat."""
        return max(self._tolerances().power, POWER_LEAST)

    def warm(self) -> None:
        """Loads every stage, and measures the model's tolerances unless its folder has them."""
        info = self._pipeline.info
        shape = (1, info.channels, info.image_size, info.image_size)
        self._classes.classify(self._own.server_part(np.zeros(shape, np.float32), 0))
        self._together = self._own.takes_batches()
        self._tolerances()

    def begin(self, amount: int, seed: int) -> int:
        """All that is kept of an image is where it is cut."""
        return amount

    def answer(self, batch: Sequence[tuple[int, Tensors]]) -> list[Reply | InputError]:
        """Probabilities and label of each image."""
        return [self._answered(amount, sent) for amount, sent in batch]

    @property
    def stages(self) -> int:
        """All stages of the model; 0 before it is warm, and if its stages take single images."""
        return self._own.stage_count if self._together else 0

    def enter(self, session: int, sent: Tensors) -> tuple[int, np.ndarray] | InputError:
        """The first stage that is left to the server, and what it starts from."""
        try:
            return self._own.server_stages(session).start, self._boundary(session, sent)
        except InputError as error:
            return error

    def advance(
        self, travelling: Sequence[np.ndarray], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[np.ndarray], int]:
        """Runs stages on what came of several images at once."""
        return self._own.advance(travelling, start, stop, pause)

    def leave(self, session: int, travelled: np.ndarray) -> Reply | InputError:
        """Probabilities and label, from the image's vector."""
        try:
            return self._named(travelled)
        except InputError as error:
            return error

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """Of the activation or vector, about 1 KB; nothing where the image itself came."""
        return b"" if amount == 0 else kept(self._boundary(amount, sent), key)

    def passes_audit(
        self,
        amount: int,
        evidence: Sequence[bytes],
        source: bytes,
        *,
        seed: int,
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Whether what came is what the device's layers make of the image."""
        own = self._pipeline.device_part(preprocess(source, self._pipeline.info), amount)
        specs = self.expects(amount, 0)
        own = np.asarray(
            codec.unpack(codec.pack({specs[0].name: own}, specs), specs)[specs[0].name]
        )
        if len(evidence) != 1:
            return False
        return deviation(evidence[0], own, key) <= self._tolerance(amount, codec)

    def _tolerance(self, amount: int, codec: Codec) -> float:
        margin = self._tolerances().of(amount, codec.name)
        if margin is None:  # a codec from outside
            extra = self._calibrated((codec,))
            margins = self._tolerances().margins + extra.margins
            self._known = replace(self._tolerances(), margins=margins)
            margin = extra.of(amount, codec.name)
        assert margin is not None
        return margin.tolerance

    def _tolerances(self) -> Tolerances:
        """What lies in the model's folder; else it is measured, and kept there if it can be."""
        if self._known is None:
            self._known = read_tolerances(self._folder, self._digest)
        if self._known is None:
            self._known = self._calibrated(BUILT_IN)
            with suppress(OSError):
                self._known.write(self._folder)
        return self._known

    def _calibrated(self, codecs: Sequence[Codec]) -> Tolerances:
        # Only a server needs this, and the ONNX package with it; a device could not import it.
        from edgepact.inference.calibration import calibrate

        return calibrate(self._folder, model_digest=self._digest, codecs=codecs)

    def _sketch(self, vector: np.ndarray) -> np.ndarray | None:
        distance = self._tolerances().repeat_distance
        return sketch(vector[0]) * np.float32(NEAR_REPEAT_DISTANCE / distance) if distance else None

    def _answered(self, amount: int, sent: Tensors) -> Reply | InputError:
        try:
            x = self._boundary(amount, sent)
            return self._named(self._own.server_part(x, amount))
        except InputError as error:
            return error

    def _named(self, vector: np.ndarray) -> Reply:
        probabilities = self._classes.classify(vector)
        label = self._classes.labels[int(np.argmax(probabilities[0]))]
        return Reply(
            outputs={"probabilities": probabilities},
            told={"label": label},
            sketch=self._sketch(vector),
        )

    def _boundary(self, amount: int, sent: Tensors) -> np.ndarray:
        """What the server's half starts from, float32."""
        if amount == 0:
            (image,) = sent["image"]
            return preprocess(bytes(image), self._pipeline.info)
        return np.asarray(sent["vector" if amount == self.model.amount_max else "tokens"])


def _expect_no_settings(settings: Mapping[str, Json]) -> None:
    for name in settings:
        raise InputError("job", name, "no settings: classification has none", "this field")
