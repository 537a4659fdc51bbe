"""A market on real networks: what a bad link costs the others, and what a window of jobs is worth.

Run by `python -m benchmarks links`. Server and devices are processes on hosts of their own, in
network namespaces whose packets are delayed, lost and paced one by one (`chaos.hosts`), so that the
kernels' own TCP meets them.

First three devices on a LAN work by turns alone, beside a fourth on a bad link, and beside one
whose link is cut while it works. Devices take their time for each image without using a processor,
as here all of them share one machine: what is measured is how they wait for each other. Then one
device with a delay works by turns with one job in flight and with its own window; it takes no more
time for an image than it needs.
"""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos.hosts import ROOT, Hosts, Shape
from edgepact.inference.models import embedded, samples
from edgepact.jobs.classification import Classification, DeviceHalf, Picture
from edgepact.market.posted import FixedPrice
from edgepact.market.serve_config import ServeConfig
from edgepact.market.server import serve
from edgepact.work import Json, Work

LAN = Shape(round_trip_ms=1.0)
BAD = Shape(round_trip_ms=200.0, loss=0.05, rate_kbit=256.0)
CUT = Shape(cut=True)
KEPT_LEAST = 0.9
TIMES_LEAST = 3.0
PAUSE_S = 0.08
"""What a device on the LAN takes for an image: three together ask for as many a second as one
server does with models of a hundred times the size."""

LAYERS = 6
DELAYS_MS = (50.0, 200.0)
TURNS = 3
PATIENCE_S = 120.0
WAIT_SHARE = 0.05
TURN_S = 30.0
"""Some twenty rounds, whose ends are what a rate is quantised by."""
SETTLE_S = 8.0
"""After a device has come and before it is timed: in its first round nobody knows yet what it is
like."""


class PacedHalf(DeviceHalf):
    """The device's half of a classification that takes its time."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(embedded(), samples())
        self._pause_s = pause_s

    def work(self, piece: Picture, amount: int) -> Work:
        """As usual, after a pause."""
        time.sleep(self._pause_s)
        return (yield from super().work(piece, amount))


class Paced(Classification):
    """Classification by devices that take their time; its setting is `pause_s`."""

    def device_part(
        self, model: Path | None, inputs: Path | None, settings: Mapping[str, Json]
    ) -> DeviceHalf:
        """The device's half, with the samples of the job."""
        return PacedHalf(float(settings["pause_s"]))


class Market:
    """A server on host 0, and devices on hosts of their own.

    Args:
        hosts: there are.
        folder: of all files.
    """

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self._hosts, self._folder = hosts, folder
        self._running = dict[int, subprocess.Popen[bytes]]()
        self._names = dict[int, str]()
        self._started = 0
        ready = folder / "ready.json"
        self._start(0, {"folder": str(folder), "host": hosts.address(0)})
        _wait(ready.exists, "the server")
        self._url = json.loads(ready.read_text())["url"]

    def __enter__(self) -> "Market":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def join(self, host: int, *, pause_s: float, in_flight: int | None = None) -> None:
        """Starts a device, and waits until it delivers."""
        name = self._names[host] = f"cam-{self._started}"
        config = {
            "server_url": self._url,
            "name": name,
            "enrol_token": f"once-{self._started}",
            "results": str(self._file(host)),
            **{"alpha": 1e-6, "capacity": 20.0, "A": 1.0, "B": 1.0, "layers_max": LAYERS},
            **{"away_timeout_s": 1e6, "in_flight": in_flight},
            "job_settings": {"pause_s": pause_s},
        }
        self._started += 1
        self._start(host, config)
        _wait(lambda: self.delivered(host), f"work of {name}")

    def go(self, host: int) -> None:
        """Ends a device; on a link that is cut it hears nothing any more."""
        process = self._running.pop(host)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def delivered(self, host: int) -> int:
        """Pieces that a device has delivered so far."""
        return len(self._lines(host))

    def bytes_told(self, host: int) -> int:
        """Bytes that a device has counted, both ways, of the pieces it has delivered."""
        rows = self._lines(host).values()
        return sum(row["http_bytes_sent"] + row["http_bytes_received"] for row in rows)

    def rate(self, hosts: tuple[int, ...], seconds: float) -> float:
        """Pieces a second that devices deliver together."""
        before, began = sum(map(self.delivered, hosts)), time.monotonic()
        time.sleep(seconds)
        return (sum(map(self.delivered, hosts)) - before) / (time.monotonic() - began)

    def _lines(self, host: int) -> dict[str, dict[str, Any]]:
        path = self._file(host)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        return {row["piece"]: row for row in rows if row["state"] != "unpaid"}

    def _file(self, host: int) -> Path:
        return self._folder / f"{self._names[host]}.jsonl"

    def _start(self, host: int, config: Mapping[str, Any]) -> None:
        command = [*self._hosts.on(host), sys.executable, "-m", "benchmarks.links"]
        part = "--serve" if host == 0 else "--device"
        log = (self._folder / f"{host}.log").open("ab")
        with log:
            self._running[host] = subprocess.Popen(
                [*command, part, json.dumps(config)], cwd=ROOT, stdout=log, stderr=log
            )


