"""What the processes of a live market wrote, read the same way whatever the job.

A device's results file has a line a piece; the last line of a piece counts, since its pay is known
only when its round is settled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from edgepact.market.statement import Statement
from edgepact.tables import yes


@runtime_checkable
class Piece(Protocol):
    """Of a line of a results file."""

    @property
    def piece(self) -> str:
        """Its id."""
        ...


@runtime_checkable
class Timed(Protocol):
    """Of a line of a results file: its times, seconds; see `market.results.PieceResult`."""

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


P = TypeVar("P", bound=Piece)


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


def results_of(
    folder: Path, names: Sequence[str], read: Callable[[str], P | None]
) -> list[tuple[str, P]]:
    """The last word on each piece, with the device that it belongs to.

    Args:
        folder: with a file `NAME.jsonl` of each device that wrote one.
        names: of devices.
        read: of a line what is wanted; None to pass it over.
    """
    results: dict[tuple[str, str], P] = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                found = read(line)
                if found is not None:
                    results[name, found.piece] = found
    return [(name, result) for (name, _), result in results.items()]


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
