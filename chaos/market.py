"""A market of real processes, `edgepact serve` and `edgepact device`, that can be hurt.

Devices are honest and patient: they wait for their server for ever and are started again with the
same name and files after they were killed. What processes say goes to files beside the ledger.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

import chaos
from chaos import adding
from edgepact.market.demand import Buyer, Demand, write_requests

PATIENCE_S = 300.0
"""The end of all patience: what takes longer hangs."""

MEBIBYTE = 2**20

NOT_THE_LEADER = ("serves the ledger", "was taken over")
"""Last words of a server that ends since another leads."""

ROOT = Path(chaos.__file__).resolve().parent.parent

AUDIT_TIMEOUT_S = 120
"""Longer than whoever was killed takes to come back, also where the machine is busy."""

# With alpha so small a device takes all steps at any price.
DEVICE = {"alpha": 0.001, "capacity": 20, "A": 1, "B": 1}


REQUESTS = 10_000
"""Of each device."""

BUYERS = (
    Buyer(name="shop", microcredits=5_000_000, units=100_000, units_each=1),
    Buyer(name="club", microcredits=700, per="request", units=100_000, units_each=1),
)


class Broken(Exception):
    """A promise was not kept, so that there is no going on."""


class Market:
    """Servers on one ledger, and their devices.

    Args:
        folder: of all files.
        devices: how many.
        servers: how many; the devices know the address of each.
        ledger_url: None for an SQLite file in the folder.
        serve: more arguments of `edgepact serve`.
        pause_s: what a device takes for a piece.
        environment: more variables, by the name of the process.
        servers_wrapped: commands that servers are started by, one each, such as `unshare`.
        revive: whether a server that ends since another one leads is started again.
        results: folder of what devices write; None for that of all files.
        buyers: whether devices work on what two buyers ask for, and on nothing else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        devices: int,
        servers: int = 1,
        ledger_url: str | None = None,
        serve: Sequence[str] = (),
        pause_s: float = 0.0,
        environment: Callable[[str], Mapping[str, str]] = lambda name: {},
        servers_wrapped: Sequence[Sequence[str]] = ((), ()),
        revive: bool = False,
        results: Path | None = None,
        buyers: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.devices = tuple(range(devices))
        self.ledger_file = folder / "ledger.db"
        self.ledger_url = ledger_url or f"sqlite:///{self.ledger_file}"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = [_free_port() for _ in range(servers)]
        self._serve, self._pause_s = tuple(serve), pause_s
        self._more_environment, self._wrapped = environment, servers_wrapped
        self._revive = revive
        self._results = results or folder
        path = [str(ROOT / "src"), str(ROOT), str(adding.install(folder / "job"))]
        path += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "EDGEPACT_OPERATOR_TOKEN": "operator-of-chaos",
        }
        self.demand = Demand.of(BUYERS) if buyers else None
        if self.demand is not None:
            self.demand.write(folder / "demand.json")
            for index in self.devices:
                self._ask(self.demand, index)
        (folder / "tokens.txt").write_text("".join(f"once-{index}\n" for index in self.devices))

    def __enter__(self) -> "Market":
        return self

    def __exit__(self, *_: object) -> None:
        for name in tuple(self.running):
            self.kill(name)

    # ------------------------------------------------------------ processes

    def start_server(self, which: int = 0, *more: str) -> str:
        """Starts a server, and does not wait for it; returns its name."""
        name = f"server-{which}"
        self._ready_file(which).unlink(missing_ok=True)
        arguments = ["serve", "--ledger", self.ledger_url, "--port", str(self._ports[which])]
        arguments += ["--ready-file", str(self._ready_file(which)), "--job", "adding"]
        arguments += ["--tokens", str(self.folder / "tokens.txt"), "--price", "1"]
        arguments += ["--key", str(self.folder / "server.key")]
        arguments += ["--audit-timeout-s", str(AUDIT_TIMEOUT_S)]
        arguments += ["--demand", str(self.folder / "demand.json")] if self.demand else []
        return self._start(name, [*arguments, *self._serve, *more], self._wrapped[which])

    def start_device(self, index: int) -> str:
        """Starts a device; returns its name."""
        name = f"cam-{index}"
        settings = {"first": (index + 1) * 10**6, "pause_s": self._pause_s}
        arguments = ["device", "--server", ",".join(map(self.url, range(len(self._ports))))]
        arguments += ["--name", name, "--token", f"once-{index}", "--away-timeout-s", "inf"]
        arguments += ["--token-file", str(self.folder / f"{name}.token")]
        arguments += ["--results", str(self.results(index)), "--job", "adding"]
        arguments += ["--job-settings", json.dumps(settings)]
        if self.demand is not None:
            arguments += ["--requests", str(self._requests_file(index))]
        for field, value in DEVICE.items():
            arguments += [f"--{field}", str(value)]
        return self._start(name, arguments)

    def start(self) -> None:
        """Starts the first server and all devices, and waits until work is done."""
        self.start_server()
        self.await_ready()
        for index in self.devices:
            self.start_device(index)

    def kill(self, name: str) -> None:
        """Ends a process by SIGKILL."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """Tells a process to end, and waits for it.

        Raises:
            Broken: it does not end, or not properly.
        """
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Broken(f"{name} did not end within {PATIENCE_S:g} s of SIGTERM") from None
        if code != 0:
            raise Broken(f"{name} ended with {code}: {self.last_words(name)}")

    def expect_running(self) -> None:
        """Expects that nobody has ended who was not killed.

        Raises:
            Broken: somebody has.
        """
        for name, process in tuple(self.running.items()):
            if process.poll() is None:
                continue
            words = self.last_words(name)
            if not (self._revive and any(each in words for each in NOT_THE_LEADER)):
                raise Broken(f"{name} ended by itself with {process.returncode}: {words}")
            del self.running[name]
            self.start_server(int(name.rpartition("-")[2]))

    def memory_bytes(self, name: str) -> int:
        """Resident memory of a process; 0 if it has just ended."""
        try:
            return int(psutil.Process(self.running[name].pid).memory_info().rss)
        except psutil.Error:
            return 0

    def last_words(self, name: str) -> str:
        """The last line that a process has written on standard error."""
        lines = self.log(name).read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    # ------------------------------------------------------------ what is seen from outside

    def url(self, which: int = 0) -> str:
        """Address of a server."""
        return f"http://127.0.0.1:{self._ports[which]}"

    def log(self, name: str) -> Path:
        """What a process has said."""
        return self.folder / f"{name}.log"

    def results(self, index: int) -> Path:
        """The results file of a device."""
        return self._results / f"cam-{index}.jsonl"

    def is_ready(self, which: int = 0) -> bool | None:
        """What a server says of itself; None if it does not answer."""
        try:
            answer = httpx.get(f"{self.url(which)}/v2/health/ready", timeout=10.0)
        except httpx.HTTPError:
            return None
        return answer.status_code == 200

    def status(self, which: int = 0) -> dict[str, Any]:
        """The market at a glance."""
        shown = {"Authorization": "Bearer operator-of-chaos"}
        answer = httpx.get(f"{self.url(which)}/market/status", timeout=PATIENCE_S, headers=shown)
        return dict(answer.raise_for_status().json())

    def await_ready(self, which: int = 0) -> float:
        """Waits until a server says that it is ready; returns the seconds that took.

        Raises:
            Broken: it has ended, or does not get ready.
        """
        began = time.monotonic()
        self.wait(lambda: self._ready_file(which).exists(), f"server-{which} to answer")
        self.wait(lambda: self.is_ready(which), f"server-{which} to be ready")
        return time.monotonic() - began

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Waits for something to happen.

        Raises:
            Broken: it does not happen, or a process that it needs has ended.
        """
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            self.expect_running()
            if time.monotonic() > end_s:
                raise Broken(f"waited {PATIENCE_S:g} s in vain for {what}")
            time.sleep(0.02)

    # ------------------------------------------------------------ private

    def _requests_file(self, index: int) -> Path:
        return self.folder / f"requests-{index}.jsonl"

    def _ask(self, demand: Demand, index: int) -> None:
        """Both buyers ask a device, by turns, until their quotas are shared out."""
        asks = []
        for at in range(REQUESTS):
            source = str((index + 1) * 10**6 + at).encode()
            buyer, number = BUYERS[at % 2].name, index * REQUESTS + at // 2
            asks.append((demand.issue(buyer, number, f"cam-{index}", source), source))
        write_requests(self._requests_file(index), asks)

    def _ready_file(self, which: int) -> Path:
        return self.folder / f"ready-{which}.json"

    def _start(self, name: str, arguments: list[str], wrapped: Sequence[str] = ()) -> str:
        assert name not in self.running
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*wrapped, sys.executable, "-m", "edgepact", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self.folder,
                env={**self._environment, **self._more_environment(name)},
            )
        return name


def _free_port() -> int:
    """A port that is free just now. Those that the system gives out by itself are left alone,
    since a client's connection may hold one while the server is down."""
    for port in range(20_000 + os.getpid() % 5000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _TAKEN:
            _TAKEN.add(port)
            return port
    raise Broken("no port is free")


_TAKEN = set[int]()
