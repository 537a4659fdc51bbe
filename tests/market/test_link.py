"""A device's connection to its server: patient, bounded, and clear about what it waits for."""

import gzip
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edgepact.errors import InputError
from edgepact.market import link, play
from edgepact.market.link import Link, Refused, Traffic
from edgepact.market.protocol.oip import BODY_BYTES_MAX
from edgepact.work import ServerAway

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a": 12}'


class Peer:
    """A server played by a test: it takes requests, and answers as it is told."""

    def __init__(self, answers: Callable[[int], bytes | None]) -> None:
        self._answers = answers
        self.received = bytearray()
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        came = bytearray()
        while True:
            try:
                chunk = connection.recv(65_536)
            except OSError:
                return
            if not chunk:
                return
            came += chunk
            self.received += chunk
            head, found, body = bytes(came).partition(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")]
            if not found or (length and len(body) < int(length[0].split(b":")[1])):
                continue
            came.clear()
            self.requests += 1
            answer = self._answers(self.requests)
            if answer == b"":
                connection.close()
                return
            if answer is not None:  # else it is never answered
                try:
                    connection.sendall(answer)
                except OSError:  # who asked has had enough
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()


@contextmanager
def peer(answers: Callable[[int], bytes | None]) -> Iterator[Peer]:
    played = Peer(answers)
    thread = threading.Thread(target=played.run)
    thread.start()
    try:
        yield played
    finally:
        played.close()
        thread.join()


def unused() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_FIRST_S", 0.2)
    monkeypatch.setattr(link, "ANSWER_LEAST_S", 0.2)


def test_bytes_are_those_on_the_wire_heads_included() -> None:
    with peer(lambda _: ANSWER) as server, Link((server.url,), 60.0, "cam") as way:
        way.show("token")
        traffic = Traffic()
        way.send("POST", "/market/audit?piece=1-2", b"x" * 5000, {"A-Field": "b"}, traffic=traffic)
        assert (traffic.attempts, traffic.body_bytes_sent) == (1, 5000)
        assert traffic.bytes_sent == len(server.received)
        assert (traffic.body_bytes_received, traffic.bytes_received) == (9, len(ANSWER))
        way.ask("GET", "/market/offer?after=0", held=True)
        assert way.traffic.bytes_sent == len(server.received)
        assert way.traffic.bytes_received == 2 * len(ANSWER)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LARGE = 3 * BODY_BYTES_MAX


def packed(content: bytes) -> bytes:
    """A whole answer, compressed."""
    body = gzip.compress(content)
    return HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_a_compressed_answer_is_counted_as_it_travelled() -> None:
    answer = packed(b'{"a": "' + b"x" * 50_000 + b'"}')
    with peer(lambda _: answer) as server, Link((server.url,), 60.0, "cam") as way:
        assert way.ask("GET", "/market/offer?after=0") == {"a": "x" * 50_000}
        assert way.traffic.bytes_received == len(answer)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: %d\r\n\r\n" % LARGE + bytes(LARGE),
        HEAD + b"Connection: close\r\n\r\n" + bytes(LARGE),
        packed(bytes(LARGE)),
        packed(b"{}").replace(b"gzip", b"gzip, gzip"),
        packed(b"{}")[:-4].replace(b"Length: ", b"Length: 1\r\nX: "),
    ],
    ids=["large", "large-of-no-length", "inflates", "packed-twice", "cut"],
)
def test_an_answer_is_never_larger_than_any_may_be(answer: bytes) -> None:
    with peer(lambda _: answer) as server, Link((server.url,), 60.0, "cam") as way:
        with pytest.raises(InputError, match=r"^server: "):
            way.send("GET", "/", b"", {})
        assert way.traffic.body_bytes_received < LARGE / 2
        assert way.leave() == {}


@pytest.mark.parametrize("lost", [None, b""], ids=["in silence", "with the connection"])
def test_what_is_lost_is_sent_again_on_another_connection(lost: bytes | None) -> None:
    with peer(lambda n: lost if n < 3 else ANSWER) as server, Link((server.url,), 60.0, "c") as way:
        traffic = Traffic()
        answer = way.send("POST", "/", b"12345", {}, traffic=traffic)
        assert answer.content == b'{"a": 12}'
        assert (traffic.attempts, traffic.body_bytes_sent, server.requests) == (3, 15, 3)
        # Of a server that only breaks off is looked once whether it speaks TLS.
        assert len(server._open) == 3 + (lost == b"")


