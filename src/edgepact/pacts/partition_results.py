"""What the processes of a live market wrote, read the same way whatever the job.

A device's results file has a line a piece; the last line of a piece counts, since its pay is known
only when its round is settled.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from edgepact.credits import in_credits
from edgepact.efficiency.profile import Profile
from edgepact.errors import MarketError
from edgepact.framework import Json
from edgepact.market.statement import Statement
from edgepact.tables import yes

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A live market that has ended.

    Attributes:
        statement: of its ledger.
        lost: devices that ended with an error, and their last words.
        live_seconds: from the start of the server to the end of the last round.
    """

    statement: Statement
    lost: Mapping[str, str]
    live_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceDone:
    """What a line of a results file tells of a piece, whatever the job.

    Attributes:
        round, piece: of it.
        amount: what its device did of it, in steps.
        units: that the server has counted.
        codec: how tensors were sent; None where none were coded.
        device_seconds: in the device's part.
        encode_seconds: codec and request.
        roundtrip_seconds: from sending to the answer; None if none came.
        server_seconds: in the server; None if it did not say.
        compute_seconds: of these, computing.
        bytes_sent, bytes_received: HTTP bodies.
        state, audited, paid_microcredits: what became of its pay.
    """

    round: int
    piece: str
    amount: int
    units: int
    codec: str | None
    device_seconds: float
    encode_seconds: float
    roundtrip_seconds: float | None
    server_seconds: float | None
    compute_seconds: float | None
    bytes_sent: int
    bytes_received: int
    state: str
    audited: bool
    paid_microcredits: int

    @classmethod
    def from_line(cls: type[K], line: str) -> K | None:
        """Reads a line; None for one of a piece that was not finished."""
        return from_row(cls, json.loads(line))


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Where the time of pieces went, seconds.

    Attributes:
        device_s: in the device's part and its codec.
        link_s: on the way, to and fro.
        compute_s: in the server's part.
        wait_s: in the server, for its turn and for the books.
    """

    device_s: float
    link_s: float
    compute_s: float
    wait_s: float

    @staticmethod
    def over(times: "Sequence[TimeSplit]", mean: Callable[[Iterable[float]], float]) -> "TimeSplit":
        """One for many.

        Args:
            times: of pieces.
            mean: of seconds of all pieces what stands for them, such as their median.
        """
        split = fields(TimeSplit)
        return TimeSplit(*(mean(getattr(each, at.name) for each in times) for at in split))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShare:
    """What one device did in all rounds, whatever the job.

    Attributes:
        name: of the device.
        units: that were counted.
        paid_credits: for them.
        times: where its time went; what for, says the job.
        device_gmac, server_gmac: computed on each side.
        lost: its last words, if it ended with an error.
    """

    name: str
    units: int
    paid_credits: float
    times: TimeSplit
    device_gmac: float
    server_gmac: float
    lost: str | None


@runtime_checkable
class Timed(Protocol):
    """Of a line of a results file: its times, seconds; see `PieceDone`."""

    @property
    def device_seconds(self) -> float:
        """In the device's part."""
        ...

    @property
    def encode_seconds(self) -> float:
        """In the codec and the request."""
        ...

    @property
    def roundtrip_seconds(self) -> float | None:
        """From sending to the answer; None if none came."""
        ...

    @property
    def server_seconds(self) -> float | None:
        """In the server; None if it did not say."""
        ...

    @property
    def compute_seconds(self) -> float | None:
        """Of these, computing."""
        ...


@runtime_checkable
class Piece(Protocol):
    """Of a line of a results file."""

    @property
    def piece(self) -> str:
        """Its id."""
        ...


