"""Threads of devices, of which one runs at a time and only the event loop says which.

A device is written with threads and waits. Here each of its threads is a greenlet that hands over
where it would wait, so that the real device runs in one thread with the real server, in an order
that is drawn and can be repeated.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future
from typing import Any, cast

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from chaos.simulation.virtual_time import OWNER, Loop, Process

LEAST_S = 1e-6


class Killed(BaseException):
    """The process is dead: nothing of it happens any more."""


class Fibre(greenlet):  # type: ignore[misc]
    """A thread of a process.

    Args:
        loop: runs it.
        process: whose.
        main: greenlet of the loop.
        call: what it does.
        ended: hears of the end; Killed is no end.
        at_once: whether it begins before this returns.
    """

    def __init__(
        self,
        loop: Loop,
        process: Process,
        main: greenlet,
        call: Callable[[], Any],
        ended: Callable[[BaseException | None, Any], None],
        *,
        at_once: bool = False,
    ) -> None:
        super().__init__(parent=main)
        self.loop, self.process, self.main = loop, process, main
        self._call, self._ended = call, ended
        self._turn = 0
        process.fibres[self] = None
        self.gr_context = process.context.copy()
        if at_once:
            self.switch()
        else:
            loop.call_soon(self._begin, context=process.context.copy())

    def run(self) -> None:
        """Does it, to its end."""
        try:
            result, error = self._call(), None
        except Killed:
            return
        except BaseException as raised:
            result, error = None, raised
        self.process.fibres.pop(self, None)
        if self.process.alive:
            self._ended(error, result)

    def rest(self, waited: asyncio.Future[Any]) -> None:
        """Lets others go on until something is done.

        Raises:
            Killed: the process is dead.
        """
        if not self.process.alive:
            raise Killed
        self._turn += 1
        turn = self._turn
        waited.add_done_callback(lambda _: self._go_on(turn), context=self.process.context.copy())
        self.main.switch()
        self._turn += 1
        if not self.process.alive:
            raise Killed

    def interrupt(self, error: BaseException) -> None:
        """Raises something where it waits."""
        if not self.dead:
            self.throw(error)

    def _begin(self) -> None:
        if self.process.alive and not self.dead:
            self.switch()

    def _go_on(self, turn: int) -> None:
        if turn == self._turn and not self.dead:
            self.switch()


def current() -> Fibre:
    """The fibre that runs."""
    return cast(Fibre, getcurrent())


def in_fibre() -> bool:
    """Whether a fibre runs."""
    return isinstance(getcurrent(), Fibre)


def await_for(waited: asyncio.Future[Any], timeout_s: float | None) -> bool:
    """Waits in a fibre; whether it was done in time."""
    fibre = current()
    if waited.done():
        return True
    if timeout_s is None:
        fibre.rest(waited)
        return True
    either = fibre.loop.create_future()

    def settle(*_: object) -> None:
        if not either.done():
            either.set_result(None)

    timer = fibre.loop.call_later(max(0.0, timeout_s), settle)
    waited.add_done_callback(settle)
    try:
        fibre.rest(either)
    finally:
        timer.cancel()
        waited.remove_done_callback(settle)
    return waited.done()


def sleep(seconds: float) -> None:
    """`time.sleep` in a fibre."""
    # What is left of a time may be too small to be added to the clock.
    await_for(current().loop.create_future(), max(seconds, LEAST_S))


class FibreLock:
    """`threading.Lock` of fibres."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[asyncio.Future[None]] = []

    def __enter__(self) -> None:
        while self._held:
            turn = current().loop.create_future()
            self._waiting.append(turn)
            current().rest(turn)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class FibreEvent:
    """`threading.Event` of fibres."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """It has happened."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def clear(self) -> None:
        """It has not."""
        self._set = False

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for it."""
        if not self._set:
            happens = current().loop.create_future()
            self._waiting.append(happens)
            await_for(happens, timeout_s)
        return self._set


class FibreFuture(Future[Any]):
    """`Future` that a fibre can wait for."""

    def result(self, timeout: float | None = None) -> Any:
        """What came of it, once something has."""
        if not self.done():
            wait_all([self])
        return super().result(0)


class FibrePool:
    """`ThreadPoolExecutor` of fibres; all that is submitted begins at once."""

    def __init__(self, *_: object, **__: object) -> None:
        self._all: list[Future[Any]] = []

    def __enter__(self) -> "FibrePool":
        return self

    def __exit__(self, *_: object) -> None:
        wait_all(self._all)

    def shutdown(self, wait: bool = True) -> None:
        """Waits for all."""
        if wait:
            wait_all(self._all)

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """Begins it."""
        own, done = current(), FibreFuture()

        def ended(error: BaseException | None, result: Any) -> None:
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        Fibre(own.loop, own.process, own.main, lambda: call(*args), ended)
        self._all.append(done)
        return done


def wait_all(
    futures: Iterable[Future[Any]], *, return_when: str = ""
) -> tuple[list[Future[Any]], list[Future[Any]]]:
    """`concurrent.futures.wait` in a fibre; in order, so that it can be repeated."""
    waited = list(futures)
    enough = 1 if return_when == FIRST_COMPLETED else len(waited)
    while sum(each.done() for each in waited) < enough:
        step = current().loop.create_future()

        def settle(_: object, step: asyncio.Future[None] = step) -> None:
            if not step.done():
                step.set_result(None)

        for each in waited:
            if not each.done():
                each.add_done_callback(settle)
        current().rest(step)
    done = [each for each in waited if each.done()]
    return done, [each for each in waited if not each.done()]


def owner() -> Process:
    """The process that runs."""
    found = OWNER.get()
    assert found is not None
    return found


class FibreCondition:
    """`threading.Condition` of fibres: nobody else runs while it is held."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def __enter__(self) -> None:
        """Nothing has to be waited for."""

    def __exit__(self, *_: object) -> None:
        """Nothing has to be told."""

    def wait(self) -> None:
        """Waits to be notified."""
        turn = current().loop.create_future()
        self._waiting.append(turn)
        current().rest(turn)

    def notify(self) -> None:
        """Wakes who waits."""
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class FibreThread:
    """`threading.Thread` of a server, whose event loop starts it."""

    def __init__(self, *, target: Callable[[], None], **_: object) -> None:
        self._target = target
        self._fibre: Fibre | None = None

    @property
    def ident(self) -> int | None:
        """Something, once it has been started."""
        return None if self._fibre is None else 1

    def start(self) -> None:
        """Begins it."""
        loop = cast(Loop, asyncio.get_running_loop())
        self._fibre = Fibre(loop, owner(), getcurrent(), self._target, lambda *_: None)

    def join(self) -> None:
        """Ends it where it waits."""
        if self._fibre is not None:
            self._fibre.interrupt(Killed())
