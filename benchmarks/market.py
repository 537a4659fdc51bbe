"""A thousand devices on one server process: capacity, and what devices see at 0.8 of it.

Run by `python -m benchmarks market [--devices N] [--units N]`. The job costs next to nothing, so
that what is measured is the market: HTTP, rounds, digests, audits at the rate that the market
derives, group commit to a ledger in an SQLite file that is written through to the disk.

Two servers stand side by side, one of whose ledger lies in memory, and play rounds by turns. First
closed, a fixed number of requests in flight at a time: that is the capacity, and the ratio of
the two. Then the durable one open, at 0.8 of the capacity that was just measured, every device a
piece every so many seconds. Server and crowd share the machine with whatever else runs; the
share of a core that the server got is told.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepact.studies.crowd import Crowd, Round, Server, enrolled, served

LOAD = 0.8
IN_FLIGHT = 256
"""Enough that the server never waits for the crowd, nor for the disk."""
TURNS = 3

REFUSED_MAX = 0.01
LEAST_SERVED_MIN = 0.5
P99_MAX = 10.0
DURABLE_MIN = 0.9

MEMORY = Path("/dev/shm")
"""Where files are memory; elsewhere the ratio of the ledgers is left out."""


def measure(devices: int, units: int, turns: int = TURNS) -> dict[str, Any]:
    """Capacity, the ratio of the two ledgers, and what the devices saw.

    Args:
        devices: how many.
        units: pieces of each in a round.
        turns: rounds of each ledger in the closed way.
    """
    return asyncio.run(_measured(devices, units, turns))


async def _measured(devices: int, units: int, turns: int) -> dict[str, Any]:
    with _market(None, devices, units) as (server, crowd):
        closed: dict[str, list[Round]] = {"on disk": [], "in memory": []}
        if MEMORY.is_dir():
            with _market(MEMORY, devices, units) as (_, other):
                for _ in range(turns):
                    closed["on disk"].append(await crowd.round(in_flight=IN_FLIGHT))
                    closed["in memory"].append(await other.round(in_flight=IN_FLIGHT))
        else:
            closed["on disk"] = [await crowd.round(in_flight=IN_FLIGHT) for _ in range(turns)]
        rates = {name: [each.rate for each in found] for name, found in closed.items()}
        # The last round is the nearest to what follows: the machine is as busy as it was then.
        capacity = rates["on disk"][-1]
        opened = await crowd.round(period_s=devices / (LOAD * capacity))
        states = await crowd.pay()
        memory_bytes = server.memory_bytes()
    rows = [_row(f"closed, {name}", each) for name, found in closed.items() for each in found] + [
        _row(f"open at {LOAD:g} of capacity", opened)
    ]
    served_each = sorted(opened.served.values())
    median = statistics.median(opened.seconds)
    refused = opened.refused / opened.asked
    least = served_each[0] / statistics.median(served_each)
    p99 = _p99(opened.seconds) / median
    durable = [disk / shm for disk, shm in zip(rates["on disk"], rates["in memory"], strict=False)]
    ratio = statistics.median(durable) if durable else None
    unpaid = sum(count for state, count in states.items() if state != "paid")
    return {
        "title": f"A market of {devices:,} devices, one process",
        "rows": rows,
        "refused at load": refused,
        "least served / median": least,
        "p99 / median of accepted": p99,
        "accepted and not paid": unpaid,
        "on disk / in memory": "not measured" if ratio is None else ratio,
        "settings": {
            "devices": devices,
            "pieces of a device in a round": units,
            "requests in flight, closed": IN_FLIGHT,
            "load": LOAD,
            "capacity, pieces/s": capacity,
            "memory of the server, MB": memory_bytes / 1e6,
        },
        "target": f"refused under {REFUSED_MAX:g}, least served at least {LEAST_SERVED_MIN:g} of "
        f"the median, p99 under {P99_MAX:g} medians, nothing unpaid, on disk at least "
        f"{DURABLE_MIN:g} of in memory",
        "reached": refused < REFUSED_MAX
        and least >= LEAST_SERVED_MIN
        and p99 < P99_MAX
        and not unpaid
        and (ratio is None or ratio >= DURABLE_MIN),
    }


@contextmanager
def _market(place: Path | None, devices: int, units: int) -> Iterator[tuple[Server, Crowd]]:
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        tokens = enrolled(folder / "ledger.db", devices)
        with served(folder, units_per_round=units, devices_min=devices) as server:
            crowd = Crowd(server, tokens, units=units)
            try:
                yield server, crowd
            finally:
                crowd.close()


def _row(name: str, found: Round) -> dict[str, Any]:
    return {
        "round": name,
        "pieces/s": found.rate,
        "server CPU ms/piece": 1e3 * found.cpu_s / found.in_window,
        "server cores": found.cpu_s / found.window_s,
        "p50 ms": 1e3 * statistics.median(found.seconds),
        "p99 ms": 1e3 * _p99(found.seconds),
        "refused": found.refused,
        "with audits, s": found.whole_s,
    }


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--devices", type=int)
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--turns", type=int, default=TURNS)
    asked = parser.parse_args()
    devices = asked.devices or (100 if asked.quick else 1000)
    print(json.dumps(measure(devices, asked.units, 1 if asked.quick else asked.turns)))


if __name__ == "__main__":
    main()
