"""Payments: many in one durable write against one write each, and beside somebody who reads.

Run by `python -m benchmarks ledger`. A ledger in a file, written through to the disk. In the first
part the same pieces are delivered one by one and in groups, by turns, each to a ledger of its own.
In the second the ledger is filled, and groups are paid by turns alone and while another process
shows and exports it again and again; what counts is how long a group takes to be durable.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from edgepact.engagement import Answer, Item, posted
from edgepact.errors import MarketError
from edgepact.market.ledger import Ledger, Piece
from edgepact.work import Model

GROUP = 64
"""Pieces of a group: what gathers while the disk is busy with a thousand devices."""

TIMES_MIN = 5.0
READING_MAX = 2.0

DEVICES = tuple(f"cam-{n}" for n in range(100))
REWARD = 750_003
TURNS = 4

READER = """
import sys, tempfile
from pathlib import Path
from edgepact.market.exported import export
from edgepact.market.statement import read_statement
print("ready", flush=True)
while True:
    read_statement(sys.argv[1], overview=True)
    with tempfile.TemporaryDirectory() as folder:
        export(sys.argv[1], Path(folder) / "out")
"""


def measure(quick: bool) -> dict[str, Any]:
    """Pieces a second, and milliseconds until a group is durable."""
    with tempfile.TemporaryDirectory() as folder:
        grouped = _grouped(Path(folder), 500 if quick else 3000)
    rows, settings = [], {}
    for size in (20_000,) if quick else (100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            row, costs = _beside_a_reader(Path(folder), size, 2.0 if quick else 15.0)
        rows.append(row)
        settings |= costs
    times = grouped["in groups, pieces/s"] / grouped["one by one, pieces/s"]
    worst = max(row["p99 while read / p99"] for row in rows)
    return {
        "title": "Payments of a ledger on disk",
        "rows": [{"pieces there": 0, **grouped, "times": times}, *rows],
        "settings": settings,
        "target": f"groups at least {TIMES_MIN:g} times single writes; while it is read, p99 at "
        f"most {READING_MAX:g} times as long",
        "reached": times >= TIMES_MIN and worst <= READING_MAX,
    }


def _grouped(folder: Path, pieces: int) -> dict[str, float]:
    seconds: dict[int, list[float]] = {1: [], GROUP: []}
    for turn in range(TURNS):
        for size, took in seconds.items():
            with _opened(folder / f"{turn}-{size}.db") as ledger:
                work = [_piece(DEVICES[n % len(DEVICES)], f"{n}", 1) for n in range(pieces)]
                began = time.perf_counter()
                for at in range(0, pieces, size):
                    _deliver(ledger, work[at : at + size])
                took.append(time.perf_counter() - began)
    return {
        "one by one, pieces/s": pieces / statistics.median(seconds[1]),
        "in groups, pieces/s": pieces / statistics.median(seconds[GROUP]),
    }


def _beside_a_reader(
    folder: Path, size: int, turn_s: float
) -> tuple[dict[str, float], dict[str, float]]:
    url = filled(folder / "ledger.db", size)
    alone: list[float] = []
    while_read: list[float] = []
    names = count()
    with Ledger(url) as ledger:
        _turn(ledger, names, turn_s / 4)  # warms up
        for _ in range(TURNS):
            alone += _turn(ledger, names, turn_s)
            with _reader(url):
                while_read += _turn(ledger, names, turn_s)
        began = time.perf_counter()
        seal = ledger.seal()
        wrong = ledger.check()
        whole_s = time.perf_counter() - began
        began = time.perf_counter()
        wrong += ledger.check(seal, since=True)
        since_s = time.perf_counter() - began
        assert not wrong, wrong
    one, other = (_milliseconds(each, 99) for each in (alone, while_read))
    return (
        {
            "pieces there": size,
            "p50 ms": _milliseconds(alone, 50),
            "p99 ms": one,
            "p50 ms while read": _milliseconds(while_read, 50),
            "p99 ms while read": other,
            "p99 while read / p99": other / one,
        },
        {
            f"whole check of {size} pieces, s": whole_s,
            f"check since the last seal of {size} pieces, s": since_s,
        },
    )


def filled(file: Path, size: int) -> str:
    """URL of a ledger with so many pieces, all paid, and an open round, the first."""
    with _opened(file, synchronous="OFF") as ledger:
        for n in range(0, size, 5000):
            number = 2 + n // 5000
            _round(ledger, number)
            done = [_piece(DEVICES[k % 100], f"{number}-{k}", number) for k in range(5000)]
            with ledger.together():
                _deliver(ledger, done)
                for device in DEVICES:
                    ledger.settle(number, device)
                ledger.close_round(number)
    return f"sqlite:///{file}"


def _turn(ledger: Ledger, names: Iterator[int], turn_s: float) -> list[float]:
    """Seconds of each group."""
    took = []
    end_s = time.perf_counter() + turn_s
    while time.perf_counter() < end_s:
        group = [_piece(DEVICES[n % 100], f"p{next(names)}", 1) for n in range(GROUP)]
        began = time.perf_counter()
        _deliver(ledger, group)
        took.append(time.perf_counter() - began)
    return took


@contextmanager
def _reader(url: str) -> Iterator[None]:
    """Another process that shows and exports the ledger all the time."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the reader did not start")
            yield
            if process.poll() is not None:
                raise RuntimeError("the reader has ended")
        finally:
            process.kill()


def _deliver(ledger: Ledger, pieces: list[Piece]) -> None:
    for each in ledger.deliver(pieces, first_round=1):
        if isinstance(each, MarketError):
            raise each


@contextmanager
def _opened(file: Path, synchronous: str = "FULL") -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{file}", synchronous=synchronous) as ledger:
        for n, device in enumerate(DEVICES):
            ledger.enrol(f"once-{n}", device)
        _round(ledger, 1)
        yield ledger


def _round(ledger: Ledger, number: int) -> None:
    model = Model(name="m", amount_max=12, digest="ab")
    terms = {"job": "classification", "model": model, "units_per_device": 10**9}
    item = Item(amount=3.0, reward_microcredits=REWARD)
    with ledger.together():
        ledger.open_round(number, question=posted(REWARD, 12), **terms)
        for device in DEVICES:
            ledger.answer(number, device, Answer(), assigned=item)


def _piece(device: str, name: str, number: int) -> Piece:
    return Piece(
        device=device,
        piece=name,
        round=number,
        amount=3.0,
        digest=hashlib.sha256(f"{device}/{name}/{number}".encode()).digest(),
        commitment=bytes(32),
        evidence=bytes(300),
        sketch=bytes(128),
    )


def _milliseconds(seconds: list[float], percent: int) -> float:
    return 1e3 * statistics.quantiles(seconds, n=100)[percent - 1]


def main() -> None:
    print(json.dumps(measure("--quick" in sys.argv[1:])))


if __name__ == "__main__":
    main()
