"""How answers are printed: as tables, or as one line of JSON."""

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from edgepact.framework import Sheet, Told

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def show(result: Told, as_json: bool) -> None:
    """A result: its sheets, or what it says as JSON."""
    if as_json:
        print_json(result.to_dict())
        return
    print_sheets(result.sheets)


def print_sheets(sheets: Iterable[Sheet]) -> None:
    """Sheets as tables."""
    from rich.console import Console

    from edgepact.tables import rich_table

    console = Console()
    for sheet in sheets:
        console.print(rich_table(sheet), highlight=False, crop=False)


def print_json(value: Any) -> None:
    """One line of JSON."""
    # NaN is not JSON; whoever reads this must not be handed it.
    print(json.dumps(value, allow_nan=False))
