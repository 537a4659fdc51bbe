"""The way from the market's event loop to its ledger: one thread that writes, one that reads.

What is to be written while the disk is busy is gathered, and reaches it as one transaction: a
durable write costs the same for one payment as for a hundred. Nobody is answered before it is
down. Reading goes another way and holds nobody up.

If the database fails, what is to be written is tried again for a while, and `sound` says no until
it has gone through: whoever asks may come back later.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgepact.errors import EdgepactError, MarketError
from edgepact.market.ledger import (
    LEASE_S,
    Ledger,
    LedgerError,
    Limits,
    NoBudget,
    Piece,
    Settlement,
)
from edgepact.market.logs import Log

GROUP_MAX = 256
"""Most writes of one transaction."""

CALLS_MAX = 16
"""Most other writes of a transaction while pieces wait: one of them takes as long as ten pieces,
and the ends of a thousand device-rounds, which come together, are to hold nobody up."""

WAITING_MAX = 4096
"""Most writes that wait; the next is told to come back."""

PATIENCE_S = 10.0
"""How long a write is tried again before whoever asked for it is told that it failed."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0

RENEW_S = LEASE_S / 4
"""How often the lease of the ledger is renewed."""

SEAL_S = 60.0
"""How often the ledger is sealed; a server that was killed looks at what came since."""

_T = TypeVar("_T")


class Busy(Exception):
    """All places in the queue are taken: come back in a moment."""


