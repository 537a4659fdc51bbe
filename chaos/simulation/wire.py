"""The network between devices and servers: late, lost, doubled, cut short, and sent once more.

A device's HTTP client ends here and the server's ASGI application begins. Whatever the wire does,
an answer that a server has sent counts as given: `heard` is told of it before it may get lost.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.simulation import fibres
from chaos.simulation.virtual_time import Loop, Process

REMEMBERED_MAX = 40
"""Requests that may come once more."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """How bad the wire is: probabilities for each message.

    Attributes:
        lost: the request or its answer never arrives.
        doubled: the request arrives twice.
        cut: the connection ends in mid-request or mid-answer.
        again: an old request of anybody comes once more.
        mangled: an old request comes once more without its end, as if it were whole.
        slow: it takes up to `late_s`.
        late_s: longest delay.
    """

    lost: float = 0.0
    doubled: float = 0.0
    cut: float = 0.0
    again: float = 0.0
    mangled: float = 0.0
    slow: float = 0.0
    late_s: float = 0.0


@dataclass(slots=True, kw_only=True, frozen=True)
class Message:
    """A request as it was sent."""

    device: str
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def path(self) -> str:
        """Without the query."""
        return self.target.partition("?")[0]


@dataclass(slots=True, kw_only=True, eq=False)
class Site:
    """Where a server may be."""

    process: Process | None = None
    app: Callable[..., Any] | None = None
    under_way: dict[asyncio.Future[Any], Message] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """An answer as it was sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Wire:
    """See above.

    Args:
        loop: of everything.
        draws: what happens to messages.
        faults: how bad it is.
        heard: told of each answer that a server has sent.
        broke: told of a request that ended with an error of the server's.
    """

    def __init__(
        self,
        loop: Loop,
        draws: random.Random,
        faults: Faults,
        heard: Callable[[Message, Given], None],
        broke: Callable[[str], None],
    ) -> None:
        self._loop, self._draws, self.faults = loop, draws, faults
        self._heard, self._broke = heard, broke
        self._nobody = Context()
        self._old: list[Message] = []
        self.sites: dict[str, Site] = {}
        self.cut_off: set[str] = set()
        """Devices that cannot be reached just now."""
        self.lost_s: dict[str, list[float]] = {}
        """When messages from or to a device were lost without a sign."""
        self.sent = 0

    def ask(self, host: str, message: Message, timeout_s: float, connect_s: float) -> Given:
        """Sends a request from a fibre and waits for its answer.

        Raises:
            httpx.TransportError: as httpx would.
        """
        if not fibres.owner().alive:
            raise fibres.Killed
        self.sent += 1
        answer: asyncio.Future[Given | Exception] = self._loop.create_future()
        if message.device in self.cut_off:
            fibres.sleep(min(connect_s, timeout_s))
            raise httpx.ConnectTimeout("timed out")
        self._old.append(message)
        del self._old[:-REMEMBERED_MAX]
        draws, faults = self._draws, self.faults
        if draws.random() >= faults.lost:
            self._send(host, message, answer)
        else:
            self._lose(message)
        if draws.random() < faults.doubled:
            self._send(host, message, None)
        if draws.random() < faults.again:
            self._send(draws.choice(list(self.sites)), draws.choice(self._old), None)
        if draws.random() < faults.mangled:
            old = draws.choice(self._old)
            # A source without its end would be another one, and a few of these a verdict.
            if old.body and old.path != "/market/audit":
                short = old.body[: draws.randrange(len(old.body))]
                headers = tuple(each for each in old.headers if each[0] != b"content-length")
                self._send(
                    host,
                    Message(
                        device=old.device,
                        method=old.method,
                        target=old.target,
                        headers=headers,
                        body=short,
                    ),
                    None,
                )
        if not fibres.await_for(answer, timeout_s):
            answer.cancel()
            raise httpx.ReadTimeout("timed out")
        given = answer.result()
        if isinstance(given, Exception):
            raise given
        return given

    def down(self, site: Site) -> None:
        """A server is gone: of connections that it had, some hear of it."""
        under_way, site.under_way = site.under_way, {}
        site.app = site.process = None
        for answer, message in under_way.items():
            if self._draws.random() < 0.7:
                self._later(self._settle, answer, httpx.RemoteProtocolError("it went away"))
            else:
                self._lose(message)

    # ------------------------------------------------------------ private

    def _delay_s(self) -> float:
        draws = self._draws
        if draws.random() < self.faults.slow:
            return draws.random() * self.faults.late_s
        return draws.random() * 0.05

    def _lose(self, message: Message) -> None:
        self.lost_s.setdefault(message.device, []).append(self._loop.time())

    def _later(self, call: Callable[..., object], *args: Any) -> None:
        self._loop.call_later(self._delay_s(), call, *args, context=self._nobody)

    def _send(
        self, host: str, message: Message, answer: "asyncio.Future[Given | Exception] | None"
    ) -> None:
        self._later(self._arrive, host, message, answer)

    def _arrive(
        self, host: str, message: Message, answer: "asyncio.Future[Given | Exception] | None"
    ) -> None:
        site = self.sites.get(host)
        if site is None or site.app is None or site.process is None:
            if answer is not None:
                self._later(self._settle, answer, httpx.ConnectError("Connection refused"))
            return
        cut = bool(message.body) and self._draws.random() < self.faults.cut
        if answer is not None:
            site.under_way[answer] = message
        self._loop.create_task(
            self._served(site, site.app, message, answer, cut), context=site.process.context.copy()
        )

    async def _served(
        self,
        site: Site,
        app: Callable[..., Any],
        message: Message,
        answer: "asyncio.Future[Given | Exception] | None",
        cut: bool,
    ) -> None:
        try:
            given = await _asked(app, message, cut, self._draws)
        except Exception as error:
            self._broke(f"{message.method} {message.target}: {type(error).__name__}: {error}")
            return
        if given is None:  # nobody was left to answer
            return
        if given.status == 500:
            self._broke(f"{message.method} {message.target}: status 500")
        self._heard(message, given)
        if answer is None:
            return
        site.under_way.pop(answer, None)
        if cut or self._draws.random() < self.faults.cut:
            self._later(self._settle, answer, httpx.RemoteProtocolError("it was cut"))
        elif self._draws.random() >= self.faults.lost and message.device not in self.cut_off:
            self._later(self._settle, answer, given)
        else:
            self._lose(message)

    @staticmethod
    def _settle(answer: "asyncio.Future[Given | Exception]", given: Given | Exception) -> None:
        if not answer.done():
            answer.set_result(given)


