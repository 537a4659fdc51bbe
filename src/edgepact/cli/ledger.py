"""`edgepact ledger`: what a ledger says."""

from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def ledger(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Database URL of a ledger.")
    ] = "sqlite:///edgepact-ledger.db",
    as_json: Json = False,
) -> None:
    """Show a ledger: balances, payments by round, and whether the books balance."""
    from edgepact.market.statement import read_statement

    statement = read_statement(url)
    show(statement, as_json)
