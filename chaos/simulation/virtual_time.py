"""An event loop whose time passes only when nothing else can happen, and whose order is drawn.

Of all that is ready, one callback is drawn and run: coroutines of every process meet in every
order. What runs in threads elsewhere runs here between two callbacks: a call handed to an
executor happens at a drawn time, in the order of its executor, and is told of at a later one. So
a process can die after something is durable and before it has heard of it.

Each callback belongs to a `Process` by its context. A dead process has no more callbacks; those
of one that is paused are kept until it goes on.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

BEGIN_S = 1_000.0
BEGIN_OF_DAY_S = 1.7e9

CALL_S = 0.02
"""Longest call in a thread."""


class Stuck(Exception):
    """Nobody waits for a time, and nothing is left to happen."""


class State(Enum):
    """Whether a process runs."""

    ALIVE = "alive"
    PAUSED = "paused"
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class Process:
    """A process of the simulation.

    Attributes:
        name: of it.
        state: whether it runs.
        held: callbacks that wait for it to go on.
        fibres: threads that it has begun.
        context: in which its callbacks run.
    """

    name: str
    state: State = State.ALIVE
    held: list[asyncio.Handle] = field(default_factory=list)
    fibres: dict[Any, None] = field(default_factory=dict)
    context: Context = field(default_factory=copy_context)

    def __post_init__(self) -> None:
        self.context.run(OWNER.set, self)

    @property
    def alive(self) -> bool:
        """Whether it runs, or will again."""
        return self.state is not State.DEAD


OWNER: ContextVar[Process | None] = ContextVar("OWNER", default=None)


@dataclass(slots=True)
class Clock:
    """Two clocks: one that nobody sets, and the time of day."""

    now_s: float = BEGIN_S
    set_s: float = BEGIN_OF_DAY_S

    def monotonic(self) -> float:
        """Seconds on the clock that nobody sets."""
        return self.now_s

    def wall(self) -> float:
        """Seconds since 1970, as the operator has set them."""
        return self.now_s + self.set_s

    def pass_by(self, seconds: float) -> None:
        """Time passes while somebody holds everything up."""
        self.now_s += max(0.0, seconds)


class Loop(asyncio.BaseEventLoop):
    """See above.

    Args:
        clock: passes as it runs.
        draws: the order of things.
        called: told of every call that was made in a thread.
        begin: begins something that may sleep.
    """

    def __init__(
        self,
        clock: Clock,
        draws: random.Random,
        called: Callable[[], None],
        begin: Callable[[Callable[[], None]], None],
    ) -> None:
        super().__init__()
        self._begin = begin
        self._kept: list[Any] = []
        self._clock, self._draws, self._called = clock, draws, called
        self._lines: dict[Any, deque[Callable[[], None]]] = {}
        self.steps = 0

    def create_task(self, coro: Any, **settings: Any) -> Any:
        """As asyncio does; none is ever collected, since that happens at any time, and runs what
        is left of it."""
        task = super().create_task(coro, **settings)
        self._kept.append(task)
        return task

    def time(self) -> float:
        """Seconds, virtual."""
        return self._clock.now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """Has something called at a drawn time; each executor does one thing after another."""
        done = self.create_future()
        line = object() if executor is None else executor

        def call() -> None:
            result, error = None, None
            try:
                result = func(*args)
            except Exception as raised:
                error = raised
            self._called()
            self.call_later(self._draws.random() * CALL_S, tell, result, error)

        def tell(result: Any, error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        waiting = self._lines.setdefault(line, deque())
        waiting.append(call)
        if len(waiting) == 1:
            self._plan(line)
        return done

    def drain(self, executor: Any) -> None:
        """Makes all calls that an executor has waiting."""
        for call in self._lines.pop(executor, deque()):
            call()

    def _plan(self, line: Any) -> None:
        self.call_later(self._draws.random() * CALL_S, self._next_of, line)

    def _next_of(self, line: Any) -> None:
        """Begins the next call of an executor; it stays in its line until it has ended."""
        waiting = self._lines.get(line)
        if waiting:
            self._begin(partial(self._carry_out, line, waiting[0]))

    def _carry_out(self, line: Any, call: Callable[[], None]) -> None:
        try:
            call()
        finally:
            waiting = self._lines.get(line)
            if waiting and waiting[0] is call:
                waiting.popleft()
                if waiting:
                    self._plan(line)
                else:
                    del self._lines[line]

    def go_on(self, process: Process) -> None:
        """Lets a paused process go on."""
        if process.state is State.PAUSED:
            process.state = State.ALIVE
            self._ready.extend(process.held)
        process.held.clear()

    # ------------------------------------------------------------ what BaseEventLoop leaves open

    _ready: "deque[asyncio.Handle]"
    _scheduled: list[asyncio.TimerHandle]
    _timer_cancelled_count: int

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        self._forget_cancelled()
        if not ready:
            if not scheduled:
                raise Stuck
            self._clock.now_s = max(self._clock.now_s, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._clock.now_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            if timer.cancelled():
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)
        at = self._draws.randrange(len(ready))
        handle = ready[at]
        del ready[at]
        if handle.cancelled():
            return
        owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
        if owner is None or owner.state is State.ALIVE:
            self.steps += 1
            handle._run()
        elif owner.state is State.PAUSED:
            owner.held.append(handle)

    def _forget_cancelled(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            self._timer_cancelled_count -= 1
