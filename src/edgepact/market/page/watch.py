"""What the page shows: gathered while the market runs, told to those who look.

While nobody looks, a round costs one record and an exchange a few sums. Once somebody does, the
books are read about once a second, whoever else looks: everybody is told the same. Who looks first
gets all of it, then what has changed. Whoever cannot keep up is let go, and gets all of it again
when he comes back.
"""

import asyncio
import base64
import contextlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepact.credits import in_credits
from edgepact.engagement import PriceBounded, Valuing
from edgepact.errors import MarketError
from edgepact.exhibit import Exhibit
from edgepact.market.books import Busy
from edgepact.market.ledger import Ledger, LedgerError, Member, RoundRecord
from edgepact.market.page.history import History, Load, Point, load_of
from edgepact.market.play import Market
from edgepact.market.rates import Rate
from edgepact.market.witness import ExchangeSeen
from edgepact.work import Json

VIEWERS_MAX = 16
"""Pages that may look at a time."""

BEHIND_MAX = 16
"""Messages that wait for a page; one that is further behind is let go."""

PAUSE_S = 0.5
"""Between two messages at least."""

PATIENCE_S = 1.0
"""Between two messages at most, so that clocks go on and lost connections are noticed."""

RECENT_ROUNDS = 12
"""Rounds that are read again with each message: their pay may still be settled."""

COUNTS_S = 5.0
"""How often all pieces of the ledger are counted, seconds."""

PIECES_MAX = 64
"""Pieces whose way is kept."""

EXHIBITS_MAX = 32
"""Pieces whose exhibit is kept, in memory alone, beside the ways of `PIECES_MAX` without one."""

EXHIBITS_EACH = 4
"""Of these, of one device."""

LOOKED_AT_S, UNSEEN_S = 2.0, 20.0
"""How often a device may show a piece while somebody looks, and while nobody does, seconds."""

SHOWING_MAX = 16
"""Devices that may show pieces so often; where more are here, each does so more rarely."""

EXCHANGES_MAX = 64
"""Exchanges of a piece that are kept, the latest ones."""

TOLD_CHARS_MAX = 2000
"""Of what a job says of an exchange, as JSON."""

ABSENT = 65535
"""Stands for a device that did not answer, where amounts are packed."""


@dataclass(slots=True)
class _Counts:
    """What is counted over all pieces, and when."""

    at_s: float = -COUNTS_S
    jobs: Mapping[str, int] = field(default_factory=dict)
    audited: int = 0


@dataclass(frozen=True, slots=True)
class _Read:
    """One look at the books."""

    records: Sequence[RoundRecord]
    members: Sequence[Member]


