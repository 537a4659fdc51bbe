"""Requests that arrive at different cuts: passing the stages together, one by one, and in full.

Run by `python -m benchmarks batching`. Devices keep requests in flight, each device at a cut of its
own; what they send goes through the server's fair queue into one thread. By turns, each round in a
drawn order, the same requests are worked one by one, and by the batch that is passing. Beside them
stands what no market of mixed cuts can have: one session of the whole model, fed full batches of
images. Work is counted in multiply-accumulates, so that all are comparable whatever is left of the
model at a cut.

Seconds are those of the process, its event loop included, so that a neighbour on the machine counts
as little as can be. One thread a session. The targets are for the shapes of ViT-B/32. How much full
batches of one session gain over single images of it bounds what any batching can gain on the
processor: it is measured in the same rounds and told.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.random_vit import VIT_B_32, write_vit
from edgepact.inference import graph
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import IMAGE_GRAPH, Pipeline, open_session
from edgepact.market.fair_queue import Batching, FairQueue
from edgepact.market.serve_config import ServeConfig

SINGLE_TIMES_MIN = 1.25
FULL_SHARE_MIN = 0.9
TARGET_MODEL = "ViT-B/32"
DEVICES = 12
IN_FLIGHT = 4
"""Requests that a device keeps in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a turn came to.

    Attributes:
        macs_s: multiply-accumulates for each second of the process.
        requests_s: requests, or images, likewise.
        wait_s: of each request, without those of the plain session.
        together: pieces that passed a stage together, on average.
    """

    macs_s: float
    requests_s: float
    wait_s: tuple[float, ...] = ()
    together: float = 1.0


class Case:
    """A model with its stages, what devices send, and how much work each of it is."""

    def __init__(self, name: str, model_dir: Path, requests: int) -> None:
        self.name, self.requests = name, requests
        self.pipeline = Pipeline(model_dir)
        self.stages = self.pipeline.stage_count
        self.pipeline.load(range(self.stages))
        self.macs = graph.macs_per_stage(model_dir)
        self.session = open_session(model_dir / IMAGE_GRAPH)
        shape = (1, *self.pipeline.expects(0)[1])
        self.pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
        self.sent = [
            self.pipeline.device_part(self.pixels, cut) for cut in range(self.pipeline.layers_max)
        ]

    def advance(
        self, travelling: Any, start: int, stop: int, pause: Callable[[], bool]
    ) -> tuple[list[Any], int]:
        """As the server's half of a job."""
        return self.pipeline.advance(travelling, start, stop, pause)

    def cut(self, device: int) -> int:
        """Where a device has cut the model."""
        return device % self.pipeline.layers_max

    def work(self, cut: int) -> int:
        """What is left to the server, multiply-accumulates."""
        return sum(self.macs[at] for at in self.pipeline.server_stages(cut))

    # ------------------------------------------------------------ the contenders

    def one_by_one(self) -> Turn:
        """Every request alone, in its turn."""
        queue = FairQueue("single")

        async def ask(device: int) -> tuple[float, float]:
            cut = self.cut(device)

            def leave(_: object) -> np.ndarray:
                return self.pipeline.server_part(self.sent[cut], cut)

            passage = await queue.travel(str(device), lambda: (0, None), leave)
            return passage.wait_s, passage.together

        return self._played(queue, ask)

    def passing(self) -> Turn:
        """The batch that is passing, as the server is served by default."""
        default = ServeConfig()
        queue = FairQueue(
            "passing",
            self,
            Batching(size_max=default.batch_max, wait_s=default.batch_wait_ms / 1000),
        )

        async def ask(device: int) -> tuple[float, float]:
            cut = self.cut(device)
            start = self.pipeline.server_stages(cut).start
            passage = await queue.travel(
                str(device), lambda: (start, self.sent[cut]), lambda travelled: travelled
            )
            return passage.wait_s, passage.together

        return self._played(queue, ask)

    def full(self, batch: int) -> Turn:
        """One plain session, batches of images that are always full."""
        images = max(1, self.requests // 2 // batch) * batch
        feed = {self.session.get_inputs()[0].name: np.repeat(self.pixels, batch, axis=0)}
        start_s = time.process_time()
        for _ in range(images // batch):
            self.session.run(None, feed)
        took_s = time.process_time() - start_s
        return Turn(macs_s=images * sum(self.macs) / took_s, requests_s=images / took_s)

    def _played(self, queue: FairQueue, ask: Any) -> Turn:
        """Devices that each send the next request once an earlier one is answered."""
        each = self.requests // DEVICES
        passed: list[tuple[float, float]] = []

        async def device(at: int) -> None:
            window = asyncio.Semaphore(IN_FLIGHT)

            async def request() -> None:
                async with window:
                    passed.append(await ask(at))

            await asyncio.gather(*(request() for _ in range(each)))

        async def all_devices() -> None:
            await asyncio.gather(*(device(at) for at in range(DEVICES)))

        start_s = time.process_time()
        asyncio.run(all_devices())
        took_s = time.process_time() - start_s
        queue.close()
        macs = each * sum(self.work(self.cut(at)) for at in range(DEVICES))
        return Turn(
            macs_s=macs / took_s,
            requests_s=DEVICES * each / took_s,
            wait_s=tuple(wait_s for wait_s, _ in passed),
            together=statistics.fmean(together for _, together in passed),
        )


def measure(quick: bool) -> dict[str, Any]:
    """Work for each second, medians over rounds, and medians of the rounds' own ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        vit = Path(scratch) / "vit"
        write_vit(vit, VIT_B_32)
        graph.cut(vit)
        rows = [
            row
            for case, rounds in (
                (Case("embedded", embedded(), 960), 5 if quick else 25),
                (Case(TARGET_MODEL, vit, 96), 3 if quick else 9),
            )
            for row in _measured(case, rounds)
        ]
    own = {row["worked"]: row for row in rows if row["model"] == TARGET_MODEL}
    passing = own["as it passes"]
    reached = (
        passing["times single"] >= SINGLE_TIMES_MIN and passing["of full batches"] >= FULL_SHARE_MIN
    )
    return {
        "title": "Mixed cuts, one thread",
        "rows": rows,
        "settings": {
            "devices": DEVICES,
            "requests in flight of each": IN_FLIGHT,
            "pieces in a batch at most": ServeConfig().batch_max,
            "milliseconds of waiting at most": ServeConfig().batch_wait_ms,
            "times single requests, at least": SINGLE_TIMES_MIN,
            "of full batches, at least": FULL_SHARE_MIN,
        },
        "reached": reached,
        "times_single_of_full_batches": own["whole model, full batches"]["times single"],
    }


def _measured(case: Case, rounds: int) -> list[dict[str, Any]]:
    batch = ServeConfig().batch_max
    contenders: dict[str, Callable[[], Turn]] = {
        "one by one": case.one_by_one,
        "as it passes": case.passing,
        "whole model, full batches": lambda: case.full(batch),
        "whole model, single images": lambda: case.full(1),
    }
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()  # opens, binds and allocates what there is
    order, names = np.random.default_rng(0), list(contenders)
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            turns[name].append(contenders[name]())
    single, full = turns["one by one"], turns["whole model, full batches"]
    return [
        {
            "model": case.name,
            "worked": name,
            "requests/s": statistics.median(turn.requests_s for turn in own),
            "GMAC/s": statistics.median(turn.macs_s for turn in own) / 1e9,
            "times single": _ratio(own, single),
            "of full batches": _ratio(own, full),
            "pieces together": statistics.median(turn.together for turn in own)
            if name == "as it passes"
            else None,
            "waits ms, p50": _waits_ms(own, 50),
            "waits ms, p99": _waits_ms(own, 99),
        }
        for name, own in turns.items()
    ]


def _ratio(ours: list[Turn], theirs: list[Turn]) -> float:
    return statistics.median(a.macs_s / b.macs_s for a, b in zip(ours, theirs, strict=True))


def _waits_ms(turns: list[Turn], percent: float) -> float | None:
    waits = [wait_s for turn in turns for wait_s in turn.wait_s]
    return 1000 * float(np.percentile(waits, percent)) if waits else None


def main() -> None:
    print(json.dumps(measure("--quick" in sys.argv[1:]), indent=1))


if __name__ == "__main__":
    main()