def measure(quick: bool) -> dict[str, Any]:
    """Images a second."""
    turn_s, turns = (4.0, 1) if quick else (TURN_S, TURNS)
    others = _others(turn_s, turns)
    turn_s = min(turn_s, 12.0)
    windows = [_window(delay_ms, turn_s, turns) for delay_ms in DELAYS_MS]
    least = min(row["share kept"] for row in others if row["share kept"] is not None)
    times = windows[0]["times"]
    return {
        "title": "Devices on links of their own",
        "rows": [*others, *windows],
        "least_share_kept": least,
        "target": f"three on a LAN keep {KEPT_LEAST:g} of their throughput beside a bad link; with "
        f"{DELAYS_MS[0]:g} ms the window gives {TIMES_LEAST:g} times one job in flight",
        "reached": least >= KEPT_LEAST and times >= TIMES_LEAST,
    }


def _others(turn_s: float, turns: int) -> list[dict[str, Any]]:
    """Three devices on a LAN alone, beside one on a bad link, and beside one that is lost."""
    near, far = (1, 2, 3), 4
    rates: dict[str, list[float]] = {"alone": [], "bad link": [], "lost": []}
    far_rates = []
    with _market(4) as (hosts, market):
        for host in near:
            hosts.shape(host, LAN)
            market.join(host, pause_s=PAUSE_S)
        for _ in range(turns):
            rates["alone"].append(market.rate(near, turn_s))
            hosts.shape(far, BAD)
            market.join(far, pause_s=PAUSE_S)
            time.sleep(min(turn_s, SETTLE_S))
            before = market.delivered(far)
            rates["bad link"].append(market.rate(near, turn_s))
            far_rates.append((market.delivered(far) - before) / turn_s)
            hosts.shape(far, CUT)
            rates["lost"].append(market.rate(near, turn_s))
            market.go(far)
    kept = {
        name: statistics.median(
            one / alone for one, alone in zip(found, rates["alone"], strict=True)
        )
        for name, found in rates.items()
    }
    words = {
        "alone": "alone",
        "bad link": "beside one of 200 ms, 5 % loss, 256 kbit/s",
        "lost": "beside one whose link is cut",
    }
    return [
        {
            "case": f"three on a LAN, {words[name]}",
            "images/s": statistics.median(found),
            "share kept": None if name == "alone" else kept[name],
            "images/s of the fourth": statistics.median(far_rates) if name == "bad link" else None,
        }
        for name, found in rates.items()
    ]


def _window(delay_ms: float, turn_s: float, turns: int) -> dict[str, Any]:
    """One device with a delay, by turns with one job in flight and with its window."""
    one: list[float] = []
    window: list[float] = []
    carried = told = 0
    with _market(1) as (hosts, market):
        hosts.shape(1, Shape(round_trip_ms=delay_ms))
        for _ in range(turns):
            for in_flight, rates in ((1, one), (None, window)):
                before = sum(way["bytes"] for way in hosts.carried(1))
                market.join(1, pause_s=0.0, in_flight=in_flight)
                rates.append(market.rate((1,), turn_s))
                market.go(1)
                carried += sum(way["bytes"] for way in hosts.carried(1)) - before
                told += market.bytes_told(1)
    times = statistics.median(w / o for w, o in zip(window, one, strict=True))
    return {
        "case": f"one device, {delay_ms:g} ms round trip",
        "images/s, one in flight": statistics.median(one),
        "images/s": statistics.median(window),
        "times": times,
        "bytes carried / told": carried / told,
    }


@contextmanager
def _market(devices: int) -> Iterator[tuple[Hosts, Market]]:
    with (
        Hosts(devices, seed=14) as hosts,
        tempfile.TemporaryDirectory() as folder,
        Market(hosts, Path(folder)) as market,
    ):
        yield hosts, market


def _wait(condition: Any, what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError(f"waited {PATIENCE_S:g} s in vain for {what}")
        time.sleep(0.02)


def _serve(told: Mapping[str, Any]) -> None:
    folder = Path(told["folder"])
    config = ServeConfig(
        ledger_url=f"sqlite:///{folder / 'ledger.db'}",
        host=told["host"],
        port=0,
        ready_file=folder / "ready.json",
        enrol_tokens=tuple(f"once-{n}" for n in range(100)),
        repeat_rounds=0,
        wait_share=WAIT_SHARE,
    )
    serve(config, FixedPrice(price=1.0, steps_max=12), job=Paced())


def _device(told: dict[str, Any]) -> None:
    from edgepact.market.device import run_device
    from edgepact.market.device_config import DeviceConfig

    told["results"] = Path(told["results"])
    run_device(DeviceConfig(**told), job=Paced())


def main() -> None:
    match sys.argv[1:]:
        case ["--serve", told]:
            _serve(json.loads(told))
        case ["--device", told]:
            _device(json.loads(told))
        case words:
            print(json.dumps(measure("--quick" in words)))


if __name__ == "__main__":
    main()
