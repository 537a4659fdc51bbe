"""Brief work: done in the event loop, paid and audited as all other."""

import asyncio
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgepact.errors import InputError
from edgepact.market.at_once import AtOnce
from edgepact.market.posted import FixedPrice
from edgepact.work import BriefPart
from tests.market.echo import MODEL, Echo, EchoServer
from tests.market.harness import Device, parameters, served, wait_until
from tests.market.test_exchanges import sent


class BriefServer(EchoServer):
    """Says that it is brief, and notes who has called it."""

    brief = True

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()
        self.audits = 0

    def answer(self, batch: Any) -> Any:
        self.threads.add(threading.get_ident())
        return super().answer(batch)

    def passes_audit(self, *arguments: Any, **named: Any) -> bool:
        self.threads.add(threading.get_ident())
        self.audits += 1
        return super().passes_audit(*arguments, **named)


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefEcho(Echo):
    """The echo, with a server's half that says so."""

    part: BriefServer = field(default_factory=BriefServer)

    def server_part(self, model: Path | None, settings: Any) -> BriefServer:
        return self.part


def test_what_is_called_returns_and_raises_at_once() -> None:
    def fails() -> int:
        raise InputError("job", "x", "a number", "a word")

    async def play() -> None:
        queue = AtOnce()
        here = threading.get_ident()
        assert await queue.run("a", threading.get_ident) == here
        assert await queue.run_behind("a", threading.get_ident) == here
        passage = await queue.travel("a", lambda: (0, 20), lambda x: x + 1)
        assert (passage.found, passage.wait_s, passage.together) == (21, 0.0, 1.0)
        assert passage.compute_s >= 0.0
        for ask in (queue.run("a", fails), queue.travel("a", lambda: (0, 1), lambda _: fails())):
            with pytest.raises(InputError, match="a word"):
                await ask
        queue.close()

    asyncio.run(play())


def test_brief_work_is_paid_and_audited_in_the_event_loop(tmp_path: Path) -> None:
    job = BriefEcho()
    assert isinstance(job.part, BriefPart)
    assert not isinstance(EchoServer(), BriefPart)
    with ExitStack() as stack:
        server = stack.enter_context(
            served(
                tmp_path,
                job=job,
                mechanism=FixedPrice(price=1.0, steps_max=MODEL.amount_max),
                units_per_round=1,
                audit_probability=1.0,
                unpaid_per_minute=10,
            )
        )
        device = Device(server.url, "once-0", "cam-0")
        stack.callback(device.http.close)
        device.offer()
        device.answer(1, item=0)
        inputs = sent(5.0, 0)  # of a source of 1.0, times the amount plus one
        source = b"[1.0]"
        told = parameters(device.infer(4, 1, "p", inputs, model="echo", source=source))
        assert (told["finished"], told["queue_seconds"]) == (True, 0.0)

        def is_paid() -> bool:
            device.audit("p", source)
            return bool(device.pieces(1)["p"]["state"] == "paid")

        wait_until(is_paid)
    assert job.part.audits > 0
    assert len(job.part.threads) == 1
    assert threading.get_ident() not in job.part.threads
