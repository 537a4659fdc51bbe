"""Devices that cheat at image classification, each in one way: the device's half of the job, bent.

What they send has the shapes that are expected, is packed and bound to a source as an honest
device does it, so that nothing but the audit and the look for repeats can tell them from one.

A cheat is given the benefit of the doubt: what it would have to know, such as activations of other
pictures, it has, and its costs are those of a better cheat than the one that is played. They are
shares of an honest device's cost.
"""

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image

from edgepact.errors import check_choice
from edgepact.inference.calibration import draw_pixels, int8_weights
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import ModelInfo, Pipeline, preprocess, stage_path
from edgepact.jobs.classification import Classification, DeviceHalf, Picture
from edgepact.tensors import Tensors
from edgepact.work import Json

WEIGHTS_OFF = 0.1
"""By what share of themselves, a standard deviation, other weights differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheat:
    """A way to cheat.

    Attributes:
        does: what it does, in words.
        cost: of a piece that it cheats on, as a share of an honest one's.
        every: it sends something wrong for one piece of so many; 0 for none.
        shows: whether it shows the sources of pieces that are audited.
        twins: whether it is two devices that deliver the same work.
        once: whether it does one piece of work a round and delivers it over and over.
    """

    does: str
    cost: float
    every: int = 1
    shows: bool = True
    twins: bool = False
    once: bool = False

    def is_on(self, at: int) -> bool:
        """Whether what it sends for a piece, counted from 0, is wrong."""
        return self.every > 0 and at % self.every == self.every - 1


HONEST = "honest"

CHEATS: Mapping[str, Cheat] = {
    HONEST: Cheat(does="does what it is paid for", cost=1.0, every=0),
    "random": Cheat(does="sends random numbers", cost=0.0),
    "other-input": Cheat(
        does="sends the activation of another picture, kept from before", cost=0.0
    ),
    "replay": Cheat(does="sends one activation under many ids", cost=1.0, every=0, once=True),
    "near-replay": Cheat(
        does="sends one activation, a little changed, for copies with one bit changed",
        cost=1.0,
        every=0,
        once=True,
    ),
    "fewer-layers": Cheat(does="runs half of the layers", cost=0.5),
    "one-layer-less": Cheat(does="skips its last layer", cost=5 / 6),
    "other-weights": Cheat(does="runs another, cheaper model of the same shapes", cost=0.1),
    "int8-weights": Cheat(does="rounds its weights to 8 bits", cost=0.5),
    "two-identities": Cheat(
        does="is two devices that deliver the work of one", cost=1.0, every=0, twins=True
    ),
    "one-in-ten": Cheat(does="sends random numbers for one picture in ten", cost=0.0, every=10),
    "leaves": Cheat(
        does="sends random numbers and is gone before the audit", cost=0.0, shows=False
    ),
}
"""By name; the costs of a layer skipped are those of six layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheatingJob(Classification):
    """Image classification by a device that cheats; its server's half is the honest one.

    Attributes:
        cheat: name of the way.
        seed: of what it invents.
        other: folder of the model that it runs, for the ways that need one.

    Raises:
        InputError: there is no such cheat.
    """

    cheat: str = HONEST
    seed: int = 0
    other: Path | None = None

    def __post_init__(self) -> None:
        check_choice("cheating", "cheat", self.cheat, tuple(CHEATS))

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "CheatingHalf":
        """The device's half."""
        return CheatingHalf(
            model or embedded(), inputs or samples(), self.cheat, self.seed, self.other
        )


