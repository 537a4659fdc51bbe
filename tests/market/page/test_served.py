"""The page over HTTP: what is told, to whom, and what can be changed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from edgepact.engagement import PriceBounded
from edgepact.errors import MarketError
from edgepact.market.page.routes import FILES
from edgepact.market.page.watch import PIECES_MAX, VIEWERS_MAX, _short
from edgepact.market.posted import FixedPrice
from edgepact.market.server import MarketServer
from tests.market.harness import wait_until

Playing = Callable[..., Any]


class Bounded(FixedPrice):
    """A fixed price that an operator can bound."""

    bounds = (0.5, 2.0)

    @property
    def price_bounds(self) -> tuple[float, float]:
        return self.bounds

    def bound_prices(self, low: float, high: float) -> None:
        if not 0 < low < high:
            raise MarketError("expected bounds, the first below the second")
        type(self).bounds = low, high

    def worth(self, amount: float) -> float | None:
        return 2.0 * amount


def client(server: MarketServer, token: str | None = None) -> httpx.Client:
    """The operator's."""
    shown = {"Authorization": f"Bearer {token or server.operator_token}"}
    return httpx.Client(base_url=server.url, headers=shown, timeout=60.0)


@contextmanager
def events(server: MarketServer) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """What is pushed to a page."""
    with client(server) as http, http.stream("GET", "/page/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")

        def told() -> Iterator[tuple[str, dict[str, Any]]]:
            kind = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))

        yield told()


def test_the_page_holds_no_secret_and_loads_nothing_from_elsewhere(playing: Playing) -> None:
    with playing() as server, httpx.Client(base_url=server.url) as anybody:
        page = anybody.get("/page")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for name in FILES:
            assert f"/page/static/{name}" in page.text
            file = anybody.get(f"/page/static/{name}")
            assert file.status_code == 200
            assert server.operator_token not in file.text
        assert anybody.get("/page/static/..%2Fwatch.py").status_code == 404
        assert anybody.get("/page/static/page.html").status_code == 404
        assert "http://" not in page.text
        assert "https://" not in page.text


def test_what_moves_is_for_the_operator_alone(playing: Playing) -> None:
    with playing() as server:
        for token in ("wrong", "once-0"):
            with client(server, token) as http:
                assert http.get("/page/events").status_code == 401
                assert http.post("/page/control", json={"action": "pause"}).status_code == 401
        with client(server) as http:
            elsewhere = {"Origin": "http://evil.example"}
            answer = http.post("/page/control", json={"action": "pause"}, headers=elsewhere)
            assert answer.status_code == 403
            assert not server.market.paused


def test_a_market_without_a_page_has_none(playing: Playing) -> None:
    with playing(page=False) as server, client(server) as http:
        assert http.get("/page").status_code == 404
        assert http.get("/page/events").status_code == 404


def test_first_comes_all_and_then_what_changes(playing: Playing) -> None:
    mechanism = Bounded(price=1.0, steps_max=12)
    with playing(mechanism=mechanism, best_price=1.25) as server, events(server) as told:
        kind, whole = next(told)
        assert kind == "all"
        assert whole["about"]["best_price"] == 1.25
        assert whole["about"]["amount_max"] == 12
        points = {each["last"]: each for each in whole["points"]}
        devices = {each["name"]: each for each in whole["devices"]}
        pieces = list(whole["pieces"])
        rounds: dict[int, str] = dict(whole["map"])
        for kind, change in told:
            assert kind == "change"
            points |= {each["last"]: each for each in change["points"]}
            devices |= {each["name"]: each for each in change["devices"]}
            pieces += change["pieces"]
            rounds |= dict(change["map"])
            done = [each for each in points.values() if each["closed"] and each["exchanges"] >= 6]
            paid = sum(each["paid"] for each in devices.values())
            if len(done) >= 3 and paid > 0 and pieces:
                break
    # cam-0 runs 3 layers, cam-1 none, cam-2 all 12, each on two images at a price of 1.
    assert all(each["units"] == 6 and each["price"] == 1.0 for each in done)
    assert all(each["pay"] == 2 * 15.0 and each["worth"] == 2 * 30.0 for each in done)
    assert all(each["exchanges"] == 6 for each in done)
    assert sorted(devices) == ["cam-0", "cam-1", "cam-2"]
    assert change["facts"]["price_bounds"] == [0.5, 2.0]
    assert {tuple(each["exchanges"][-1]["told"]) for each in pieces} >= {("label",)}
    assert all(each["exchanges"][-1]["bytes_in"] > 0 for each in pieces)
    assert set(rounds) >= {each["last"] for each in done}


