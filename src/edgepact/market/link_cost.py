"""What a device's link costs it: what each cut sends, and how fast the link has been.

A device that states what a second of its waiting or a megabyte's energy is worth weighs them with
its computing, in the unit of its pay (`edgepact.mechanisms.stackelberg.link`). Rate and round trip
it states as well, or measures: of messages too small to take long the shortest time is the round
trip, and of large ones what is left of the time beyond it gives the rate.
"""

import math
import statistics
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

from edgepact.credits import MICRO
from edgepact.engagement import Cost
from edgepact.errors import InputError
from edgepact.mechanisms.stackelberg.link import Links, link_cost
from edgepact.tensors import DATATYPES, Codec, TensorSpec
from edgepact.work import DevicePart

SMALL_BYTES = 1400
"""What one packet holds: its time is the round trip's."""

LARGE_BYTES = 4096
"""From here on the rate shows in the time."""

SOURCES_LOOKED_AT = 8
"""Inputs by which a device judges what sending one takes."""

KEPT = 32
"""Messages of each kind that count, the newest: links change."""


class LinkSpeed:
    """The round trip and the rate of a link, from how long messages have taken.

    Threads may note and ask at once.

    Example:
        >>> speed = LinkSpeed()
        >>> speed.note(200, 0.05)
        >>> speed.note(125_000, 1.05)
        >>> speed.round_trip_ms, round(speed.link_mbit, 6)
        (50.0, 1.0)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._small: deque[float] = deque(maxlen=KEPT)
        self._large: deque[tuple[int, float]] = deque(maxlen=KEPT)

    def note(self, sent_bytes: int, seconds: float) -> None:
        """A message has been answered.

        Args:
            sent_bytes: of it, heads not counted.
            seconds: from sending to the answer, less what the server took for it.
        """
        if seconds <= 0.0:
            return
        with self._lock:
            if sent_bytes <= SMALL_BYTES:
                self._small.append(seconds)
            elif sent_bytes >= LARGE_BYTES:
                self._large.append((sent_bytes, seconds))

    @property
    def round_trip_ms(self) -> float | None:
        """None before the first small message."""
        with self._lock:
            return 1e3 * min(self._small) if self._small else None

    @property
    def link_mbit(self) -> float | None:
        """The median rate; None before the first large message, and where it cannot be told."""
        round_trip_s = (self.round_trip_ms or 0.0) / 1e3
        with self._lock:
            rates = [
                8e-6 * sent / (seconds - round_trip_s)
                for sent, seconds in self._large
                if seconds > 1.05 * round_trip_s
            ]
        return statistics.median(rates) if rates else None


def sent_bytes(part: DevicePart, codec: Codec) -> dict[int, float]:
    """What a piece sends in its first exchange at each amount, tensors alone.

    Args:
        part: the device's half of the job.
        codec: that packs what is coded.
    """
    source = _source_bytes(part)
    return {
        amount: sum(_bytes_of(spec, source) for spec in codec.packed(part.expects(amount, 0)))
        for amount in range(part.model.amount_max + 1)
    }


def _source_bytes(part: DevicePart) -> float:
    """The middle size of the sources that can be read, of the first few."""
    sizes = []
    for piece in part.pieces()[:SOURCES_LOOKED_AT]:
        with suppress(InputError):
            sizes.append(len(part.source(piece)))
    return statistics.median(sizes) if sizes else 0.0


def _bytes_of(spec: TensorSpec, source_bytes: float) -> float:
    """A tensor of no fixed size is taken to be as large as a piece's source."""
    number = DATATYPES.get(spec.datatype)
    if number is None or any(length < 0 for length in spec.shape):
        return source_bytes
    return float(number.itemsize * math.prod(spec.shape))


def with_link(cost: Cost, links: Links, bytes_at: Mapping[int, float]) -> Cost:
    """What work costs with what its link costs on top, beyond amount 0; micro-credits.

    Args:
        cost: of computing.
        links: of the one device.
        bytes_at: what each amount sends, amount 0 included.
    """
    if not (links.time_cost or links.energy_cost):
        return cost
    least = link_cost(links, bytes_at[0])

    def both(amount: float) -> float:
        computing = cost(amount)
        if amount == 0 or int(amount) not in bytes_at:
            return computing
        return computing + MICRO * float(link_cost(links, bytes_at[int(amount)]) - least)

    return both
