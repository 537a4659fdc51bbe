"""What the page remembers of rounds: the latest one by one, older ones some together.

A market may run for days. Once more points are kept than there is room for, those of the older
half are put together two by two, so that a day costs no more than an hour and what is recent
stays exact.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from edgepact.credits import in_credits
from edgepact.engagement import Question
from edgepact.market.ledger import RoundRecord
from edgepact.market.witness import ExchangeSeen
from edgepact.work import Json

POINTS_MAX = 1024
"""Points that are kept; the newer half are single rounds."""

MAP_ROUNDS_MAX = 120
"""Rounds of which is kept who ran how much."""

Worth = Callable[[float], float | None]
"""What a unit done at an amount is worth to the server before it pays for it, credits; None where
that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What exchanges took, summed.

    Attributes:
        exchanges: how many they were.
        body_s, queue_s, compute_s, ledger_s: seconds, as in `ExchangeSeen`.
        bytes_in, bytes_out: of the tensors.
    """

    exchanges: int = 0
    body_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    ledger_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(**{name: getattr(self, name) + getattr(other, name) for name in _FIELDS})


_FIELDS = Load.__dataclass_fields__


def load_of(seen: ExchangeSeen) -> Load:
    """What one exchange took."""
    return Load(exchanges=1, **{name: getattr(seen, name) for name in _FIELDS if name != _COUNT})


_COUNT = "exchanges"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A round, or some that follow each other.

    Attributes:
        first, last: numbers of the rounds.
        closed: whether they are over; of one that is on, sums still grow.
        price: credits that were posted for a step and a unit, the mean over rounds; None where no
            price was posted.
        answered, working: devices that answered, and that were assigned work, the mean.
        amount: sum of what was assigned, the mean.
        units: that were delivered, the sum.
        pay: credits paid or pending for them, the sum.
        worth: what they were worth to the server before pay, the sum; None where that is not known.
        load: of the exchanges.
    """

    first: int
    last: int
    closed: bool
    price: float | None
    answered: float
    working: float
    amount: float
    units: int
    pay: float
    worth: float | None
    load: Load = Load()

    def __add__(self, after: "Point") -> "Point":
        own, others = self.last - self.first + 1, after.last - after.first + 1

        def mean(one: float, other: float) -> float:
            return (own * one + others * other) / (own + others)

        known = self.price is not None and after.price is not None
        valued = self.worth is not None and after.worth is not None
        return Point(
            first=self.first,
            last=after.last,
            closed=self.closed and after.closed,
            price=mean(self.price or 0.0, after.price or 0.0) if known else None,
            answered=mean(self.answered, after.answered),
            working=mean(self.working, after.working),
            amount=mean(self.amount, after.amount),
            units=self.units + after.units,
            pay=self.pay + after.pay,
            worth=(self.worth or 0.0) + (after.worth or 0.0) if valued else None,
            load=self.load + after.load,
        )

    def with_load(self, load: Load) -> "Point":
        """The same with more exchanges."""
        return replace(self, load=self.load + load)

    def as_json(self) -> dict[str, Json]:
        """As JSON; times are means of an exchange, milliseconds."""
        load, count = self.load, max(self.load.exchanges, 1)
        return {
            "first": self.first,
            "last": self.last,
            "closed": self.closed,
            "price": self.price,
            "answered": self.answered,
            "working": self.working,
            "amount": self.amount,
            "units": self.units,
            "pay": self.pay,
            "worth": self.worth,
            "exchanges": load.exchanges,
            "body_ms": 1e3 * load.body_s / count,
            "queue_ms": 1e3 * load.queue_s / count,
            "compute_ms": 1e3 * load.compute_s / count,
            "ledger_ms": 1e3 * load.ledger_s / count,
            "bytes_in": load.bytes_in,
            "bytes_out": load.bytes_out,
        }


class History:
    """Points in order, and who ran how much in the latest rounds.

    Args:
        worth: of a unit at an amount, credits; None where the mechanism does not know it.
    """

    def __init__(self, worth: Worth | None = None) -> None:
        self._worth = worth
        self._points: list[Point] = []
        self._amounts: dict[int, dict[str, int]] = {}

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def add(self, record: RoundRecord, load: Load = Load()) -> None:
        """Remembers a round, or remembers it anew: what was pending may be paid or lost by now.

        What its exchanges took is added to what was known of them.
        """
        point = self._point(record, load)
        newest = self._points[-1].last if self._points else 0
        if point.first > newest:
            self._points.append(point)
        for at in reversed(range(len(self._points))):
            known = self._points[at]
            if known.first <= point.first <= known.last:
                if known.first == known.last and known is not point:
                    self._points[at] = point.with_load(known.load)
                break
        self._note_amounts(record)
        if len(self._points) > POINTS_MAX:
            self._thin()

    def amounts(self) -> dict[int, dict[str, int]]:
        """By round and device; devices that did not answer are missing."""
        return self._amounts

    # ------------------------------------------------------------ private

    def _point(self, record: RoundRecord, load: Load) -> Point:
        working = {name: item.amount for name, item in record.assigned.items() if item.amount > 0}
        pay = sum(record.paid_microcredits.values()) + sum(record.pending_microcredits.values())
        worth = None
        if self._worth is not None:
            each = {name: self._worth(working.get(name, 0.0)) for name in record.delivered}
            known = [record.delivered[name] * one for name, one in each.items() if one is not None]
            worth = math.fsum(known) if len(known) == len(each) else None
        return Point(
            first=record.number,
            last=record.number,
            closed=record.closed,
            price=_price(record.question),
            answered=float(len(record.answers)),
            working=float(len(working)),
            amount=float(sum(working.values())),
            units=sum(record.delivered.values()),
            pay=in_credits(pay),
            worth=worth,
            load=load,
        )

    def _note_amounts(self, record: RoundRecord) -> None:
        self._amounts[record.number] = {
            name: record.amounts.get(name, 0) for name in record.answers
        }
        while len(self._amounts) > MAP_ROUNDS_MAX:
            del self._amounts[min(self._amounts)]

    def _thin(self) -> None:
        half = POINTS_MAX // 2
        older, newer = self._points[:-half], self._points[-half:]
        pairs = [older[at : at + 2] for at in range(0, len(older), 2)]
        self._points = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs] + newer


def _price(question: Question) -> float | None:
    price = question.price_microcredits
    return None if price is None else in_credits(price)
