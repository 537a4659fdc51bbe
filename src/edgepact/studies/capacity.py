"""What a market process costs for each job and device, how long jobs wait, and what many need.

Measured: a server process on a ledger in a file that is written through to the disk, and a crowd
of devices with a job that costs next to nothing. By turns closed, for what the server can do, and
open at a share of that, for how long pieces take. The queueing model (`queueing`) is told what
single things cost and predicts the waiting at every load; only what a piece takes on a server
with nothing else to do is fitted, at the lightest load. The model's own computing comes from the
embedded CLIP, on one thread of this process.
"""

import asyncio
import csv
import hashlib
import math
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from edgepact import registry
from edgepact.engagement import Answer, Item, posted
from edgepact.market.ledger import Ledger, Piece
from edgepact.pages import table
from edgepact.palette import AMBER, AMBER_LINE, BLUE, BLUE_LINE, PURPLE_LINE
from edgepact.progress import progress_bar
from edgepact.provenance import write_metrics
from edgepact.studies.asked import Asked
from edgepact.studies.crowd import Crowd, Round, Server, enrolled, served
from edgepact.studies.drawing import draw_curve, say_found, write_findings, write_picture
from edgepact.studies.light import MODEL
from edgepact.studies.queueing import group_response, group_size, shared_response

CUT = 6
"""Amount at which the embedded model's computing is measured: half of its layers."""

DAY_S = 86_400

CROWDED = (
    "**Other programs wanted the same cores all the time: costs in CPU time and bytes stand, but "
    "waiting, capacity and the time of a write are of a machine that was mostly elsewhere.**"
)
"""Said where more than two programs for each core wanted to run."""


LOAD_S = 10.0
"""Seconds for which one load is played, with its share of everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
        devices: that play at once.
        idle: devices more that only wait for an offer, for their memory.
        units: pieces of a device in a round.
        in_flight: requests in flight at a time in the closed way.
        loads: shares of the capacity at which the open way is played, the lightest first.
        groups: sizes of groups whose writing is measured.
        writes: of each size.
        answers: of the embedded model that are measured.
        fleets: numbers of devices to say what they need.
        period_s: every so many seconds each of their devices delivers a piece.
        busy: share of its capacity at which a process is to be kept.
        connections: most devices of a process.
        seed: of everything drawn.
    """

    devices: int = 100
    idle: int = 400
    units: int = 10
    in_flight: int = 64
    loads: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 0.9)
    groups: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    writes: int = 30
    answers: int = 300
    fleets: tuple[int, ...] = (1_000, 100_000, 10_000_000)
    period_s: float = 10.0
    busy: float = 0.7
    connections: int = 20_000
    seed: int = 0


def config_for(smoke: bool) -> Config:
    """The full study, or one that only shows that everything runs."""
    if not smoke:
        return Config()
    return Config(
        devices=10,
        idle=10,
        units=4,
        in_flight=8,
        loads=(0.2, 0.6),
        groups=(1, 8),
        writes=3,
        answers=3,
    )


def seconds(config: Config) -> float:
    """Seconds that the study takes, most of them by the clock; recorded in November 2026."""
    return LOAD_S * (1 + len(config.loads))


class Costs(NamedTuple):
    """What one piece or one device costs a process.

    Attributes:
        capacity: pieces a second, median of the closed rounds.
        cpu_ms: of the server for a piece in the closed way, audits left out.
        whole_cpu_ms: the same over whole rounds: offers, answers, audits and pay.
        compute_ms: CPU of the embedded model's second half for a piece.
        up_bytes, down_bytes: on connections, a piece, over whole rounds, HTTP heads included.
        ledger_bytes: that the ledger's file grows by, a piece.
        disk_bytes: written to the disk, a piece.
        device_bytes: of the server's memory for a device that waits.
        server_bytes: of the server's memory with none.
        write_fixed_ms, write_each_ms: of a durable write of n pieces: fixed + each n.
    """

    capacity: float
    cpu_ms: float
    whole_cpu_ms: float
    compute_ms: float
    up_bytes: float
    down_bytes: float
    ledger_bytes: float
    disk_bytes: float
    device_bytes: float
    server_bytes: float
    write_fixed_ms: float
    write_each_ms: float


