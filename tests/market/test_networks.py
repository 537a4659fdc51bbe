"""Devices on bad networks: whatever is lost, doubled or late, work is paid once and told right."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from chaos.unreliable import CALM, Mischief, Unreliable
from edgepact.errors import MarketError
from edgepact.market import link, play
from edgepact.market.device import DeviceSummary, run_device
from edgepact.market.device_config import DeviceConfig
from edgepact.market.server import MarketServer
from edgepact.work import Reply
from tests.market.echo import Echo
from tests.market.harness import PATIENCE_S, wait_until
from tests.market.test_exchanges import REWARD, lines, market

EVERYTHING = Mischief(
    doubled=0.1,
    replayed=0.1,
    truncated=0.05,
    overtaken=0.05,
    unanswered=0.1,
    half_answered=0.05,
    silent=0.01,
    wait_s=0.1,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_FIRST_S", 0.5)
    monkeypatch.setattr(link, "ANSWER_LEAST_S", 0.5)
    monkeypatch.setattr(link, "POLL_HELD_S", 0.5)
    monkeypatch.setattr(play, "POLL_TIMEOUT_S", 0.5)
    # However busy the machine is: a server that has played its last round waits for its devices.
    monkeypatch.setattr(play, "FAREWELL_TIMEOUT_S", PATIENCE_S)


@contextmanager
def between(server: MarketServer, seed: int = 0) -> Iterator[Unreliable]:
    with Unreliable("127.0.0.1", urlsplit(server.url).port or 0, random.Random(seed)) as way:
        yield way


def calm_at_the_end(server: MarketServer, way: Unreliable) -> None:
    """Who does not hear that the market is over would look for its server in vain."""
    settling = server.market._settling
    drained = settling.drained

    async def drained_and_calm() -> None:
        await drained()
        way.mischief = CALM

    settling.drained = drained_and_calm  # type: ignore[method-assign]


def config(url: str, folder: Path, **settings: Any) -> DeviceConfig:
    told: dict[str, Any] = {
        "server_url": url,
        "name": "cam-0",
        "enrol_token": "once-0",
        "token_file": folder / "token",
        "results": folder / "results.jsonl",
        "alpha": 1e-6,
        "capacity": 10.0,
        "A": 1.0,
        "B": 0.0,
        "away_timeout_s": PATIENCE_S,
        **settings,
    }
    return DeviceConfig(**told)


def agree(server: MarketServer, folder: Path, done: DeviceSummary) -> list[dict[str, Any]]:
    """The last line of each piece, which says what the books say; every job is paid once."""
    books = server.market._ledger
    assert books.check() == []
    assert sum(books.balances().values()) == 0
    payments = books.payments()
    assert len({each.piece for each in payments}) == len(payments)
    told = lines(folder)
    paid = {row["piece"]: row["paid_microcredits"] for row in told if row["state"] == "paid"}
    assert paid == {each.piece: each.microcredits for each in payments}
    assert done.paid_microcredits == books.balances()["device:cam-0"] == sum(paid.values())
    assert books.jobs_by_state()["forfeit"] == 0
    return told


def test_whatever_happens_to_requests_all_is_paid_once(tmp_path: Path) -> None:
    rounds, quota = 2, 12
    with (
        market(tmp_path, rounds=rounds, units_per_round=quota, audit_probability=0.5) as server,
        between(server, seed=5) as way,
    ):
        calm_at_the_end(server, way)
        way.mischief = EVERYTHING
        done = run_device(config(way.url, tmp_path, in_flight=4), job=Echo())
        told = agree(server, tmp_path, done)
        paid = [row for row in told if row["state"] == "paid"]
        assert sum(row["units"] for row in paid) == rounds * quota
        assert done.paid_microcredits == rounds * quota * REWARD
    assert all(row["attempts"] > 0 for row in told)
    assert sum(row["attempts"] for row in told) > sum(row["exchanges"] for row in told)
    assert way.done["requests"] > 30
    assert len(+Counter(way.done)) >= 4  # several kinds of mischief were done


def test_a_job_whose_answer_was_lost_is_settled_when_the_device_comes_back(
    tmp_path: Path, links: list[link.Link]
) -> None:
    with market(tmp_path, rounds=2, units_per_round=3) as server, between(server) as way:
        part = server.market.part
        answer = part.answer

        def answer_unheard(batch: Any) -> Any:
            replies = answer(batch)
            if isinstance(replies[0], Reply) and replies[0].finished:
                way.mischief = replace(CALM, unanswered=1.0)
                links[0].hurry(1.0)
            return replies

        part.answer = answer_unheard  # type: ignore[method-assign]
        with pytest.raises(MarketError, match="cam-0 ends"):
            run_device(config(way.url, tmp_path, capacity=3.0), job=Echo())
        (line,) = lines(tmp_path)
        assert (line["state"], line["alone"]) == ("unpaid", False)
        assert line["attempts"] > line["exchanges"]
        way.mischief = CALM
        part.answer = answer  # type: ignore[method-assign]
        run_device(config(way.url, tmp_path), job=Echo())
        first = next(row for row in lines(tmp_path) if row["piece"] == line["piece"])
        assert first["state"] == "paid"
        assert first["paid_microcredits"] == first["units"] * REWARD


def test_what_is_refused_as_the_round_has_closed_leaves_a_line(tmp_path: Path) -> None:
    # A second round follows, since a server that has ended waits for nobody who was late.
    with market(tmp_path, rounds=2, units_per_round=6) as server, between(server) as way:
        part = server.market.part
        answer = part.answer

        def answer_late(batch: Any) -> Any:
            """The round is over before the first piece is."""
            part.answer = answer  # type: ignore[method-assign]
            replies = answer(batch)
            market = server.market
            over = replace(market._round, deadline_s=0.0)  # type: ignore[type-var]
            loop = server._loop

            def end() -> None:
                market._round = over
                market._notify()

            loop.call_soon_threadsafe(end)
            wait_until(lambda: market._ledger.rounds()[0].closed)
            return replies

        part.answer = answer_late  # type: ignore[method-assign]
        run_device(config(way.url, tmp_path, in_flight=1), job=Echo())
    told = lines(tmp_path)
    assert {row["round"] for row in told} == {1, 2}
    (refused,) = [row for row in told if row["refused"] is not None]
    assert "closed" in refused["refused"]
    assert (refused["state"], refused["units"]) == ("unpaid", 0)
    assert refused["attempts"] >= 1
    assert refused["bytes_sent"] > 0


def test_a_device_goes_on_from_another_address(tmp_path: Path) -> None:
    with market(tmp_path, rounds=2, units_per_round=18) as server, between(server) as way:
        done: list[DeviceSummary] = []
        device = threading.Thread(
            target=lambda: done.append(run_device(config(way.url, tmp_path), job=Echo()))
        )
        device.start()
        for last in (2, 3):
            wait_until(lambda most=10 * last: way.done["requests"] > most)  # type: ignore[misc]
            way.move(f"127.0.0.{last}")
        device.join()
        told = agree(server, tmp_path, done[0])
    assert sum(row["units"] for row in told) == 36


def test_an_audit_that_is_shown_long_after_the_round_has_closed_is_in_time(tmp_path: Path) -> None:
    with (
        market(tmp_path, rounds=2, units_per_round=6, audit_probability=1.0) as server,
        between(server) as way,
    ):
        calm_at_the_end(server, way)
        settling, opened = server.market._settling, threading.Event()
        show, late = settling.show, list[bool]()

        async def show_late(device: str, piece: str, shown: bytes) -> Any:
            late.append(server.market._ledger.rounds()[0].closed)
            if not opened.is_set():
                opened.set()
                way.mischief = replace(CALM, unanswered=0.5)
            return await show(device, piece, shown)

        settling.show = show_late  # type: ignore[method-assign]
        done = run_device(config(way.url, tmp_path), job=Echo())
        told = agree(server, tmp_path, done)
    assert late[-1]
    assert all(row["audited"] for row in told if row["state"] == "paid")


def test_the_pieces_at_hand_are_finished_alone_and_marked(
    tmp_path: Path, links: list[link.Link]
) -> None:
    with market(tmp_path, rounds=1, units_per_round=6) as server, between(server) as way:
        part = server.market.part
        answer = part.answer

        def answer_unheard(batch: Any) -> Any:
            way.mischief = replace(CALM, truncated=1.0)
            links[0].hurry(0.5)
            return answer(batch)

        part.answer = answer_unheard  # type: ignore[method-assign]
        with pytest.raises(MarketError, match="cam-0 ends"):
            run_device(config(way.url, tmp_path), job=Echo())
        told = lines(tmp_path)
        alone = [row for row in told if row["state"] == "unpaid"]
        assert alone
        assert all(row["alone"] and row["paid_microcredits"] == 0 for row in alone)
        # Whoever comes back brings it in after all.
        way.mischief = CALM
        part.answer = answer  # type: ignore[method-assign]
        done = run_device(config(way.url, tmp_path), job=Echo())
        assert done.paid_microcredits == 6 * REWARD
    assert all(row["attempts"] > 0 for row in told)
