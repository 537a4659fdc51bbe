"""A way to a server on which HTTP requests are lost, doubled, cut short, overtaken and sent again.

It stands between devices and their server as a proxy. Real networks do not repeat whole requests,
but what is in between does, and so do attackers: a request that comes twice, at once or much later,
after the market has gone on, must not be paid twice. It also stands where links cannot be shaped
packet by packet: it waits, it takes what comes and says nothing (a connection half open), it cuts.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass

HEAD_BYTES_MAX = 65_536
KEPT = 64
"""Requests that are kept to be sent again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mischief:
    """What may happen to a request; shares of all of them.

    Attributes:
        doubled: the server is sent it twice at once.
        replayed: an old one is sent to the server beside it.
        truncated: the server is sent half of it, and both connections end.
        overtaken: it waits, so that others pass it.
        unanswered: the server has it, and its answer is lost with the connection.
        half_answered: half of the answer comes.
        silent: nobody ever hears of it: the connection is half open.
        wait_s: how long those wait that are overtaken.
        delay_s: how long every request and every answer takes beside.
    """

    doubled: float = 0.0
    replayed: float = 0.0
    truncated: float = 0.0
    overtaken: float = 0.0
    unanswered: float = 0.0
    half_answered: float = 0.0
    silent: float = 0.0
    wait_s: float = 0.3
    delay_s: float = 0.0


CALM = Mischief()


class _Ended(Exception):
    """The connection of a device is to end."""


class Unreliable:
    """A proxy before one server, in a thread of its own.

    Args:
        host, port: of the server.
        draws: what happens to whom.
    """

    def __init__(self, host: str, port: int, draws: random.Random) -> None:
        self._target = host, port
        self._draws = draws
        self.mischief = CALM
        self._source: str | None = None
        self.done: Counter[str] = Counter()
        """What was done to requests, and `requests`, all of them."""
        self._old: list[bytes] = []
        self._open = set[asyncio.StreamWriter]()
        self._tasks = set[asyncio.Task[None]]()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unreliable", daemon=True)

    def __enter__(self) -> "Unreliable":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where devices find it."""
        return f"http://127.0.0.1:{self._port}"

    def move(self, source: str) -> None:
        """The devices have another address from now on: all their connections are dead."""
        self._source = source
        self._loop.call_soon_threadsafe(self._forget)

    # ------------------------------------------------------------ private

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget()

    def _forget(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(self._attend(reader, writer))

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a device, request after request."""
        self._open.add(writer)
        try:
            while True:
                request = await _message(reader)
                answer = await self._pass_on(request)
                await asyncio.sleep(self.mischief.delay_s)
                half = self._happens("half_answered")
                writer.write(answer[: len(answer) // 2] if half else answer)
                await writer.drain()
                if half:
                    raise _Ended
        except (_Ended, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    def _happens(self, what: str) -> bool:
        share: float = getattr(self.mischief, what)
        if share and self._draws.random() < share:
            self.done[what] += 1
            return True
        return False

    async def _pass_on(self, request: bytes) -> bytes:
        self.done["requests"] += 1
        await asyncio.sleep(self.mischief.delay_s)
        if self._happens("silent"):
            await asyncio.sleep(3600.0)
        if self._happens("overtaken"):
            await asyncio.sleep(self.mischief.wait_s)
        if self._happens("truncated"):
            with suppress(OSError):
                await self._send(request[: len(request) // 2], whole=False)
            raise _Ended
        if self._old and self._happens("replayed"):
            self._begin(self._send_aside(self._draws.choice(self._old)))
        if len(self._old) < KEPT:
            self._old.append(request)
        else:
            self._old[self._draws.randrange(KEPT)] = request
        if self._happens("doubled"):
            self._begin(self._send_aside(request))
        answer = await self._send(request)
        if self._happens("unanswered"):
            raise _Ended
        return answer

    async def _send_aside(self, request: bytes) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._send(request)

    async def _send(self, request: bytes, *, whole: bool = True) -> bytes:
        """Sends a request on a connection of its own; returns the answer."""
        local = None if self._source is None else (self._source, 0)
        reader, writer = await asyncio.open_connection(*self._target, local_addr=local)
        self._open.add(writer)
        try:
            writer.write(request)
            await writer.drain()
            return await _message(reader) if whole else b""
        finally:
            self._open.discard(writer)
            writer.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)
