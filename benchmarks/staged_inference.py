"""What chaining one session per stage costs against one session for the whole model.

Run by `python -m benchmarks.staged_inference [--json]`. All sessions use one
thread and take turns within the same run, each round in a drawn order, so that a
neighbour's load falls on all of them. A turn is several batches long, and its
fastest counts: the first one finds the weights of the other model in the cache,
as nothing does that serves one model. The target is that the staged sessions are
at most 5 % slower. Two rivals run the unsplit graph: one with the settings that
the stages have, and one with ONNX Runtime's own, which fuse more.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from benchmarks.random_vit import EMBEDDED, VIT_B_32, write_vit
from edgepact.inference import graph
from edgepact.inference.pipeline import IMAGE_GRAPH, Pipeline, open_session, stage_path

SLOWER_PERCENT_MAX = 5.0
CASES = (("embedded", 1, 300), ("embedded", 8, 80), ("ViT-B/32", 1, 20))
"""Model, images in a batch, rounds."""
BATCHES_PER_TURN = 4


def measure(cases: tuple[tuple[str, int, int], ...] = CASES) -> dict[str, Any]:
    """CPU seconds for a batch, medians, and how much slower the stages are.

    Percentages are medians over the rounds' own ratios: turns that were taken
    side by side are compared, not two medians from different moments.
    """
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measured(_model(name, Path(scratch)), name, *rest) for name, *rest in cases]
    return {
        "cases": rows,
        "threads": 1,
        "slower_percent_max": SLOWER_PERCENT_MAX,
        "reached": all(row["slower_percent"] <= SLOWER_PERCENT_MAX for row in rows),
    }


def main() -> None:
    result = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(result, indent=1))
        return
    table = Table(title="Staged sessions against one session, one thread, medians")
    for heading in (
        "model",
        "batch",
        "unsplit ms",
        "stock ms",
        "staged ms",
        "slower",
        "than stock",
    ):
        table.add_column(heading, justify="right")
    for row in result["cases"]:
        seconds = (row[f"{kind}_s"] for kind in ("unsplit", "stock", "staged"))
        shares = (row["slower_percent"], row["slower_than_stock_percent"])
        table.add_row(
            row["model"],
            str(row["batch"]),
            *(f"{1000 * value:.3f}" for value in seconds),
            *(f"{value:+.1f} %" for value in shares),
        )
    Console().print(table)


def _model(name: str, scratch: Path) -> Path:
    if name == "embedded":
        from edgepact.inference.models import embedded

        if stage_path(embedded(), 0).is_file():
            return embedded()
    model_dir = scratch / name.replace("/", "-")
    if not model_dir.exists():
        write_vit(model_dir, EMBEDDED if name == "embedded" else VIT_B_32)
        graph.cut(model_dir)
    return model_dir


def measured(model_dir: Path, name: str, batch: int, rounds: int) -> dict[str, Any]:
    pipeline = Pipeline(model_dir)
    pipeline.load(range(pipeline.stage_count))
    shape = (batch, *pipeline.expects(0)[1])
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    feed = {"pixels": pixels}
    unsplit, stock = open_session(model_dir / IMAGE_GRAPH), _stock_session(model_dir / IMAGE_GRAPH)
    runs: Mapping[str, Callable[[], object]] = {
        "unsplit": lambda: unsplit.run(None, feed),
        "stock": lambda: stock.run(None, feed),
        "staged": lambda: pipeline.run(pixels, 0, pipeline.stage_count),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    kinds = list(runs)
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for kind in kinds:
            seconds[kind].append(min(_seconds(runs[kind]) for _ in range(BATCHES_PER_TURN)))
        order.shuffle(kinds)
    return {
        "model": name,
        "batch": batch,
        "rounds": rounds,
        **{f"{kind}_s": statistics.median(values) for kind, values in seconds.items()},
        "slower_percent": _slower_percent(seconds["staged"], seconds["unsplit"]),
        "slower_than_stock_percent": _slower_percent(seconds["staged"], seconds["stock"]),
    }


def _seconds(run: Callable[[], object]) -> float:
    # Seconds of this thread, which does all the work: what a neighbour takes of the core is
    # not counted, and a session with one thread waits for nobody.
    start = time.thread_time()
    run()
    return time.thread_time() - start


def _slower_percent(ours: list[float], theirs: list[float]) -> float:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return 100 * (statistics.median(ratios) - 1)


def _stock_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
