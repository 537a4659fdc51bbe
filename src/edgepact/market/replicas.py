"""A server part whose work is done by replicas, each of which holds the whole of it.

Where they run and how they are reached is another's business (`ray_engine`); here is decided which
of them works, and what happens when one is gone:

- a piece that begins goes to the replica with the least to do;
- later exchanges of it go to the replica that holds its session, and to no other;
- if a replica does not answer it is left alone until it does again. What was begun there is
  begun elsewhere at once where nothing but the first exchange is lost, since a piece gives the
  same answer wherever it is worked; a piece that was further is told lost (`LostSession`), and its
  device begins it again under the same id.

Nothing here knows of payments: those are the ledger's, which knows each piece by its id.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from edgepact.errors import InputError
from edgepact.market.books import Busy
from edgepact.market.sessions import SESSIONS_MAX, LostSession
from edgepact.tensors import Codec, Tensors, TensorSpec
from edgepact.work import Json, Model, Reply, ServerPart

AWAY_S = 1.0
"""How long a replica that did not answer is left alone, before it is asked whether it is back."""

PATIENCE_S = 10.0
"""How long work waits for a replica, if none is there; then whoever asked is told to come back."""

ASK_AGAIN_S = 0.05


class ReplicaAway(Exception):
    """A replica has not answered: it has died, or is being started."""


class NoSession(Exception):
    """A replica knows nothing of a piece: it was started anew, or had no room."""


@runtime_checkable
class Replica(Protocol):
    """One replica, as `Replicas` asks it. Its calls wait for the answer."""

    @property
    def name(self) -> str:
        """Of the replica."""
        ...

    def is_there(self) -> bool:
        """Whether it answers, found out in about a second at most."""
        ...

    def work(self, key: str, amount: int, seed: int, first: bool, sent: Tensors) -> Any:
        """An exchange of a piece, see `Worker.work`.

        Raises:
            NoSession: it does not hold the piece.
            ReplicaAway: it does not answer.
        """
        ...

    def passes_audit(self, **told: Any) -> bool | InputError:
        """See `Worker.passes_audit`.

        Raises:
            ReplicaAway: it does not answer.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """See `Worker.facts`.

        Raises:
            ReplicaAway: it does not answer.
        """
        ...


class Worker:
    """What runs in a replica: a server part, and the sessions that it holds.

    Args:
        part: the server's half of the job.
    """

    def __init__(self, part: ServerPart) -> None:
        self._part = part
        self._sessions: OrderedDict[str, Any] = OrderedDict()
        self._one = threading.Lock()  # a server part is used by one thread
        part.warm()

    def facts(self) -> dict[str, Any]:
        """What is asked of a part once it is warm."""
        with self._one:
            return {
                "model": self._part.model,
                "about": dict(self._part.about),
                "audit_power": self._part.audit_power,
            }

    def work(
        self, key: str, amount: int, seed: int, first: bool, sent: Tensors
    ) -> Reply | InputError:
        """The next exchange of a piece.

        Args:
            key: of the piece here.
            amount, seed: as `ServerPart.begin` is told them.
            first: whether the piece begins, or begins again.
            sent: what came.

        Raises:
            NoSession: it does not begin, and is not held here.
        """
        with self._one:
            if first:
                session = self._part.begin(amount, seed)
            elif key in self._sessions:
                session = self._sessions[key]
            else:
                raise NoSession(key)
            (reply,) = self._part.answer([(session, sent)])
            self._sessions.pop(key, None)
            going_on = isinstance(reply, Reply) and not reply.finished
            # An error of a later exchange leaves the piece where it was.
            if going_on or (isinstance(reply, InputError) and not first):
                self._sessions[key] = session
                if len(self._sessions) > SESSIONS_MAX:
                    self._sessions.popitem(last=False)
            return reply

    def passes_audit(self, **told: Any) -> bool | InputError:
        """See `ServerPart.passes_audit`; an error is returned, since not all can travel."""
        with self._one:
            try:
                return self._part.passes_audit(**told)
            except InputError as error:
                return error


@dataclass(slots=True)
class Held:
    """A piece that a replica works on.

    Attributes:
        amount, seed: of the piece.
        key: by which the replica knows it.
        replica: name of the replica that holds it; empty before its first exchange.
    """

    amount: int
    seed: int
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    replica: str = ""


@dataclass(slots=True)
class _State:
    """What is known of a replica."""

    replica: Replica
    busy: int = 0
    away: bool = False
    again_s: float = 0.0


