"""How much memory Python takes for something."""

import tracemalloc
from collections.abc import Callable

TRIES = 3


def most_bytes(work: Callable[[], object]) -> int:
    """The most bytes that Python holds more while this works: the least of some tries.

    All threads count, and one that an earlier test left may take memory in any single try.
    """
    peaks = []
    for _ in range(TRIES):
        tracemalloc.start()
        try:
            work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)
