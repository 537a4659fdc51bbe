"""Two replicas in Ray Serve behind one market, one of them killed: `make test-ray`."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import MarketError
from edgepact.market.ledger import Ledger
from edgepact.market.posted import FixedPrice
from edgepact.market.ray_engine import RayEngine
from edgepact.market.server import MarketServer
from edgepact.studies.crowd import Crowd, Round, Server, enrolled
from edgepact.studies.light import MODEL, Light
from edgepact.work import Json
from tests.market.echo import Echo, EchoServer
from tests.market.harness import PATIENCE_S, Device, parameters, served, wait_until
from tests.market.test_exchanges import sent

pytest.importorskip("ray", reason="needs the extra ray")
# Ray uses what its own dependencies have deprecated.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@dataclass(frozen=True, slots=True)
class Broken(Echo):
    """A job whose server's half can be made in one process alone."""

    pid: int = field(default_factory=os.getpid)

    def server_part(self, model: Path | None, settings: Mapping[str, Json]) -> EchoServer:
        """The server's half."""
        if os.getpid() != self.pid:
            raise ValueError("there is no model in this process")
        return Echo.server_part(self, model, settings)


DEVICES, UNITS = 24, 25
RAY: dict[str, Any] = {
    "engine": "ray",
    "replicas": 2,
    "mechanism": FixedPrice(price=1.0, steps_max=MODEL.amount_max),  # as many steps as the echo's
}


@pytest.fixture
def light(tmp_path: Path) -> Iterator[tuple[MarketServer, dict[str, str]]]:
    tokens = enrolled(tmp_path / "ledger.db", DEVICES)
    with served(
        tmp_path,
        job=Light(),
        units_per_round=UNITS,
        devices_min=DEVICES,
        audit_probability=0.2,
        **RAY,
    ) as server:
        yield server, tokens


def pids(server: MarketServer) -> list[int]:
    """Processes of the replicas that answer."""
    assert server._engine is not None
    return [int(each.facts()["pid"]) for each in server._engine.replicas]


def test_a_replica_is_killed_under_load(
    light: tuple[MarketServer, dict[str, str]], tmp_path: Path
) -> None:
    server, tokens = light
    one, two = pids(server)
    assert one != two

    async def course() -> tuple[Round, dict[str, int]]:
        crowd = Crowd(Server(os.getpid(), server.port, tmp_path / "ledger.db"), tokens, units=UNITS)
        playing = asyncio.create_task(crowd.round(in_flight=12))
        quarter = DEVICES * UNITS // 4
        while not playing.done() and sum(len(d.accepted) for d in crowd.devices) < quarter:
            await asyncio.sleep(0.01)
        os.kill(one, signal.SIGKILL)
        found = await playing, await crowd.pay()
        crowd.close()
        return found

    played, states = asyncio.run(asyncio.wait_for(course(), PATIENCE_S))
    # Nobody lost a piece, and the other replica went on.
    assert states == {"paid": DEVICES * UNITS}
    assert len(played.seconds) == DEVICES * UNITS
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", read_only=True) as ledger:
        assert ledger.check() == []
        paid = sum(count for name, count in ledger.balances().items() if name.startswith("device:"))
    assert paid == DEVICES * UNITS * MODEL.amount_max * 10**6  # none of them twice

    def back() -> bool:
        try:
            return one not in pids(server) and two in pids(server)
        except Exception:
            return False

    wait_until(back)


def test_a_session_stays_with_its_replica_and_is_begun_again_when_that_dies(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(served(tmp_path, job=Echo(), units_per_round=6, **RAY))
        device = Device(server.url, "once-0", "cam-0")
        stack.callback(device.http.close)
        device.offer()
        assert device.answer(1, item=0).status_code == 200
        assert server._engine is not None
        by_pid = dict(zip(pids(server), server._engine.replicas, strict=True))

        def exchange(at: int, x: float, left: int) -> Any:
            return device.infer(MODEL.amount_max, 1, "p", sent(x, left), model="echo", exchange=at)

        assert parameters(exchange(0, 1.0, 2))["finished"] is False
        assert parameters(exchange(1, 2.0, 1))["finished"] is False
        (session,) = server.market._exchanges._sessions._all.values()
        pid = next(pid for pid, each in by_pid.items() if each.name == session.job.replica)
        os.kill(pid, signal.SIGKILL)
        lost = exchange(2, 3.0, 0)
        assert (lost.status_code, lost.json()["reason"]) == (409, "session lost")
        exchange(0, 1.0, 2)
        exchange(1, 2.0, 1)
        told = parameters(exchange(2, 3.0, 0))
        assert (told["finished"], told["units"], told["heard"]) == (True, 3, 3.0)
        jobs = server.market._ledger.jobs_by_state()
        assert sum(jobs.values()) == jobs["pending"] + jobs["paid"] == 1


def test_a_replica_that_cannot_be_started_is_told_in_one_line() -> None:
    with pytest.raises(MarketError, match="there is no model in this process") as raised:
        RayEngine(Broken(), None, {}, count=1)
    assert "\n" not in str(raised.value)