def test_what_was_never_answered_is_counted_too() -> None:
    with peer(lambda _: None) as server, Link((server.url,), 0.5, "cam") as way:
        traffic = Traffic()
        with pytest.raises(ServerAway):
            way.send("POST", "/", b"12345", {}, traffic=traffic)
        assert traffic.attempts >= 2  # it has not waited for the first for all its time
        assert traffic.body_bytes_sent == 5 * traffic.attempts


@pytest.mark.parametrize("away_s", [5.0, 120.0, 1e9])
def test_one_attempt_is_shorter_than_the_time_to_give_up(
    monkeypatch: pytest.MonkeyPatch, away_s: float
) -> None:
    monkeypatch.undo()
    way = Link(("http://127.0.0.1:9",), away_s, "cam")
    for usual_s in (None, 0.001, 1.0, 1000.0):
        way._answer_s = usual_s
        for attempt in range(1, 50):
            assert 0.0 < way._patience_s(attempt) <= min(link.ANSWER_MOST_S, away_s / 2)
    assert link.POLL_HELD_S >= play.POLL_TIMEOUT_S


def test_why_there_is_no_answer_is_told_apart() -> None:
    def words(url: str) -> str:
        with Link((url,), 0.3, "cam") as way, pytest.raises(ServerAway) as found:
            way.send("GET", "/", b"", {})
        return str(found.value)

    with peer(lambda _: None) as dead, peer(lambda _: b"") as rude:
        found = [
            words(unused()),
            words("http://no-such-host.invalid:80"),
            words(dead.url),
            words(rude.url),
        ]
    refused, unknown, silent, broken = found
    assert refused == "connection refused: no server listens there"
    assert unknown == "no host of this name is known"
    assert silent.startswith("no answer within")
    assert broken.startswith("the connection broke")


def test_a_server_that_has_moved_is_found_whoever_asks_at_once() -> None:
    with peer(lambda _: ANSWER) as server, Link((unused(), server.url), 60.0, "cam") as way:
        threads = [threading.Thread(target=way.send, args=("GET", "/", b"", {})) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert way.address == server.url
        assert server.requests == 8


def test_it_says_once_what_it_waits_for_and_that_it_is_over(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(link, "SAID_AFTER_S", 0.0)
    with (
        peer(lambda n: b"" if n < 4 else ANSWER) as server,
        Link((server.url,), float("inf"), "cam-7") as way,
    ):
        way.send("GET", "/", b"", {})
        way.send("GET", "/", b"", {})
    waits, again = capfd.readouterr().err.splitlines()
    assert waits.startswith(f"cam-7: waits for {server.url} for ever: the connection broke")
    # However busy the machine is.
    assert re.fullmatch(f"cam-7: {server.url} answers again after [0-9]+ s", again)


def test_a_device_that_is_to_stop_does_not_wait_for_ever() -> None:
    with Link((unused(),), float("inf"), "cam") as way:
        way.stopping.set()
        with pytest.raises(ServerAway, match="it is to stop"):
            way.send("GET", "/", b"", {})


def test_a_refusal_is_counted_and_not_tried_again() -> None:
    told = b'{"error": "round 3 is closed", "reason": ""}'
    refusal = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told)
    with peer(lambda _: refusal) as server, Link((server.url,), 60.0, "cam") as way:
        traffic = Traffic()
        with pytest.raises(Refused, match="round 3 is closed"):
            way.send("POST", "/", b"1", {}, traffic=traffic)
        assert (traffic.attempts, server.requests) == (1, 1)


def test_another_program_at_the_port_is_told_as_one() -> None:
    strange = b"HTTP/1.1 501 Unsupported method\r\nContent-Length: 6\r\n\r\n<html>"
    with (
        peer(lambda _: strange) as server,
        Link((server.url,), 0.5, "cam") as way,
        pytest.raises((Refused, ServerAway), match="something else answer there"),
    ):
        way.send("POST", "/market/enrol", b"{}", {})