P = TypeVar("P", bound=Piece)
R = TypeVar("R", bound=PieceDone)
D = TypeVar("D", bound=DeviceShare)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone(Generic[R, D]):
    """What came of a job, and how it was paid: the part of `partition_jobs.Work` that is the same
    for all.

    Attributes:
        profile: of the model on this machine.
        pieces: with the device that each belongs to.
        devices: in the order of the market.
        played: the market.
        unit: what is counted.
        step: what one step of an amount is.
    """

    profile: Profile
    pieces: tuple[tuple[str, R], ...]
    devices: tuple[D, ...]
    played: Played
    unit: str
    step: str

    @property
    def statement(self) -> Statement:
        """Of the ledger."""
        return self.played.statement

    @property
    def live_seconds(self) -> float:
        """From the start of the server to the end of the last round."""
        return self.played.live_seconds

    @property
    def paid_as_earned(self) -> bool:
        """Whether the books balance, and each unit was paid as promised."""
        return paid_as_promised(self.statement)

    @property
    def audited(self) -> int:
        """Pieces that the server computed again before it paid."""
        return sum(each.audited for _, each in self.pieces)

    @property
    def forfeit(self) -> int:
        """Pieces that lost their pay."""
        return sum(each.state == "forfeit" for _, each in self.pieces)

    @property
    def server_gmac(self) -> float:
        """The server's computing."""
        return sum((each.server_gmac for each in self.devices), 0.0)

    @property
    def server_saved(self) -> float:
        """Share of the server's computing that devices took over."""
        server = self.server_gmac
        whole = server + sum(each.device_gmac for each in self.devices)
        return 1.0 - server / whole if whole else 0.0

    @property
    def paid_pieces(self) -> tuple[tuple[str, int, int, int], ...]:
        """See `partition_jobs.Work`."""
        return tuple(
            (name, each.amount, each.units, each.paid_microcredits) for name, each in self.pieces
        )

    def paid_rows(self, pieces: str, promised: str) -> tuple[tuple[str, str], ...]:
        """How the job was checked and paid, as the last of `partition_jobs.Work.rows`.

        Args:
            pieces: what they are called: `texts`.
            promised: what is paid for each unit, in words.
        """
        return (
            (f"{pieces} audited before payment", f"{self.audited}"),
            (f"{pieces} that lost their pay", f"{self.forfeit}"),
            *settled_rows(
                self.statement,
                paid_as_earned=self.paid_as_earned,
                promised=promised,
                unit=self.unit,
            ),
        )

    def paid_json(self) -> dict[str, Json]:
        """The same as JSON."""
        return {
            "audited": self.audited,
            "paid_as_earned": self.paid_as_earned,
            "books_balance": self.statement.balanced,
        }


def from_row(kind: type[K], row: Mapping[str, Any]) -> K | None:
    """A dataclass of a line of a results file; None where the line lacks one of its fields."""
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: row[name] for name in names}) if all(n in row for n in names) else None


def results_of(
    folder: Path, names: Sequence[str], read: Callable[[str], P | None], piece: str
) -> list[tuple[str, P]]:
    """The last word on each piece, with the device that it belongs to.

    Args:
        folder: with a file `NAME.jsonl` of each device that wrote one.
        names: of devices.
        read: of a line what is wanted; None to pass it over.
        piece: what one is called: `text`.

    Raises:
        MarketError: there is none.
    """
    results: dict[tuple[str, str], P] = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                found = read(line)
                if found is not None:
                    results[name, found.piece] = found
    if not results:
        raise MarketError(f"no {piece} was finished; see the logs in {folder}")
    return [(name, result) for (name, _), result in results.items()]


def share_of(
    name: str,
    own: Sequence[R],
    lost: Mapping[str, str],
    *,
    times: TimeSplit,
    gmac: Callable[[R], tuple[float, float]],
) -> dict[str, Any]:
    """The fields of `DeviceShare`.

    Args:
        name: of the device.
        own: its pieces.
        lost: last words of devices that ended with an error.
        times: where its time went.
        gmac: of a piece what device and server have computed.
    """
    computed = [gmac(each) for each in own]
    return {
        "name": name,
        "units": sum(each.units for each in own),
        "paid_credits": in_credits(sum(each.paid_microcredits for each in own)),
        "times": times,
        "device_gmac": sum((device for device, _ in computed), 0.0),
        "server_gmac": sum((server for _, server in computed), 0.0),
        "lost": lost.get(name),
    }


def median(values: Iterable[float]) -> float:
    """0 of none."""
    found = list(values)
    return float(np.median(found)) if found else 0.0


def mean(values: Iterable[float]) -> float:
    """0 of none."""
    found = list(values)
    return float(np.mean(found)) if found else 0.0


def time_split(result: Timed) -> TimeSplit:
    """Where the time of a piece went; what the server did not tell is counted as none."""
    server_s, compute_s = result.server_seconds or 0.0, result.compute_seconds or 0.0
    return TimeSplit(
        device_s=result.device_seconds + result.encode_seconds,
        link_s=(result.roundtrip_seconds or 0.0) - server_s,
        compute_s=compute_s,
        wait_s=server_s - compute_s,
    )


def paid_as_promised(statement: Statement) -> bool:
    """Whether each payment is the reward its round assigned its device, for each unit."""
    assigned = {each.number: each.assigned for each in statement.rounds}
    return statement.balanced and all(
        payment.amount == assigned[payment.round][payment.device].amount
        and payment.microcredits
        == assigned[payment.round][payment.device].reward_microcredits * payment.units
        for payment in statement.payments
    )


def settled_rows(
    statement: Statement, *, paid_as_earned: bool, promised: str, unit: str
) -> tuple[tuple[str, str], ...]:
    """How a job was paid, as the last rows of figure and value.

    Args:
        statement: of the ledger.
        paid_as_earned: whether it paid just what had been promised.
        promised: what is paid for each unit, in words.
        unit: what is counted.
    """
    return (
        (f"paid {promised} for each {unit}", yes(paid_as_earned)),
        ("the books balance", yes(statement.balanced)),
    )
