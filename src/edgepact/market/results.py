"""What a device keeps: a line a piece of work, and by what it can show its sources.

The results file has a line of JSON a piece; the last line of a piece counts, since its pay is
known only when its round is settled. Beside it stands a journal, which has for each piece the
salt of its commitment and the place of its input: it is written before the piece is sent, so that
a device that was killed can still show what it is asked for.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from edgepact.errors import InputError, MarketError
from edgepact.work import Json

SALT_BYTES = 32

ROUND_MAX = 2**53
"""Largest number of a round, as messages know them."""

OPEN_ROUNDS_MAX = 100
"""Rounds that are asked after, the newest."""

SETTLED = frozenset({"paid", "forfeit", "expired"})
"""States that do not change any more."""


@dataclass(slots=True, kw_only=True)
class PieceResult:
    """One line of the results file. If a piece has several, the last one counts.

    Attributes:
        round: the round.
        piece: its id.
        trace: names its way in the server's log, and to other tools.
        amount: of it that the device does, such as layers.
        units: that the server has counted.
        codec: how its tensors were sent; None where none was coded.
        alone: whether the device has finished it by itself, since the server was away.
        refused: why the server has not taken it; None where it has, or did not say.
        exchanges: that were answered.
        device_seconds: in the device's part.
        encode_seconds: codec and request.
        roundtrip_seconds: from sending to the answer, repetitions included; None if none came.
        attempts: how often a request was sent, whether or not it was answered.
        server_seconds: in the server, from the whole request to the answer.
        compute_seconds: of these, computing.
        queue_seconds: of these, until it was the device's turn.
        ledger_seconds: of these, until it was durable in the books.
        bytes_sent: HTTP bodies, those that were sent again included.
        bytes_received: HTTP bodies.
        http_bytes_sent: bodies and heads; TLS, TCP and IP add theirs.
        http_bytes_received: bodies and heads.
        state: `pending` until its round is settled, then `paid`, `forfeit` or `expired`; `unpaid`
            where the server has not taken it.
        audited: whether the server has audited it.
        paid_microcredits: what it has earned.
        pending_microcredits: what it will have earned if its round passes its audit.
        own: fields of the job. Of these names it can state `device_seconds`; all others stay the
            market's.
    """

    round: int
    piece: str
    amount: int
    units: int = 0
    codec: str | None = None
    trace: str = ""
    alone: bool = False
    refused: str | None = None
    exchanges: int = 0
    device_seconds: float = 0.0
    encode_seconds: float = 0.0
    roundtrip_seconds: float | None = None
    attempts: int = 0
    server_seconds: float | None = None
    compute_seconds: float | None = None
    queue_seconds: float | None = None
    ledger_seconds: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    http_bytes_sent: int = 0
    http_bytes_received: int = 0
    state: str = "unpaid"
    audited: bool = False
    paid_microcredits: int = 0
    pending_microcredits: int = 0
    own: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """The line; the job's fields among the others."""
        names = [name for name in self.__slots__ if name != "own"]
        markets = {name: getattr(self, name) for name in names}
        free = {name: value for name, value in self.own.items() if name not in markets}
        if "device_seconds" in self.own:
            free["device_seconds"] = self.own["device_seconds"]
        return markets | free


@dataclass(frozen=True, slots=True)
class Bound:
    """By what a device has bound itself to the source of a piece.

    Attributes:
        round: number of the round.
        place: of the input among the device's inputs.
        salt: what is hashed before the source.
        source_digest: SHA-256 of the source, by which it is known again.
    """

    round: int
    place: int
    salt: bytes
    source_digest: str

    def commitment(self, source: bytes) -> str:
        """SHA-256 of salt and source, hexadecimal."""
        return hashlib.sha256(self.salt + source).hexdigest()


