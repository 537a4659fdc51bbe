"""The server's half of the work, and the test of the device's half.

Every cut of the model is an Open Inference Protocol model of its own (`fashion-clip-cut-4`), so
that the metadata of each states exactly what it takes: the image file at cut 0, the encoded
activation in between, the image vector at the last.

A job is one image. An audit runs the device's part again on the image itself and compares. The
two sides may differ by a codec's rounding and by what two processors make of the same sum, so
the comparison allows that much of each token's largest value, and nothing like the distance
between an honest activation and an invented one.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.inference.codec import CODECS, decode
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.market import protocol
from edgepact.market.protocol import TensorSpec, TensorValue

AUDIT_TOLERANCE = {"int8": 0.02, "fp16": 2e-3, "fp32": 1e-3}
"""Largest difference an audit accepts, as a share of the token's largest absolute value.

int8 rounds by half of 1/127 = 0.004 of it, fp16 by 0.0005; the rest is for processors that add
in another order, which can also turn a value to the next int8 step.
"""

_DATATYPE = {"int8": "INT8", "fp16": "FP16", "fp32": "FP32"}
_CODEC = {datatype: codec for codec, datatype in _DATATYPE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server has computed for a job.

    Args:
        probabilities: float32 [1, classes].
        label: the likeliest class.
        compute_s: seconds of computing, without queueing and bookkeeping.
    """

    probabilities: np.ndarray
    label: str
    compute_s: float


class Workbench:
    """The model, cut everywhere, with its classes. Not for several threads at once.

    Args:
        model_dir: a model directory.

    Raises:
        InputError: the directory holds no usable model.
    """

    def __init__(self, model_dir: Path) -> None:
        self._pipeline = Pipeline(model_dir, threads=1)
        self._classes = KnowledgeBase.from_texts(model_dir)
        self.info = self._pipeline.info
        self.layers_max = self._pipeline.layers_max
        self.labels: tuple[str, ...] = tuple(self._classes.labels)

    def warm(self) -> None:
        """Loads every stage, so that the first job does not wait for it."""
        info = self.info
        shape = (1, info.channels, info.image_size, info.image_size)
        vectors = self._pipeline.server_part(np.zeros(shape, np.float32), 0)
        self._classes.classify(vectors)

    def model_name(self, layers: int) -> str:
        """Name of the model cut behind `layers`."""
        return f"{self.info.name}-cut-{layers}"

    def layers_of(self, model: str) -> int | None:
        """Where a model's name cuts; None if there is no such model."""
        head, _, tail = model.rpartition("-cut-")
        if head != self.info.name or not (tail.isascii() and tail.isdigit() and len(tail) < 6):
            return None
        layers = int(tail)
        return layers if layers <= self.layers_max and self.model_name(layers) == model else None

    def specs(self, layers: int, codec: str = CODECS[0]) -> list[TensorSpec]:
        """The tensors a job brings at a cut."""
        if layers == 0:
            return [TensorSpec(name="image", datatype="BYTES", shape=(1,))]
        if layers == self.layers_max:
            return [TensorSpec(name="vector", datatype="FP32", shape=(1, self.info.dim))]
        _, item = self._pipeline.expects(layers + 1)
        shape = (1, *item)
        tokens = TensorSpec(name="tokens", datatype=_DATATYPE[codec], shape=shape)
        if codec != "int8":
            return [tokens]
        return [tokens, TensorSpec(name="scale", datatype="FP32", shape=(*shape[:-1], 1))]

    def metadata(self, layers: int) -> dict[str, object]:
        """The model's metadata, with the favourite codec's tensors."""
        parameters: dict[str, object] = {"labels": list(self.labels), "layers": layers}
        if 0 < layers < self.layers_max:
            parameters["codecs"] = {
                codec: [spec.as_json() for spec in self.specs(layers, codec)] for codec in CODECS
            }
        output = TensorSpec(name="probabilities", datatype="FP32", shape=(1, len(self.labels)))
        return {
            "name": self.model_name(layers),
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.as_json() for spec in self.specs(layers)],
            "outputs": [output.as_json()],
            "parameters": parameters,
        }

    def check(self, layers: int, inputs: Mapping[str, TensorValue]) -> None:
        """Holds a job's tensors against what the cut takes, before any computing.

        Raises:
            InputError: they do not fit.
        """
        protocol.check_tensors(inputs, self.specs(layers, _codec_of(inputs)))

    def answer(self, layers: int, inputs: Mapping[str, TensorValue]) -> Answer:
        """Finishes a checked job.

        Raises:
            InputError: the image cannot be read, or the numbers are none the model can work with.
        """
        start_s = time.perf_counter()
        x = self._boundary_value(layers, inputs)
        probabilities = self._classes.classify(self._pipeline.server_part(x, layers))
        return Answer(
            probabilities=probabilities,
            label=self.labels[int(np.argmax(probabilities[0]))],
            compute_s=time.perf_counter() - start_s,
        )

    def passes_audit(self, layers: int, evidence: bytes, image: bytes) -> bool:
        """Whether what a device sent is what its part of the model makes of the image.

        Args:
            layers: where the model was cut.
            evidence: `pack(inputs)` of the job.
            image: the image file the device says it worked on.

        Raises:
            InputError: the image cannot be read.
        """
        inputs = unpack(evidence)
        sent = self._boundary_value(layers, inputs)
        own = self._pipeline.device_part(preprocess(image, self.info), layers)
        tolerance = AUDIT_TOLERANCE["fp32" if layers == self.layers_max else _codec_of(inputs)]
        largest = np.abs(own).max(axis=-1, keepdims=True)
        return bool((np.abs(sent - own) <= tolerance * largest).all())

    def _boundary_value(self, layers: int, inputs: Mapping[str, TensorValue]) -> np.ndarray:
        """What the server's half starts from, float32."""
        if layers == 0:
            (image,) = inputs["image"]
            assert isinstance(image, bytes)
            return preprocess(image, self.info)
        if layers == self.layers_max:
            vector = inputs["vector"]
            assert isinstance(vector, np.ndarray)
            return vector
        return decode({k: v for k, v in inputs.items() if isinstance(v, np.ndarray)})


