"""`edgepact token issue`: new one-time tokens."""

from typing import Annotated

import typer

from edgepact.cli.output import Json, print_json
from edgepact.cli.token.ledger_option import DEFAULT, LedgerUrl

COUNT_MAX = 10_000
HOURS_MAX = 10 * 365 * 24.0


def issue(
    ledger: LedgerUrl = DEFAULT,
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="How many.")] = 1,
    valid: Annotated[
        float | None,
        typer.Option(min=0.001, max=HOURS_MAX, help="Hours until they end [default: never]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one-time tokens, each for one device to enrol with, and print them.

    Beside each token stands its label, by which `list` and `revoke` know it. The ledger keeps only
    the hashes of tokens; a ledger that does not exist is made.
    """
    import sys

    from edgepact.market.ledger import Ledger

    with Ledger(ledger) as books, books.together():
        if books.is_new:
            print(f"note: a new ledger was made, {books.url}", file=sys.stderr)
        made = [
            books.issue_token(valid_s=None if valid is None else valid * 3600.0)
            for _ in range(count)
        ]
    if as_json:
        print_json([{"token": token, "label": kept.label} for token, kept in made])
        return
    for token, kept in made:
        print(f"{token}  {kept.label}")
