"""Pieces of work on their way through the server: computed in turn, delivered to the books once.

One thread computes, where every device has its turn and pieces pass the stages of a model together
(`fair_queue`), and the number of exchanges in flight has a limit. What was computed is kept while
its session is, so that a request that comes again is answered as before. A piece that the books
know and no session does, as after a restart, is computed once more, for the device may never have
heard its answer; from then on it is told how the piece stands, and nothing is computed. For one
event loop.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepact.errors import InputError, MarketError
from edgepact.market.books import Books, Busy
from edgepact.market.demand import Demand, NotAskedError, Request
from edgepact.market.evidence import (
    chosen_codec,
    digest,
    evidence_key,
    pack_evidence,
    session_seed,
    unpack_evidence,
    unpacked,
)
from edgepact.market.fair_queue import ONE_BY_ONE, Batching, FairQueue, Passage
from edgepact.market.lanes import Lanes
from edgepact.market.ledger import Evidence, Piece, RepeatedWork, Settlement
from edgepact.market.repeats import Repeats
from edgepact.market.replicas import Replicas
from edgepact.market.sessions import LostSession, NoRoom, Session, Sessions
from edgepact.market.settling import CannotAudit
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import EXCHANGES_MAX, Reply, ServerPart, StagedPart

EXCHANGES_IN_FLIGHT_MAX = 1024
"""Exchanges computed or waiting at a time; the next is told to come back."""

LANES_EACH = 4
"""Exchanges under way at a replica at a time: enough to hide the way there and back."""

COMPUTED_AGAIN_KEPT = 65_536
"""Pieces that are remembered to have been computed once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An exchange of a piece, as a device has sent it.

    Attributes:
        device: who sends.
        round: number of the round.
        piece: the device's id of the piece.
        at: which of the piece's exchanges it is, counted from 0.
        amount: of the piece that the device does.
        commitment: SHA-256 by which the device has bound itself to its source; None for none.
        request: of a buyer, as it came; None for none.
        sent: tensors as they came.
    """

    device: str
    round: int
    piece: str
    at: int
    amount: int
    commitment: bytes | None
    sent: Tensors
    request: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an exchange came to.

    Attributes:
        reply: the job's answer.
        codec: packs it.
        compute_s: seconds of computing, without queueing and bookkeeping: of what was computed for
            several at once, its even share.
        ledger_s: seconds until it was durable in the books, if it is finished.
        settlement: how the piece stands, if it is finished.
        from_books: whether that is all that is told: nothing was computed, nor kept.
        queue_s: seconds from its asking in which nothing was computed for it.
        together: how many passed a stage together, on average over its stages.
    """

    reply: Reply
    codec: Codec
    compute_s: float
    settlement: Settlement | None
    from_books: bool = False
    queue_s: float = 0.0
    ledger_s: float = 0.0
    together: float = 1.0


