"""Who asks for units, and pays for them: buyers, their quotas, and the requests that they hand out.

Without buyers a device brings work of its own choosing and is paid for it. With them a piece is
worked on only for a *request*: a buyer asks for at most so many units, of one device, made of one
source. The request's id is the id of the piece, so that it is delivered and paid once; a code over
it, made with a key that the server and whoever hands out requests share, shows that a buyer asked.
A request that is forged, of another device, or numbered beyond the buyer's quota is refused before
anything is computed, and the source is held against it when the piece is audited. A device cannot
make demand up.

As text a request is `BUYER:NUMBER:SOURCE:CODE`, SOURCE and CODE hexadecimal.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepact.credits import REWARD_MICROCREDITS_MAX
from edgepact.errors import InputError, MarketError, shown
from edgepact.fields import check_choice, check_list, check_table, check_text, check_whole
from edgepact.market.protocol.messages import check_name

KEY_BYTES = 32

BUYERS_MAX = 10_000

BUYER_CHARS_MAX = 32
"""Longest name of a buyer, so that a request's id is one of a piece."""

UNITS_MAX = 10**9
"""Largest quota."""

FILE_BYTES_MAX = 64 * 2**20

PER = ("unit", "request")
"""What a buyer's price is for: each unit, or a request of whatever length."""

SOURCE = "infer request"


