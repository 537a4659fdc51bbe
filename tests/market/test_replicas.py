"""Replicas of a server part: who works, and what happens when one is gone."""

import asyncio
import pickle
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.codecs import BUILT_IN
from edgepact.market.books import Busy
from edgepact.market.lanes import Lanes
from edgepact.market.posted import FixedPrice
from edgepact.market.replicas import NoSession, ReplicaAway, Replicas, Worker
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import MarketServer
from edgepact.market.sessions import LostSession
from edgepact.tensors import Tensors
from edgepact.work import Reply
from tests.market.echo import Echo, EchoServer, first_of

SEED = 5


class Local:
    """A replica in this process, which can die and come back empty."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dies_next = False
        self.asked = 0
        self.start()

    def start(self) -> None:
        self.worker: Worker | None = Worker(EchoServer())

    def stop(self) -> None:
        self.worker = None

    def _there(self) -> Worker:
        self.asked += 1
        if self.dies_next:
            self.dies_next = False
            self.stop()
        if self.worker is None:
            raise ReplicaAway(self.name)
        return self.worker

    def is_there(self) -> bool:
        return self.worker is not None

    def work(self, *told: Any) -> Any:
        return self._there().work(*told)

    def passes_audit(self, **told: Any) -> bool | InputError:
        return self._there().passes_audit(**told)

    def facts(self) -> Mapping[str, Any]:
        return self._there().facts()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def group() -> tuple[list[Local], Replicas, Clock]:
    both, clock = [Local("one"), Local("two")], Clock()
    return both, Replicas(EchoServer(), both, clock=clock, sleep=clock.sleep), clock


def sent(x: float, left: int) -> Tensors:
    return {"x": np.array([x], np.float32), "left": np.array([left], np.int32)}


def answered(part: Replicas, held: Any, x: float, left: int) -> Reply:
    (reply,) = part.answer([(held, sent(x, left))])
    assert isinstance(reply, Reply)
    return reply


def total(reply: Reply) -> float:
    return float(np.asarray(reply.outputs["sum"])[0])


def test_a_piece_stays_where_its_session_is() -> None:
    both, part, _ = group()
    held = part.begin(1, SEED)
    first = answered(part, held, 1.0, 2)
    where = held.replica
    assert not first.finished
    answered(part, held, 2.0, 1)
    last = answered(part, held, 3.0, 0)
    assert held.replica == where
    assert (last.finished, last.units) == (True, 3)
    assert total(last) == first_of(SEED) + 6.0
    other = next(each for each in both if each.name != where)
    assert other.asked == 0


def test_what_was_begun_at_a_dead_replica_is_begun_elsewhere_at_once() -> None:
    both, part, _ = group()
    for each in both:
        each.dies_next = False
    both[0].dies_next = True  # it is asked first, and dies with the request in hand
    held = part.begin(1, SEED)
    reply = answered(part, held, 4.0, 0)
    assert total(reply) == first_of(SEED) + 4.0
    assert held.replica == "two"


def test_a_piece_that_was_further_is_lost_with_its_replica_and_begins_again() -> None:
    both, part, _ = group()
    held = part.begin(1, SEED)
    answered(part, held, 1.0, 1)
    lost = next(each for each in both if each.name == held.replica)
    lost.stop()
    for _ in range(2):  # also once it is known to be away
        with pytest.raises(LostSession):
            part.answer([(held, sent(2.0, 0))])
    again = part.begin(1, SEED)
    answered(part, again, 1.0, 1)
    assert again.replica != lost.name
    assert total(answered(part, again, 2.0, 0)) == first_of(SEED) + 3.0


def test_a_replica_that_was_started_anew_does_not_know_old_pieces() -> None:
    both, part, _ = group()
    held = part.begin(1, SEED)
    answered(part, held, 1.0, 1)
    same = next(each for each in both if each.name == held.replica)
    same.start()
    with pytest.raises(LostSession):
        part.answer([(held, sent(2.0, 0))])


def test_who_is_back_works_again_and_nobody_waits_for_ever() -> None:
    both, part, clock = group()
    for each in both:
        each.stop()
    with pytest.raises(Busy):
        answered(part, part.begin(1, SEED), 1.0, 0)
    both[1].start()
    clock.now_s += 10.0
    held = part.begin(1, SEED)
    answered(part, held, 1.0, 0)
    assert held.replica == "two"


def test_an_error_spoils_one_exchange_alone() -> None:
    _, part, _ = group()
    held = part.begin(1, SEED)
    answered(part, held, 1.0, 1)
    (error,) = part.answer([(held, sent(5000.0, 0))])
    assert isinstance(error, InputError)
    assert answered(part, held, 2.0, 0).finished


def test_audits_and_facts_come_from_whoever_is_there() -> None:
    both, part, _ = group()
    part.warm()
    both[0].stop()
    assert part.audit_power == 1.0
    codec = next(each for each in BUILT_IN if each.name == "fp32")
    told: dict[str, Any] = {"seed": SEED, "codec": codec, "key": b""}
    evidence = [np.array([2.0 * x], "<f4").tobytes() for x in (1.0, 2.0)]
    assert part.passes_audit(1, evidence, b"[1.0, 2.0]", **told)
    assert not part.passes_audit(1, evidence, b"[1.0, 2.5]", **told)


def test_a_worker_knows_what_it_holds() -> None:
    worker = Worker(EchoServer())
    with pytest.raises(NoSession):
        worker.work("k", 1, SEED, False, sent(1.0, 0))
    worker.work("k", 1, SEED, True, sent(1.0, 0))
    with pytest.raises(NoSession):  # finished pieces are not kept
        worker.work("k", 1, SEED, False, sent(1.0, 0))


def test_errors_travel_between_processes() -> None:
    error = InputError("echo", "x", "at most 1000", 5000.0)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field) == (str(error), "x")


@pytest.mark.parametrize("count", [1, 3])
def test_lanes_run_as_many_calls_at_once(count: int) -> None:
    gate = threading.Barrier(count)

    async def course() -> list[int]:
        lanes = Lanes("test", count)
        try:
            # Each waits for all others, so that fewer at once would never end.
            return await asyncio.gather(
                *(lanes.run(f"{at}", lambda: gate.wait(60)) for at in range(count))
            )
        finally:
            lanes.close()

    assert sorted(asyncio.run(course())) == list(range(count))


def test_without_ray_a_server_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = ServeConfig(engine="ray", port=0, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(MissingExtraError, match=r"edgepact\[ray\]"):
        MarketServer(config, FixedPrice(price=1.0, steps_max=4), job=Echo())
    assert not (tmp_path / "ledger.db").exists()
