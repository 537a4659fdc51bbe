"""Clients that hold back heads and bodies, in real connections with small limits."""

import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from copy import copy
from pathlib import Path

import httpx
import pytest

from edgepact.inference.pipeline import Pipeline
from edgepact.market.protocol.oip import BODY_BYTES_MAX
from edgepact.market.rates import Rate
from edgepact.market.server import MarketServer
from tests.market.harness import PATIENCE_S, Device, image, inputs_at, served, wait_until

INFER = "/v2/models/fashion-clip-cut-12/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketServer]:
    settings = {
        "connections_max": 12,
        "connections_each": 6,
        "requests_each": 2,
        "head_timeout_s": 0.5,
        "body_timeout_s": 2.0,
    }
    with served(tmp_path_factory.mktemp("edges"), **settings) as server:
        yield server


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(server: MarketServer, stack: ExitStack, sent: str) -> socket.socket:
    connection = stack.enter_context(
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
    )
    connection.sendall(sent.encode())
    return connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    said = b""
    try:
        while more := connection.recv(65536):
            said += more
    except ConnectionResetError:
        pass
    return said


def test_half_sent_heads_keep_nobody_out(server: MarketServer, stack: ExitStack) -> None:
    half = [connect(server, stack, "GET /v2 HTTP/1.1\r\nHost: loc") for _ in range(40)]
    for _ in range(5):
        answer = httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_S)
        assert answer.status_code == 200
    said = [everything(each) for each in half]  # which ends: nobody keeps a connection so
    assert any(b"408" in each for each in said)


def test_what_is_no_request_writes_no_line_each(
    server: MarketServer, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """They are counted and summed up, as all that is refused: nobody fills a disk with them."""
    upgrade = "GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    for sent in ("\x00\x01\r\n\r\n", f"{upgrade}\r\n"):
        for _ in range(4):
            connection = connect(server, stack, sent)
            assert connection.recv(65536)
            connection.close()
    assert caplog.text == ""


def test_connection_without_a_word_is_closed(server: MarketServer, stack: ExitStack) -> None:
    assert b"408" in everything(connect(server, stack, ""))


def test_second_head_has_a_deadline_too(server: MarketServer, stack: ExitStack) -> None:
    whole = "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = everything(connect(server, stack, whole + whole[:20]))
    assert said.startswith(b"HTTP/1.1 200")
    assert b"408" in said


def test_half_sent_bodies_are_refused_before_they_are_read(
    server: MarketServer, stack: ExitStack
) -> None:
    device = Device(server.url, "once-1", "cam-1")
    stack.callback(device.http.close)
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {device.token}\r\n"
        f"Content-Length: {BODY_BYTES_MAX}\r\n\r\n"
    )
    half = [connect(server, stack, head + "0" * 1000) for _ in range(5)]
    said = sorted(everything(each)[:12] for each in half)
    assert said == [b"HTTP/1.1 408"] * 2 + [b"HTTP/1.1 429"] * 3
    answer = device.http.post(INFER, content=b"{}")
    assert answer.status_code == 400, "its places are free again"


def test_strangers_body_after_the_answer_has_a_deadline(
    server: MarketServer, stack: ExitStack
) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
    assert everything(connect(server, stack, head)).startswith(b"HTTP/1.1 401")


def test_json_bomb_is_refused_unparsed(server: MarketServer, stack: ExitStack) -> None:
    device = Device(server.url, "once-2", "cam-2")
    stack.callback(device.http.close)
    bomb = b'{"inputs": [' + b"[]," * 2_500_000 + b"[]]}"
    answer = device.http.post(INFER, content=bomb)
    assert answer.status_code == 400
    assert "at most 65536 lists" in answer.json()["error"]


