"""`edgepact ledger check`: whether a ledger is whole."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.ledger.url import DEFAULT, Url
from edgepact.cli.output import Json, print_json


def check(
    url: Url = DEFAULT,
    head: Annotated[
        Path | None,
        typer.Option(help="A seal of `--save-head`, from which the books must have gone on."),
    ] = None,
    save_head: Annotated[
        Path | None,
        typer.Option(help="Where to write a signed seal of the books, if they are whole."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="File of the server's key [default: beside the ledger].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove a ledger: the books balance, no transfer was altered, left out or put in, and each
    piece was paid once, for what it was.

    Exit status 1 if it is not whole. Whoever can write the whole database can write it anew,
    hashes and all: that shows only by a seal which was kept elsewhere (--save-head, --head).
    """
    from edgepact.market.ledger import Ledger
    from edgepact.market.ledger.seals import read_seal, servers_key, write_seal
    from edgepact.market.ledger.signing import key_file

    with Ledger(url, read_only=True) as ledger:
        own = None
        # Who only looks needs no key, and a head can be read without: it names its own.
        if save_head is not None or key is not None:
            own = servers_key(ledger, key)
        elif head is not None and key_file(ledger.file).exists():
            own = servers_key(ledger)
        kept = None if head is None else read_seal(head, own.public if own else None)
        with ledger.one_state():
            wrong = ledger.check(kept)
            seal, jobs = ledger.seal(), ledger.jobs_by_state()
        if not wrong and save_head is not None and own is not None:
            write_seal(save_head, seal, own)
    if as_json:
        print_json(
            {
                "whole": not wrong,
                "wrong": wrong,
                "transfers": seal.id,
                "hash": seal.hash.hex(),
                "jobs": jobs,
            }
        )
    else:
        for each in wrong:
            print(each)
        told = ", ".join(f"{count} {state}" for state, count in sorted(jobs.items()))
        state = "is NOT whole" if wrong else "is whole"
        print(f"The ledger {state}: {seal.id} transfers, jobs: {told}; its head is")
        print(seal.hash.hex())
    if wrong:
        raise typer.Exit(1)
