"""One file per figure or benchmark, each headed by its Config."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def _study(module: str) -> Callable[[Path, bool], None]:
    def run(folder: Path, smoke: bool) -> None:
        # Here, since every study loads JAX and the list must not.
        import_module(f"edgepact.studies.{module}").run(folder, smoke)

    return run


STUDIES: dict[str, Callable[[Path, bool], None]] = {name: _study(name) for name in ("fig4", "fig5")}
"""What `edgepact study NAME` runs, each with a folder and whether it is a smoke run."""