class Results:
    """The results file and the journal; lines of an earlier run of this device stay.

    Args:
        path: the results file.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        text, self._file = _opened(path, "a file to write results to")
        journal = path.with_name(path.name + ".sources")
        bound, self._journal = _opened(journal, "a file for the salts of commitments")
        journal.chmod(0o600)
        self._last = {str(row["piece"]): row for row in _rows(text) if _is_line(row)}
        self._bound = dict[str, Bound]()
        for row in _rows(bound):
            with suppress(KeyError, TypeError, ValueError, OverflowError):
                found = Bound(
                    int(row["round"]),
                    int(row["place"]),
                    bytes.fromhex(row["salt"]),
                    str(row["sha256"]),
                )
                if 1 <= found.round <= ROUND_MAX and found.place >= 0:
                    self._bound[str(row["piece"])] = found

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._journal):
            with suppress(OSError):  # what could not be written was told already
                file.close()

    def has(self, piece: str) -> bool:
        """Whether a line tells of this piece that the server has taken it."""
        return self._last.get(piece, {}).get("state") in SETTLED | {"pending"}

    def open_lines(self) -> dict[int, dict[str, dict[str, Json]]]:
        """Lines of pieces whose end is not told, by round and piece; of pieces that a killed
        device had no time to write a line of, what is known of them."""
        found = dict[int, dict[str, dict[str, Json]]]()
        with self._lock:
            for piece, bound in self._bound.items():
                if piece not in self._last:
                    row: dict[str, Json] = {"round": bound.round, "piece": piece}
                    row["state"] = "unpaid"
                    found.setdefault(bound.round, {})[piece] = row
            for piece, line in self._last.items():
                if _is_open(line) and isinstance(line.get("round"), int):
                    found.setdefault(line["round"], {})[piece] = line
        newest = sorted(found)[-OPEN_ROUNDS_MAX:]
        return {number: found[number] for number in newest}

    def add(self, row: Mapping[str, Json]) -> None:
        """Adds a line, at once.

        Raises:
            MarketError: the disk is full, or the file cannot be written for another reason.
        """
        with self._lock:
            self._last[str(row["piece"])] = dict(row)
            _append(self._file, row)

    def bind(self, piece: str, round: int, place: int, source: bytes) -> Bound:
        """What binds the device to a source; it is kept before it is returned.

        A piece that is begun anew in a later round keeps its salt.

        Raises:
            MarketError: it cannot be kept.
        """
        digest = hashlib.sha256(source).hexdigest()
        with self._lock:
            known = self._bound.get(piece)
            alike = known is not None and known.source_digest == digest
            if known is not None and alike and known.round == round:
                return known
            salt = known.salt if known is not None and alike else secrets.token_bytes(SALT_BYTES)
            bound = Bound(round, place, salt, digest)
            self._note(piece, bound)
        return bound

    def bind_again(self, piece: str, bound: Bound) -> None:
        """Notes that a piece was delivered as it was bound before, and nothing of it since; its
        pay is asked for there.

        Raises:
            MarketError: it cannot be kept.
        """
        with self._lock:
            self._note(piece, bound)
            self._last.pop(piece, None)

    def _note(self, piece: str, bound: Bound) -> None:
        row: dict[str, Json] = {"piece": piece, "round": bound.round, "place": bound.place}
        row |= {"salt": bound.salt.hex(), "sha256": bound.source_digest}
        _append(self._journal, row)
        self._bound[piece] = bound

    def bound(self, piece: str) -> Bound | None:
        """What binds the device to the source of a piece."""
        return self._bound.get(piece)


def _opened(path: Path, what: str) -> tuple[str, TextIO]:
    """A file's lines so far, and the file to add more to."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        file = path.open("a", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "", what, str(error)) from None
    if text and not text.endswith("\n"):
        file.write("\n")  # a line cut short by a crash ends here
    return text, file


def _append(file: TextIO, row: Mapping[str, Json]) -> None:
    try:
        file.write(json.dumps(dict(row)) + "\n")
        file.flush()
    except OSError as error:
        raise MarketError(
            f"{file.name} cannot be written: {error.strerror}; what the server has taken is not "
            "lost, and is heard of again when the device is started again"
        ) from None


def _is_open(line: Mapping[str, Json]) -> bool:
    """Whether more may be heard of a piece. Of one that was sent once and refused there is none:
    sent more often, it may have been taken before."""
    if line.get("state") in SETTLED:
        return False
    return line.get("refused") is None or line.get("attempts") != 1


def _is_line(row: Mapping[str, Json]) -> bool:
    """Whether it is a line of a piece; what else stands in the file is left alone."""
    number, state = row.get("round"), row.get("state")
    whole = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= ROUND_MAX
    return whole and isinstance(row.get("piece"), str) and isinstance(state, str | None)


def _rows(text: str) -> list[dict[str, Json]]:
    rows = []
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows
