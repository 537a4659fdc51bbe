"""Work of a study spread over processes, with results that do not depend on how many there are.

Each piece of work says by itself what it needs, its seeds included, so it does not matter who does
it or after what; results come back in the order of the pieces. Processes are started afresh
(`spawn`): a copy of one in which JAX runs may hang. They end with the process that started them,
however that ends, and Ctrl-C ends them in silence.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import active_children, get_context, parent_process
from typing import TypeVar

from edgepact.errors import EdgepactError

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def spread(
    work: Callable[[Piece], Result],
    pieces: Sequence[Piece],
    *,
    workers: int,
    on_piece: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Does all pieces of work, in this process if there is one worker.

    Args:
        work: does a piece; a function of a module, so that another process finds it.
        pieces: all of them, small enough to be sent to a process.
        workers: processes.
        on_piece: told after each piece how many are done, and how many there are.

    Returns:
        What each piece came to, in their order.

    Raises:
        EdgepactError: a process ended before its work did.
    """
    found: list[Result] = []

    def keep(result: Result) -> None:
        found.append(result)
        if on_piece:
            on_piece(len(found), len(pieces))

    if workers == 1:
        for piece in pieces:
            keep(work(piece))
        return found
    context, others = get_context("spawn"), set(active_children())
    number = min(workers, max(1, len(pieces)))
    with ProcessPoolExecutor(number, mp_context=context, initializer=_end_when_told) as pool:
        try:
            with _interrupts_held():  # a process that is being started is told once it has begun
                results = pool.map(work, pieces)
            for result in results:
                keep(result)
        except BrokenProcessPool as error:
            message = (
                f"one of {workers} processes of the study ended before its work did; "
                "if memory ran out, ask for fewer --workers"
            )
            raise EdgepactError(message) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise
    return found


def _end_when_told() -> None:
    """Has a process end with its parent and by Ctrl-C, from before its first piece on."""
    parent = parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C is heard after this, here and in the processes that are started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stretches(total: int, most: int) -> list[range]:
    """Consecutive numbers from 0 on, at most so many in each stretch."""
    ends = [*range(0, total, most), total]
    return [range(first, last) for first, last in pairwise(ends)]