def test_pages_are_bounded(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepact.market.page.watch.VIEWERS_MAX", 2)
    with playing() as server, events(server) as one, events(server) as two:
        next(one), next(two)
        with client(server) as http:
            refused = http.get("/page/events")
            assert refused.status_code == 503
            assert "pages look at this market" in refused.json()["error"]
    assert VIEWERS_MAX > 2


def test_a_page_that_goes_makes_room(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepact.market.page.watch.VIEWERS_MAX", 1)
    with playing() as server:
        for _ in range(3):
            with events(server) as told:
                assert next(told)[0] == "all"
            watch = server._app.state.watch
            wait_until(lambda watch=watch: not watch._viewers)


def test_pages_that_come_together_are_told_once(playing: Playing) -> None:
    """And nobody is told any more once they have gone."""
    import asyncio

    with playing() as server:
        watch = server._app.state.watch

        async def together() -> int:
            views = [watch.view() for _ in range(8)]
            await asyncio.gather(*(anext(each) for each in views))
            telling = [each for each in asyncio.all_tasks() if "_tell" in repr(each.get_coro())]
            await asyncio.gather(*(each.aclose() for each in views))
            await asyncio.sleep(0)
            return len(telling)

        assert asyncio.run_coroutine_threadsafe(together(), server._loop).result(10) == 1
        assert watch._telling is None


def test_a_pause_lets_no_further_round_begin_and_ends(playing: Playing) -> None:
    with playing() as server, client(server) as http:
        wait_until(lambda: server.market.glance()["round"] > 1)
        assert http.post("/page/control", json={"action": "pause"}).json() == {"done": "pause"}
        wait_until(lambda: server.market.glance()["state"] == "paused")
        number = server.market.glance()["round"]
        assert http.get("/market/status").json()["state"] == "paused"
        assert server.market.glance()["round"] == number
        http.post("/page/control", json={"action": "resume"})
        wait_until(lambda: server.market.glance()["round"] > number)


def test_a_budget_holds_from_then_on(playing: Playing) -> None:
    with playing(round_timeout_s=1.0) as server, client(server) as http:
        wait_until(lambda: server.market.glance()["round"] > 1)
        asked = {"action": "budget", "credits": 0, "round_credits": None}
        assert http.post("/page/control", json=asked).status_code == 200
        offered = server.market.glance()["round"]
        wait_until(lambda: server.market.glance()["round"] > offered + 2)
        rounds = {each["round"]: each for each in http.get("/market/status").json()["rounds"]}
        promised = [
            sum(rounds[number][name].values())
            for number in range(1, offered + 3)
            for name in ("paid_microcredits", "pending_microcredits")
        ]
        assert sum(promised[: 2 * (offered - 1)]) > 0
        assert sum(promised[2 * offered :]) == 0


def test_who_is_revoked_takes_no_part_until_it_is_readmitted(playing: Playing) -> None:
    with playing() as server, client(server) as http:
        wait_until(lambda: len(server.market.present) == 3)
        assert http.post("/page/control", json={"action": "revoke", "device": "cam-2"}).json() == {
            "done": "revoke"
        }
        out = http.get("/market/status").json()["shut_out"]
        assert out == {"cam-2": "revoked by the operator"}
        wait_until(lambda: "cam-2" not in server.market.present)
        http.post("/page/control", json={"action": "readmit", "device": "cam-2"})
        assert http.get("/market/status").json()["shut_out"] == {}


def test_bounds_of_the_price_reach_the_mechanism(playing: Playing) -> None:
    with playing(mechanism=Bounded(price=1.0, steps_max=12)) as server, client(server) as http:
        assert isinstance(server.market.engagement, PriceBounded)
        asked = {"action": "price_bounds", "low": 0.25, "high": 1.5}
        assert http.post("/page/control", json=asked).status_code == 200
        assert server.market.engagement.price_bounds == (0.25, 1.5)
        refused = http.post("/page/control", json=asked | {"low": 2})
        assert refused.status_code == 409


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, "action"),
        ({"action": "sell"}, "action"),
        ({"action": ["pause"]}, "action"),
        ({"action": "pause", "now": True}, "now"),
        ({"action": "budget", "credits": 1}, "round_credits"),
        ({"action": "budget", "credits": -1, "round_credits": None}, "credits"),
        ({"action": "budget", "credits": "x", "round_credits": None}, "credits"),
        ({"action": "budget", "credits": 1, "round_credits": 1e-7}, "round_credits"),
        ({"action": "price_bounds", "low": True, "high": 1}, "low"),
        ({"action": "revoke", "device": 3}, "device"),
        ({"action": "revoke", "device": ""}, "device"),
        ({"action": "revoke", "device": "\ud800"}, "device"),
        ({"action": "readmit", "device": "<b>cam</b>"}, "device"),
        ({"action": "revoke", "device": "c" * 1000}, "device"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(asked: object, named: str) -> None:
    import asyncio
    from unittest.mock import Mock

    from edgepact.errors import InputError
    from edgepact.market.page.control import change

    with pytest.raises(InputError) as refused:
        asyncio.run(change(Mock(), asked))  # type: ignore[arg-type]
    assert refused.value.field == named


def test_controls_refuse_what_a_market_does_not_have(playing: Playing) -> None:
    with playing() as server, client(server) as http:
        bounds = {"action": "price_bounds", "low": 0.5, "high": 1.0}
        answer = http.post("/page/control", json=bounds)
        assert answer.status_code == 409
        assert "no prices that could be bounded" in answer.json()["error"]
        answer = http.post("/page/control", json={"action": "revoke", "device": "nobody"})
        assert answer.status_code == 409
        assert http.post("/page/control", content=b"[" * 9999).status_code == 400
        assert http.post("/page/control", content=b"x" * 2_000_000).status_code == 413


def test_what_a_job_says_at_length_is_cut() -> None:
    assert _short({"label": "boot"}) == {"label": "boot"}
    assert len(json.dumps(_short({"text": "x" * 10_000}), ensure_ascii=False)) < 2100
    assert PIECES_MAX < 1000
