"""Several workers for many askers, where work is done elsewhere and is only waited for here.

Each worker is a fair queue of its own; whoever asks has its turn in the one with the fewest calls.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from edgepact.market.fair_queue import FairQueue, Passage

_T = TypeVar("_T")


class Lanes:
    """Some fair queues, as one. For one event loop.

    Args:
        name: of the threads.
        count: how many there are.
    """

    def __init__(self, name: str, count: int) -> None:
        self._queues = [FairQueue(f"{name}-{at}") for at in range(count)]
        self._waiting = [0] * count

    async def run(self, who: str, call: Callable[[], _T]) -> _T:
        """Waits for its turn and returns what the call returns, or raises what it raises."""
        return await self._shortest(lambda queue: queue.run(who, call))

    async def run_behind(self, who: str, call: Callable[[], _T]) -> _T:
        """As `run`, when nothing else waits in its queue."""
        return await self._shortest(lambda queue: queue.run_behind(who, call))

    async def travel(
        self, who: str, enter: Callable[[], tuple[int, Any]], leave: Callable[[Any], _T]
    ) -> Passage[_T]:
        """As `FairQueue.travel`; nothing passes together, since the stages are elsewhere."""
        return await self._shortest(lambda queue: queue.travel(who, enter, leave))

    def close(self) -> None:
        """Finishes what runs; what waits is not begun."""
        for queue in self._queues:
            queue.close()

    async def _shortest(self, ask: Callable[[FairQueue], Awaitable[_T]]) -> _T:
        at = min(range(len(self._queues)), key=self._waiting.__getitem__)
        self._waiting[at] += 1
        try:
            return await ask(self._queues[at])
        finally:
            self._waiting[at] -= 1
