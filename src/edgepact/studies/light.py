"""A job that costs next to nothing, and a server of it as a process: what is left is the market.

A piece is 144 numbers, as many bytes as the embedded model's activation at a cut takes with the
codec int8; the server answers with their sum. Everything else is as with any other job: digests,
commitments, evidence, audits, pay.

The process is told what it needs as one JSON object::

    python -m edgepact.studies.light '{"ledger_url": "...", "ready_file": "..."}'
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.errors import EdgepactError, InputError
from edgepact.market.posted import FixedPrice
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import serve
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply, Work

NUMBERS = 144
SOURCE_BYTES = 2 * NUMBERS
KEPT = 16
"""Numbers that are kept as evidence."""

MODEL = Model(name="light", amount_max=4)


def sent(source: bytes) -> Tensors:
    """What an honest device sends: its part of the work is to read its input."""
    return {"x": np.frombuffer(source, "<i2").astype(np.float32)}


@dataclass(frozen=True, slots=True)
class Light:
    """The job."""

    name: str = "light"
    unit: str = "piece"
    step: str = "step"
    codecs: tuple[str, ...] = ("fp32",)

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "LightDevice":
        """The device's half, with a few inputs of its own."""
        return LightDevice()

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "LightServer":
        """The server's half."""
        return LightServer()


@dataclass(frozen=True, slots=True)
class LightDevice:
    """Reads its input."""

    @property
    def model(self) -> Model:
        """What it holds."""
        return MODEL

    def pieces(self) -> Sequence[bytes]:
        """Random inputs."""
        drawn = np.random.default_rng(0)
        return [drawn.bytes(SOURCE_BYTES) for _ in range(64)]

    def prepare(self, amount: int) -> None:
        """Nothing is loaded."""

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """What is sent."""
        return _EXPECTED

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """What comes back."""
        return _RETURNED

    def work(self, piece: bytes, amount: int) -> Work:
        """One exchange."""
        reply = yield sent(piece)
        return {"sum": float(np.asarray(reply.outputs["sum"])[0])}

    def source(self, piece: bytes) -> bytes:
        """The input."""
        return piece


@dataclass(frozen=True, slots=True)
class LightServer:
    """Adds up."""

    @property
    def model(self) -> Model:
        """What it holds."""
        return MODEL

    @property
    def about(self) -> Mapping[str, Json]:
        """Nothing more."""
        return {}

    @property
    def audit_power(self) -> float:
        """Whatever differs is found."""
        return 1.0

    def warm(self) -> None:
        """Nothing is loaded."""

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """What comes."""
        return _EXPECTED

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """What is answered."""
        return _RETURNED

    def begin(self, amount: int, seed: int) -> None:
        """There is nothing to keep of a piece."""

    def answer(self, batch: Sequence[tuple[None, Tensors]]) -> list[Reply | InputError]:
        """The sums."""
        return [
            Reply(outputs={"sum": np.asarray(tensors["x"]).sum(keepdims=True, dtype=np.float32)})
            for _, tensors in batch
        ]

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """The first numbers."""
        return np.asarray(sent["x"], "<f4")[:KEPT].tobytes()

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
        """Whether the first numbers are those of the source."""
        if len(source) != SOURCE_BYTES:
            raise InputError("audit", "source", f"{SOURCE_BYTES} bytes", f"{len(source)}")
        return b"".join(evidence) == np.asarray(sent(source)["x"], "<f4")[:KEPT].tobytes()


_EXPECTED = (TensorSpec(name="x", datatype="FP32", shape=(NUMBERS,)),)
_RETURNED = (TensorSpec(name="sum", datatype="FP32", shape=(1,)),)


def main() -> None:
    """Serves until it is told to stop."""
    told = json.loads(sys.argv[1])
    told["ready_file"] = Path(told["ready_file"])
    try:
        serve(ServeConfig(**told), FixedPrice(price=1.0, steps_max=MODEL.amount_max), job=Light())
    except EdgepactError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
