"""A job of several exchanges with state, for tests: the server echoes what it has added up.

A piece is a list of numbers, and a unit is a number of it. The device sends one number at a time,
times its amount plus one; the server adds it to what it has and to a number drawn from the
session's seed, and gives back the sum. It is all there is of a text: state on both sides, many
exchanges a unit of pay, a seed, an audit that computes again.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply, ServerAway, SessionLost, Work

PIECES = ((1.0, 2.0, 3.0), (4.0,), (5.0, 6.0))
MODEL = Model(name="echo", amount_max=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """The job.

    Attributes:
        handles_loss: whether its device part brings a new session to where the old one was.
        lies: whether its device part sends something else than it should.
    """

    name: str = "echo"
    unit: str = "number"
    step: str = "step"
    codecs: tuple[str, ...] = ("fp32", "int8")
    handles_loss: bool = False
    lies: bool = False
    lost: list[str] = field(default_factory=list)

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> "EchoDevice":
        return EchoDevice(self)

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> "EchoServer":
        return EchoServer()


def _expects() -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(name="x", datatype="FP32", shape=(1,), coded=True),
        TensorSpec(name="left", datatype="INT32", shape=(1,)),
    )


def _returns() -> tuple[TensorSpec, ...]:
    return (TensorSpec(name="sum", datatype="FP32", shape=(1,), coded=True),)


@dataclass(frozen=True, slots=True)
class EchoDevice:
    job: Echo

    @property
    def model(self) -> Model:
        return MODEL

    def pieces(self) -> Sequence[tuple[float, ...]]:
        return PIECES

    def prepare(self, amount: int) -> None:
        return None

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        return _expects()

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        return _returns()

    def work(self, piece: tuple[float, ...], amount: int) -> Work:
        sums: list[float] = []
        at = 0
        while at < len(piece):
            x = piece[at] * (amount + 1) + (1.0 if self.job.lies else 0.0)
            sent: Tensors = {
                "x": np.array([x], np.float32),
                "left": np.array([len(piece) - at - 1], np.int32),
            }
            try:
                reply = yield sent
            except SessionLost:
                self.job.lost.append(f"{piece} at {at}")
                if not self.job.handles_loss:
                    raise
                at, sums = 0, []
                continue
            except ServerAway:
                return {"sums": sums, "alone": True}
            sums.append(float(np.asarray(reply.outputs["sum"])[0]))
            at += 1
        return {"sums": sums, "numbers": list(piece)}

    def source(self, piece: tuple[float, ...]) -> bytes:
        return json.dumps(piece).encode()


class EchoServer:
    """The other half; keeps count of what it has done."""

    def __init__(self) -> None:
        self.begun = 0
        self.answered = 0

    @property
    def model(self) -> Model:
        return MODEL

    @property
    def about(self) -> Mapping[str, Json]:
        return {"echoes": True}

    @property
    def audit_power(self) -> float:
        return 1.0

    def warm(self) -> None:
        return None

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        return _expects()

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        return _returns()

    def begin(self, amount: int, seed: int) -> dict[str, Any]:
        self.begun += 1
        return {"sum": first_of(seed), "units": 0.0, "came": []}

    def answer(self, batch: Sequence[tuple[dict[str, Any], Tensors]]) -> list[Reply | InputError]:
        return [self._answered(state, sent) for state, sent in batch]

    def _answered(self, state: dict[str, Any], sent: Tensors) -> Reply | InputError:
        x, left = float(np.asarray(sent["x"])[0]), int(np.asarray(sent["left"])[0])
        if x > 1000:
            return InputError("echo", "x", "at most 1000", x)
        self.answered += 1
        state["sum"] += x
        state["units"] += 1
        state["came"].append(x)
        return Reply(
            outputs={"sum": np.array([state["sum"]], np.float32)},
            finished=left == 0,
            units=int(state["units"]),
            told={"heard": x},
            source=json.dumps(state["came"]).encode() if left == 0 else None,
        )

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        return np.asarray(sent["x"], "<f4").tobytes()

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
        numbers = json.loads(source)
        came = [float(np.frombuffer(each, "<f4")[0]) for each in evidence]
        own = [number * (amount + 1) for number in numbers]
        return len(came) == len(own) and all(
            abs(x - y) <= codec.tolerance * abs(y) for x, y in zip(came, own, strict=True)
        )


def first_of(seed: int) -> float:
    """What the server draws for a session: a number from 0 to 99."""
    return float(random.Random(seed).randrange(100))
