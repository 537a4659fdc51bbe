"""One worker for many askers, each in its turn: who asks for much waits for itself.

What is run behind the others has its turn only when nobody else waits.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

_Lines = OrderedDict[str, deque[tuple[Callable[[], Any], asyncio.Future[Any]]]]


class FairQueue:
    """Runs calls in one thread, round robin over those who ask. For one event loop.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lines: _Lines = OrderedDict()
        self._behind: _Lines = OrderedDict()
        self._running: asyncio.Task[None] | None = None

    async def run(self, who: str, call: Callable[[], _T]) -> _T:
        """Waits for its turn and returns what the call returns, or raises what it raises."""
        return await self._wait(self._lines, who, call)

    async def run_behind(self, who: str, call: Callable[[], _T]) -> _T:
        """As `run`, when nothing else waits: one call at most delays the others."""
        return await self._wait(self._behind, who, call)

    def close(self) -> None:
        """Finishes what runs; what waits is not begun."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _wait(self, lines: _Lines, who: str, call: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        lines.setdefault(who, deque()).append((call, done))
        if self._running is None:
            self._running = loop.create_task(self._work())
        return await done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while lines := self._lines or self._behind:
                who, line = lines.popitem(last=False)
                call, done = line.popleft()
                if line:
                    lines[who] = line  # after everybody else
                if done.cancelled():
                    continue
                try:
                    found = await loop.run_in_executor(self._thread, call)
                except Exception as error:
                    if not done.cancelled():
                        done.set_exception(error)
                else:
                    if not done.cancelled():
                        done.set_result(found)
        finally:
            self._running = None
