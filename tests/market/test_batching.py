"""Devices at different cuts in one batch: same answers, audits that pass, what is told of it."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from edgepact.inference.pipeline import Pipeline
from edgepact.market.protocol import oip
from edgepact.market.server import MarketServer
from edgepact.work import StagedPart
from tests.market.echo import EchoServer
from tests.market.harness import (
    Device,
    image,
    inputs_at,
    parameters,
    served,
    wait_until,
)

CUTS = (1, 4, 4, 9, 12)
EACH = 2


def metric(server: MarketServer, name: str) -> float:
    """One figure of those that Prometheus reads."""
    shown = {"Authorization": f"Bearer {server.operator_token}"}
    text = httpx.get(f"{server.url}/metrics", headers=shown).raise_for_status().text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def probabilities(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    told = oip.decode_response(answer.content, answer.headers[oip.HEADER_LENGTH])
    return np.asarray(told.outputs["probabilities"])


class Held:
    """Holds the thread that computes, so that requests gather behind it."""

    def __init__(self, server: MarketServer) -> None:
        self._release, self._queue = threading.Event(), server.market._exchanges.compute
        begun = threading.Event()

        def hold() -> None:
            begun.set()
            self._release.wait()

        asyncio.run_coroutine_threadsafe(self._queue.run("holder", hold), server._loop)
        begun.wait()

    def release(self, waiting: int) -> None:
        """Lets it go once so many wait."""
        wait_until(lambda: sum(map(len, list(self._queue._lines.values()))) == waiting)
        self._release.set()


def played(server: MarketServer, pipeline: Pipeline) -> dict[tuple[int, int], np.ndarray]:
    """What devices at different cuts are answered whose requests come in at once."""
    with ExitStack() as stack:
        devices = [Device(server.url, f"once-{at}", f"cam-{at}") for at in range(len(CUTS))]
        for device in devices:
            stack.callback(device.http.close)
            device.offer()
        for device, layers in zip(devices, CUTS, strict=True):
            assert device.commit(1, layers).status_code == 200
        sent = {
            (at, n): inputs_at(pipeline, layers, image(10 * at + n), "fp32")
            for at, layers in enumerate(CUTS)
            for n in range(EACH)
        }
        threads = stack.enter_context(ThreadPoolExecutor(len(sent)))
        held = Held(server)
        asked = {
            (at, n): threads.submit(
                devices[at].infer,
                CUTS[at],
                1,
                f"piece-{n}",
                inputs,
                source=image(10 * at + n),
            )
            for (at, n), inputs in sent.items()
        }
        held.release(len(sent))
        answers = {key: each.result() for key, each in asked.items()}
        for device in devices:
            device.http.post("/market/done", params={"round": 1}).raise_for_status()
        for (at, n), answer in answers.items():
            assert parameters(answer)["compute_seconds"] > 0
            shown = devices[at].audit(f"piece-{n}", image(10 * at + n))
            assert shown.status_code == 200, shown.text
        for device in devices:
            states = {piece["state"] for piece in device.pieces(1).values()}
            assert states == {"paid"}
        return {key: probabilities(answer) for key, answer in answers.items()}


def test_mixed_cuts_pass_together_and_their_audits_pass(tmp_path: Path, pipeline: Pipeline) -> None:
    found, together, waited = [], [], []
    for batch_max in (1, 16):
        folder = tmp_path / str(batch_max)
        folder.mkdir()
        settings = {"audit_probability": 1.0, "batch_max": batch_max, "batch_wait_ms": 60_000.0}
        with served(folder, units_per_round=EACH, **settings) as server:
            found.append(played(server, pipeline))
            exchanges = len(CUTS) * EACH
            assert metric(server, "edgepact_batch_pieces_count") == exchanges
            assert metric(server, "edgepact_queue_seconds_count") == exchanges
            together.append(metric(server, "edgepact_batch_pieces_sum"))
            waited.append(metric(server, "edgepact_queue_seconds_sum"))
    single, batched = found
    for key, expected in single.items():
        np.testing.assert_allclose(batched[key], expected, rtol=1e-4, atol=1e-6)
        assert batched[key].argmax() == expected.argmax()
    assert together[0] == len(CUTS) * EACH  # one at a time
    # Together at stages 2 to 4, 5 to 9, and 10 to 13; at cut 12 there is nothing left to do.
    first, second, third = 3 * EACH, 5 * 3 * EACH, 4 * 4 * EACH
    means = (first + second + third) / 12, (second + third) / 9, third / 4, 1.0
    total = EACH * (means[0] + 2 * means[1] + means[2] + means[3])
    assert together[1] == pytest.approx(total)
    assert all(each > 0 for each in waited)


def test_jobs_are_worked_one_by_one_unless_they_say_otherwise() -> None:
    assert not isinstance(EchoServer(), StagedPart)
