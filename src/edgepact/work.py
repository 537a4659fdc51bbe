"""The seam of the jobs: what one unit of work is, who does what of it, and how it is judged.

A job is done by a device and a server together, *piece* by piece: an image, a text, a picture.
The amount that a mechanism buys, such as layers, says how much of a piece the device does. A piece
takes one exchange or several: the device sends tensors, the server answers with tensors, until
the server says that the piece is finished, and how many *units* it was. Units are what is counted,
limited by a quota and paid: an image is one, a text as many as it has tokens.

The device's part of a piece is a generator, so that a job reads as what it does::

    def work(self, piece, amount):
        reply = yield {"tokens": first_layers(piece)}        # one exchange
        return {"label": reply.told["label"]}

A job in which the server works first yields nothing but a request (its prompt) and works on what
comes back; one with state yields once a token, and its server part keeps the state in the piece's
session. Sessions die with the server or with its patience: `SessionLost` is then thrown into the
generator, and a job that does not handle it begins the piece again under the same id.

The market hands tensors to a codec on their way and back, keeps evidence for an audit, and knows
nothing else of a piece. Implementations are handed to it; they are found through the entry points
`edgepact.jobs`. Several generators, and several amounts, may be under way at once.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgepact.errors import InputError
from edgepact.tensors import Codec, Tensors, TensorSpec

EXCHANGES_MAX = 4096
"""Most exchanges of one piece."""

SKETCH_NUMBERS_MAX = 64
"""Most numbers of a sketch."""

NEAR_REPEAT_DISTANCE = 1.0
"""Two pieces whose sketches lie nearer than this, in Euclidean distance, are near repeats: jobs
scale their sketches so."""

Json = Any
"""What JSON can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What both sides have to hold alike, stated in every offer.

    Attributes:
        name: letters, digits, `.`, `_`, `-`; the cut at amount L is called `NAME-cut-L`.
        amount_max: largest amount that a device can take over, such as the model's layers.
        digest: of weights and graphs, hexadecimal; empty where there are none.
    """

    name: str
    amount_max: int
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The server's answer in one exchange.

    Attributes:
        outputs: tensors for the device.
        finished: whether the piece is done; it is then settled.
        units: how many units it was, if it is finished; at least 1. No more are paid than are
            left of the device's quota of the round.
        units_sold: of a finished piece: those that a buyer pays for, if they are others than those
            that the device is paid for: of a picture that was drawn until it was appropriate one,
            whatever draws it took.
        told: further facts, as JSON values, such as the label found.
        sketch: of a finished piece: float32, at most `SKETCH_NUMBERS_MAX` numbers, in the unit of
            `NEAR_REPEAT_DISTANCE`. It tells work that was delivered before, slightly changed, by
            whichever device and at whichever amount. None where the job cannot tell.
        noted: for `ServerPart.evidence` alone, which sees a reply and not its session; no device
            is told.
        source: of a finished piece at amount 0: what it was worked from, as `DevicePart.source`
            says it; no device is told. A market whose pieces are asked for by buyers holds it
            against what was asked for. None where it came as the one BYTES tensor of exchange 0,
            or where the job cannot tell and has no buyers at amount 0.
    """

    outputs: Tensors
    finished: bool = True
    units: int = 1
    units_sold: int | None = None
    told: Mapping[str, Json] = field(default_factory=dict)
    sketch: np.ndarray | None = None
    noted: bytes = b""
    source: bytes | None = None


class ServerAway(Exception):
    """The server has not answered for too long. Thrown into a piece's generator where the device
    has the capacity for the whole model: a job finishes the piece alone, or lets it through."""


class SessionLost(Exception):
    """The server has lost the piece's session. Thrown into its generator: a job brings the new
    session to where it was, or lets it through, and the piece is begun again."""


Work = Generator[Tensors, Reply, Mapping[str, Json]]
"""The device's part of a piece: yields what is sent, is handed what came back, returns the job's
own fields of a line of the results file. A field `device_seconds` there counts for the time that
was measured outside, where part of what the generator does is no work on the piece."""


@runtime_checkable
class DevicePart(Protocol):
    """The device's half of a job: its model, its inputs, its part of the work."""

    @property
    def model(self) -> Model:
        """What it holds."""
        ...

    def pieces(self) -> Sequence[Any]:
        """What there is to work on, at least one; a piece is whatever the job likes."""
        ...

    def prepare(self, amount: int) -> None:
        """Loads what work at this amount needs, beside what is loaded already."""
        ...

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """As `ServerPart.expects`: what is sent, so that it can be packed."""
        ...

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """As `ServerPart.returns`: what comes back, so that it can be unpacked."""
        ...

    def work(self, piece: Any, amount: int) -> Work:
        """Does the device's part of a piece.

        Raises:
            InputError: the piece cannot be worked on: it is passed over, and told once.
        """
        ...

    def source(self, piece: Any) -> bytes:
        """What an audit is shown: from it the server can do the device's part again."""
        ...


@runtime_checkable
class SizedPart(Protocol):
    """What a `DevicePart` has besides if its pieces may be several units and are worth nothing in
    part: a piece is begun only where all of it would be paid."""

    @property
    def units_most(self) -> int:
        """Most units of a piece."""
        ...