class Waiting(NamedTuple):
    """Time from when a piece was due to its answer, at one load.

    Attributes:
        load: share of the capacity that was asked for.
        rate: pieces a second, as they came.
        capacity: of the closed rounds before and after.
        measured_ms: mean; low_ms, median_ms, high_ms, p99_ms: quartiles and a percentile.
        predicted_ms: by the model; the lightest load is fitted.
        group: pieces of a write, by the model.
    """

    load: float
    rate: float
    capacity: float
    measured_ms: float
    low_ms: float
    median_ms: float
    high_ms: float
    p99_ms: float
    predicted_ms: float
    group: float


class Need(NamedTuple):
    """What a number of devices needs.

    Attributes:
        devices: how many.
        rate: pieces a second.
        processes: market processes, each with a ledger of its own.
        cores: for them, and for the embedded model's computing.
        memory_gb: of the processes.
        megabits: a second, both ways.
        disk_gb_day: that the ledgers grow by.
        disk_mb_s: written to disks.
    """

    devices: int
    rate: float
    processes: int
    cores: float
    memory_gb: float
    megabits: float
    disk_gb_day: float
    disk_mb_s: float


def need(devices: int, costs: Costs, config: Config) -> Need:
    """What a number of devices needs, in proportion to what was measured."""
    rate = devices / config.period_s
    by_work = rate / (config.busy * costs.capacity)
    processes = max(1, math.ceil(max(by_work, devices / config.connections)))
    return Need(
        devices=devices,
        rate=rate,
        processes=processes,
        cores=rate * (costs.whole_cpu_ms + costs.compute_ms) / 1e3 / config.busy,
        memory_gb=(processes * costs.server_bytes + devices * costs.device_bytes) / 1e9,
        megabits=8e-6 * rate * (costs.up_bytes + costs.down_bytes),
        disk_gb_day=rate * DAY_S * costs.ledger_bytes / 1e9,
        disk_mb_s=rate * costs.disk_bytes / 1e6,
    )


def predicted(
    played: list[tuple[float, float, float]], fixed_s: float, each_s: float
) -> list[float]:
    """Mean response at every load, seconds; the first is fitted.

    Args:
        played: rate, capacity and measured mean response in seconds, the lightest load first.
        fixed_s, each_s: of a durable write.
    """
    moving = [
        shared_response(1.0 / capacity, rate / capacity) + group_response(rate, fixed_s, each_s)
        for rate, capacity, _ in played
    ]
    rest = played[0][2] - moving[0]
    return [each + rest for each in moving]


def measure_writes(config: Config) -> list[tuple[int, float]]:
    """Pieces of a group, and median seconds until it is durable, on a ledger of this process."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        names = [f"d{n}" for n in range(64)]
        with Ledger(url) as ledger:
            with ledger.together():
                for at, name in enumerate(names):
                    ledger.enrol(f"once-{at}", name)
                ledger.open_round(
                    1,
                    job="light",
                    model=MODEL,
                    question=posted(1_000_000, MODEL.amount_max),
                    units_per_device=10**6,
                )
                item = Item(amount=float(MODEL.amount_max), reward_microcredits=4_000_000)
                for name in names:
                    ledger.answer(1, name, Answer(item=0), assigned=item)
            made = 0
            for size in config.groups:
                seconds = []
                for _ in range(config.writes):
                    pieces = [_piece(names[n % 64], f"p{made + n}") for n in range(size)]
                    made += size
                    began_s = time.perf_counter()
                    with ledger.together():
                        ledger.deliver(pieces, first_round=1)
                    seconds.append(time.perf_counter() - began_s)
                found.append((size, statistics.median(seconds)))
    return found


def _piece(device: str, name: str) -> Piece:
    return Piece(
        device=device,
        piece=name,
        round=1,
        amount=float(MODEL.amount_max),
        digest=hashlib.sha256(f"{device}/{name}".encode()).digest(),
        commitment=bytes(32),
        evidence=bytes(64),
    )


def line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Fixed and each of the line through sizes and seconds, none of them below 0.

    Relative errors count alike, so that large groups do not decide alone.

    Example:
        >>> fixed, each = line([(1, 3.5), (2, 4.0), (10, 8.0)])
        >>> round(fixed, 9), round(each, 9)
        (3.0, 0.5)
    """
    sizes, seconds = (np.array(each, float) for each in zip(*points, strict=True))
    weighed = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    fixed, each = np.linalg.lstsq(weighed, np.ones_like(sizes), rcond=None)[0]
    return max(0.0, float(fixed)), max(0.0, float(each))


