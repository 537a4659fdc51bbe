"""The thread that computes: who passes together, what fails alone, and what is told of it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from edgepact.market.fair_queue import Batching, FairQueue, Passage

STAGES = 4


class Adding:
    """Stages that add their number; notes who has passed which together."""

    stages = STAGES

    def __init__(self) -> None:
        self.passed: list[tuple[int, int, list[int]]] = []
        self.between: Callable[[], None] = lambda: None

    def advance(
        self, travelling: Sequence[int], start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[int], int]:
        found = list(travelling)
        for stage in range(start, stop):
            if any(each < 0 for each in found):
                raise ValueError("a negative number")
            found = [each + stage for each in found]
            self.between()
            if stage + 1 < stop and pause():
                stop = stage + 1
                break
        self.passed.append((start, stop, list(travelling)))
        return found, stop


def played(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 60))


async def held(queue: FairQueue, release: threading.Event) -> asyncio.Task[Any]:
    """A call that holds the thread, so that others gather behind it."""
    begun = threading.Event()

    def hold() -> bool:
        begun.set()
        return release.wait()

    call = asyncio.create_task(queue.run("holder", hold))
    await asyncio.to_thread(begun.wait)
    return call


def asked(queue: FairQueue, who: str, stage: int, x: int) -> asyncio.Task[Passage[int]]:
    return asyncio.create_task(queue.travel(who, lambda: (stage, x), lambda found: found))


async def gathered(*calls: Awaitable[Any]) -> list[Any]:
    return list(await asyncio.gather(*calls, return_exceptions=True))


def test_who_waits_further_on_joins_and_each_hears_its_own() -> None:
    adding = Adding()

    async def play() -> None:
        queue = FairQueue("test", adding, Batching(size_max=8, wait_s=60.0))
        release = threading.Event()
        holder = await held(queue, release)
        calls = [asked(queue, f"cam-{at}", at, 100 * at) for at in (2, 0, 2, 3)]
        calls.append(asked(queue, "whole", STAGES, 7))  # nothing is left to do
        await asyncio.sleep(0)
        release.set()
        passages = await asyncio.gather(*calls)
        await holder
        assert [each.found for each in passages] == [205, 6, 205, 303, 7]
        # Two stages alone and two with others; what all have had is the even share.
        assert [each.together for each in passages] == [3.5, 2.25, 3.5, 4.0, 1.0]
        assert all(each.compute_s >= 0 and each.wait_s >= 0 for each in passages)
        queue.close()

    played(play)
    assert adding.passed == [(0, 2, [0]), (2, 3, [200, 1, 200]), (3, 4, [202, 3, 300, 202])]


def test_a_newcomer_joins_the_batch_on_its_way() -> None:
    adding = Adding()

    async def play() -> None:
        queue = FairQueue("test", adding, Batching(size_max=8, wait_s=60.0))
        loop = asyncio.get_running_loop()
        calls: list[Any] = []
        begun = threading.Event()

        def after_the_first_stage() -> None:
            adding.between = lambda: None
            newcomer = queue.travel("late", lambda: (2, 50), lambda found: found)
            calls.append(asyncio.run_coroutine_threadsafe(newcomer, loop))
            while not queue._lines:  # it is heard of before the stage is over
                pass
            begun.set()

        adding.between = after_the_first_stage
        first = await asked(queue, "early", 0, 10)
        await asyncio.to_thread(begun.wait)
        late = await asyncio.wrap_future(calls[0])
        assert (first.found, late.found) == (16, 55)
        assert (first.together, late.together) == (1.5, 2.0)
        queue.close()

    played(play)
    assert adding.passed == [(0, 1, [10]), (1, 2, [10]), (2, 4, [11, 50])]


def test_what_fails_in_a_stage_fails_alone() -> None:
    adding = Adding()

    async def play() -> None:
        queue = FairQueue("test", adding, Batching(size_max=8, wait_s=60.0))
        release = threading.Event()
        holder = await held(queue, release)
        calls = [asked(queue, f"cam-{at}", 1, x) for at, x in enumerate((1, -5, 2))]
        await asyncio.sleep(0)
        release.set()
        good, bad, other = await gathered(*calls)
        assert (good.found, other.found) == (7, 8)
        assert isinstance(bad, ValueError)
        with pytest.raises(ValueError, match="negative"):
            await asked(queue, "cam-9", 0, -1)

        def wrong() -> tuple[int, int]:
            raise KeyError("entering")

        with pytest.raises(KeyError):
            await queue.travel("cam-9", wrong, lambda found: found)
        with pytest.raises(ZeroDivisionError):
            await queue.travel("cam-9", lambda: (3, 1), lambda found: found // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await queue.travel("cam-9", lambda: (3, 1), lambda found: next(iter(())))
        assert (await asked(queue, "cam-9", 3, 1)).found == 4  # it goes on
        await holder
        queue.close()

    played(play)


def test_devices_enter_in_turn_and_no_more_than_there_is_room_for() -> None:
    adding = Adding()

    async def play() -> None:
        queue = FairQueue("test", adding, Batching(size_max=2, wait_s=60.0))
        release = threading.Event()
        holder = await held(queue, release)
        calls = [asked(queue, "greedy", 0, x) for x in (1, 2, 3)]
        calls += [asked(queue, "modest", 0, 9)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(holder, *calls)
        queue.close()

    played(play)
    firsts = [travelling for start, _, travelling in adding.passed if start == 0]
    assert firsts == [[1, 9], [2, 3]]


def test_calls_without_stages_go_between() -> None:
    adding = Adding()
    order: list[str] = []

    async def play() -> None:
        queue = FairQueue("test", adding, Batching(size_max=8, wait_s=60.0))
        release = threading.Event()
        holder = await held(queue, release)
        calls: list[asyncio.Task[Any]] = [asked(queue, "cam-0", 0, 0)]
        calls.append(asyncio.create_task(queue.run("cam-1", lambda: order.append("audit"))))
        calls.append(asked(queue, "cam-2", 2, 0))
        await asyncio.sleep(0)
        adding.between = lambda: order.append("stage")
        release.set()
        await asyncio.gather(holder, *calls)
        queue.close()

    played(play)
    assert order == ["audit", *["stage"] * 4]
    assert adding.passed == [(0, 2, [0]), (2, 4, [1, 0])]


def test_who_has_gone_away_is_passed_over_and_closing_ends_the_wait() -> None:
    adding = Adding()

    async def play() -> None:
        queue = FairQueue("test", adding, Batching(size_max=1, wait_s=0.0))
        release = threading.Event()
        holder = await held(queue, release)
        gone, waiting = asked(queue, "gone", 0, 1), asked(queue, "waiting", 0, 2)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(queue.close))
        while not queue._closed:
            await asyncio.sleep(0.001)
        release.set()
        await closing
        assert await holder
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(RuntimeError):
            await queue.run("late", lambda: 1)

    played(play)
    assert not adding.passed
