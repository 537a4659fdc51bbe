"""The seam of the jobs: what one unit of work is, who does what of it, and how it is judged.

A job is done by a device and a server together, in *units* (an image, a text, a picture). The
amount that a mechanism buys, such as layers, says how much of a unit the device does. One unit
takes one exchange or several: the device sends tensors, the server answers with tensors, until
the server says that the unit is finished. It is then paid, once.

The device's part of a unit is a generator, so that a job reads as what it does::

    def work(self, unit, amount):
        reply = yield {"tokens": first_layers(unit)}        # one exchange
        return Outcome(told={"label": reply.told["label"]})

A job in which the server works first yields nothing but a request (its seed, its prompt) and
works on what comes back; one with state yields once a token, and its server part keeps the state
in the `Session` of the unit. Sessions die with the server or with its patience: the device is
then told so and begins the unit again, from its first exchange, under the same id.

The market hands tensors to a codec on their way and back, keeps what was sent for an audit, and
knows nothing else of what a unit is. Implementations are handed to it; they are found through
the entry points `edgepact.jobs`.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgepact.codec import Codec
from edgepact.tensors import Tensors, TensorSpec

EXCHANGES_MAX = 4096
"""Most exchanges of one unit."""

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
        finished: whether the unit is done; it is then settled.
        told: further facts, as JSON values, such as the label found.
    """

    outputs: Tensors
    finished: bool = True
    told: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a unit on the device.

    Attributes:
        told: the job's own fields of a line of the results file, as JSON values.
    """

    told: Mapping[str, Json]


Work = Generator[Tensors, Reply, Outcome]
"""The device's part of a unit: yields what is sent, is handed what came back."""


@runtime_checkable
class DevicePart(Protocol):
    """The device's half of a job: its model, its inputs, its part of the work."""

    @property
    def model(self) -> Model:
        """What it holds."""
        ...

    def units(self) -> Sequence[Any]:
        """What there is to work on, at least one; a unit is whatever the job likes."""
        ...

    def prepare(self, amount: int) -> None:
        """Loads what work at this amount needs, before it is asked for."""
        ...

    def work(self, unit: Any, amount: int) -> Work:
        """Does the device's part of a unit.

        Raises:
            InputError: the unit cannot be worked on: it is passed over, and told once.
        """
        ...

    def source(self, unit: Any) -> bytes:
        """What an audit is shown: from it the server can do the device's part again."""
        ...

    def alone(self, unit: Any) -> Outcome:
        """The whole unit without a server. Called only where the capacity is enough."""
        ...


@runtime_checkable
class Session(Protocol):
    """One unit on the server, from its first exchange to its last."""

    def answer(self, inputs: Tensors) -> Reply:
        """The server's part of the next exchange; inputs have been checked and unpacked.

        Raises:
            InputError: numbers or bytes that the job cannot work with.
        """
        ...


@runtime_checkable
class ServerPart(Protocol):
    """The server's half of a job, and the judge of the device's half. Used by one thread."""

    @property
    def model(self) -> Model:
        """What it holds."""
        ...

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """What it accepts, its favourite first."""
        ...

    @property
    def about(self) -> Mapping[str, Json]:
        """Further facts for the model's metadata, such as its labels."""
        ...

    def warm(self) -> None:
        """Loads everything, so that the first unit does not wait for it."""
        ...

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """The tensors that an exchange brings, unpacked; exchanges are counted from 0."""
        ...

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The tensors of an answer."""
        ...

    def begin(self, amount: int) -> Session:
        """A session for a new unit."""
        ...

    def passes_audit(
        self, amount: int, sent: Sequence[Tensors], source: bytes, tolerance: float
    ) -> bool:
        """Whether what a device sent is what its part makes of the source.

        Args:
            amount: that the device was paid for.
            sent: what it sent in each exchange, unpacked.
            source: `DevicePart.source` of the unit, as the device shows it now.
            tolerance: of the codec, see `Codec.tolerance`.

        Raises:
            InputError: the source cannot be read.
        """
        ...


@runtime_checkable
class Job(Protocol):
    """One kind of work.

    Attributes:
        name: as scenario files and options spell it.
        unit: what is counted, limited by a quota, and paid: `image`.
        step: what one step of the amount is: `layer`.
    """

    name: str
    unit: str
    step: str

    def device_part(self, model: Path | None, inputs: Path | None) -> DevicePart:
        """The device's half.

        Args:
            model: folder of the model; None for the job's own.
            inputs: where the units come from; None for the job's own samples.

        Raises:
            InputError: they cannot be used.
        """
        ...

    def server_part(self, model: Path | None) -> ServerPart:
        """The server's half.

        Raises:
            InputError: the model cannot be used.
        """
        ...
