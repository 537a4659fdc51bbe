"""Pieces of work that users of a device ask for while it works, one after another.

They wait in a queue of bounded length until a round is open and their turn comes. Whoever asks
hears of the end through a `Future`, and may withdraw as long as it has not begun.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from edgepact.work import Json

WAITING_MAX = 16
"""Most that wait."""

TRIES_MAX = 5
"""How often one is begun whose round ended before it did."""


class FullError(Exception):
    """No more can wait."""


class Asked:
    """A piece that is asked for.

    Args:
        piece: makes it, at every try: of a piece that a round's end has cut short, what is left;
            None if nothing is.
    """

    def __init__(self, piece: Callable[[], Any | None]) -> None:
        self.piece = piece
        self.tries = 0
        self.ended: Future[dict[str, Json]] = Future()
        """The job's own fields of the result, or why there is none."""

    def begin(self) -> bool:
        """Whether it is still wanted; from then on it cannot be withdrawn."""
        self.tries += 1
        return self.tries > 1 or self.ended.set_running_or_notify_cancel()

    def fail(self, why: Exception) -> None:
        """Tells that nothing will come of it."""
        if not self.ended.done():
            self.ended.set_exception(why)


class Desk:
    """Where they wait. Used by several threads.

    Args:
        waiting_max: most that wait; the next is refused.

    Example:
        >>> desk = Desk()
        >>> asked = desk.ask(lambda: "piece")
        >>> desk.take(0.0) is asked
        True
    """

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._woken = False

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, piece: Callable[[], Any | None]) -> Asked:
        """Asks for a piece.

        Raises:
            FullError: too many wait, or the device is ending.
        """
        asked = Asked(piece)
        with self._changed:
            self._forget_withdrawn()
            if self._closed or len(self._waiting) >= self._waiting_max:
                raise FullError
            self._waiting.append(asked)
            self._changed.notify_all()
        return asked

    def again(self, asked: Asked, why: Exception) -> None:
        """Puts one back, to be the next; after too many tries it fails."""
        with self._changed:
            if not self._closed and asked.tries < TRIES_MAX:
                self._waiting.appendleft(asked)
                self._changed.notify_all()
                return
        asked.fail(why)

    def take(self, timeout_s: float) -> Asked | None:
        """The next, as soon as there is one; None when time is up or `wake` was called."""
        with self._changed:
            self._wait(timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def wait(self, timeout_s: float) -> bool:
        """Waits as `take` does; whether there is one."""
        with self._changed:
            self._wait(timeout_s)
            return bool(self._waiting)

    def wake(self) -> None:
        """Ends a wait that is on, or the next one."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Takes no more; what waits fails."""
        with self._changed:
            self._closed = True
            left, self._waiting = list(self._waiting), deque()
        for each in left:
            if each.begin():
                each.fail(FullError())

    def _wait(self, timeout_s: float) -> None:
        self._forget_withdrawn()
        self._changed.wait_for(lambda: self._waiting or self._woken, timeout_s)
        self._woken = False
        self._forget_withdrawn()

    def _forget_withdrawn(self) -> None:
        for each in [each for each in self._waiting if each.ended.cancelled()]:
            self._waiting.remove(each)