class NotAskedError(MarketError):
    """No buyer has asked for a piece, or not for this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """Who asks.

    Attributes:
        name: letters, digits, `.`, `_` and `-`; at most `BUYER_CHARS_MAX`.
        microcredits: that it pays, for what `per` says.
        per: `unit`, or `request`: then it pays once for a request that brought any unit.
        units: its quota, in all.
        units_each: most units of a request.

    Raises:
        InputError: a value that cannot be.
    """

    name: str
    microcredits: int
    per: str = "unit"
    units: int
    units_each: int = 1

    def __post_init__(self) -> None:
        check_name("buyer", self.name)
        check_text("buyer", "name", self.name, chars_max=BUYER_CHARS_MAX)
        most = REWARD_MICROCREDITS_MAX
        check_whole("buyer", "microcredits", self.microcredits, least=0, most=most)
        check_choice("buyer", "per", self.per, PER)
        check_whole("buyer", "units", self.units, least=0, most=UNITS_MAX)
        check_whole("buyer", "units_each", self.units_each, least=1, most=UNITS_MAX)

    @property
    def requests(self) -> int:
        """How many its quota is good for; the last may be for fewer units than the others."""
        return -(-self.units // self.units_each)

    def units_of(self, number: int) -> int:
        """Most units of a request, counted from 0; 0 for one beyond the quota.

        Example:
            >>> shop = Buyer(name="shop", microcredits=1, units=50, units_each=24)
            >>> [shop.units_of(number) for number in range(4)]
            [24, 24, 2, 0]
        """
        return max(0, min(self.units_each, self.units - number * self.units_each))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that the server has accepted.

    Attributes:
        id: of it, and of the piece: `BUYER:NUMBER`.
        buyer: who asks.
        units_most: that count.
        microcredits: that the buyer pays, for what `per` says.
        per: `unit` or `request`.
        bound: what the source is held against in an audit, 32 bytes.
    """

    id: str
    buyer: str
    units_most: int
    microcredits: int
    per: str
    bound: bytes

    def price(self, units: int) -> int:
        """What the buyer pays for so many units, micro-credits; nothing for none."""
        return self.microcredits * (units if self.per == "unit" else min(units, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """All buyers, and the key by which their requests are known.

    Attributes:
        key: `KEY_BYTES`; whoever has it can ask in any buyer's name.
        buyers: each name once.

    Raises:
        InputError: a name stands twice, or the key is too short.
    """

    key: bytes = field(repr=False)
    buyers: tuple[Buyer, ...]
    _named: Mapping[str, Buyer] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            found = f"{len(self.key)} bytes"
            raise InputError("demand", "key", f"{KEY_BYTES} bytes", found)
        named = {each.name: each for each in self.buyers}
        if len(named) != len(self.buyers):
            names = [each.name for each in self.buyers]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError("demand", "buyer.name", "each name once", shown(twice))
        object.__setattr__(self, "_named", named)

    @staticmethod
    def of(buyers: Sequence[Buyer]) -> "Demand":
        """With a key that is new."""
        return Demand(key=secrets.token_bytes(KEY_BYTES), buyers=tuple(buyers))

    def issue(self, buyer: str, number: int, device: str, source: bytes) -> str:
        """A request as text, for one device and one source.

        Args:
            buyer: who asks.
            number: of the request, counted from 0.
            device: who may work on it.
            source: of the piece, see `edgepact.work.DevicePart.source`.

        Raises:
            NotAskedError: the quota of the buyer, if there is one of this name, is used up.
        """
        self._expect_within_quota(buyer, number)
        bound = self._bound(buyer, number, device, source)
        return f"{buyer}:{number}:{bound.hex()}:{self._code(buyer, number, device, bound).hex()}"

    def accepted(self, text: object, device: str, piece: str) -> Request:
        """The request that a device shows with the first exchange of a piece.

        Raises:
            InputError: it is no request.
            NotAskedError: nobody asked for the piece: there is no request, or it is forged, of
                another device or piece, or beyond the quota.
        """
        if text is None:
            raise NotAskedError(f"no buyer asked for {piece!r}: it comes without a request")
        buyer, number, bound, code = _parts(text)
        if not hmac.compare_digest(code, self._code(buyer, number, device, bound)):
            raise NotAskedError(f"no buyer asked {device!r} for {piece!r}: its request is forged")
        if piece != f"{buyer}:{number}":
            raise NotAskedError(f"the request of {piece!r} is that of {buyer}:{number}")
        asks = self._expect_within_quota(buyer, number)
        return Request(
            id=piece,
            buyer=buyer,
            units_most=asks.units_of(number),
            microcredits=asks.microcredits,
            per=asks.per,
            bound=bound,
        )

    def fits(self, piece: str, device: str, bound: bytes, source: bytes) -> bool:
        """Whether a source is the one that was asked for."""
        buyer, _, number = piece.rpartition(":")
        if not number.isdecimal():
            return False
        return hmac.compare_digest(bound, self._bound(buyer, int(number), device, source))

    def write(self, path: Path) -> None:
        """Writes a file that `read_demand` reads, which nobody else may read: it has the key."""
        told = {
            "key": self.key.hex(),
            "buyers": [
                {
                    "name": each.name,
                    "microcredits": each.microcredits,
                    "per": each.per,
                    "units": each.units,
                    "units_each": each.units_each,
                }
                for each in self.buyers
            ],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    # ------------------------------------------------------------ private

    def _expect_within_quota(self, buyer: str, number: int) -> Buyer:
        known = self._named.get(buyer)
        if known is None:
            raise NotAskedError(f"there is no buyer {buyer!r}")
        if known.units_of(number) == 0:
            raise NotAskedError(
                f"request {number} of {buyer!r} is beyond its quota of {known.units}"
            )
        return known

    def _bound(self, buyer: str, number: int, device: str, source: bytes) -> bytes:
        told = f"source\n{buyer}\n{number}\n{device}\n".encode()
        return hmac.digest(self.key, told + hashlib.sha256(source).digest(), "sha256")

    def _code(self, buyer: str, number: int, device: str, bound: bytes) -> bytes:
        told = f"request\n{buyer}\n{number}\n{device}\n".encode()
        return hmac.digest(self.key, told + bound, "sha256")


def buyer_in(piece: str) -> str | None:
    """The buyer who asked for a piece; None of one whose id is no request's.

    Example:
        >>> buyer_in("shop:17"), buyer_in("3-0")
        ('shop', None)
    """
    buyer, _, number = piece.rpartition(":")
    return buyer if buyer and number.isdecimal() else None


def read_demand(path: Path) -> Demand:
    """Reads what `Demand.write` wrote.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    table = _table(path)
    unknown = sorted(table.keys() - {"key", "buyers"})
    if unknown:
        raise InputError(path, unknown[0], "key and buyers alone", "this field")
    key = table.get("key")
    try:
        held = bytes.fromhex(key) if isinstance(key, str) else b""
    except ValueError:
        held = b""
    if len(held) != KEY_BYTES:
        raise InputError(path, "key", f"{2 * KEY_BYTES} hexadecimal digits", "something else")
    rows = check_list(path, "buyers", table.get("buyers"), of="buyers", most=BUYERS_MAX)
    buyers = []
    for at, row in enumerate(rows, start=1):
        place = f"buyers[{at}]"
        values = check_table(path, place, row, kind="an object")
        names = {"name", "microcredits", "per", "units", "units_each"}
        if values.keys() != names:
            found = ", ".join(sorted(values)) or "nothing"
            raise InputError(path, place, f"the fields {', '.join(sorted(names))}", found)
        try:
            buyers.append(Buyer(**values))
        except InputError as error:
            raise InputError(path, f"{place}.{error.field}", error.expected, error.found) from None
    return Demand(key=held, buyers=tuple(buyers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """A request as a device holds it.

    Attributes:
        id: of the request, and of its piece.
        text: all of it, to show the server.
        source: SHA-256 of the source, hexadecimal, by which the device finds what is asked for
            among its inputs.
    """

    id: str
    text: str
    source: str


def write_requests(path: Path, requests: Sequence[tuple[str, bytes]]) -> None:
    """Writes a file of requests for a device.

    Args:
        path: the file.
        requests: as text, each with the source of its piece, in the order of their turn.
    """
    lines = (
        json.dumps({"request": text, "sha256": hashlib.sha256(source).hexdigest()}) + "\n"
        for text, source in requests
    )
    path.write_text("".join(lines), encoding="utf-8")


def read_requests(path: Path) -> list[Asks]:
    """Requests of a file, a line of JSON each, in order.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    found = []
    for at, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"line {at}"
        try:
            row = check_table(path, place, json.loads(line), kind="an object")
        except (ValueError, RecursionError):
            raise InputError(path, place, "a line of JSON", shown(line[:40])) from None
        text = check_text(path, f"{place}.request", row.get("request"))
        source = check_text(path, f"{place}.sha256", row.get("sha256"), chars_max=64)
        buyer, number, _, _ = _parts(text)
        found.append(Asks(id=f"{buyer}:{number}", text=text, source=source))
    return found


def _parts(text: object) -> tuple[str, int, bytes, bytes]:
    """Buyer, number, what the source is held against, and the code."""
    field = "parameters.request"
    parts = check_text(SOURCE, field, text, chars_max=256).split(":")
    expected = "BUYER:NUMBER:SOURCE:CODE"
    if len(parts) != 4 or not (parts[1].isascii() and parts[1].isdecimal()):
        raise InputError(SOURCE, field, expected, shown(text))
    try:
        bound, code = bytes.fromhex(parts[2]), bytes.fromhex(parts[3])
    except ValueError:
        raise InputError(SOURCE, field, expected, shown(text)) from None
    # A number has one spelling, or one request would have several ids.
    if len(bound) != 32 or len(code) != 32 or len(parts[1]) > 10 or parts[1] != f"{int(parts[1])}":
        raise InputError(SOURCE, field, expected, shown(text))
    return parts[0], int(parts[1]), bound, code


def _table(path: Path) -> dict[str, Any]:
    try:
        return check_table(path, "", json.loads(_text(path)), kind="an object")
    except (ValueError, RecursionError):
        raise InputError(path, "", "JSON", "something else") from None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(path, "", f"at most {FILE_BYTES_MAX} bytes", path.stat().st_size)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or f"{error}"
        raise InputError(path, "", "a file of UTF-8 text", found) from None
