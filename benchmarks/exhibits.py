"""What showing a piece costs a device, against the piece itself.

Run by `python -m benchmarks exhibits`. The device of the embedded model works on a sample image,
at the fewest and at the most layers, and in turn makes and checks what it would show of it, as
`edgepact device --show-pieces` does; so does it with the largest photograph that it takes. What is
measured is processor time of this process, so that other processes and the link do not count. A
device shows a piece every few seconds, whatever it works on: the share is of a device that shows
pieces to a live page.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgepact.exhibit import shortened
from edgepact.inference.models import embedded, samples
from edgepact.jobs.classification import DeviceHalf
from edgepact.market.page.watch import LOOKED_AT_S
from edgepact.market.protocol.exhibits import exhibit_json, read_exhibit

SHARE_MAX = 0.01
"""Of a processor's time that showing may take."""


def measure(turns: int) -> dict[str, Any]:
    """Medians of processor time, of pieces and of what is shown of them."""
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(folder) / "photograph.jpg"
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(noise).resize((1024, 768)).save(photograph)
        pictures = {"sample, 28 x 28": samples(), "photograph, 1024 x 768": photograph.parent}
        rows = [_row(name, images, turns) for name, images in pictures.items()]
    share = max(row["exhibit ms"] for row in rows) / 1e3 / LOOKED_AT_S
    return {
        "title": "Showing a piece against working on it",
        "rows": rows,
        "turns": turns,
        "shown_every_s": LOOKED_AT_S,
        "largest_share_of_a_core": share,
        "target": f"at most {SHARE_MAX:.0%} of a core while somebody looks",
        "reached": share <= SHARE_MAX,
    }


def _row(name: str, images: Path, turns: int) -> dict[str, Any]:
    device = DeviceHalf(embedded(), images)
    piece = device.pieces()[0]
    most = device.model.amount_max
    device.prepare(most)
    result = {"label_predicted": "shirt", "label_true": "shirt"}
    size = []

    def works(amount: int) -> Callable[[], object]:
        return lambda: next(device.work(piece, amount))

    def show() -> None:
        exhibit = device.exhibit(piece, result)
        given, answer = shortened(exhibit.given), shortened(exhibit.answer)
        message = exhibit_json(replace(exhibit, given=given, answer=answer))
        read_exhibit(message)
        size.append(len(json.dumps(message)))

    ways = {"one layer": works(1), f"all {most} layers": works(most), "exhibit": show}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, run in ways.items():
            start_s = time.process_time()
            run()
            took[way].append(time.process_time() - start_s)
    median = {way: 1e3 * statistics.median(each) for way, each in took.items()}
    return {
        "piece": name,
        **{f"{way} ms": each for way, each in median.items()},
        "exhibit over one layer": median["exhibit"] / median["one layer"],
        "exhibit bytes": size[-1],
    }


def main() -> None:
    print(json.dumps(measure(11 if "--quick" in sys.argv[1:] else 101)))


if __name__ == "__main__":
    main()
