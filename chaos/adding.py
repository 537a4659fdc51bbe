"""A job that costs next to nothing, so that all there is to see is the market.

A piece is a number of the device's own. The device sends it twice, times its amount plus one; the
server adds up what came, so that a piece is lost with its session if the server dies between the
two. An audit does the same sum again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepact.errors import InputError
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply, Work

MODEL = Model(name="adding", amount_max=4)
PIECES = 50_000
EXCHANGES = 2
SPECS = (TensorSpec(name="x", datatype="INT64", shape=(1,)),)


@dataclass(frozen=True, slots=True)
class Half:
    """Both halves of the job.

    Attributes:
        first: number of the device's first piece.
        pause_s: how long the device takes for a piece.
    """

    first: int = 0
    pause_s: float = 0.0

    @property
    def model(self) -> Model:
        """What both hold."""
        return MODEL

    @property
    def about(self) -> Mapping[str, Json]:
        """Nothing."""
        return {}

    @property
    def audit_power(self) -> float:
        """Whatever differs is found."""
        return 1.0

    def pieces(self) -> Sequence[int]:
        """Numbers of this device."""
        return range(self.first, self.first + PIECES)

    def prepare(self, amount: int) -> None:
        """Nothing has to be loaded."""

    def warm(self) -> None:
        """Nothing has to be loaded."""

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """One number."""
        return SPECS

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """One number."""
        return SPECS

    def work(self, piece: int, amount: int) -> Work:
        """Sends the number twice."""
        time.sleep(self.pause_s)
        for _ in range(EXCHANGES):
            reply = yield {"x": np.array([piece * (amount + 1)])}
        return {"number": piece, "sum": int(np.asarray(reply.outputs["x"])[0])}

    def source(self, piece: int) -> bytes:
        """The number."""
        return str(piece).encode()

    def begin(self, amount: int, seed: int) -> list[int]:
        """What came so far."""
        return []

    def answer(self, batch: Sequence[tuple[list[int], Tensors]]) -> list[Reply | InputError]:
        """What came so far, added up."""
        return [self._answered(*each) for each in batch]

    def _answered(self, came: list[int], sent: Tensors) -> Reply:
        came.append(int(np.asarray(sent["x"])[0]))
        return Reply(outputs={"x": np.array([sum(came)])}, finished=len(came) == EXCHANGES)

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """The number that came."""
        return np.asarray(sent["x"], "<i8").tobytes()

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
        """Whether the numbers that came are those of the source."""
        own = np.array([int(source) * (amount + 1)], "<i8").tobytes()
        return list(evidence) == [own] * EXCHANGES


class Adding:
    """The job."""

    name, unit, step, codecs = "adding", "number", "step", ("fp32",)
    about = "Adds numbers up, to see what the market makes of it."

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> Half:
        """The device's half; settings are `first` and `pause_s`."""
        return Half(**settings)

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> Half:
        """The server's half."""
        return Half()


JOB = Adding()


def install(folder: Path) -> Path:
    """Makes the job one that `edgepact` finds, for processes that have the folder on their path.

    Returns:
        The folder, to be named in PYTHONPATH.
    """
    about = folder / "edgepact_chaos-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: edgepact-chaos\nVersion: 0\n")
    points = "[edgepact.jobs]\nadding = chaos.adding:JOB\n"
    (about / "entry_points.txt").write_text(points)
    return folder
