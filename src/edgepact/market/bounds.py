"""How much anybody may ask for here, at a time and in a time: requests, and bytes of their bodies.

Whoever asks for too much is told to come back before a body is read, so that one device that
sends without measure slows down itself and nobody else.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edgepact.market.rates import Rate

MEBIBYTE = 2**20


class Crowded(Exception):
    """Too much is in hand: come back in a moment.

    Args:
        message: what there is too much of.
        own: whether it is all the asker's own (HTTP 429), or everybody's together (503).
        after_s: how long to wait at least, seconds.
    """

    def __init__(self, message: str, *, own: bool, after_s: float = 1.0) -> None:
        super().__init__(message)
        self.own, self.after_s = own, after_s


@dataclass(slots=True)
class Bounds:
    """What is in hand, and how much may be. For one event loop.

    Attributes:
        requests_max: requests of one asker, a device or the address of a stranger.
        bytes_max: bytes of the bodies of one asker.
        bytes_total_max: bytes of the bodies of all.
        requests: of one asker, in a time.
        bytes: of the bodies of one asker, in a time.
        wrong_tokens: that one address has shown, in a time.
    """

    requests_max: int = 12
    bytes_max: int = 16 * MEBIBYTE
    bytes_total_max: int = 64 * MEBIBYTE
    requests: Rate = field(default_factory=lambda: Rate(per_s=300.0, burst=600.0))
    bytes: Rate = field(default_factory=lambda: Rate(per_s=32.0 * MEBIBYTE, burst=64.0 * MEBIBYTE))
    wrong_tokens: Rate = field(default_factory=lambda: Rate(per_s=1.0, burst=30.0))
    _requests: Counter[str] = field(default_factory=Counter)
    _bytes: Counter[str] = field(default_factory=Counter)
    _bytes_total: int = 0

    @property
    def bytes_total(self) -> int:
        """Bytes of bodies in hand."""
        return self._bytes_total

    @contextmanager
    def place(self, who: str) -> Iterator["Place"]:
        """A place for one request of somebody, with the body it brings.

        Raises:
            Crowded: all of its places are taken, or it has asked for too much lately.
        """
        for rate, what in ((self.requests, "requests"), (self.bytes, "bytes")):
            if wait_s := rate.wait_s(who):
                words = f"more than {rate.per_s:g} {what} a second"
                raise Crowded(words, own=True, after_s=wait_s)
        if self._requests[who] >= self.requests_max:
            raise Crowded(f"more than {self.requests_max} requests at once", own=True)
        self._requests[who] += 1
        self.requests.take(who)
        place = Place(self, who)
        try:
            yield place
        finally:
            self._give_back(self._requests, who, 1)
            self._give_back(self._bytes, who, place.bytes)
            self._bytes_total -= place.bytes

    def _take(self, who: str, count: int) -> None:
        if self._bytes[who] + count > self.bytes_max:
            raise Crowded(f"more than {self.bytes_max} bytes in hand at once", own=False)
        if self._bytes_total + count > self.bytes_total_max:
            raise Crowded("too many bodies are being read", own=False)
        self._bytes[who] += count
        self._bytes_total += count
        self.bytes.take(who, count)

    def expect_no_guessing(self, address: str) -> None:
        """Whether an address may show a token that nobody knows by heart.

        Raises:
            Crowded: too many that it has shown lately were wrong.
        """
        if wait_s := self.wrong_tokens.wait_s(address):
            raise Crowded("too many wrong tokens from this address", own=True, after_s=wait_s)

    def was_wrong(self, address: str) -> None:
        """An address has shown a wrong token."""
        self.wrong_tokens.take(address)

    @staticmethod
    def _give_back(counts: Counter[str], who: str, count: int) -> None:
        counts[who] -= count
        if counts[who] <= 0:
            del counts[who]  # askers that have gone take no room


@dataclass(slots=True)
class Place:
    """One request in hand."""

    bounds: Bounds
    who: str
    bytes: int = 0

    def take(self, count: int) -> None:
        """Takes so many bytes of body in hand.

        Raises:
            Crowded: that would be too many.
        """
        self.bounds._take(self.who, count)
        self.bytes += count
