"""One file per figure or benchmark, each headed by its Config."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from edgepact.compiled import VARIABLE, keep_compiled

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that numerical libraries read when they are loaded."""


def _study(
    module: str, *, one_thread: bool = False, times_compiling: bool = False, function: str = "run"
) -> Callable[[Path, bool], None]:
    def run(folder: Path, smoke: bool) -> None:
        if one_thread:
            # Quotes are small sums, which threads slow down, and whose times are compared.
            os.environ.update(dict.fromkeys(THREADS, "1"))
        if times_compiling:
            # Seconds that include compiling must not depend on what was run before.
            os.environ[VARIABLE] = "off"
        keep_compiled()
        # Here, since every study loads JAX and the list must not.
        getattr(import_module(f"edgepact.studies.{module}"), function)(folder, smoke)

    return run


STUDIES: dict[str, Callable[[Path, bool], None]] = {
    "fig4": _study("fig4", times_compiling=True),
    "fig5": _study("fig5", times_compiling=True),
    "quoting": _study("quoting", one_thread=True),
    "robustness": _study("robustness", one_thread=True),
    "dynamics": _study("dynamics", one_thread=True),
    "ablation": _study("ablation", one_thread=True),
    "contract": _study("contract", one_thread=True),
    "speed": _study("speed", one_thread=True),
    "selection": _study("selection"),
    "auctions": _study("auctions", one_thread=True),
    "cheating": _study("cheating", one_thread=True),
    "capacity": _study("capacity", one_thread=True),
    "pictures": _study("pictures", one_thread=True),
}
"""What `edgepact study NAME` runs, each with a folder and whether it is a smoke run."""

TRAININGS: dict[str, Callable[[Path, bool], None]] = {
    name: _study(name, function="train")
    for name in ("quoting", "robustness", "ablation", "contract", "auctions")
}
"""What `edgepact study NAME --train` does first: policies, into the folder."""