class Watch:
    """Looks on at a market. For its event loop alone.

    Args:
        market: that is looked at.
        seen: rounds that are over already.
        best_price: of the exact optimum, credits; None where nobody knows it.
        unit, step: of the job, in words: `image`, `layer`.
    """

    def __init__(
        self,
        market: Market,
        seen: Sequence[RoundRecord] = (),
        best_price: float | None = None,
        *,
        unit: str = "unit",
        step: str = "step",
    ) -> None:
        self._started = secrets.token_hex(8)  # another one after a restart
        self._market = market
        self._unit, self._step = unit, step
        self._best_price = best_price
        engagement = market.engagement
        worth = engagement.worth if isinstance(engagement, Valuing) else None
        self._history = History(worth)
        for record in seen:
            self._history.add(record)
        self._loads: dict[int, Load] = {}
        self._pieces: OrderedDict[tuple[str, str], dict[str, Json]] = OrderedDict()
        self._fresh: set[tuple[str, str]] = set()  # pieces of which nobody was told yet
        self._known: Set[tuple[str, str]] = frozenset()  # pieces that were told
        self._exhibits: OrderedDict[tuple[str, str], Exhibit] = OrderedDict()
        self._showing: set[str] = set()  # devices that have shown a piece
        # Twice what `show_every_s` asks for, so that a late clock refuses nobody.
        self._shows = Rate(per_s=2.0 / LOOKED_AT_S, burst=4.0)
        self._shows_in_all = Rate(per_s=2.0 * SHOWING_MAX / LOOKED_AT_S, burst=4.0 * SHOWING_MAX)
        self._order: dict[str, int] = {}  # where a device stands in packed amounts
        self._counts = _Counts()
        self._told: dict[str, dict[Any, Json]] = {"points": {}, "map": {}, "devices": {}}
        self._facts: dict[str, Json] = {}
        self._viewers: set[asyncio.Queue[bytes | None]] = set()
        self._telling: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()

    # ------------------------------------------------------------ what happens

    def round_closed(self, record: RoundRecord) -> None:
        """Remembers a round that has ended."""
        self._history.add(record, self._loads.pop(record.number, Load()))
        for number in [each for each in self._loads if each < record.number]:
            del self._loads[number]  # of work that came again after its round

    def exchanged(self, seen: ExchangeSeen) -> None:
        """Remembers an exchange."""
        self._loads[seen.round] = self._loads.get(seen.round, Load()) + load_of(seen)
        key = seen.device, seen.piece
        piece = self._pieces.setdefault(
            key,
            {
                "device": seen.device,
                "piece": seen.piece,
                "round": seen.round,
                "amount": seen.amount,
                "exchanges": [],
                "shown": False,
            },
        )
        self._pieces.move_to_end(key)
        self._fresh.add(key)
        ways: list[Json] = piece["exchanges"]
        ways.append(
            {
                "exchange": seen.exchange,
                "began_s": seen.began_s,
                "body_ms": 1e3 * seen.body_s,
                "queue_ms": 1e3 * seen.queue_s,
                "compute_ms": 1e3 * seen.compute_s,
                "ledger_ms": 1e3 * seen.ledger_s,
                "server_ms": 1e3 * seen.server_s,
                "bytes_in": seen.bytes_in,
                "bytes_out": seen.bytes_out,
                "told": _short(seen.told),
            }
        )
        del ways[:-EXCHANGES_MAX]
        piece["state"] = seen.state
        if len(self._pieces) - len(self._exhibits) > PIECES_MAX:
            self._drop(next(each for each in self._pieces if each not in self._exhibits))

    @property
    def show_every_s(self) -> float:
        """How often a device may show a piece, seconds."""
        often = LOOKED_AT_S if self._viewers else UNSEEN_S
        return often * max(1.0, len(self._market.present) / SHOWING_MAX)

    def expect_room(self, device: str, piece: str) -> None:
        """Expects that a piece may be shown, before what is shown of it is read.

        Raises:
            MarketError: nobody knows the piece, it is shown already, or too many were lately.
        """
        key = device, piece
        if key not in self._pieces:
            raise MarketError(f"no piece {piece} of {device} has come in lately")
        if key in self._exhibits:
            raise MarketError(f"{piece} is shown already")
        if self._shows.wait_s(device) or self._shows_in_all.wait_s(""):
            raise MarketError("too many pieces were shown lately; offers say how often one may be")
        self._shows.take(device)
        self._shows_in_all.take("")

    def show(self, device: str, piece: str, exhibit: Exhibit) -> None:
        """Keeps what is shown of a piece, if that is still known; of several that came beside each
        other the first."""
        key = device, piece
        if key not in self._pieces or key in self._exhibits:
            return
        own = [each for each in self._exhibits if each[0] == device]
        if len(own) >= EXHIBITS_EACH:
            self._drop(own[0])
        elif len(self._exhibits) >= EXHIBITS_MAX:
            self._drop(next(iter(self._exhibits)))
        self._exhibits[key] = exhibit
        self._pieces[key]["shown"] = True
        self._fresh.add(key)
        self._showing.add(device)

    def exhibit(self, device: str, piece: str) -> Exhibit | None:
        """What is shown of a piece; None for nothing."""
        return self._exhibits.get((device, piece))

    def _drop(self, key: tuple[str, str]) -> None:
        del self._pieces[key]
        self._exhibits.pop(key, None)
        self._fresh.discard(key)

    # ------------------------------------------------------------ who looks

    async def view(self) -> AsyncIterator[bytes]:
        """Messages for one page, as JSON: all there is, then what changes, until the market ends.

        Raises:
            Busy: too many pages look already.
        """
        if len(self._viewers) >= VIEWERS_MAX:
            raise Busy(f"{VIEWERS_MAX} pages look at this market already; close one of them")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(BEHIND_MAX)
        self._viewers.add(queue)
        try:
            async with self._beginning:  # of several that come together one begins
                if self._telling is None:
                    await self._look()
                    self._telling = asyncio.create_task(self._tell())
            while not queue.empty():  # all of it is in what comes first
                queue.get_nowait()
            yield self._whole()
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._viewers.discard(queue)
            if not self._viewers and self._telling is not None:
                self._telling.cancel()
                self._telling = None

    # ------------------------------------------------------------ private

    async def _tell(self) -> None:
        """Tells everybody what has changed, again and again."""
        while not self._ended():
            await self._market.changed(PATIENCE_S)
            await asyncio.sleep(PAUSE_S)
            message = _encoded("change", await self._look())
            for queue in tuple(self._viewers):
                try:
                    queue.put_nowait(message)
                except asyncio.QueueFull:
                    self._let_go(queue)
        for queue in tuple(self._viewers):
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    def _ended(self) -> bool:
        return self._market.glance()["state"] == "stopping"

    def _let_go(self, queue: "asyncio.Queue[bytes | None]") -> None:
        self._viewers.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _look(self) -> dict[str, Json]:
        """Looks at the market; returns what is another than at the last look."""
        sound = True
        try:
            found = await self._market.read(_read)
            if time.monotonic() - self._counts.at_s >= COUNTS_S:
                jobs, audited = await self._market.read(
                    lambda ledger: (ledger.jobs_by_state(), ledger.audited())
                )
                self._counts = _Counts(at_s=time.monotonic(), jobs=jobs, audited=audited)
        except LedgerError:
            found, sound = _Read((), ()), False
        for record in found.records:
            self._history.add(record)
        devices = self._devices(found.members)
        points = {point.last: self._shown(point).as_json() for point in self._history}
        amounts = self._map({record.number for record in found.records})
        changes: dict[str, Json] = {
            "devices": self._new("devices", devices),
            "points": self._new("points", points),
            "map": [[number, amounts[number]] for number in self._new_keys("map", amounts)],
            "pieces": [self._pieces[key] for key in self._pieces if key in self._fresh],
        }
        lost = [list(key) for key in self._known - self._pieces.keys()]
        if lost:
            changes["pieces_gone"] = lost
        self._known = set(self._pieces)
        gone = [last for last in self._told["points"] if last not in points]
        if gone:  # older rounds were put together
            changes["points_gone"] = gone
        self._told = {"points": dict(points), "map": dict(amounts), "devices": dict(devices)}
        self._fresh.clear()
        self._facts = self._facts_now(found.members, sound)
        return changes | {"facts": self._facts}

    def _new_keys(self, what: str, now: Mapping[Any, Json]) -> list[Any]:
        """What is not as it was told."""
        told = self._told[what]
        return [key for key, each in now.items() if told.get(key) != each]

    def _new(self, what: str, now: Mapping[Any, Json]) -> list[Json]:
        return [now[key] for key in self._new_keys(what, now)]

    def _whole(self) -> bytes:
        """Everything, for who has just come."""
        self._known = frozenset(self._known | self._pieces.keys())
        terms = self._market.rules.terms
        return _encoded(
            "all",
            {
                "about": {
                    "started": self._started,
                    "job": terms.job,
                    "model": terms.model.name,
                    "unit": self._unit,
                    "step": self._step,
                    "amount_max": terms.model.amount_max,
                    "units_per_round": terms.units_per_round,
                    "rounds_total": self._market.rules.rounds,
                    "best_price": self._best_price,
                },
                "devices": list(self._told["devices"].values()),
                "points": list(self._told["points"].values()),
                "map": [[number, each] for number, each in self._told["map"].items()],
                "pieces": list(self._pieces.values()),
                "facts": self._facts,
            },
        )

    def _shown(self, point: Point) -> Point:
        """A point with what its round has taken so far."""
        load = self._loads.get(point.last)
        return point if load is None else point.with_load(load)

    def _devices(self, members: Sequence[Member]) -> dict[str, Json]:
        present = self._market.present
        devices: dict[str, Json] = {}
        for member in members:
            self._order.setdefault(member.name, len(self._order))
            devices[member.name] = {
                "name": member.name,
                "index": self._order[member.name],
                "present": member.name in present,
                "strikes": member.strikes,
                "excluded": member.excluded,
                "revoked": member.revoked,
                "shows": member.name in self._showing,
                "pending": in_credits(member.pending_microcredits),
                "paid": in_credits(member.paid_microcredits),
            }
        return devices

    def _map(self, recent: Set[int]) -> dict[int, str]:
        """Packed amounts by round; those of rounds that are long over are as they were."""
        told = self._told["map"]
        return {
            number: self._packed(each) if number in recent or number not in told else told[number]
            for number, each in self._history.amounts().items()
        }

    def _packed(self, amounts: Mapping[str, int]) -> str:
        """Amounts by the index of a device: unsigned 16-bit little-endian, in base 64."""
        row = np.full(len(self._order), ABSENT, "<u2")
        for name, amount in amounts.items():
            if name in self._order:
                row[self._order[name]] = min(amount, ABSENT - 1)
        return base64.b64encode(row.tobytes()).decode()

    def _facts_now(self, members: Sequence[Member], sound: bool) -> dict[str, Json]:
        market = self._market
        limits, engagement = market.limits, market.engagement
        bounds = engagement.price_bounds if isinstance(engagement, PriceBounded) else None
        return {
            **market.glance(),
            "present": len(market.present),
            "at_s": time.time(),
            "books": sound,
            "devices": len(members),
            "paid": in_credits(sum(each.paid_microcredits for each in members)),
            "pending": in_credits(sum(each.pending_microcredits for each in members)),
            "jobs": dict(self._counts.jobs),
            "audited": self._counts.audited,
            "strikes": sum(each.strikes for each in members),
            "budget": _credits(limits.total_microcredits),
            "round_budget": _credits(limits.round_microcredits),
            "price_bounds": None if bounds is None else list(bounds),
        }


def _read(ledger: Ledger) -> _Read:
    return _Read(ledger.rounds(last=RECENT_ROUNDS, pieces=False), ledger.members())


def _credits(microcredits: int | None) -> float | None:
    return None if microcredits is None else in_credits(microcredits)


def _short(told: Mapping[str, Json]) -> Json:
    """What a job says, if it is not too long to be shown."""
    text = json.dumps(told, default=str)
    if len(text) <= TOLD_CHARS_MAX:
        return json.loads(text)
    return {"told": text[: TOLD_CHARS_MAX - 1] + "…"}


def _encoded(kind: str, content: Mapping[str, Json]) -> bytes:
    """A server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(content, separators=(',', ':'))}\n\n".encode()
