"""Two files of pins, for two environments: they differ in what Flower forces and nowhere else."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FORCED = {"packaging", "rich", "starlette", "typer", "uvicorn"}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {row[0].lower().replace("_", "-").replace(".", "-"): row[1] for row in rows}


def test_pins_differ_only_where_flower_wants_older_versions() -> None:
    base, federated = pins("constraints.txt"), pins("constraints-federated.txt")
    assert {name for name in base if federated.get(name) != base[name]} == FORCED
    assert {"flwr", "ray"} <= set(federated) - set(base)


def test_all_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dev"], *extras["postgres"]]
    names = {re.split(r"[\[<>=!~ ;]", each)[0].lower().replace("_", "-") for each in asked}
    assert names <= set(pins("constraints.txt"))
