"""A thousand devices in one process, for measuring a server: as cheap as a client can be.

Each device holds one connection and goes the way of every device: it asks for an offer, answers,
sends its pieces bound to their sources, shows what is audited, and asks for the next round. Two
ways to send: *closed*, as fast as answers come with so many requests in flight, devices taking
turns; and *open*, each device a piece every so many seconds whatever happens, from a moment of
its own. In the open way a piece's time counts from the moment at which it was due, so that a
server that is behind cannot hide it.
"""

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepact.market.ledger import Ledger
from edgepact.market.protocol import oip
from edgepact.studies import light
from edgepact.tensors import Tensors

AMOUNT = light.MODEL.amount_max
START_S = 60.0
"""How long a server may take to start."""

REFUSED = frozenset({429, 503})
AGAIN_S = 1.0
"""After which a refused request is sent again, as servers ask for."""

SETTLED_S = 1.0
"""In which polls are there for certain."""

TALKS_MAX = 8
"""Devices that talk about a round at a time, where they do not work against the clock."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, a request at a time. Answers state their length."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._fixed = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()
        self._answer: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self._turn = asyncio.Lock()
        self.bytes_sent = 0
        self.bytes_received = 0

    async def ask(
        self, method: str, path: str, body: bytes = b"", header: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body of the answer.

        Raises:
            ConnectionError: the server has gone.
        """
        async with self._turn:
            loop = asyncio.get_running_loop()
            if self._transport is None or self._transport.is_closing():
                self._came.clear()
                await loop.create_connection(lambda: self, "127.0.0.1", self._port)
            assert self._transport is not None
            self._answer = loop.create_future()
            head = (
                f"{method} {path} HTTP/1.1\r\n{self._fixed}{header}Content-Length: {len(body)}\r\n"
            )
            content = head.encode() + b"\r\n" + body
            self.bytes_sent += len(content)
            self._transport.write(content)
            return await self._answer

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers who waits, once the answer is whole."""
        self._came += data
        self.bytes_received += len(data)
        end = self._came.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._came[:end].decode("latin-1").split("\r\n")
        headers = dict(_header(line) for line in lines)
        whole = end + 4 + int(headers.get("content-length", "0"))
        if len(self._came) < whole:
            return
        content = bytes(self._came[end + 4 : whole])
        del self._came[:whole]
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(first.split(" ", 2)[1]), headers, content))

    def connection_lost(self, exc: Exception | None) -> None:
        """Who waits hears of it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server has gone"))


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