def measure_computing(config: Config) -> float:
    """CPU milliseconds of the embedded model's second half, a piece, one at a time."""
    part = registry.part("jobs", "classification").server_part(None, {})
    part.warm()
    rng = np.random.default_rng(config.seed)
    (spec,) = part.expects(CUT, 0)
    shape = tuple(max(1, length) for length in spec.shape)
    sent = {spec.name: rng.standard_normal(shape, np.float32)}
    part.answer([(part.begin(CUT, 0), sent)])
    began_s = time.process_time()
    for _ in range(config.answers):
        part.answer([(part.begin(CUT, 0), sent)])
    return 1e3 * (time.process_time() - began_s) / config.answers


async def measure_market(
    config: Config,
) -> tuple[list[Round], list[Round], dict[str, float]]:
    """Closed rounds, an open one between each two of them, and bytes."""
    closed, opened = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = enrolled(folder / "ledger.db", config.devices + config.idle)
        playing = dict(list(tokens.items())[: config.devices])
        before_bytes = (folder / "ledger.db").stat().st_size
        with served(folder, units_per_round=config.units, devices_min=config.devices) as server:
            crowd = Crowd(server, playing, units=config.units, seed=config.seed)
            with progress_bar("rounds of a crowd") as advance:
                closed.append(await crowd.round(in_flight=config.in_flight))
                for done, load in enumerate(config.loads, 1):
                    period_s = config.devices / (load * closed[-1].rate)
                    opened.append(await crowd.round(period_s=period_s))
                    closed.append(await crowd.round(in_flight=config.in_flight))
                    advance(done, len(config.loads))
            states = await crowd.pay()
            up_bytes = sum(each.connection.bytes_sent for each in crowd.devices)
            down_bytes = sum(each.connection.bytes_received for each in crowd.devices)
            disk_bytes = server.written_bytes()
            waiting = {name: token for name, token in tokens.items() if name not in playing}
            server_bytes, device_bytes = await _memory(server, waiting, config)
            crowd.close()
        ledger_bytes = (folder / "ledger.db").stat().st_size - before_bytes
    pieces = sum(states.values())
    return (
        closed,
        opened,
        {
            "pieces": pieces,
            "paid": states.get("paid", 0),
            "up_bytes": up_bytes / pieces,
            "down_bytes": down_bytes / pieces,
            "ledger_bytes": ledger_bytes / pieces,
            "disk_bytes": disk_bytes / pieces,
            "server_bytes": server_bytes,
            "device_bytes": device_bytes,
        },
    )


async def _memory(server: Server, tokens: dict[str, str], config: Config) -> tuple[float, float]:
    """Bytes of the server's memory without these devices, and for each of them."""
    before = server.memory_bytes()
    idle = Crowd(server, tokens, units=config.units)
    await idle.wait()
    each = max(0.0, (server.memory_bytes() - before) / len(tokens))
    idle.close()
    return float(before), each


def measure(config: Config) -> tuple[Costs, list[Waiting], list[tuple[int, float]]]:
    """Everything."""
    compute_ms = measure_computing(config)
    writes = measure_writes(config)
    fixed_s, each_s = line(writes)
    closed, opened, told = asyncio.run(measure_market(config))
    costs = Costs(
        capacity=statistics.median(each.rate for each in closed),
        cpu_ms=1e3 * statistics.median(each.cpu_s / each.in_window for each in closed),
        whole_cpu_ms=1e3
        * statistics.median(each.whole_cpu_s / len(each.seconds) for each in closed),
        compute_ms=compute_ms,
        up_bytes=told["up_bytes"],
        down_bytes=told["down_bytes"],
        ledger_bytes=told["ledger_bytes"],
        disk_bytes=told["disk_bytes"],
        device_bytes=told["device_bytes"],
        server_bytes=told["server_bytes"],
        write_fixed_ms=1e3 * fixed_s,
        write_each_ms=1e3 * each_s,
    )
    played = []
    for at, each in enumerate(opened):
        capacity = (closed[at].rate + closed[at + 1].rate) / 2.0
        played.append((min(each.rate, 0.99 * capacity), capacity, statistics.fmean(each.seconds)))
    waits = predicted(played, fixed_s, each_s)
    found = []
    for load, each, (rate, capacity, mean_s), wait_s in zip(
        config.loads, opened, played, waits, strict=True
    ):
        quantiles = statistics.quantiles(each.seconds, n=100)
        found.append(
            Waiting(
                load=load,
                rate=rate,
                capacity=capacity,
                measured_ms=1e3 * mean_s,
                low_ms=1e3 * quantiles[24],
                median_ms=1e3 * quantiles[49],
                high_ms=1e3 * quantiles[74],
                p99_ms=1e3 * quantiles[98],
                predicted_ms=1e3 * wait_s,
                group=group_size(rate, fixed_s, each_s),
            )
        )
    # What is offered and what is carried differ near the capacity, which itself wavers.
    found.sort(key=lambda each: each.rate / each.capacity)
    return costs, found, writes


