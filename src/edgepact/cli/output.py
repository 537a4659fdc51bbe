"""How answers are printed."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def print_json(value: Any) -> None:
    """One line of JSON."""
    # NaN is not JSON; whoever reads this must not be handed it.
    print(json.dumps(value, allow_nan=False))
