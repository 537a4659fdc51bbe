"""`edgepact token readmit`: a device that may take part again."""

from typing import Annotated

import typer

from edgepact.cli.token.ledger_option import DEFAULT, LedgerUrl


def readmit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An excluded or revoked device.")],
    ledger: LedgerUrl = DEFAULT,
) -> None:
    """Let a device take part again, with the token it had; its strikes are forgotten."""
    from edgepact.market.ledger import Ledger

    with Ledger(ledger, create=False) as books:
        was_out = books.readmit(name)
    print(f"{name}: {'readmitted' if was_out else 'was not shut out; its strikes are forgotten'}")
