"""How long the command line and a server take to answer, and what a device holds in memory.

Run by `python -m benchmarks startup`. `edgepact --help` takes turns with a Python that
does nothing, so that what the machine and the interpreter take can be told apart. The
device is a fresh process that imports the device's program, loads every stage of the
embedded model, runs all cuts on a sample image and classifies it: the most one needs.

A server is started again and again on a ledger of many paid pieces, quoting by the policy that
comes with the package, until `/v2/health/ready` says yes; it was left by SIGTERM before, and by
kill -9. `-X importtime` tells which large libraries it has loaded.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.ledger import filled

HELP_S_MAX = 0.3
SERVER_S_MAX = 1.5
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
    with tempfile.TemporaryDirectory() as folder:
        server, heavy = _server(Path(folder), 20_000 if turns < 10 else 100_000, turns)
    server_s = max(each["median s"] for each in server)
    return {
        "title": "Start and size of processes",
        "rows": [
            *({"process": name, "median s": value} for name, value in medians.items()),
            *server,
            {"process": "device, all stages loaded", "peak resident MB": device["peak_mb"]},
        ],
        "turns": turns,
        "imported_by_device": device["heavy"],
        "imported_by_server": heavy,
        "target": f"help within {HELP_S_MAX} s, a server ready within {SERVER_S_MAX} s without "
        f"JAX, a device within {RESIDENT_MB_MAX:.0f} MB without JAX and SQLAlchemy",
        "reached": help_s <= HELP_S_MAX
        and server_s <= SERVER_S_MAX
        and "jax" not in heavy
        and device["peak_mb"] <= RESIDENT_MB_MAX
        and not {"jax", "sqlalchemy"} & set(device["heavy"]),
    }


def _server(folder: Path, pieces: int, turns: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Median seconds until a server is ready, by how the one before it ended; what it loads."""
    url = filled(folder / "ledger.db", pieces)
    _one_server(folder, url, signal.SIGTERM)  # looks at the whole ledger, and seals it
    ends = {"SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ends}
    for _ in range(turns):
        for name, number in ends.items():
            _one_server(folder, url, number)
            took[name].append(_one_server(folder, url, signal.SIGTERM)[:2])
    *_, told = _one_server(folder, url, signal.SIGTERM, "-X", "importtime")
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    rows = [
        {
            "process": f"server that quotes, {pieces} pieces in its ledger, after {name}",
            "median s": statistics.median(wall_s for wall_s, _ in each),
            "of these CPU s": statistics.median(cpu_s for _, cpu_s in each),
        }
        for name, each in took.items()
    ]
    return rows, sorted({"jax", "equinox", "alembic", "onnx", "scipy", "torch"} & loaded)


def _one_server(
    folder: Path, url: str, end: signal.Signals, *options: str
) -> tuple[float, float, str]:
    """Seconds until a server was ready, of these its own CPU time, and what it said at all."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command = [sys.executable, *options, "-m", "edgepact", "serve", "--saving", "0.4"]
    command += ["--ledger", url, "--port", "0", "--ready-file", str(ready)]
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not ready.exists():
                if process.poll() is not None or time.perf_counter() - start > TIMEOUT_S:
                    raise RuntimeError(f"the server did not start: {process.communicate()[1]}")
                time.sleep(0.002)
            health = json.loads(ready.read_text())["url"] + "/v2/health/ready"
            while httpx.get(health).status_code != 200:
                time.sleep(0.002)
            took = time.perf_counter() - start
            spent = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        finally:
            process.send_signal(end)
            told = process.communicate(timeout=TIMEOUT_S)[1]
    return took, (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK"), told


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    return time.perf_counter() - start


def main() -> None:
    print(json.dumps(measure(5 if "--quick" in sys.argv[1:] else 21)))


if __name__ == "__main__":
    main()
