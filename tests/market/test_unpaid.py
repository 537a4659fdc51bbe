"""Unpaid inference: batches, its rate, and its place behind paid work."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.inference.codecs import BUILT_IN
from edgepact.market import unpaid
from edgepact.market.books import Busy
from edgepact.market.bounds import Crowded
from edgepact.market.fair_queue import FairQueue
from edgepact.market.sessions import LostSession
from edgepact.market.unpaid import BATCH_MAX, Unpaid, joined, split
from edgepact.tensors import TensorSpec
from tests.market.echo import EchoServer

SECRET = bytes(32)
PLAIN = BUILT_IN[2]

# ---------------------------------------------------------------- batches

SPECS = (
    TensorSpec(name="a", datatype="FP32", shape=(1, 3), coded=True),
    TensorSpec(name="text", datatype="BYTES", shape=(1,)),
)


@given(st.integers(1, 6), st.sampled_from(BUILT_IN))
def test_batch_is_its_pieces(count: int, codec: Any) -> None:
    pieces = [
        {"a": np.full((1, 3), at, np.float32), "text": (f"{at}".encode(),)} for at in range(count)
    ]
    packed = [codec.pack(piece, SPECS) for piece in pieces]
    together = joined(packed)
    assert len(together["text"]) == count
    again = split(together, codec.packed(SPECS))
    assert len(again) == count
    for one, other in zip(packed, again, strict=True):
        assert set(one) == set(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_what_is_no_batch_is_one_piece() -> None:
    unlike = {"a": np.zeros((2, 3), np.float32), "text": (b"x",)}
    assert split(unlike, SPECS) == [unlike]
    free = (TensorSpec(name="a", datatype="FP32", shape=(-1, 3)),)
    long = {"a": np.zeros((5, 3), np.float32)}
    assert split(long, free) == [long]
    assert split({"other": np.zeros((5, 3), np.float32)}, SPECS)[0].keys() == {"other"}


def test_batches_are_bounded() -> None:
    spec = TensorSpec(name="a", datatype="FP32", shape=(1, 3))
    with pytest.raises(InputError, match=f"at most {BATCH_MAX} pieces"):
        split({"a": np.zeros((BATCH_MAX + 1, 3), np.float32)}, [spec])


# ---------------------------------------------------------------- with a job


def echo(per_minute: int = 1000) -> tuple[Unpaid, EchoServer]:
    part = EchoServer()

    async def run(who: str, call: Callable[[], Any]) -> Any:
        return call()

    return Unpaid(part, SECRET, run, per_minute), part


def numbers(*values: float, left: int = 0) -> dict[str, np.ndarray]:
    return {
        "x": np.array(values, np.float32),
        "left": np.full(len(values), left, np.int32),
    }


def test_batch_gives_what_its_pieces_give() -> None:
    async def play() -> None:
        service, _ = echo()
        one = [await service.infer("x", "", 0, 2, PLAIN, numbers(v)) for v in (1.0, 2.0, 3.0)]
        many = await service.infer("x", "", 0, 2, PLAIN, numbers(1.0, 2.0, 3.0))
        assert many.pieces == 3
        assert many.finished
        singles = np.concatenate([np.asarray(each.outputs["sum"]) for each in one])
        assert np.array_equal(np.asarray(many.outputs["sum"]), singles)
        assert many.told == {"heard": [1.0, 2.0, 3.0]}
        with pytest.raises(InputError, match="at most 1000"):
            await service.infer("x", "", 0, 2, PLAIN, numbers(1.0, 2000.0))
        with pytest.raises(InputError, match="one piece a request"):
            await service.infer("x", "", 0, 2, PLAIN, numbers(1.0, 2.0, left=1))

    asyncio.run(play())


def test_pieces_of_several_exchanges_keep_a_session() -> None:
    async def play() -> None:
        service, part = echo()
        first = await service.infer("x", "job", 0, 2, PLAIN, numbers(1.0, left=1))
        assert not first.finished
        again = await service.infer("x", "job", 0, 2, PLAIN, numbers(1.0, left=1))
        assert np.array_equal(np.asarray(again.outputs["sum"]), np.asarray(first.outputs["sum"]))
        assert part.answered == 1
        with pytest.raises(LostSession, match="no session"):
            await service.infer("y", "job", 1, 2, PLAIN, numbers(2.0))
        last = await service.infer("x", "job", 1, 2, PLAIN, numbers(2.0))
        assert last.finished
        gained = np.asarray(last.outputs["sum"]) - np.asarray(first.outputs["sum"])
        assert gained == 2.0
        with pytest.raises(LostSession, match="no session"):
            await service.infer("x", "job", 1, 2, PLAIN, numbers(2.0))

    asyncio.run(play())


def test_rate_counts_pieces_of_each_client() -> None:
    async def play() -> None:
        service, part = echo(per_minute=3)
        await service.infer("x", "", 0, 2, PLAIN, numbers(1.0, 2.0, 3.0))
        with pytest.raises(Crowded, match="more than 3 unpaid pieces a minute") as refused:
            await service.infer("x", "", 0, 2, PLAIN, numbers(1.0))
        assert refused.value.own
        assert 0 < refused.value.after_s <= 20
        await service.infer("y", "", 0, 2, PLAIN, numbers(1.0))
        assert part.answered == 4

    asyncio.run(play())


def test_paid_work_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpaid calls that came first wait for all paid ones, and give up after a while."""

    async def play() -> list[str]:
        queue = FairQueue("test")
        busy, free = threading.Event(), threading.Event()
        order: list[str] = []
        begun = [asyncio.create_task(queue.run("a", lambda: (busy.set(), free.wait())))]
        await asyncio.to_thread(busy.wait)
        for name in ("u1", "u2"):
            call = queue.run_behind(name, lambda name=name: order.append(name))
            begun.append(asyncio.create_task(call))
            await asyncio.sleep(0)
        for name in ("a", "b", "a"):
            begun.append(asyncio.create_task(queue.run(name, lambda n=name: order.append(n))))
            await asyncio.sleep(0)
        part = EchoServer()
        monkeypatch.setattr(unpaid, "PATIENCE_S", 0.01)
        service = Unpaid(part, SECRET, queue.run_behind, 10)
        with pytest.raises(Busy, match="paid work"):
            await service.infer("x", "", 0, 2, PLAIN, numbers(1.0))
        assert service.in_flight == 0
        free.set()
        await asyncio.gather(*begun)
        await queue.run_behind("x", lambda: None)
        assert part.begun == 0, "nobody waits for its answer any more"
        queue.close()
        return order

    assert asyncio.run(play()) == ["a", "b", "a", "u1", "u2"]
