"""Connections, bounded: how many there may be, and how long a head or a body may take.

Connections that have shown no token count by address, others by device. Where one is too many, the
one that has waited longest without a request goes, so that half-sent heads cannot keep anybody
out; only where all are at work is the new one told to come back.
"""

import asyncio
import json
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgepact.market.bounds import Crowded
from edgepact.market.rates import Rate

HEAD_BYTES_MAX = 64 * 1024
"""Path and headers of a request."""

LINGER_S = 1.0
"""How long a refused connection stays, so that its client can read why."""

REFUSED_MAX = 64
"""Refused connections that stay at a time; more are cut without a word."""

_C = TypeVar("_C", bound=Hashable)


@dataclass(slots=True)
class Room(Generic[_C]):
    """Who is connected, and whom a newcomer displaces.

    Attributes:
        total_max: connections in all.
        group_max: connections of one group: an address, or a device.
        refused: told of each connection that is refused: address, HTTP status, why.
    """

    total_max: int
    group_max: int
    refused: Callable[[str, int, str], None] = lambda address, status, why: None
    _groups: dict[_C, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _waiting: "OrderedDict[_C, None]" = field(default_factory=OrderedDict)
    _waiting_of: "dict[str, OrderedDict[_C, None]]" = field(default_factory=dict)
    _strangers: "OrderedDict[_C, None]" = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._groups)

    def enter(self, who: _C, address: str) -> tuple[bool, _C | None]:
        """Lets a connection in; it waits, as a stranger.

        Returns:
            Whether it may come in, and the connection that goes for it.
        """
        group = f"address {address}"
        gone = None
        if self._counts.get(group, 0) >= self.group_max:
            gone = self._oldest(self._waiting_of.get(group))
        elif len(self._groups) >= self.total_max:
            gone = self._oldest(self._strangers) or self._oldest(self._waiting)
        else:
            self._join(who, group, stranger=True)
            return True, None
        if gone is None:
            return False, None
        self.leave(gone)
        self._join(who, group, stranger=True)
        return True, gone

    def know(self, who: _C, device: str) -> bool:
        """A connection that is at work has shown the token of a device; False for too many."""
        group = f"device {device}"
        if who not in self._groups or self._groups[who] == group:
            return True
        if self._counts.get(group, 0) >= self.group_max:
            return False
        self.leave(who)
        self._join(who, group, stranger=False)
        self.work(who)
        return True

    def work(self, who: _C) -> None:
        """It has a request under way and may not be displaced."""
        self._waiting.pop(who, None)
        self._strangers.pop(who, None)
        group = self._groups.get(who)
        if group in self._waiting_of:
            self._waiting_of[group].pop(who, None)
            if not self._waiting_of[group]:
                del self._waiting_of[group]

    def wait(self, who: _C) -> None:
        """It waits for a request to come in whole."""
        group = self._groups.get(who)
        if group is None or who in self._waiting:
            return
        self._waiting[who] = None
        self._waiting_of.setdefault(group, OrderedDict())[who] = None
        if group.startswith("address "):
            self._strangers[who] = None

    def leave(self, who: _C) -> None:
        """It has gone, if it was there."""
        self.work(who)
        group = self._groups.pop(who, None)
        if group is not None:
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]

    def _join(self, who: _C, group: str, *, stranger: bool) -> None:
        self._groups[who] = group
        self._counts[group] = self._counts.get(group, 0) + 1
        self.wait(who)

    @staticmethod
    def _oldest(waiting: "OrderedDict[_C, None] | None") -> _C | None:
        return next(iter(waiting)) if waiting else None