def draw(costs: Costs, waits: list[Waiting], writes: list[tuple[int, float]]) -> Figure:
    """Waiting against load, and the time of a write against its size; less is further up."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    loads = [each.rate / each.capacity for each in waits]
    quartiles = [each.low_ms for each in waits], [each.high_ms for each in waits]
    middle, every = [each.median_ms for each in waits], len(waits)
    label = "measured, median and quartiles"
    draw_curve(left, loads, middle, quartiles, PURPLE_LINE, label=label, marks=every)
    left.plot(loads, [each.measured_ms for each in waits], label="measured, mean", **BLUE_LINE.line)
    left.plot(
        loads, [each.predicted_ms for each in waits], label="predicted, mean", **AMBER_LINE.line
    )
    left.set_xlabel("share of the capacity")
    left.set_ylabel("wait of a piece, ms (up: shorter)")
    light, heavy = waits[0], waits[-1]
    say_found(
        left,
        f"at {heavy.rate / heavy.capacity:.0%} of the capacity a piece waits\n"
        f"{heavy.measured_ms / light.measured_ms:.1f} times as long as at "
        f"{light.rate / light.capacity:.0%}",
    )
    sizes = [size for size, _ in writes]
    took_ms = [1e3 * seconds for _, seconds in writes]
    right.plot(sizes, took_ms, "o", color=BLUE, label="measured, median")
    fitted = [costs.write_fixed_ms + costs.write_each_ms * size for size in sizes]
    law = f"{_plain(costs.write_fixed_ms)} + {_plain(costs.write_each_ms)} n"
    right.plot(sizes, fitted, "--", color=AMBER, label=law)
    right.set_xlabel("pieces n of a durable write")
    right.set_ylabel("time of a write, ms (up: shorter)")
    say_found(
        right,
        f"{sizes[-1]} pieces are written in\n{took_ms[-1] / took_ms[0]:.1f} times the time of "
        f"{'one' if sizes[0] == 1 else sizes[0]}",
    )
    right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.set_ylim(axes.get_ylim()[1], 0.0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def page(costs: Costs, waits: list[Waiting], config: Config, running: float | None) -> list[str]:
    """The findings in words and tables.

    Args:
        costs, waits: what was found.
        config: of the study.
        running: programs that wanted to run at the end, the load of the machine; None if the system
            does not tell.
    """
    load = "" if running is None else f" (load of the machine: {running:.1f})"
    cores = os.cpu_count() or 1
    crowded = running is not None and running > 2 * cores
    needs = [need(devices, costs, config) for devices in config.fleets]
    off = [each.predicted_ms / each.measured_ms for each in waits[1:]]
    return [
        f"One server process on {os.cpu_count()} cores that it shares with the crowd and with "
        f"whatever else runs{load}, a ledger in an SQLite file written through to the disk, "
        f"{config.devices} devices, {config.units} pieces of each in a round, audits at the rate "
        "that the market derives. The job costs next to nothing. [How long a piece waits]"
        "(../theory/capacity.md) has the model. Figures belong to this machine; what they are in "
        "proportion to, less so.",
        *([CROWDED] if crowded else []),
        "![Waiting against load; time of a durable write](capacity.png)",
        "## What a piece and a device cost",
        table(
            ["of one process", "measured"],
            [
                ["pieces a second, closed", _plain(costs.capacity)],
                ["CPU of a piece", f"{_plain(costs.cpu_ms)} ms"],
                [
                    "the same with its share of offers, audits and pay",
                    f"{_plain(costs.whole_cpu_ms)} ms",
                ],
                [
                    f"CPU of the embedded model, layers {CUT + 1} to {2 * CUT}",
                    f"{_plain(costs.compute_ms)} ms",
                ],
                ["bytes to the server, a piece", _plain(costs.up_bytes)],
                ["bytes to the device, a piece", _plain(costs.down_bytes)],
                ["growth of the ledger, a piece", f"{_plain(costs.ledger_bytes)} bytes"],
                ["written to the disk, a piece", f"{_plain(costs.disk_bytes)} bytes"],
                [
                    "a durable write of n pieces",
                    f"{_plain(costs.write_fixed_ms)} + {_plain(costs.write_each_ms)} n ms",
                ],
                ["memory of the process", f"{_plain(costs.server_bytes / 1e6)} MB"],
                ["more for a device that waits", f"{_plain(costs.device_bytes / 1e3)} kB"],
            ],
        ),
        "## How long a piece waits",
        "From the moment at which a piece is due to its answer, when its pay is in the ledger. "
        "The prediction is fitted at the lightest load; what it says of the others follows from "
        "the capacity and the time of a write. "
        + (
            f"It lies between {_plain(min(off))} and {_plain(max(off))} of what was measured."
            if off
            else ""
        ),
        table(
            [
                "load",
                "pieces a second",
                "mean, ms",
                "predicted, ms",
                "median, ms",
                "p99, ms",
                "pieces of a write, predicted",
            ],
            [
                [
                    f"{each.rate / each.capacity:.2f}",
                    _plain(each.rate),
                    _plain(each.measured_ms),
                    _plain(each.predicted_ms),
                    _plain(each.median_ms),
                    _plain(each.p99_ms),
                    _plain(each.group),
                ]
                for each in waits
            ],
        ),
        "## What many devices need",
        f"Assumed: every device delivers a piece every {config.period_s:g} seconds and is always "
        f"connected; a process is kept at {config.busy:g} of its capacity and at most "
        f"{config.connections:,} devices; each process has a ledger of its own (one leader a "
        "ledger), and a device belongs to one of them for good, so that nothing is paid twice; "
        "the embedded model does the server's half of the work; needs are in proportion, which "
        "holds since the processes share nothing. Left out: standbys (as many processes again, "
        "idle), copies of ledgers, and that a mechanism sees its own process's devices only.",
        table(
            ["devices", *(f"{each.devices:,}" for each in needs)],
            [
                ["pieces a second", *(_plain(each.rate) for each in needs)],
                ["processes, and ledgers", *(f"{each.processes:,}" for each in needs)],
                ["cores", *(_plain(each.cores) for each in needs)],
                ["memory, GB", *(_plain(each.memory_gb) for each in needs)],
                ["bandwidth, Mbit/s", *(_plain(each.megabits) for each in needs)],
                ["ledgers grow, GB a day", *(_plain(each.disk_gb_day) for each in needs)],
                ["written to disks, MB/s", *(_plain(each.disk_mb_s) for each in needs)],
            ],
        ),
    ]


def _plain(number: float) -> str:
    """Three digits, and never an exponent."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def run(folder: Path, asked: Asked) -> None:
    """Writes waiting.csv, capacity.png, metrics.json and page.md."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_for(asked.smoke)
    costs, waits, writes = measure(config)
    with (folder / "waiting.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Waiting._fields)
        rows.writerows(waits)
    write_picture(folder, "capacity", lambda: draw(costs, waits, writes), config, asked)
    write_metrics(folder, config, measures(costs, waits, writes, config), asked.record("capacity"))
    running = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    parts = page(costs, waits, config, running)
    write_findings(folder, "capacity", "What a market can carry", parts, asked)


def measures(
    costs: Costs, waits: list[Waiting], writes: list[tuple[int, float]], config: Config
) -> dict[str, Any]:
    """The figures of `metrics.json`."""
    return {
        "costs": costs._asdict(),
        "waiting": [each._asdict() for each in waits],
        "writes": [{"pieces": size, "ms": 1e3 * seconds} for size, seconds in writes],
        "needs": [need(devices, costs, config)._asdict() for devices in config.fleets],
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
