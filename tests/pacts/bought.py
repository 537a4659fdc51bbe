"""Scenarios in which layers are bought by menu or auction, for tests."""

from pathlib import Path
from typing import Any

from edgepact.fields import load
from edgepact.framework import Pact

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SERVER = "revenue = 60.0\nbeta = 1.0\nlayers_max = 4\nA = 1.0\nB = 0.5\n"
PRIOR = (
    "[prior]\nalpha_min = 1.0\nalpha_max = 4.0\ncapacity_min = 3.0\ncapacity_max = 9.0\n"
    "samples = 40\n"
)
DEVICES = (
    "[[device]]\nname = 'one'\nalpha = 1.5\ncapacity = 6.0\n"
    "[[device]]\nname = 'two'\nalpha = 3.0\ncapacity = 8.0\n"
)
TOPS = {"contract": "", "auction": "rule = 'vcg'\nlayers_total = 5\n"}


def stated(
    mechanism: str,
    *,
    top: str | None = None,
    server: str = SERVER,
    efficiency: str = "",
    solver: str = "",
    job: str = "",
    rest: str = PRIOR + DEVICES,
) -> str:
    """A scenario."""
    return (
        f"mechanism = '{mechanism}'\n{TOPS[mechanism] if top is None else top}\n"
        f"[efficiency]\nmethod = 'partition'\n{efficiency}\n[solver]\n{solver}\n"
        f"[job]\nname = 'classification'\n{job}\n[server]\n{server}\n{rest}"
    )


def read(folder: Path, pact: Pact, text: str, *, smoke: bool = False) -> Any:
    """Its terms."""
    file = folder / "own.toml"
    file.write_text(text)
    return pact.read(file, load(file), smoke=smoke)