def pack(inputs: Mapping[str, TensorValue]) -> bytes:
    """A job's tensors as bytes, to be kept for an audit."""
    body, length = protocol.encode_request("", inputs, {})
    return length.to_bytes(4, "little") + body


def unpack(evidence: bytes) -> dict[str, TensorValue]:
    """The tensors `pack` has packed."""
    length = int.from_bytes(evidence[:4], "little")
    return protocol.decode_request(evidence[4:], str(length)).inputs


def digest(inputs: Mapping[str, TensorValue]) -> bytes:
    """SHA-256 of a job's tensors, which tells a repetition from another job."""
    return hashlib.sha256(pack(dict(sorted(inputs.items())))).digest()


def picked_for_audit(secret: bytes, device: str, job: str, probability: float) -> bool:
    """Whether a job is audited: the same answer whenever asked, and unknown to the device.

    Drawn from the job's id with a secret key, since a device chooses its ids itself: without
    the secret it cannot tell which of them escape.
    """
    mark = hmac.digest(secret, f"{device}\n{job}".encode(), "sha256")
    return int.from_bytes(mark[:8], "big") < probability * 2**64


def audit_secret(seed: int | None) -> bytes:
    """The key of `picked_for_audit`; from a seed only where a run must be repeatable."""
    if seed is None:
        return secrets.token_bytes(32)
    return hashlib.sha256(f"edgepact audit {seed}".encode()).digest()


def _codec_of(inputs: Mapping[str, TensorValue]) -> str:
    """The codec of the tensors as their type tells; the favourite if it tells nothing."""
    tokens = inputs.get("tokens")
    if not isinstance(tokens, np.ndarray):
        return CODECS[0]
    by_type = {protocol.DATATYPES[datatype]: codec for datatype, codec in _CODEC.items()}
    return by_type.get(tokens.dtype, CODECS[0])
