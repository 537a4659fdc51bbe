"""Writes what `edgepact solve` and `edgepact quote` answer to the shipped examples.

    python tests/golden/write.py [FOLDER]

Without FOLDER, they become what every build is held against. Do that only where numbers are
meant to change, and say which and why under "Changed numbers" in CHANGELOG.md:
`tests/test_golden.py` compares to twelve digits, and quotes to four. Keys may join those that stand
here; none may go.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgepact import api
from edgepact.fields import load
from edgepact.files.scenario import is_scenario, scenario_of

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"

SOLVED = (
    "auction",
    "auction-bandwidth",
    "auction-optimal",
    "auction-reserve",
    "auction-scored",
    "contract",
    "crowd",
    "far-devices",
    "five-cameras",
    "live",
    "may-decline",
    "measured",
    "scenario-block",
    "scenario-compression",
    "scenario-layer-menu",
    "scenario-local-work",
    "scenario-partition",
    "scenario-picture",
    "scenario-price",
    "scenario-selection",
    "scenario-supply-curves",
    "two-costs",
    "two-peaks",
    "train-contract",
    "train-price",
)
QUOTED = (
    "crowd",
    "five-cameras",
    "live",
    "may-decline",
    "past-bids",
    "past-menus",
    "scenario-partition",
    "two-peaks",
)


_TRAINING = {
    "efficiency": {"method": "compression"},
    "solver": {},
    "job": {"name": "training", "clients": 5, "data": "samples"},
}

MADE = {
    "bids-on-rates": {
        "mechanism": "auction",
        "rule": "second_score",
        "terms": "train-contract.toml",
        **_TRAINING,
    },
    "price-of-steps": {"mechanism": "stackelberg", "terms": "train-price.toml", **_TRAINING},
}
"""Scenarios of the pacts that no example shows."""

SHOWN = "shown.jsonl"
"""File beside the answers with what their tables show; never kept."""


def write(folder: Path, *, shown: bool = True) -> None:
    """Writes all of them into a folder.

    Args:
        folder: to write into.
        shown: write as well, into `SHOWN`, what each answer and each step of a scenario before
            the job says as JSON and shows in tables.
    """
    lines = []
    for name, answer in _answers():
        told = json.dumps(answer.to_dict(), allow_nan=False)
        if name.startswith(("solve-", "quote-")):
            (folder / f"{name}.json").write_text(told + "\n", encoding="utf-8")
        sheets = [asdict(sheet) for sheet in answer.sheets]
        lines.append(json.dumps({"name": name, "told": json.loads(told), "sheets": sheets}))
    if shown:
        (folder / SHOWN).write_text("\n".join(lines), encoding="utf-8")


def _answers() -> Iterator[tuple[str, Any]]:
    for name in SOLVED:
        document = _document(name)
        yield f"solve-{name}", api._solve_document(EXAMPLES / f"{name}.toml", document)
        if is_scenario(document):
            scenario = scenario_of(EXAMPLES / f"{name}.toml", document)
            pact, terms = scenario.pact, scenario.terms
            yield f"optimum-{name}", pact.optimum(terms, None)
            yield f"decision-{name}", pact.decide(terms, None)
    for name, document in MADE.items():
        scenario = scenario_of(EXAMPLES / f"{name}.toml", document)
        yield f"optimum-{name}", scenario.pact.optimum(scenario.terms, None)
    for name in QUOTED:
        yield f"quote-{name}", api.quote(EXAMPLES / f"{name}.toml")


def _document(name: str) -> dict[str, Any]:
    document = load(EXAMPLES / f"{name}.toml")
    if document.get("job", {}).get("name") == "training":
        document["job"]["data"] = "samples"  # Fashion-MNIST is not on every machine
    return document


if __name__ == "__main__":
    here = len(sys.argv) < 2
    write(HERE if here else Path(sys.argv[1]), shown=not here)