class CheatingHalf(DeviceHalf):
    """A device's half that cheats.

    Args:
        model: the folder of the model that it says it runs.
        images: its pictures.
        cheat: name of the way.
        seed: of what it invents.
        other: folder of the model that it runs, for the ways that need one.
    """

    def __init__(
        self, model: Path, images: Path, cheat: str, seed: int, other: Path | None = None
    ) -> None:
        super().__init__(model, images)
        self.cheat = CHEATS[cheat]
        self.spent = 0.0
        """What it has worked, in pieces of an honest device."""
        self._rng = np.random.default_rng(seed)
        self._count = 0
        self._first: tuple[bytes, np.ndarray] | None = None
        sends: dict[str, Callable[[bytes, int], np.ndarray]] = {
            "other-input": self._others,
            "replay": self._again,
            "near-replay": partial(self._again, changed=True),
            "fewer-layers": lambda image, amount: self._layers(image, amount, amount // 2),
            "one-layer-less": lambda image, amount: self._layers(image, amount, amount - 1),
            "other-weights": self._by_other,
            "int8-weights": self._by_other,
        }
        self._send = sends.get(cheat, self._random)
        self._name = cheat
        self._other = None if other is None else Pipeline(other)

    def pieces(self) -> Sequence[Picture]:
        """All images of the folder; the first, over and over, for who delivers one."""
        pictures = super().pieces()
        return [pictures[0]] * len(pictures) if self._name == "replay" else pictures

    def begin_round(self) -> None:
        """What was done for a round before cannot be sent any more."""
        self._first = None

    def source(self, piece: Picture) -> bytes:
        """The image file; of copies with one bit changed, the file of the copy."""
        if self._name != "near-replay":
            return super().source(piece)
        first = super().source(self._pictures[0])
        return one_bit_changed(first, self._pictures.index(piece))

    def _sent(self, path: Path, image: bytes, amount: int) -> Tensors:
        at, self._count = self._count, self._count + 1
        cheat = self.cheat
        if not (cheat.is_on(at) or cheat.once):
            self.spent += 1.0
            return super()._sent(path, image, amount)
        self.spent += 0.0 if cheat.once else cheat.cost
        name = "vector" if amount == self.model.amount_max else "tokens"
        return {name: self._send(image, amount)}

    # ------------------------------------------------------------ ways to cheat

    def _random(self, image: bytes, amount: int) -> np.ndarray:
        (spec,) = self.expects(amount, 0)
        drawn = self._rng.standard_normal(spec.shape).astype(np.float32)
        unit = amount == self.model.amount_max  # an image vector has length 1
        return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True) if unit else drawn

    def _others(self, image: bytes, amount: int) -> np.ndarray:
        pixels = draw_pixels(self._pipeline.info, 1, int(self._rng.integers(2**31)))[0]
        return self._pipeline.device_part(pixels, amount)

    def _again(self, image: bytes, amount: int, *, changed: bool = False) -> np.ndarray:
        if self._first is None:
            self.spent += 1.0
            pixels = preprocess(image, self._pipeline.info)
            self._first = image, self._pipeline.device_part(pixels, amount)
            return self._first[1]
        activation = self._first[1]
        if not changed:
            return activation
        off = 1e-4 * self._rng.standard_normal(activation.shape)
        return (activation * (1 + off)).astype(np.float32)

    def _layers(self, image: bytes, amount: int, layers: int) -> np.ndarray:
        pipeline = self._pipeline
        x = pipeline.run(preprocess(image, pipeline.info), 0, layers + 1)
        if amount == self.model.amount_max:
            x = pipeline.run(x, pipeline.stage_count - 1, pipeline.stage_count)
        return x

    def _by_other(self, image: bytes, amount: int) -> np.ndarray:
        assert self._other is not None, "this cheat is made with another model"
        return self._other.device_part(preprocess(image, self._other.info), amount)


def other_model(cheat: str, folder: Path, model: Path | None = None) -> Path | None:
    """Makes the model that a cheat runs in place of the one it is paid for; None if it needs none.

    Args:
        cheat: name of the way.
        folder: a new one, to put it into.
        model: that it is made of; None for the embedded one.
    """
    ways: dict[str, Callable[[Path], bytes | None]] = {
        "other-weights": _other_weights,
        "int8-weights": int8_weights,
    }
    if cheat not in ways:
        return None
    model = model or embedded()
    shutil.copytree(model, folder)
    for stage in range(ModelInfo.read(model).layers_max + 2):
        content = ways[cheat](stage_path(model, stage))
        if content is not None:
            stage_path(folder, stage).write_bytes(content)
    return folder


def one_bit_changed(image: bytes, at: int) -> bytes:
    """A picture file in which one bit of one number is another, at a place of its own."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.array(opened.convert("L" if opened.mode == "L" else "RGB"))
    flat = pixels.reshape(-1)
    flat[(7919 * at + 1) % flat.size] ^= 1
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _other_weights(stage: Path) -> bytes:
    """A stage with every weight moved by a share of itself."""
    model = onnx.load(stage)
    rng = np.random.default_rng(len(stage.name))
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype in (np.float16, np.float32):
            moved = weights * (1 + WEIGHTS_OFF * rng.standard_normal(weights.shape))
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(weights.dtype), tensor.name))
    return bytes(model.SerializeToString())