class Replicas:
    """A server part that is worked by replicas; its methods may be called by several threads.

    Args:
        part: the same part here, not warmed: it says what is expected and returned.
        replicas: that do the work.
        clock: seconds, on any clock.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        part: ServerPart,
        replicas: Sequence[Replica],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._part, self._clock, self._sleep = part, clock, sleep
        self._states = {each.name: _State(each) for each in replicas}
        self._lock = threading.Lock()
        self._facts: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self._states)

    # ------------------------------------------------------------ the server part

    @property
    def model(self) -> Model:
        """What it holds."""
        return self._part.model

    @property
    def about(self) -> Mapping[str, Json]:
        """Further facts for the model's metadata."""
        return self._part.about

    @property
    def audit_power(self) -> float:
        """As a replica has measured it."""
        return float(self._known()["audit_power"])

    def warm(self) -> None:
        """Waits until a replica answers.

        Raises:
            InputError: it holds another model than this process.
        """
        found = self._known()["model"]
        if found != self._part.model:
            raise InputError("serve", "engine", f"replicas with {self._part.model}", f"{found}")

    def expects(self, amount: int, exchange: int) -> tuple[TensorSpec, ...]:
        """The tensors that an exchange brings."""
        return self._part.expects(amount, exchange)

    def returns(self, amount: int) -> tuple[TensorSpec, ...]:
        """The tensors of an answer."""
        return self._part.returns(amount)

    def begin(self, amount: int, seed: int) -> Held:
        """A piece that no replica holds yet."""
        return Held(amount, seed)

    def answer(self, batch: Sequence[tuple[Held, Tensors]]) -> list[Reply | InputError]:
        """The next exchange of each piece, where it is held.

        Raises:
            Busy: no replica answers.
            LostSession: the replica that held the piece does not any more.
        """
        return [self._answered(held, sent) for held, sent in batch]

    def evidence(
        self, amount: int, exchange: int, sent: Tensors, reply: Reply, key: bytes
    ) -> bytes:
        """What is kept of an exchange; it takes no model."""
        return self._part.evidence(amount, exchange, sent, reply, key)

    def passes_audit(
        self,
        amount: int,
        evidence: Sequence[bytes],
        source: bytes,
        *,
        seed: int,
        codec: Codec,
        key: bytes,
    ) -> bool:
        """Whether what came is what the source gives; any replica says the same.

        Raises:
            Busy: no replica answers.
            InputError: the source cannot be read.
        """
        found = self._anywhere(
            lambda replica: replica.passes_audit(
                amount=amount, evidence=evidence, source=source, seed=seed, codec=codec, key=key
            )
        )[0]
        if isinstance(found, InputError):
            raise found
        return bool(found)

    # ------------------------------------------------------------ private

    def _known(self) -> Mapping[str, Any]:
        if self._facts is None:
            self._facts = self._anywhere(lambda replica: replica.facts())[0]
        return self._facts

    def _answered(self, held: Held, sent: Tensors) -> Reply | InputError:
        if not held.replica:
            reply, held.replica = self._anywhere(
                lambda replica: replica.work(held.key, held.amount, held.seed, True, sent)
            )
            if isinstance(reply, InputError):
                held.replica = ""
            return reply
        state = self._states[held.replica]
        try:
            if state.away:
                raise ReplicaAway
            reply = self._ask(
                state, lambda replica: replica.work(held.key, held.amount, held.seed, False, sent)
            )
        except (ReplicaAway, NoSession):
            raise LostSession(f"{held.replica}, which held the piece, has lost it") from None
        return reply

    def _anywhere(self, ask: Callable[[Replica], Any]) -> tuple[Any, str]:
        """What the replica with the least to do answers, and its name.

        Raises:
            Busy: none answers.
        """
        end_s = self._clock() + PATIENCE_S
        while True:
            state = self._idlest()
            if state is not None:
                try:
                    return self._ask(state, ask), state.replica.name
                except ReplicaAway:
                    continue
            if self._clock() >= end_s:
                raise Busy("no replica answers")
            self._sleep(ASK_AGAIN_S)

    def _idlest(self) -> _State | None:
        """The replica to ask; now and then one that was away is looked after, by one thread."""
        with self._lock:
            now_s = self._clock()
            late = next((s for s in self._states.values() if s.away and now_s >= s.again_s), None)
            if late is not None:
                late.again_s = float("inf")
        if late is not None:
            back = late.replica.is_there()
            with self._lock:
                late.away, late.again_s = not back, self._clock() + AWAY_S
        with self._lock:
            there = [state for state in self._states.values() if not state.away]
            return min(there, key=lambda state: state.busy) if there else None

    def _ask(self, state: _State, ask: Callable[[Replica], Any]) -> Any:
        with self._lock:
            state.busy += 1
        try:
            found = ask(state.replica)
        except ReplicaAway:
            with self._lock:
                state.away, state.again_s = True, self._clock() + AWAY_S
            raise
        finally:
            with self._lock:
                state.busy -= 1
        return found
