"""`edgepact ledger backup`: a copy of a ledger that is in use."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.ledger.url import DEFAULT, Url


def backup(
    out: Annotated[Path, typer.Option(help="A new file to copy to.")],
    url: Url = DEFAULT,
) -> None:
    """Copy an SQLite ledger as it is now, while its server goes on; the copy is checked.

    Exit status 1 if it is not whole. Keep the key beside the ledger too. A ledger in PostgreSQL
    is backed up with `pg_dump`.
    """
    from edgepact.market.ledger import Ledger

    with Ledger(url, read_only=True) as ledger:
        ledger.backup(out)
    with Ledger(f"sqlite:///{out}", read_only=True) as copy:
        wrong, head = copy.check(), copy.head()
    if wrong:
        print(f"{out} is NOT whole: {wrong[0]}")
        raise typer.Exit(1)
    print(f"{out}: {head.id} transfers, whole")
