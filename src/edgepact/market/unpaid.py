"""Inference that nobody is paid for: any client of the protocol with a token, beside the market.

It belongs to no round and leaves no trace in the ledger. It is computed only when no paid work
waits, a few pieces at a time, so that paid work waits for that much at most; each client may ask
for so much a minute.

A request may bring a batch: tensors whose first length is 1 for a single piece have the number of
pieces there. Pieces of several exchanges come one a request, and keep a session as paid ones do.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.market.books import Busy
from edgepact.market.bounds import Crowded
from edgepact.market.evidence import digest, session_seed, unpacked
from edgepact.market.rates import Rate
from edgepact.market.sessions import LostSession, NoRoom, Session, Sessions
from edgepact.tensors import Codec, Tensors, TensorSpec, TensorValue
from edgepact.work import Json, Reply, ServerPart

BATCH_MAX = 64
"""Pieces of a request."""

TOGETHER_MAX = 4
"""Pieces that are computed together: paid work that comes meanwhile waits for them."""

IN_FLIGHT_MAX = 16
"""Requests that wait or are computed at a time."""

PATIENCE_S = 20.0
"""How long a request waits behind paid work."""

SOURCE = "infer request"

Runs = Callable[[str, Callable[[], Any]], Awaitable[Any]]
"""Runs somebody's call in the thread of the model, when nothing else waits there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What an unpaid request came to.

    Attributes:
        outputs: tensors, packed; of a batch, its pieces after one another.
        told: further facts; of a batch, lists of them.
        finished: whether the pieces are done.
        pieces: how many they were.
        compute_s: seconds of computing.
    """

    outputs: Tensors
    told: Mapping[str, Json]
    finished: bool
    pieces: int
    compute_s: float


class Unpaid:
    """Unpaid inference of one server. For one event loop.

    Args:
        part: the server's half of the job.
        secret: key that draws the seeds of sessions.
        run: runs a call in the thread of the model, behind paid work.
        per_minute: pieces that a client may ask for a minute; 0 for none.
    """

    def __init__(
        self,
        part: ServerPart,
        secret: bytes,
        run: Runs,
        per_minute: int,
    ) -> None:
        self._part = part
        self._secret = secret
        self._nameless_seed = session_seed(secret, "unpaid", "")
        self._run = run
        self._rate = Rate(per_s=per_minute / 60.0, burst=float(per_minute))
        self._sessions = Sessions()
        self._in_flight = 0

    @property
    def offered(self) -> bool:
        """Whether there is any."""
        return self._rate.per_s > 0

    @property
    def in_flight(self) -> int:
        """Requests that wait or are computed."""
        return self._in_flight

    async def infer(
        self, who: str, piece: str, exchange: int, amount: int, codec: Codec, sent: Tensors
    ) -> Inferred:
        """Works on an exchange of a piece, or on a batch of pieces of one exchange.

        Args:
            who: asks.
            piece: the client's id of the piece; needed where there are several exchanges.
            exchange: counted from 0.
            amount: that the client has done of it.
            codec: has packed the tensors.
            sent: as they came.

        Raises:
            Busy: too many requests are in flight, or paid work has left no time for this one.
            InputError: the tensors do not fit, or cannot be worked with.
            LostSession: the piece has to be begun again.
            Crowded: the client has asked for as much as it may.
        """
        if self._in_flight >= IN_FLIGHT_MAX:
            raise Busy("all places of unpaid work are taken")
        if wait_s := self._rate.wait_s(who):
            words = f"more than {self._rate.burst:g} unpaid pieces a minute"
            raise Crowded(words, own=True, after_s=wait_s)
        specs = self._part.expects(amount, exchange)
        pieces = [unpacked(codec, each, specs, SOURCE) for each in split(sent, codec.packed(specs))]
        self._rate.take(who, len(pieces))
        self._in_flight += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                if len(pieces) > 1:
                    return await self._batch(who, exchange, amount, codec, pieces)
                return await self._one(who, piece, exchange, amount, codec, pieces[0], sent)
        except TimeoutError:
            raise Busy("paid work has left no time for unpaid work") from None
        finally:
            self._in_flight -= 1

    async def _one(
        self,
        who: str,
        piece: str,
        exchange: int,
        amount: int,
        codec: Codec,
        tensors: Tensors,
        sent: Tensors,
    ) -> Inferred:
        if not piece and exchange == 0:
            return await self._nameless(who, amount, codec, tensors)
        session = self._session(who, piece, exchange, amount, sent)

        def begun() -> list[tuple[Any, Tensors]]:
            if exchange == 0:
                session.job = self._part.begin(amount, session.seed)
            return [(session.job, tensors)]

        async with session.lock:
            before = session.digest if exchange == session.exchange + 1 else session.before
            mark = digest(before, sent)
            if not session.answers_again(exchange, mark):
                if exchange != session.exchange + 1:
                    raise LostSession(f"exchange {exchange} of {piece!r} is not the next")
                try:
                    (reply,), session.compute_s = await self._answer(who, begun)
                except BaseException:
                    self._sessions.drop(session)  # whatever state it is in
                    raise
                session.before, session.digest = before, mark
                session.exchange, session.reply = exchange, reply
            assert session.reply is not None
            if session.reply.finished:
                self._sessions.drop(session)
            reply = session.reply
        return Inferred(
            outputs=_packed(codec, reply, self._part.returns(amount)),
            told=reply.told,
            finished=reply.finished,
            pieces=1,
            compute_s=session.compute_s,
        )

    async def _nameless(self, who: str, amount: int, codec: Codec, tensors: Tensors) -> Inferred:
        """A piece that cannot be asked for again: nothing of it is kept."""

        def begun() -> list[tuple[Any, Tensors]]:
            return [(self._part.begin(amount, self._nameless_seed), tensors)]

        (reply,), compute_s = await self._answer(who, begun)
        return Inferred(
            outputs=_packed(codec, reply, self._part.returns(amount)),
            told=reply.told,
            finished=reply.finished,
            pieces=1,
            compute_s=compute_s,
        )

    async def _batch(
        self, who: str, exchange: int, amount: int, codec: Codec, pieces: Sequence[Tensors]
    ) -> Inferred:
        if exchange > 0:
            raise InputError(SOURCE, "inputs", "one piece in a later exchange", f"{len(pieces)}")
        replies: list[Reply] = []
        compute_s = 0.0
        seed = self._nameless_seed
        for first in range(0, len(pieces), TOGETHER_MAX):
            some = pieces[first : first + TOGETHER_MAX]

            def begun(some: Sequence[Tensors] = some) -> list[tuple[Any, Tensors]]:
                return [(self._part.begin(amount, seed), each) for each in some]

            answered, took_s = await self._answer(who, begun)
            replies += answered
            compute_s += took_s
            if not all(reply.finished for reply in answered):
                expected = "one piece a request, where pieces take several exchanges"
                raise InputError(SOURCE, "inputs", expected, f"a batch of {len(pieces)}")
        returns = self._part.returns(amount)
        return Inferred(
            outputs=joined([_packed(codec, reply, returns) for reply in replies]),
            told={name: [reply.told.get(name) for reply in replies] for name in replies[0].told},
            finished=True,
            pieces=len(pieces),
            compute_s=compute_s,
        )

    async def _answer(
        self, who: str, begun: Callable[[], list[tuple[Any, Tensors]]]
    ) -> tuple[list[Reply], float]:
        """What the server's half answers to some pieces, and the seconds that it took.

        Raises:
            InputError: of the first piece that cannot be worked with.
        """

        def compute() -> tuple[list[Reply | InputError], float]:
            start_s = time.perf_counter()
            answered = self._part.answer(begun())
            return answered, time.perf_counter() - start_s

        answered, took_s = await self._run(who, compute)
        replies: list[Reply] = []
        for each in answered:
            if isinstance(each, InputError):
                raise each
            replies.append(each)
        return replies, took_s

    def _session(self, who: str, piece: str, exchange: int, amount: int, sent: Tensors) -> Session:
        now_s = time.monotonic()
        session = self._sessions.find(who, piece, now_s)
        if exchange > 0:
            if session is None or session.amount != amount:
                raise LostSession(f"there is no session of {piece!r}: begin it again")
            return session
        known = session is not None and session.amount == amount
        if session is not None and known and session.answers_again(0, digest(b"", sent)):
            return session
        seed = session_seed(self._secret, f"unpaid\n{who}", piece)
        begun = Session(device=who, piece=piece, round=0, amount=amount, seed=seed, commitment=None)
        try:
            self._sessions.add(begun, now_s)
        except NoRoom:
            raise Busy("all sessions of unpaid work are taken") from None
        return begun


def split(sent: Tensors, specs: Sequence[TensorSpec]) -> list[Tensors]:
    """Pieces of a batch, each as if it had come alone; what is no batch is one piece.

    Args:
        sent: packed tensors.
        specs: of one piece's packed tensors.

    Raises:
        InputError: there are more than `BATCH_MAX`.

    Example:
        >>> spec = TensorSpec(name="x", datatype="FP32", shape=(1, 2))
        >>> [each["x"].tolist() for each in split({"x": np.zeros((2, 2))}, [spec])]
        [[[0.0, 0.0]], [[0.0, 0.0]]]
    """
    lengths = {_length(sent.get(spec.name)) if spec.shape[:1] == (1,) else None for spec in specs}
    (count,) = lengths if len(lengths) == 1 else (None,)
    if count is None or count <= 1:
        return [sent]
    if count > BATCH_MAX:
        raise InputError(SOURCE, "inputs", f"at most {BATCH_MAX} pieces", f"{count}")
    return [{name: value[at : at + 1] for name, value in sent.items()} for at in range(count)]


def is_batched(specs: Sequence[TensorSpec]) -> bool:
    """Whether tensors of these specs may come as a batch."""
    return bool(specs) and all(spec.shape[:1] == (1,) for spec in specs)


def joined(outputs: Sequence[Tensors]) -> Tensors:
    """Outputs of pieces after one another.

    Raises:
        InputError: they cannot be: a batch was asked for of what comes one by one.
    """
    found: dict[str, TensorValue] = {}
    for name in outputs[0]:
        values = [each[name] for each in outputs if name in each]
        if len(values) < len(outputs):
            raise InputError(SOURCE, "inputs", "one piece, since answers are unlike", "a batch")
        if all(isinstance(value, tuple) for value in values):
            found[name] = tuple(item for value in values for item in value)
            continue
        shapes = {np.shape(value)[1:] for value in values}
        if len(shapes) > 1:
            raise InputError(SOURCE, "inputs", "one piece, since answers are unlike", "a batch")
        found[name] = np.concatenate([np.asarray(value) for value in values])
    return found


# ---------------------------------------------------------------- private


def _length(value: TensorValue | None) -> int | None:
    if isinstance(value, tuple):
        return len(value)
    return None if value is None or value.ndim == 0 else value.shape[0]


def _packed(codec: Codec, reply: Reply, returns: Sequence[TensorSpec]) -> Tensors:
    return codec.pack(reply.outputs, [spec for spec in returns if spec.name in reply.outputs])