def test_wrong_tokens_are_answered_slower_and_nobody_else_is(
    server: MarketServer, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(server.url, "once-3", "cam-3")
    stack.callback(device.http.close)
    bounds = server._switch.current.state.bounds  # type: ignore[union-attr]
    monkeypatch.setattr(bounds, "wrong_tokens", Rate(per_s=0.1, burst=3.0))
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as stranger:
        said = [
            stranger.get("/market/offer", headers={"Authorization": f"Bearer guess-{n}"})
            for n in range(4)
        ]
        assert [each.status_code for each in said] == [401, 401, 401, 429]
        assert int(said[-1].headers["retry-after"]) >= 5
        guess = stranger.post("/market/enrol", json={"token": "guess", "name": "cam-9"})
        assert guess.status_code == 429
    assert device.http.get("/market/pieces?round=1").status_code == 200, "its token is known"


def test_too_many_requests_in_a_time_are_told_when_to_come_back(
    server: MarketServer, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(server.url, "once-4", "cam-4")
    stack.callback(device.http.close)
    bounds = server._switch.current.state.bounds  # type: ignore[union-attr]
    monkeypatch.setattr(bounds, "requests", Rate(per_s=0.1, burst=2.0))
    said = [device.http.get("/market/pieces?round=1") for _ in range(3)]
    assert [each.status_code for each in said] == [200, 200, 429]
    assert int(said[-1].headers["retry-after"]) >= 5


def test_half_open_tls_keeps_nobody_out(tmp_path: Path, stack: ExitStack) -> None:
    """Who connects and agrees on nothing counts as any connection, and is cut in time."""
    settings = {"connections_max": 12, "connections_each": 40, "head_timeout_s": 0.5}
    with served(tmp_path, tls=tmp_path / "tls", **settings) as server:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "tls" / "authority.pem"))
        half = [connect(server, stack, "") for _ in range(12)]
        answer = httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_S, verify=trusted)
        assert answer.status_code == 200
        assert [everything(each) for each in half] == [b""] * 12  # which ends


@pytest.mark.parametrize("connections", [30, pytest.param(150, marks=pytest.mark.slow)])
def test_one_device_that_sends_without_measure_leaves_the_others_their_turn(
    tmp_path: Path, stack: ExitStack, pipeline: Pipeline, connections: int
) -> None:
    """A greedy device on many connections; a modest one is answered between its requests."""
    with served(tmp_path, units_per_round=4096, requests_per_s=1e6) as server:
        modest = Device(server.url, "once-1", "modest")
        greedy = Device(server.url, "once-2", "greedy")
        for each in (modest, greedy):
            stack.callback(each.http.close)
            assert each.offer()["round"] == 1
            assert each.commit(1, 12).status_code == 200
        order, ended = list[str](), threading.Event()

        def flood(thread: int) -> None:
            sent = inputs_at(pipeline, 12, image(0))
            with httpx.Client(
                base_url=server.url, headers=greedy.http.headers, timeout=PATIENCE_S
            ) as http:
                mine = copy(greedy)
                mine.http = http
                while not ended.is_set():
                    if mine.infer(12, 1, f"{thread}-{len(order)}", sent).status_code == 200:
                        order.append("greedy")

        threads = [threading.Thread(target=flood, args=(n,)) for n in range(connections)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(order) > 20)
            sent = inputs_at(pipeline, 12, image(1))
            for n in range(10):
                assert modest.infer(12, 1, f"m-{n}", sent).status_code == 200
                order.append("modest")
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        # The greedy one may have a bounded number of requests in hand, and its turn comes
        # after everybody else's.
        first, last = order.index("modest"), len(order) - 1 - order[::-1].index("modest")
        between = order[first:last].count("greedy")
        assert between <= 9 * 2 * 12


@pytest.mark.slow
def test_two_thousand_half_sent_heads_keep_nobody_out(tmp_path: Path, stack: ExitStack) -> None:
    """More than the server takes in all, from one address; another connection is answered."""
    _let_open(2 * 2060 + 512)
    with served(tmp_path) as server:
        half = [connect(server, stack, "GET /v2 HTTP/1.1\r\nHost: loc") for _ in range(2060)]
        for _ in range(20):
            answer = httpx.get(f"{server.url}/v2/health/ready", timeout=PATIENCE_S)
            assert answer.status_code == 200
        assert len(half) == 2060


@pytest.mark.slow
def test_a_hundred_and_twenty_half_sent_bodies_take_bounded_room(
    tmp_path: Path, stack: ExitStack
) -> None:
    """Of one device, 7 MiB of 8 each: what is in hand of it stays below its bound."""
    with served(tmp_path) as server:
        device = Device(server.url, "once-1", "cam-1")
        other = Device(server.url, "once-2", "cam-2")
        for each in (device, other):
            stack.callback(each.http.close)
        head = (
            f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {device.token}\r\n"
            f"Content-Length: {BODY_BYTES_MAX}\r\n\r\n"
        )
        most = 0
        half = []
        for _ in range(120):
            half.append(connect(server, stack, head))
            with suppress(OSError):  # it was refused
                half[-1].settimeout(1.0)
                half[-1].sendall(b"0" * (7 * 2**20))
            bounds = server._switch.current.state.bounds  # type: ignore[union-attr]
            most = max(most, bounds.bytes_total)
        assert 0 < most <= bounds.bytes_max
        assert other.http.get("/market/pieces?round=1").status_code == 200


def _let_open(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        if hard != resource.RLIM_INFINITY and hard < files:
            pytest.skip("this process may not open so many files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
