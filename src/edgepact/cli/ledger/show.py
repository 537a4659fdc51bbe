"""`edgepact ledger show`: what a ledger says."""

import typer

from edgepact.cli.ledger.url import DEFAULT, Url
from edgepact.cli.output import Json
from edgepact.cli.output import show as printed


def show(url: Url = DEFAULT, as_json: Json = False) -> None:
    """Show a ledger: balances, strikes, payments by round, and whether the books balance.

    Exit status 1 if they do not.
    """
    from edgepact.market.statement import read_statement

    statement = read_statement(url, overview=True)
    printed(statement, as_json)
    if not statement.balanced:
        raise typer.Exit(1)
