"""`edgepact token revoke`: a token that is void from now on."""

from typing import Annotated

import typer

from edgepact.cli.token.ledger_option import DEFAULT, LedgerUrl


def revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A device, or the label of a one-time token.")
    ],
    ledger: LedgerUrl = DEFAULT,
) -> None:
    """Void the token of a device, or a one-time token."""
    from edgepact.market.ledger import Ledger

    with Ledger(ledger, create=False) as books:
        books.revoke(name)
    print(f"{name}: revoked")