@dataclass(slots=True)
class Device:
    """One of the crowd."""

    name: str
    connection: Connection
    draw: random.Random
    round: int = 0
    begun: int = 0
    offer: dict[str, Any] | None = None
    due: set[str] = field(default_factory=set)
    sources: dict[str, bytes] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round of the crowd came to.

    Attributes:
        served: accepted pieces by device, in the measured window.
        seconds: of each accepted piece, from when it was due to its answer, seconds.
        refused: requests to work that were told to come back.
        asked: requests to work in all.
        window_s: seconds from the first piece to the moment from which devices run out of them.
        in_window: pieces accepted within the window.
        cpu_s: CPU seconds of the server in the window; None where the system does not tell.
        whole_s: seconds from the first offer to the last answer, audits included.
        whole_cpu_s: CPU seconds of the server in the same time.
    """

    served: dict[str, int]
    seconds: list[float]
    refused: int
    asked: int
    window_s: float
    in_window: int
    cpu_s: float
    whole_s: float
    whole_cpu_s: float

    @property
    def rate(self) -> float:
        """Pieces a second, within the window."""
        return self.in_window / self.window_s


class Crowd:
    """Devices on one server.

    Args:
        server: the server.
        tokens: of the devices, by name.
        units: pieces of a device in a round.
        seed: of inputs and phases.
        sent: what an honest device sends, by source.
        source: draws an input.
        path: where work is sent.
    """

    def __init__(
        self,
        server: "Server",
        tokens: dict[str, str],
        *,
        units: int,
        seed: int = 0,
        sent: Callable[[bytes], Tensors] = light.sent,
        source: Callable[[random.Random], bytes] = lambda draw: draw.randbytes(light.SOURCE_BYTES),
        model: str = light.MODEL.name,
        amount: int = AMOUNT,
    ) -> None:
        self._server, self._units = server, units
        self._sent, self._source = sent, source
        self._path = f"/v2/models/{model}-cut-{amount}/infer"
        self._amount = amount
        self.devices = [
            Device(name, Connection(server.port, token), random.Random(f"{seed} {name}"))
            for name, token in tokens.items()
        ]

    async def round(self, *, in_flight: int = 0, period_s: float = 0.0) -> Round:
        """Plays one round: closed with so many in flight, or open with such a period.

        Args:
            in_flight: requests in flight at a time; 0 for the open way.
            period_s: between two pieces of a device.
        """
        count = _Count(self._server)
        arriving = asyncio.Semaphore(TALKS_MAX)
        await self._each(lambda device: self._arrive(device, arriving))
        gate = asyncio.Semaphore(TALKS_MAX if in_flight else len(self.devices))
        whole_s, whole_cpu_s = time.perf_counter(), self._server.cpu_s()
        await self._each(lambda device: self._engage(device, gate))
        count.begin(len(self.devices) * self._units)
        if in_flight:
            todo = iter([d for _ in range(self._units) for d in self.devices])
            await asyncio.gather(*(self._closed(todo, count) for _ in range(in_flight)))
        else:
            began_s = time.perf_counter()
            await self._each(lambda device: self._open(device, period_s, began_s, count))
        await self._each(self._hear)  # all audits of a round are drawn before the next begins
        for device in self.devices:
            device.sources.clear()
        return count.found(
            time.perf_counter() - whole_s, self._server.cpu_s() - whole_cpu_s, self.devices
        )

    async def wait(self) -> None:
        """Everybody connects and polls for an offer; returns while they wait."""
        arriving = asyncio.Semaphore(TALKS_MAX)
        await self._each(lambda device: self._arrive(device, arriving))
        polls = [asyncio.create_task(self._poll(device)) for device in self.devices]
        await asyncio.sleep(SETTLED_S)
        for poll in polls:
            poll.cancel()

    @staticmethod
    async def _poll(device: Device) -> None:
        # After a round that is far off, so that it is held open.
        await device.connection.ask("GET", "/market/offer?after=1000000")

    async def pay(self) -> dict[str, int]:
        """How accepted pieces of all rounds stand, by state; `missing` for those unheard of."""
        states: dict[str, int] = {}
        for device in self.devices:
            found: dict[str, Any] = {}
            for number in range(1, device.round + 1):
                told = await self._talk(device, "GET", f"/market/pieces?round={number}")
                found |= told["pieces"]
            for piece in device.accepted:
                state = str(found.get(piece, {"state": "missing"})["state"])
                states[state] = states.get(state, 0) + 1
        return states

    def close(self) -> None:
        """Everybody hangs up."""
        for device in self.devices:
            device.connection.close()

    async def _each(self, do: Callable[[Device], Any]) -> None:
        await asyncio.gather(*(do(device) for device in self.devices))

    async def _arrive(self, device: Device, gate: asyncio.Semaphore) -> None:
        """Connects and shows its token: strangers of one address are few."""
        async with gate:
            await self._talk(device, "GET", "/v2")

    async def _engage(self, device: Device, gate: asyncio.Semaphore) -> None:
        """Hears the next offer and takes its first item."""
        if device.offer is None:
            await self._hear(device)
        assert device.offer is not None
        device.round, device.offer = int(device.offer["round"]), None
        async with gate:
            body = json.dumps({"round": device.round, "item": 0}).encode()
            await self._talk(device, "POST", "/market/commit", body)

    async def _hear(self, device: Device) -> None:
        """Polls for the next offer, and shows what is to be shown meanwhile."""
        while device.offer is None:
            told = await self._talk(device, "GET", f"/market/offer?after={device.round}")
            await self._show(device)
            if "round" in told:
                device.offer = told
            elif told.get("state") == "over":
                raise ConnectionError("the market is over")

    async def _closed(self, todo: Iterator[Device], count: "_Count") -> None:
        for device in todo:
            await self._piece(device, time.perf_counter(), count)

    async def _open(self, device: Device, period_s: float, began_s: float, count: "_Count") -> None:
        phase = device.draw.random()
        for at in range(self._units):
            due_s = began_s + (phase + at) * period_s
            await asyncio.sleep(due_s - time.perf_counter())
            await self._piece(device, due_s, count)

    async def _piece(self, device: Device, due_s: float, count: "_Count") -> None:
        source = self._source(device.draw)
        salt = device.draw.randbytes(32)
        name = f"{device.round}-{device.begun}"
        device.begun += 1
        told: dict[str, object] = {"round": device.round}
        if self._amount:
            told["commitment"] = hashlib.sha256(salt + source).hexdigest()
        body, length = oip.encode_request(name, self._sent(source), told)
        header = f"{oip.HEADER_LENGTH}: {length}\r\nContent-Type: {oip.BINARY_TYPE}\r\n"
        while True:
            count.asked += 1
            status, headers, content = await device.connection.ask("POST", self._path, body, header)
            if status not in REFUSED:
                break
            count.refused += 1
            await asyncio.sleep(AGAIN_S)
        if status != 200:
            raise RuntimeError(f"{device.name} {name}: {status} {content[:200]!r}")
        answer = oip.decode_response(content, headers.get(oip.HEADER_LENGTH.lower()))
        count.done(device, time.perf_counter() - due_s)
        device.accepted.append(name)
        device.sources[name] = salt + source
        self._note(device, answer.parameters.get("audits"))

    async def _show(self, device: Device) -> None:
        while device.due:
            piece = min(device.due)
            device.due.discard(piece)
            shown = device.sources[piece]
            await self._talk(device, "POST", f"/market/audit?piece={piece}", shown)

    async def _talk(
        self, device: Device, method: str, path: str, body: bytes = b""
    ) -> dict[str, Any]:
        header = "Content-Type: application/json\r\n"
        while True:
            status, _, content = await device.connection.ask(method, path, body, header)
            if status == 200:
                told = dict(json.loads(content))
                self._note(device, told.get("audits"))
                return told
            if status not in REFUSED:
                raise RuntimeError(f"{device.name} {path}: {status} {content[:200]!r}")
            await asyncio.sleep(AGAIN_S)

    @staticmethod
    def _note(device: Device, audits: object) -> None:
        if isinstance(audits, list):
            named = {str(each["piece"]) for each in audits}
            device.due |= named & device.sources.keys()


class _Count:
    """What is counted in a round; the window ends when devices may begin to run out of pieces."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.asked = self.refused = 0
        self._seconds: list[float] = []
        self._served: dict[str, int] = {}

    def begin(self, pieces: int) -> None:
        """The first piece comes."""
        self._window = max(1, (9 * pieces) // 10)
        self._began_s = self._ended_s = time.perf_counter()
        self._began_cpu_s = self._ended_cpu_s = self._server.cpu_s()

    def done(self, device: Device, seconds: float) -> None:
        """A piece was accepted."""
        self._seconds.append(seconds)
        if len(self._seconds) <= self._window:
            self._served[device.name] = self._served.get(device.name, 0) + 1
            if len(self._seconds) == self._window:
                self._ended_s, self._ended_cpu_s = time.perf_counter(), self._server.cpu_s()

    def found(self, whole_s: float, whole_cpu_s: float, devices: list[Device]) -> Round:
        """What the round came to."""
        return Round(
            served={device.name: self._served.get(device.name, 0) for device in devices},
            seconds=self._seconds,
            refused=self.refused,
            asked=self.asked,
            window_s=self._ended_s - self._began_s,
            in_window=min(len(self._seconds), self._window),
            cpu_s=self._ended_cpu_s - self._began_cpu_s,
            whole_s=whole_s,
            whole_cpu_s=whole_cpu_s,
        )


@dataclass(slots=True)
class Server:
    """A server, seen from outside.

    Attributes:
        pid: of its process.
        port: on which it answers.
        ledger_file: of its SQLite ledger.
    """

    pid: int
    port: int
    ledger_file: Path

    def cpu_s(self) -> float:
        """CPU seconds that it has used; 0 where the system does not tell."""
        try:
            after = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Its resident memory; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return 0
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def written_bytes(self) -> int:
        """Bytes that it has had written to a disk; 0 where the system does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/io").read_text()
        except OSError:
            return 0
        return int(dict(_header(line) for line in text.splitlines())["write_bytes"])

    def ledger_bytes(self) -> int:
        """Of the ledger's files."""
        found = self.ledger_file.parent.glob(self.ledger_file.name + "*")
        return sum(path.stat().st_size for path in found)


def enrolled(ledger_file: Path, devices: int) -> dict[str, str]:
    """Tokens of devices that a new ledger knows, by name."""
    with Ledger(f"sqlite:///{ledger_file}", synchronous="OFF") as ledger, ledger.together():
        return {f"d{n}": ledger.enrol(f"once-{n}", f"d{n}") for n in range(devices)}


@contextmanager
def served(
    folder: Path, *, module: str = "edgepact.studies.light", **settings: Any
) -> Iterator[Server]:
    """A server as a process, on the ledger of a folder.

    Args:
        folder: of the ledger.
        module: that serves, run as `python -m`.
        settings: of `ServeConfig`, beside those of a measurement.

    What it says is for operators, so it is shown only where the server has failed.
    """
    ready = folder / "ready.json"
    told = {
        "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
        "ready_file": str(ready),
        "port": 0,
        "commit_timeout_s": 600.0,
        "round_timeout_s": 3600.0,
        "audit_timeout_s": 600.0,
        **settings,
    }
    ready.unlink(missing_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    said = folder / "server.log"
    with said.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(told)], stderr=file, env=environment
        )
    try:
        end_s = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError("the server did not start")
            time.sleep(0.05)
        yield Server(process.pid, int(json.loads(ready.read_text())["port"]), folder / "ledger.db")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.returncode != 0:
            sys.stderr.write(said.read_text(encoding="utf-8", errors="replace"))
