"""One worker for many askers, each in its turn: who asks for much waits for itself.

Calls are drawn round robin over those who ask, and run in one thread. Where a job's pieces can pass
its stages together, as many as there is room for are drawn in this order into the batch that is
passing (`passing_batch`), between two stages at the earliest; what has no stages goes through it
alone. Without stages there is room for one, and each call runs when its turn has come.

What is run behind the others has its turn only when nobody else waits or is on the way.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from edgepact.market.passing_batch import ALONE, Member, PassingBatch, Step

_T = TypeVar("_T")


@runtime_checkable
class Stages(Protocol):
    """Stages that several pieces can pass at once."""

    @property
    def stages(self) -> int:
        """How many there are."""
        ...

    def advance(
        self, travelling: Sequence[Any], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[Any], int]:
        """As `work.StagedPart.advance`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How pieces pass stages together.

    Attributes:
        size_max: most pieces on their way through them.
        wait_s: how long a piece may be passed over for the sake of others.
    """

    size_max: int
    wait_s: float


ONE_BY_ONE = Batching(size_max=1, wait_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage(Generic[_T]):
    """What became of a call, and how it passed.

    Attributes:
        found: what it returned.
        compute_s: seconds of work on it: of a step that several passed, its even share.
        wait_s: seconds in which nothing was done for it, from its asking.
        together: how many passed a stage together with it, itself included, on average.
    """

    found: _T
    compute_s: float
    wait_s: float
    together: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Asked:
    """A call that waits, or is on its way.

    Attributes:
        who, done: who has asked, and who is to hear.
        asked_s: when.
        enter: first part of the work: the stage at which it begins, and what travels; None for a
            call without stages.
        leave: the rest, of what has travelled.
        travelling: what travels.
        own_s: seconds of work, of steps an even share.
        busy_s: seconds of the steps that it was in, and of its own work.
        stages, passed: stages so far, and how many passed them, added up.
    """

    who: str
    done: asyncio.Future[Any]
    asked_s: float
    enter: Callable[[], tuple[int, Any]] | None
    leave: Callable[[Any], Any]
    travelling: Any = None
    own_s: float = 0.0
    busy_s: float = 0.0
    stages: int = 0
    passed: int = 0

    def took(self, seconds: float, *, members: int = 1, stages: int = 0) -> None:
        """Counts work that was done."""
        self.own_s += seconds / members
        self.busy_s += seconds
        self.stages += stages
        self.passed += stages * members


_Lines = OrderedDict[str, deque[_Asked]]


class FairQueue:
    """Runs calls in one thread, round robin over those who ask. For one event loop.

    Args:
        name: of the thread.
        stages: that pieces may pass together; None if there are none.
        batching: how they do.
    """

    def __init__(
        self, name: str, stages: Stages | None = None, batching: Batching = ONE_BY_ONE
    ) -> None:
        self._stages, self._wait_s = stages, batching.wait_s
        self._batch: PassingBatch[_Asked] = PassingBatch(
            stages=stages.stages if stages else 1,
            size_max=batching.size_max if stages else 1,
            wait_s=batching.wait_s,
        )
        self._lines: _Lines = OrderedDict()
        self._behind: _Lines = OrderedDict()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, who: str, call: Callable[[], _T]) -> _T:
        """Waits for its turn and returns what the call returns, or raises what it raises."""
        return (await self._ask(self._lines, who, None, lambda _: call())).found

    async def run_behind(self, who: str, call: Callable[[], _T]) -> _T:
        """As `run`, when nothing else waits: one call at most delays the others."""
        return (await self._ask(self._behind, who, None, lambda _: call())).found

    async def travel(
        self, who: str, enter: Callable[[], tuple[int, Any]], leave: Callable[[Any], _T]
    ) -> Passage[_T]:
        """Has a piece pass the stages, with others.

        Args:
            who: whose turn it takes.
            enter: tells at which stage it begins, which may be behind the last, and what travels.
            leave: makes of what has travelled what is returned.

        Raises:
            Exception: whatever one of the two, or a stage, has raised.
        """
        return await self._ask(self._lines, who, enter, leave)

    def close(self) -> None:
        """Finishes what runs; what waits is not begun."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread.ident is not None:
            self._thread.join()

    async def _ask(
        self,
        lines: _Lines,
        who: str,
        enter: Callable[[], tuple[int, Any]] | None,
        leave: Callable[[Any], _T],
    ) -> Passage[_T]:
        done: asyncio.Future[Passage[_T]] = asyncio.get_running_loop().create_future()
        asked = _Asked(who=who, done=done, asked_s=time.monotonic(), enter=enter, leave=leave)
        with self._change:
            if self._closed:
                raise RuntimeError("nothing is computed any more")
            lines.setdefault(who, deque()).append(asked)
            if self._thread.ident is None:
                self._thread.start()
            self._change.notify()
        return await done

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        while True:
            with self._change:
                while not (self._closed or self._lines or self._behind or len(self._batch)):
                    self._change.wait()
                if self._closed:
                    break
            self._take_in()
            step = self._batch.step(time.monotonic())
            if step is not None:
                self._take(step)
        for line in (*self._lines.values(), *self._behind.values()):
            for asked in line:
                _tell(asked.done, None, asyncio.CancelledError())
        for member in self._batch:
            _tell(member.what.done, None, asyncio.CancelledError())

    def _take_in(self) -> None:
        """As many as there is room for, each asker in its turn.

        Entering is work too, such as reading a picture: those on their way are not kept waiting
        for longer than they may be.
        """
        until_s = time.monotonic() + self._wait_s
        asked = self._drawn()
        while asked is not None:
            self._enter(asked)
            asked = self._drawn() if time.monotonic() < until_s else None

    def _drawn(self) -> _Asked | None:
        """The next call that somebody waits for, if there is one, and room for it."""
        with self._change:
            while self._batch.room > 0:
                lines = self._lines or (self._behind if not len(self._batch) else None)
                if not lines:
                    break
                who, line = lines.popitem(last=False)
                asked = line.popleft()
                if line:
                    lines[who] = line  # after everybody else
                if not asked.done.cancelled():
                    return asked
        return None

    def _enter(self, asked: _Asked) -> None:
        stage = ALONE
        if asked.enter is not None:
            start_s = time.monotonic()
            try:
                stage, asked.travelling = asked.enter()
            except Exception as error:
                _tell(asked.done, None, error)
                return
            asked.took(time.monotonic() - start_s)
            if self._stages is None or stage >= self._stages.stages:
                self._finish(asked)
                return
        self._batch.enter(asked.who, asked, stage, time.monotonic())

    def _take(self, step: Step[_Asked]) -> None:
        """Takes a step, and lets go who is through with it, one by one."""
        if step.start == ALONE:
            for member in self._batch.moved(step, step.stop):
                self._finish(member.what)
            return
        start_s = time.monotonic()
        try:
            reached = self._advance(step.members, step)
        except Exception as error:
            self._part(step, error)
            return
        took_s = time.monotonic() - start_s
        for member in step.members:
            member.what.took(took_s, members=len(step.members), stages=reached - step.start)
        for member in self._batch.moved(step, reached):
            self._finish(member.what)

    def _advance(self, members: Sequence[Member[_Asked]], step: Step[_Asked]) -> int:
        assert self._stages is not None

        def pause() -> bool:
            newcomers = bool(self._lines) and self._batch.room > 0
            return newcomers or self._closed or time.monotonic() >= step.until_s

        travelling = [member.what.travelling for member in members]
        travelling, reached = self._stages.advance(travelling, step.start, step.stop, pause)
        for member, each in zip(members, travelling, strict=True):
            member.what.travelling = each
        return reached

    def _part(self, step: Step[_Asked], error: Exception) -> None:
        """A step has failed: each member goes the rest of its way alone, and fails for itself."""
        assert self._stages is not None
        members = self._batch.moved(step, self._stages.stages)
        for member in members:
            asked = member.what
            if len(members) > 1:
                start_s = time.monotonic()
                try:
                    (asked.travelling,), _ = self._stages.advance(
                        [asked.travelling], step.start, self._stages.stages, _never
                    )
                except Exception as own:
                    _tell(asked.done, None, own)
                else:
                    stages = self._stages.stages - step.start
                    asked.took(time.monotonic() - start_s, stages=stages)
                    self._finish(asked)
            else:
                _tell(asked.done, None, error)

    def _finish(self, asked: _Asked) -> None:
        start_s = time.monotonic()
        try:
            found = asked.leave(asked.travelling)
        except Exception as error:
            _tell(asked.done, None, error)
            return
        end_s = time.monotonic()
        asked.took(end_s - start_s)
        passage = Passage(
            found=found,
            compute_s=asked.own_s,
            wait_s=max(0.0, end_s - asked.asked_s - asked.busy_s),
            together=asked.passed / asked.stages if asked.stages else 1.0,
        )
        _tell(asked.done, passage, None)


def _never() -> bool:
    return False


def _tell(
    done: asyncio.Future[Any], found: Any, error: Exception | asyncio.CancelledError | None
) -> None:
    """Tells who waits in the event loop, unless nobody does any more."""

    def tell() -> None:
        if done.done():
            return
        if isinstance(error, asyncio.CancelledError):
            done.cancel()
        elif isinstance(error, StopIteration):  # which no future can be told
            done.set_exception(RuntimeError(f"a job raised {error!r}"))
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(found)

    with suppress(RuntimeError):  # the loop is closed: nobody waits
        done.get_loop().call_soon_threadsafe(tell)
