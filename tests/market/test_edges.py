"""Clients that hold back heads and bodies, in real connections with small limits."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from edgepact.market.protocol.oip import BODY_BYTES_MAX
from edgepact.market.server import MarketServer
from tests.market.harness import PATIENCE_S, Device, served

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
