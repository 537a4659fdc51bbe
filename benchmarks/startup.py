"""How long the command line takes to answer, and what a device process holds in memory.

Run by `python -m benchmarks startup`. `edgepact --help` takes turns with a Python that
does nothing, so that what the machine and the interpreter take can be told apart. The
device is a fresh process that imports the device's program, loads every stage of the
embedded model, runs all cuts on a sample image and classifies it: the most one needs.
"""

import json
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

HELP_S_MAX = 0.3
RESIDENT_MB_MAX = 150.0
TIMEOUT_S = 120.0

DEVICE = """
import json, sys
import edgepact.market.device
from edgepact.inference.codecs import INT8
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from edgepact.tensors import TensorSpec

pipeline = Pipeline(embedded())
pipeline.load(range(pipeline.stage_count))
image = next(samples().rglob("*.png")).read_bytes()
pixels = preprocess(image, pipeline.info)
for layers in range(1, pipeline.layers_max + 1):
    part = pipeline.device_part(pixels, layers)
    if layers < pipeline.layers_max:
        spec = TensorSpec(name="tokens", datatype="FP32", shape=part.shape, coded=True)
        INT8.pack({"tokens": part}, [spec])
KnowledgeBase.from_texts(embedded()).classify(part)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "peak_mb": int(status["VmHWM"].split()[0]) / 1024,
    "heavy": sorted({"jax", "sqlalchemy", "onnx", "scipy", "torch"} & set(sys.modules)),
}))
"""


def measure(turns: int) -> dict[str, Any]:
    """Medians of wall-clock seconds, and the largest resident size of the device."""
    command = str(Path(sysconfig.get_path("scripts")) / "edgepact")
    runs = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "edgepact --help": [command, "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, arguments in runs.items():
            seconds[name].append(_seconds(arguments))
    # The first turn writes bytecode and fills the page cache.
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    answer = subprocess.run(
        [sys.executable, "-c", DEVICE],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    device = json.loads(answer.stdout)
    help_s = medians["edgepact --help"]
    return {
        "title": "Start and size of processes",
        "rows": [
            *({"process": name, "median s": value} for name, value in medians.items()),
            {"process": "device, all stages loaded", "peak resident MB": device["peak_mb"]},
        ],
        "turns": turns,
        "imported_by_device": device["heavy"],
        "target": f"help within {HELP_S_MAX} s, a device within {RESIDENT_MB_MAX:.0f} MB "
        "without JAX and SQLAlchemy",
        "reached": help_s <= HELP_S_MAX
        and device["peak_mb"] <= RESIDENT_MB_MAX
        and not {"jax", "sqlalchemy"} & set(device["heavy"]),
    }


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    return time.perf_counter() - start


def main() -> None:
    print(json.dumps(measure(5 if "--quick" in sys.argv[1:] else 21)))


if __name__ == "__main__":
    main()