async def _asked(
    app: Callable[..., Any], message: Message, cut: bool, draws: random.Random
) -> Given | None:
    """One request to an ASGI application."""
    path, _, query = message.target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": message.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *message.headers],
        "client": (message.device, 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": message.body}]
    if cut:
        short = message.body[: draws.randrange(len(message.body))]
        parts = [
            {"type": "http.request", "body": short, "more_body": True},
            {"type": "http.disconnect"},
        ]
    status, headers, chunks = 0, list[tuple[bytes, bytes]](), list[bytes]()

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop(0)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(event: Mapping[str, Any]) -> None:
        nonlocal status, headers
        if event["type"] == "http.response.start":
            status, headers = event["status"], list(event["headers"])
        else:
            chunks.append(event.get("body", b""))

    await app(scope, receive, send)
    return Given(status, headers, b"".join(chunks)) if status else None


class _Streamed(httpx.SyncByteStream):
    """A body that is read once, from its beginning."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


class Client:
    """Stands for `httpx.Client`, for whichever process makes it."""

    wire: Wire

    def __init__(self, **_: object) -> None:
        self._device = fibres.owner().name

    def close(self) -> None:
        """Nothing is open."""

    def build_request(
        self, method: str, url: str, *, timeout: httpx.Timeout, **settings: Any
    ) -> httpx.Request:
        """As httpx does."""
        told = {"timeout": timeout.as_dict()}
        return httpx.Request(method, url, extensions=told, **settings)

    def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """A request and its answer, whose body the caller reads if it asked for a stream."""
        url = request.url
        message = Message(
            device=self._device,
            method=request.method,
            target=url.raw_path.decode(),
            headers=tuple((k.lower(), v) for k, v in request.headers.raw if k.lower() != b"host"),
            body=request.content,
        )
        told = request.extensions["timeout"]
        given = self.wire.ask(url.host, message, told["read"] or 60.0, told["connect"] or 5.0)
        # A stream is not read before it is asked for, as one from a socket is not.
        answer = httpx.Response(
            given.status, stream=_Streamed(given.body), headers=given.headers, request=request
        )
        if not stream:
            answer.read()
        return answer

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], timeout: float
    ) -> Iterator[httpx.Response]:
        """A request and its answer, whose body the caller reads."""
        asked = self.build_request(method, url, headers=headers, timeout=httpx.Timeout(timeout))
        yield self.send(asked, stream=True)