@dataclass(slots=True)
class _Write:
    """Something to be written: a call, or a piece to be delivered."""

    call: Callable[[], Any] | None
    piece: Piece | None
    done: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Books:
    """A ledger, as the market writes and reads it. Its coroutines belong to one event loop.

    Attributes:
        ledger: written by one thread.
        reader: the same, read by another.
        limits: of what may be promised.
        repeat_rounds: the same work is not taken twice within so many rounds; None takes it.
        sound: whether the last write went through.
        unpayable: pieces that were refused because nothing more may be promised.
        seal: seals the ledger, now and then and before it is closed.
        log: hears when the database fails, and when it is there again.
    """

    ledger: Ledger
    reader: Ledger
    limits: Limits = field(default_factory=Limits)
    repeat_rounds: int | None = None
    sound: bool = True
    unpayable: int = 0
    seal: Callable[[], None] = lambda: None
    log: Log = field(default_factory=Log)
    _waiting: list[_Write] = field(default_factory=list)
    _flushing: "asyncio.Task[None] | None" = None
    _writes: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="ledger")
    )
    _reads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="reader")
    )

    async def write(self, call: Callable[[], _T]) -> _T:
        """Calls a method of the ledger that writes; returns once it is durable.

        Raises:
            Busy: too many writes wait.
            LedgerError: the database has failed for `PATIENCE_S`.
            MarketError: as the method says.
        """
        result: _T = await self._enqueued(call, None)
        return result

    async def insist(self, call: Callable[[], _T]) -> _T:
        """As `write`, tried again until the database does it."""
        while True:
            try:
                return await self.write(call)
            except (LedgerError, Busy):
                await asyncio.sleep(BACKOFF_MAX_S)

    async def deliver(self, piece: Piece) -> Settlement:
        """Records a finished piece, see `Ledger.deliver`; many become one write.

        Raises:
            Busy: too many writes wait.
            LedgerError: the database has failed for `PATIENCE_S`.
            MarketError: it is refused; nothing is paid.
        """
        settled = await self._enqueued(None, piece)
        assert isinstance(settled, Settlement)
        return settled

    async def read(self, call: Callable[[Ledger], _T]) -> _T:
        """Reads, beside whatever is written.

        Raises:
            LedgerError: the database fails.
        """
        return await asyncio.get_running_loop().run_in_executor(self._reads, call, self.reader)

    async def insist_on_reading(self, call: Callable[[Ledger], _T]) -> _T:
        """As `read`, tried again until the database does it."""
        while True:
            try:
                return await self.read(call)
            except LedgerError:
                await asyncio.sleep(BACKOFF_MAX_S)

    async def keep_lead(self) -> None:
        """Renews the lease of the ledger, and seals it, for as long as it is awaited.

        A database that cannot be reached takes no lease away: it is tried again. So `sound` tells
        of the database also where nobody writes.

        Raises:
            LedByAnother: another server has taken the ledger over.
        """
        loop = asyncio.get_running_loop()
        sealed_s = loop.time()
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await loop.run_in_executor(self._writes, self.ledger.lead)
                self._note(None)
            except LedgerError as error:
                self._note(error)
            if loop.time() - sealed_s >= SEAL_S and self.sound:
                sealed_s = loop.time()
                with suppress(EdgepactError):  # a full disk: the next one will do
                    await loop.run_in_executor(self._writes, self.seal)

    def close(self) -> None:
        """Writes what waits, and closes the ledger."""
        self._writes.shutdown(wait=True)
        self._reads.shutdown(wait=True)
        self.reader.close()
        with suppress(EdgepactError):  # it was lost, or taken over
            if self.sound:
                self.seal()
            self.ledger.give_up_lead()
        self.ledger.close()

    # ------------------------------------------------------------ private

    def _enqueued(self, call: Callable[[], Any] | None, piece: Piece | None) -> Any:
        if len(self._waiting) >= WAITING_MAX:
            raise Busy("the ledger is behind")
        loop = asyncio.get_running_loop()
        write = _Write(call, piece, loop.create_future())
        self._waiting.append(write)
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush())
        return write.done

    async def _flush(self) -> None:
        """Writes group after group while anything waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group = self._next_group()
                await loop.run_in_executor(self._writes, self._written, group)
                for each in group:
                    if each.done.cancelled():
                        continue  # whoever asked has gone; it is written all the same
                    if each.error is not None:
                        each.done.set_exception(each.error)
                    else:
                        each.done.set_result(each.result)
        finally:
            self._flushing = None

    def _next_group(self) -> list[_Write]:
        """Takes what is written next: pieces first, and of everything else some."""
        pieces = [each for each in self._waiting if each.piece is not None][:GROUP_MAX]
        calls = [each for each in self._waiting if each.piece is None]
        calls = calls[: min(CALLS_MAX, GROUP_MAX - len(pieces)) if pieces else GROUP_MAX]
        group = pieces + calls
        taken = {id(each) for each in group}
        self._waiting = [each for each in self._waiting if id(each) not in taken]
        return group

    def _written(self, group: list[_Write]) -> None:
        """Writes a group in one transaction, again and again if the database fails."""
        end_s, pause_s = time.monotonic() + PATIENCE_S, BACKOFF_FIRST_S
        while True:
            try:
                with self.ledger.together():
                    self._do(group)
            except LedgerError as error:
                self._note(error)
                if time.monotonic() + pause_s > end_s:
                    for each in group:
                        each.error = error
                    return
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)
            except Exception as error:  # of the transaction as a whole: the lease was lost
                for each in group:
                    each.error = error
                return
            else:
                self._note(None)
                return

    def _note(self, error: LedgerError | None) -> None:
        """The database has failed, or has not."""
        was, self.sound = self.sound, error is None
        if error is not None and was:
            self.log.error("the ledger cannot be written; it is tried again", why=str(error))
        elif error is None and not was:
            self.log.warning("the ledger can be written again")

    def _do(self, group: list[_Write]) -> None:
        at = 0
        while at < len(group):
            each = group[at]
            each.result = each.error = None
            if each.piece is None:
                self._call(each)
                at += 1
                continue
            run = [each]
            while at + len(run) < len(group) and group[at + len(run)].piece is not None:
                run.append(group[at + len(run)])
            self._deliver(run)
            at += len(run)

    def _call(self, each: _Write) -> None:
        assert each.call is not None
        try:
            each.result = each.call()
        except LedgerError:
            raise
        except Exception as error:
            each.error = error

    def _deliver(self, run: list[_Write]) -> None:
        pieces = [each.piece for each in run if each.piece is not None]
        newest = max(piece.round for piece in pieces)
        first = None if self.repeat_rounds is None else newest - self.repeat_rounds + 1
        settled = self.ledger.deliver(pieces, first_round=first, limits=self.limits)
        for each, found in zip(run, settled, strict=True):
            if isinstance(found, MarketError):
                self.unpayable += isinstance(found, NoBudget)
                each.error, each.result = found, None
            else:
                each.result, each.error = found, None