class Exchanges:
    """All pieces under way.

    Args:
        part: the server's half of the job.
        codecs: that requests may use, the favourite first.
        books: the ledger.
        secret: key that draws the seeds of sessions, and what is kept of work.
        batching: how pieces pass the job's stages together, where it has any.
        demand: who asks for pieces; None where nobody has to.
        recorded: told of every delivery: device, round, piece, and how it stands.
    """

    def __init__(
        self,
        part: ServerPart,
        codecs: tuple[Codec, ...],
        books: Books,
        secret: bytes,
        *,
        batching: Batching = ONE_BY_ONE,
        demand: Demand | None = None,
        recorded: Callable[[str, int, str, Settlement], Awaitable[None]],
    ) -> None:
        self._part, self._codecs, self._books, self._secret = part, codecs, books, secret
        self._recorded, self._demand = recorded, demand
        self._staged = part if isinstance(part, StagedPart) and part.stages > 0 else None
        replicas = len(part) if isinstance(part, Replicas) else 0
        self.compute = (
            Lanes("job", LANES_EACH * replicas)
            if replicas
            else FairQueue("job", self._staged, batching)
        )
        """Where every device has its turn."""
        self.in_flight = 0
        """Exchanges computed or waiting."""
        self._sessions = Sessions()
        self._repeats = None if books.repeat_rounds is None else Repeats(books.repeat_rounds)
        self._computed_again: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def sessions(self) -> int:
        """Pieces that are begun, or whose answers are kept."""
        return len(self._sessions)

    def resume(self, last_round: int) -> None:
        """Reads back from the ledger what near repeats of are not taken."""
        if self._repeats is None:
            return
        first = last_round - (self._books.repeat_rounds or 0) + 1
        for number, device, piece, sketch in self._books.ledger.sketches(first):
            self._repeats.take(number, device, piece, np.frombuffer(sketch, "<f4"))

    def close(self) -> None:
        """Finishes what is being computed."""
        self.compute.close()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue.

        Raises:
            Busy: all are taken.
        """
        if self.in_flight >= EXCHANGES_IN_FLIGHT_MAX:
            raise Busy
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def unpacked(self, asked: Exchange, codec: object) -> tuple[Codec, Tensors]:
        """The codec and the tensors of an exchange.

        Raises:
            InputError: they do not fit.
        """
        specs = self._part.expects(asked.amount, asked.at)
        chosen = chosen_codec(codec, self._codecs, asked.sent, specs)
        return chosen, unpacked(chosen, asked.sent, specs, "infer request")

    async def answer(
        self, asked: Exchange, codec: Codec, tensors: Tensors, *, known: bool
    ) -> Answered:
        """Works on an exchange of a piece that may be worked on; the last one delivers it.

        Args:
            asked: the exchange.
            codec: has packed the tensors.
            tensors: that were sent, unpacked.
            known: whether the books know the piece.

        Raises:
            Busy: too many sessions are under way.
            InputError: the tensors cannot be worked with.
            LostSession: the piece has to be begun again.
            MarketError: the device may not deliver it; nothing is paid.
        """
        # Before anything is computed: what nobody asked for is nobody's to pay.
        request = self._request(asked) if asked.at == 0 else None
        if known and not self._may_compute(asked):
            found = await self._books.read(lambda ledger: ledger.find(asked.device, [asked.piece]))
            settled = found[asked.piece]
            told = Reply(outputs={}, units=settled.units)
            return Answered(
                reply=told, codec=codec, compute_s=0.0, settlement=settled, from_books=True
            )
        session = self._session(asked, request)
        async with session.lock:
            mark = self._mark(session, asked)
            if not session.answers_again(asked.at, mark):
                if asked.at != session.exchange + 1 or session.settled is not None:
                    raise LostSession(f"exchange {asked.at} of {asked.piece!r} is not the next")
                await self._answer(session, asked.at, codec, tensors, mark)
            assert session.reply is not None
            done_s = time.perf_counter()
            finished = session.reply.finished
            return Answered(
                reply=session.reply,
                codec=codec,
                compute_s=session.compute_s,
                settlement=await self._settle(session) if finished else None,
                queue_s=session.queue_s,
                ledger_s=time.perf_counter() - done_s,
                together=session.together,
            )

    def passes(self, device: str, piece: str, kept: Evidence, source: bytes) -> bool:
        """Whether a source gives what was kept of a piece when it was delivered.

        Raises:
            CannotAudit: nobody can tell here.
            InputError: it cannot be worked with.
        """
        asks, bound = self._demand, kept.bound
        if asks is not None and bound is not None and not asks.fits(piece, device, bound, source):
            return False  # it is work on something else than what was asked for
        name, evidence = unpack_evidence(kept.evidence)
        codec = next((each for each in self._codecs if each.name == name), None)
        if codec is None:
            raise CannotAudit(f"there is no codec {name!r} here")
        return self._part.passes_audit(
            kept.amount,
            evidence,
            source,
            seed=session_seed(self._secret, device, piece),
            codec=codec,
            key=evidence_key(self._secret, device, piece),
        )

    def forget(self, device: str, piece: str) -> None:
        """Work that the server could not audit may be delivered again."""
        if self._repeats is not None:
            self._repeats.drop(device, piece)

    # ------------------------------------------------------------ private

    def _request(self, asked: Exchange) -> Request | None:
        """What a piece is worked for.

        Raises:
            InputError: it is no request.
            MarketError: nobody asked for the piece.
        """
        if self._demand is None:
            return None
        return self._demand.accepted(asked.request, asked.device, asked.piece)

    def _may_compute(self, asked: Exchange) -> bool:
        """Whether an exchange of a piece that the books know is worked on, or was just now.

        Raises:
            MarketError: its id was used for something else.
        """
        key = asked.device, asked.piece
        session = self._sessions.find(*key, time.monotonic())
        if session is not None:
            if session.settled is None or session.answers_again(
                asked.at, self._mark(session, asked)
            ):
                return True
            if session.exchange == asked.at == 0:
                raise MarketError(f"the id {asked.piece!r} has been used for something else")
        if key in self._computed_again:
            return False
        if asked.at > 0:
            return True  # as if there were no such piece: it has to be begun again
        self._computed_again[key] = None
        if len(self._computed_again) > COMPUTED_AGAIN_KEPT:
            self._computed_again.popitem(last=False)
        return True

    def _session(self, asked: Exchange, request: Request | None) -> Session:
        """The session of a piece; a new one at its first exchange.

        Raises:
            LostSession: a later exchange of a piece that is not under way.
            Busy: there is no room for another.
        """
        now_s, device, piece = time.monotonic(), asked.device, asked.piece
        session = self._sessions.find(device, piece, now_s)
        if session is not None and (session.round, session.amount) == (asked.round, asked.amount):
            again = asked.at > 0 or session.exchange < 0
            if again or session.answers_again(0, digest(b"", asked.sent)):
                return session
        if asked.at > 0:
            raise LostSession(f"there is no session of {piece!r}: begin it again")
        if asked.amount > 0 and asked.commitment is None:
            expected = "64 hexadecimal digits: SHA-256 of a salt of 32 bytes and the source"
            raise InputError("infer request", "parameters.commitment", expected, None)
        session = Session(
            device=device,
            piece=piece,
            round=asked.round,
            amount=asked.amount,
            seed=session_seed(self._secret, device, piece),
            commitment=asked.commitment,
            request=request,
        )
        try:
            self._sessions.add(session, now_s)
        except NoRoom:
            raise Busy from None
        return session

    @staticmethod
    def _mark(session: Session, asked: Exchange) -> bytes:
        """Digest of a piece with an exchange that has come: the next one, or the last again."""
        before = session.digest if asked.at == session.exchange + 1 else session.before
        return digest(before, asked.sent)

    async def _answer(
        self, session: Session, exchange: int, codec: Codec, tensors: Tensors, mark: bytes
    ) -> None:
        """Computes the next exchange of a session."""

        def begin() -> None:
            if exchange == 0:
                session.job = self._part.begin(session.amount, session.seed)

        def kept_of(reply: Reply | InputError) -> tuple[Reply, bytes]:
            if isinstance(reply, InputError):
                raise reply
            if session.amount <= 0:
                return reply, b""
            key = evidence_key(self._secret, session.device, session.piece)
            return reply, self._part.evidence(session.amount, exchange, tensors, reply, key)

        try:
            if exchange == 0:
                session.as_asked = False
                whole = _source_in(self._part.expects(session.amount, 0), tensors)
                self._expect_asked_for(session, whole)
            passage = await self._passage(session, tensors, begin, kept_of)
            reply, kept = passage.found
            if reply.finished:
                self._expect_asked_for(session, reply.source or b"")
        except InputError:
            if exchange == 0:
                self._sessions.drop(session)
            raise
        except Exception:
            self._sessions.drop(session)  # whatever state it is in
            raise
        if exchange + 1 >= EXCHANGES_MAX and not reply.finished:
            self._sessions.drop(session)
            raise MarketError(f"{session.piece!r} has not ended after {EXCHANGES_MAX} exchanges")
        session.before, session.digest = session.digest, mark
        session.exchange, session.reply, session.codec = exchange, reply, codec
        session.compute_s, session.queue_s = passage.compute_s, passage.wait_s
        session.together = passage.together
        session.evidence.append(kept)

    def _expect_asked_for(self, session: Session, source: bytes | None) -> None:
        """Holds what came at amount 0 against what the piece's buyer has asked for.

        There the source itself comes, and nothing is audited, since a device has no pay to lose:
        but the buyer would pay.

        Args:
            session: of the piece.
            source: that it is worked from; None where it is not known yet.

        Raises:
            MarketError: it is work on something else.
        """
        request = session.request
        if self._demand is None or request is None or session.amount > 0:
            return
        if session.as_asked or source is None:
            return
        if not self._demand.fits(session.piece, session.device, request.bound, source):
            raise NotAskedError(f"{session.piece!r} is worked from something else than asked for")
        session.as_asked = True

    async def _passage(
        self,
        session: Session,
        tensors: Tensors,
        begin: Callable[[], None],
        kept_of: Callable[[Reply | InputError], tuple[Reply, bytes]],
    ) -> Passage[tuple[Reply, bytes]]:
        """Has an exchange computed: with others, stage by stage, where the job can."""
        staged = self._staged

        def enter() -> tuple[int, Any]:
            begin()
            if staged is None:
                (reply,) = self._part.answer([(session.job, tensors)])
                return 0, reply  # for which nothing is left to do
            entered = staged.enter(session.job, tensors)
            if isinstance(entered, InputError):
                raise entered
            return entered

        def leave(travelled: Any) -> tuple[Reply, bytes]:
            return kept_of(travelled if staged is None else staged.leave(session.job, travelled))

        return await self.compute.travel(session.device, enter, leave)

    async def _settle(self, session: Session) -> Settlement:
        """Delivers a finished piece, once, with the units that the server's half has counted."""
        if session.settled is not None:
            known = session.settled
            found = await self._books.read(lambda ledger: ledger.find(known.device, [known.piece]))
            return found[known.piece]
        assert session.reply is not None
        assert session.codec is not None
        kept = pack_evidence(session.codec.name, session.evidence) if any(session.evidence) else b""
        sketch = session.reply.sketch if session.amount > 0 else None
        done = Piece(
            device=session.device,
            piece=session.piece,
            round=session.round,
            amount=float(session.amount),
            digest=session.digest,
            units=max(1, session.reply.units),
            commitment=session.commitment,
            evidence=kept,
            sketch=b"" if sketch is None else sketch.astype("<f4").tobytes(),
            request=session.request,
            units_sold=session.reply.units_sold,
        )
        try:
            if sketch is not None and not self._is_new(done, sketch):
                raise RepeatedWork(f"the work of {done.piece!r} is nearly that of another piece")
            settled = await self._books.deliver(done)
        except MarketError:
            self._sessions.drop(session)
            if self._repeats is not None:
                self._repeats.drop(done.device, done.piece)
            raise
        session.settled, session.job, session.evidence = done, None, []
        await self._recorded(session.device, session.round, session.piece, settled)
        return settled

    def _is_new(self, done: Piece, sketch: np.ndarray) -> bool:
        """Whether nobody has delivered nearly the same work lately."""
        if self._repeats is None or done.request is not None:
            return True
        return self._repeats.take(done.round, done.device, done.piece, sketch)


def _source_in(specs: Sequence[TensorSpec], sent: Tensors) -> bytes | None:
    """The source, where it comes as it is: as the only tensor, of bytes."""
    if len(specs) != 1 or specs[0].datatype != "BYTES" or specs[0].shape != (1,):
        return None
    (source,) = sent[specs[0].name]
    return bytes(source)
