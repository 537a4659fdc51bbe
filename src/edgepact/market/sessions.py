"""Pieces of work under way on the server: what they have reached, and what was answered last.

A session is bounded: so many a device, so many in all, so long unused. What is lost, by a restart
or for want of room, is begun again by the device under the same id and with the same seed.

Exchanges of a piece come in order, counted from 0. One that comes again is answered with the
answer it had; exchange 0 of a piece that has gone further begins it again, as a device does that
was restarted. Anything else belongs to a session that is lost.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from edgepact.errors import MarketError
from edgepact.market.demand import Request
from edgepact.market.ledger import Piece
from edgepact.tensors import Codec
from edgepact.work import Reply

SESSIONS_PER_DEVICE_MAX = 12
SESSIONS_MAX = 1024

SESSION_IDLE_S = 300.0
"""How long a session is kept that nobody uses."""


class LostSession(MarketError):
    """The session of a piece is not there (any more): the device has to begin it again."""


class NoRoom(Exception):
    """There are too many sessions under way."""


@dataclass(slots=True, kw_only=True)
class Session:
    """A piece under way. Its lock is held while an exchange is worked on.

    Attributes:
        device, piece, round, amount: whose, which, when, and at which amount.
        seed: of whatever the job draws.
        commitment: SHA-256 by which the device has bound itself to the source.
        request: of a buyer; None where nobody has to ask.
        as_asked: at amount 0, whether it is known to be worked from what its buyer asked for.
        job: what the job keeps; None before it was begun and after it is finished.
        codec: of the first exchange.
        exchange: number of the last exchange that was answered; -1 at the start.
        digest, before: of all that came, and of all before the last exchange.
        evidence: of each exchange.
        reply: the last answer.
        compute_s: seconds it took to compute.
        queue_s: seconds it waited for its turn, and for others.
        together: how many passed a stage together with it, on average.
        settled: what stands in the ledger, once it is finished.
        used_s: when it was last asked for.
    """

    device: str
    piece: str
    round: int
    amount: int
    seed: int
    commitment: bytes | None
    request: Request | None = None
    as_asked: bool = False
    job: Any = None
    codec: Codec | None = None
    exchange: int = -1
    digest: bytes = b""
    before: bytes = b""
    evidence: list[bytes] = field(default_factory=list)
    reply: Reply | None = None
    compute_s: float = 0.0
    queue_s: float = 0.0
    together: float = 1.0
    settled: Piece | None = None
    used_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def idle(self) -> bool:
        """Whether nothing is lost with it but the answer it had."""
        return self.settled is not None and not self.lock.locked()

    def answers_again(self, exchange: int, digest: bytes) -> bool:
        """Whether an exchange is the last one over again."""
        return exchange == self.exchange and digest == self.digest


class Sessions:
    """All sessions of a market, the least used first. Used by one event loop.

    Finding and adding take no longer for many sessions than for few.
    """

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._of: dict[str, dict[str, Session]] = {}  # by device and piece

    def __len__(self) -> int:
        return len(self._all)

    def find(self, device: str, piece: str, now_s: float) -> Session | None:
        """The session of a piece, if there is one; it counts as used."""
        session = self._all.get((device, piece))
        if session is not None:
            session.used_s = now_s
            self._all.move_to_end((device, piece))
        return session

    def add(self, session: Session, now_s: float) -> None:
        """Keeps a new session, in the place of an older one of the same piece.

        Raises:
            NoRoom: too many pieces of others are under way.
        """
        key = session.device, session.piece
        if key in self._all:
            self.drop(self._all[key])
        self._drop_unused(now_s)
        own = self._of.get(session.device, {}).values()
        free = [e for e in own if e.idle] + [e for e in own if not e.idle and not e.lock.locked()]
        excess = len(own) + 1 - SESSIONS_PER_DEVICE_MAX
        if excess > len(free):
            raise NoRoom  # the device works on as many at once as it may
        for other in free[: max(0, excess)]:
            self.drop(other)
        if len(self._all) >= SESSIONS_MAX:
            done = next((each for each in self._all.values() if each.idle), None)
            if done is None:
                raise NoRoom
            self.drop(done)
        session.used_s = now_s
        self._all[key] = session
        self._of.setdefault(session.device, {})[session.piece] = session

    def drop(self, session: Session) -> None:
        """Forgets a session."""
        key = session.device, session.piece
        if self._all.get(key) is session:
            del self._all[key]
            own = self._of[session.device]
            del own[session.piece]
            if not own:
                del self._of[session.device]

    def _drop_unused(self, now_s: float) -> None:
        """Forgets what nobody has used for long: it stands first."""
        unused: list[Session] = []
        for each in self._all.values():
            if now_s - each.used_s <= SESSION_IDLE_S:
                break
            if not each.lock.locked():
                unused.append(each)
        for each in unused:
            self.drop(each)