class _Together:
    """What is written to a transport in one turn of the loop, in one piece: the head of an answer
    and its body would wake the client twice.

    Args:
        transport: of the connection.
        loop: that it belongs to.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, part: bytes) -> None:
        """Keeps a part for the end of the turn."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(part)

    def close(self) -> None:
        """Closes it behind what was written."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Writes what is kept."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))


class _BadHead(Exception):
    """The head of a request is refused; the parser passes no more on of it."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 on one connection, with deadlines; requests find it as `state.connection`.

    Args:
        room: all connections.
        head_timeout_s: how long the head of a request may take, from the connection or the
            head's first byte.
        body_timeout_s: how long a body may take, whether or not anybody reads it.
        uvicorn: what uvicorn gives its protocols.
    """

    def __init__(
        self,
        room: "Room[Connection]",
        head_timeout_s: float,
        body_timeout_s: float,
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self.logger = _DEFECTS
        self.app_state = {**self.app_state, "connection": self}
        self._room, self._head_timeout_s, self._body_timeout_s = (
            room,
            head_timeout_s,
            body_timeout_s,
        )
        self._phase: tuple[str, object] = ("idle", None)
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._part = "head"
        """What of a request comes next: its head, its body, or nothing of one that has begun."""
        self._head_bytes = 0

    @property
    def address(self) -> str:
        """Of the client."""
        return str(self.client[0]) if self.client else ""

    def known_as(self, device: str) -> None:
        """Its client has shown the token of a device.

        Raises:
            Crowded: the device has too many connections.
        """
        if not self._room.know(self, device):
            raise Crowded(f"more than {self._room.group_max} connections", own=True)

    # ------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets it in, or refuses it."""
        super().connection_made(transport)
        self._together = _Together(transport, self.loop)
        admitted, gone = self._room.enter(self, self.address)
        if gone is not None:
            gone.transport.abort()
        if admitted:
            self._watch()
        else:
            self._refuse(503, "all connections are taken")

    def data_received(self, data: bytes) -> None:
        """Takes what has come, and sees to deadlines."""
        if self._refused:
            return
        self._head_bytes += len(data) if self._part != "body" else 0
        super().data_received(data)
        if self._part == "head" and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, f"expected at most {HEAD_BYTES_MAX} bytes of head")
        self._watch()

    def shutdown(self) -> None:
        """Ends it, behind the answer that it may have given just now."""
        self._together.flush()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives its place back."""
        self._stop_timer()
        self._room.leave(self)
        super().connection_lost(exc)

    # ------------------------------------------------------------ the parser

    def on_message_begin(self) -> None:
        """A head begins."""
        self._part = "head"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole.

        Raises:
            _BadHead: it is too large, or does not say to whom it goes.
        """
        self._part, self._head_bytes = "body", 0
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES_MAX:
            raise _BadHead
        named = any(name == b"host" for name, _ in self.headers)
        if not named and self.parser.get_http_version() == "1.1":
            raise _BadHead  # as RFC 9112 asks; who is called by which name is looked at later
        super().on_headers_complete()
        together: Any = self._together
        self.cycle.transport = together

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._part = "idle"
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no request is refused as everything else is."""
        self._refuse(400, "expected a request of HTTP/1.1 that names its host")

    def on_response_complete(self) -> None:
        """Sees to the deadline of what comes next."""
        super().on_response_complete()
        self._watch()

    # ------------------------------------------------------------ private

    def _watch(self) -> None:
        """Starts and ends deadlines as the request goes on."""
        if self._refused or self.transport.is_closing():
            self._stop_timer()
            return
        working = self.cycle is not None and not self.cycle.response_complete
        phase = self._part
        if working:
            self._room.work(self)
        else:
            self._room.wait(self)
        if self._phase == (phase, self.cycle):
            return
        self._phase = (phase, self.cycle)
        self._stop_timer()
        if phase == "head":
            self._timer = self.loop.call_later(self._head_timeout_s, self._head_is_late)
        elif phase == "body":
            # Who reads the body answers in time if it is late; this is for bodies nobody reads.
            self._timer = self.loop.call_later(
                self._body_timeout_s + LINGER_S, self.transport.abort
            )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._refuse(408, f"expected the head of a request within {self._head_timeout_s:g} s")

    def _refuse(self, status: int, words: str) -> None:
        """Answers without a request, and closes once that can have been read."""
        self._refused = True
        self._room.refused(self.address, status, words)
        lingering: set[Any] = _LINGERING
        if len(lingering) >= REFUSED_MAX:
            self.transport.abort()
            return
        body = json.dumps({"error": words}).encode()
        name = HTTPStatus(status).phrase
        head = (
            f"HTTP/1.1 {status} {name}\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        lingering.add(self)
        self.loop.call_later(LINGER_S, self._cut)

    def _cut(self) -> None:
        _LINGERING.discard(self)
        self.transport.abort()


class Handshake(asyncio.Protocol):
    """A connection that has still to agree on TLS: it counts as any other, and has a deadline.

    Args:
        room: all connections.
        rate: of handshakes of one address, each of which costs the server some computing.
        tls: what the server proves who it is with.
        timeout_s: how long it may take.
        then: makes what the connection goes on as.
    """

    def __init__(
        self,
        room: "Room[Connection]",
        rate: Rate,
        tls: ssl.SSLContext,
        timeout_s: float,
        then: "Callable[[], BoundedProtocol]",
    ) -> None:
        self._room, self._rate, self._tls = room, rate, tls
        self._timeout_s, self._then = timeout_s, then
        self._task: asyncio.Task[None] | None = None
        self._early = b""  # of what comes after TLS, the part that came before we go on
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets it in, or cuts it: there is no way yet to say why."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if self._rate.wait_s(address):
            transport.abort()
            return
        self._rate.take(address)
        admitted, gone = self._room.enter(self, address)
        if gone is not None:
            gone.transport.abort()
        if not admitted:
            transport.abort()
            return
        transport.pause_reading()  # what comes is for TLS
        self._task = asyncio.get_running_loop().create_task(self._agree())

    def data_received(self, data: bytes) -> None:
        """Keeps what comes at once after TLS was agreed on."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives its place back."""
        self._lost = True
        self._room.leave(self)

    async def _agree(self) -> None:
        try:
            secure = await asyncio.get_running_loop().start_tls(
                self.transport,
                self,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=self._timeout_s,
            )
        except (OSError, ssl.SSLError):
            secure = None
        finally:
            self._room.leave(self)
        if secure is None or self._lost:
            self.transport.abort()
            return
        protocol = self._then()
        secure.set_protocol(protocol)
        protocol.connection_made(secure)
        if self._early:
            protocol.data_received(self._early)


Connection = BoundedProtocol | Handshake
"""What there is a room for."""

_LINGERING: set[BoundedProtocol] = set()

_DEFECTS = logging.getLogger("uvicorn.error.defects")
"""Of each request that is none uvicorn says a line; the room counts them, so that no disk fills."""

_DEFECTS.setLevel(logging.ERROR)
