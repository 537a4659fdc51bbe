"""What is kept beside every result: configuration, versions, machine, command."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import edgepact


def provenance(config: Any) -> dict[str, Any]:
    """Where a result comes from, so that anyone can make it again.

    Args:
        config: a dataclass, the settings of the study.
    """
    return {
        "config": _plain(asdict(config)),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "edgepact": edgepact.__version__,
        "commit": _commit(),
        "versions": {name: _version(name) for name in ("jax", "numpy", "onnxruntime")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


VALUES_MOST = 1000
"""Of a longer array only the shape and the range are told."""


def _plain(settings: Any) -> Any:
    """Settings as JSON holds them; numbers that are none, and infinite ones, by their names."""

    def told(value: Any) -> Any:
        if not hasattr(value, "tolist"):
            return str(value)
        if value.size <= VALUES_MOST:
            return value.tolist()
        return {"shape": value.shape, "least": float(value.min()), "most": float(value.max())}

    return json.loads(json.dumps(settings, default=told), parse_constant=str)


def write_metrics(
    folder: Path, config: Any, metrics: dict[str, Any], asked: Mapping[str, Any] | None = None
) -> None:
    """Writes `metrics.json`: the figures and their provenance.

    Args:
        folder: of the results.
        config: a dataclass, the settings as they were played.
        metrics: the figures.
        asked: what else is to be known of the run, such as its study and whether it was in small.
    """
    facts = {**metrics, "provenance": {**(asked or {}), **provenance(config)}}
    text = json.dumps(facts, indent=2, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n")


def _version(package: str) -> str | None:
    """None where it is not installed: not every result needs every package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of a checkout; None for an installed package."""
    here = Path(__file__).resolve().parent
    asked = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
