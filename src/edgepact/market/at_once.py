"""Work that takes less time than to hand it to a thread: it is done where it is asked for.

To wake a thread and to be woken by it costs some 0.1 ms, and a few times that beside other
programs. A job of microseconds says that it is brief (`work.BriefPart`), and has no queue: nobody
waits for anybody. Everything else goes through a `FairQueue`, as no connection is heard meanwhile.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from edgepact.market.fair_queue import Passage

_T = TypeVar("_T")


class AtOnce:
    """Does each call in the event loop, when it is asked for."""

    async def run(self, who: str, call: Callable[[], _T]) -> _T:
        """Returns what the call returns, or raises what it raises."""
        return call()

    async def run_behind(self, who: str, call: Callable[[], _T]) -> _T:
        """As `run`: there is nobody to be behind."""
        return call()

    async def travel(
        self, who: str, enter: Callable[[], tuple[int, Any]], leave: Callable[[Any], _T]
    ) -> Passage[_T]:
        """As `FairQueue.travel`; there are no stages to pass."""
        start_s = time.monotonic()
        _, travelling = enter()
        found = leave(travelling)
        took_s = time.monotonic() - start_s
        return Passage(found=found, compute_s=took_s, wait_s=0.0, together=1.0)

    def close(self) -> None:
        """Nothing runs."""