@runtime_checkable
class ServerPart(Protocol):
    """The server's half of a job, and the judge of the device's half. Used by one thread."""

    @property
    def model(self) -> Model:
        """What it holds."""
        ...

    @property
    def about(self) -> Mapping[str, Json]:
        """Further facts for the model's metadata, such as its labels."""
        ...

    @property
    def audit_power(self) -> float:
        """Probability that an audit finds the least noticeable cheat, above 0: 1 where whatever
        differs is found. The rate of audits follows from it. Asked once the part is warm."""
        ...

    def warm(self) -> None:
        """Loads everything, so that the first piece does not wait for it."""
        ...

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """The tensors that an exchange brings, unpacked; exchanges are counted from 0."""
        ...

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The tensors of an answer, unpacked; an answer may leave some of them out."""
        ...

    def begin(self, amount: int, seed: int) -> Any:
        """A session for a new piece, whatever the job keeps of it.

        Args:
            amount: that the device does of it.
            seed: of whatever the server draws; the same if the piece is begun again.
        """
        ...

    def answer(self, batch: Sequence[tuple[Any, Tensors]]) -> list[Reply | InputError]:
        """The server's part of the next exchange of some pieces; an error spoils its own only.

        Args:
            batch: sessions, and what came: checked against `expects`, and unpacked.
        """
        ...

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """What is kept of an exchange until the piece is settled; empty for nothing.

        Kept of every piece, since audits are drawn when all is delivered: a KB is much.

        Args:
            amount: that the device is paid for.
            exchange: counted from 0.
            sent: what came, unpacked.
            reply: what was answered.
            key: secret of the server, another for each piece and the same for all its exchanges.
                Whatever part of the tensors is kept is drawn from it, so that a device cannot
                know which part it is.
        """
        ...

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
        """Whether what a device sent is what its part makes of the source.

        Args:
            amount: that the device is paid for.
            evidence: of each exchange, in order.
            source: `DevicePart.source` of the piece, as the device shows it now.
            seed: of the session.
            codec: that packed what came. Its `tolerance` bounds the difference of single numbers;
                a job that packs its own tensors with it too can be stricter.
            key: as `evidence` was told it.

        Raises:
            InputError: the source cannot be read.
        """
        ...


@runtime_checkable
class StagedPart(Protocol):
    """What a `ServerPart` has besides if pieces can pass its stages together.

    Pieces may begin at different stages; all end behind the last. `enter`, `advance` and `leave`
    in a row do what `answer` does for one piece, up to rounding, whoever passes a stage with it.
    A server part without these methods has its pieces worked one by one, by `answer`.
    """

    @property
    def stages(self) -> int:
        """How many stages there are; 0 if this model's pieces have to be worked one by one. Asked
        once the part is warm."""
        ...

    def enter(self, session: Any, sent: Tensors) -> tuple[int, Any] | InputError:
        """Begins an exchange of a piece.

        Args:
            session: of the piece.
            sent: what came: checked against `expects`, and unpacked.

        Returns:
            The stage at which it begins, from 0; `stages` if it has none to pass. And what travels
            from there.
        """
        ...

    def advance(
        self, travelling: Sequence[Any], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[Any], int]:
        """Takes pieces through stages together.

        Args:
            travelling: what travels of each, at stage `start`.
            start: first stage to pass.
            stop: stage not to pass any more, above `start`.
            pause: whether to stop earlier; asked after each stage.

        Returns:
            What travels now, in the same order, and the stage that it is at.
        """
        ...

    def leave(self, session: Any, travelled: Any) -> Reply | InputError:
        """The answer, of what has passed the last stage."""
        ...


@runtime_checkable
class ToldJob(Protocol):
    """What a `Job` has besides if its server tells devices the settings of the job.

    A device that states none of its own has the server's; what it states stands above them, save
    where both halves need the same.
    """

    @property
    def agreed(self) -> frozenset[str]:
        """Names of settings that both halves need alike."""
        ...

    def told(self, settings: Mapping[str, Json]) -> Mapping[str, Json]:
        """What devices are told of the server's settings: texts, numbers, truth values.

        Raises:
            InputError: a setting cannot be.
        """
        ...


@runtime_checkable
class Job(Protocol):
    """One kind of work."""

    @property
    def name(self) -> str:
        """As scenario files and options spell it."""
        ...

    @property
    def unit(self) -> str:
        """What is counted, limited by a quota, and paid: `image`."""
        ...

    @property
    def step(self) -> str:
        """What one step of the amount is: `layer`."""
        ...

    @property
    def codecs(self) -> tuple[str, ...]:
        """Names of the codecs that suit it, its favourite first."""
        ...

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> DevicePart:
        """The device's half.

        Args:
            model: folder of the model; None for the job's own.
            inputs: where the pieces come from; None for the job's own samples.
            settings: the job's own, as a scenario file states them.

        Raises:
            InputError: they cannot be used.
        """
        ...

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> ServerPart:
        """The server's half.

        Raises:
            InputError: the model or a setting cannot be used.
        """
        ...
