"""`edgepact ledger statement`: what a device has earned, signed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.ledger.url import DEFAULT, Url
from edgepact.errors import InputError


def statement(
    device: Annotated[
        str | None, typer.Argument(metavar="DEVICE", help="Name of a device.")
    ] = None,
    url: Url = DEFAULT,
    key: Annotated[
        Path | None, typer.Option(help="File of the server's key [default: beside the ledger].")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file to write to [default: print]")] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Check a statement instead, which needs no ledger.")
    ] = None,
    public: Annotated[
        str | None,
        typer.Option(help="The server's public key that it must be signed with, hexadecimal."),
    ] = None,
) -> None:
    """Tell what a device has earned, by round and state, as JSON signed with the server's key.

    The signature is Ed25519, over the JSON without it, keys sorted and without spaces.
    Books that are not whole are not signed: exit status 1.
    """
    import sys
    import time

    from edgepact.market.device_statement import (
        NotWhole,
        device_statement,
        read_device_statement,
    )

    if verify is not None:
        told = read_device_statement(verify, public)
        by = "the key that was named" if public else f"the key {told['public']}"
        print(
            f"{told['device']}: {told['paid_microcredits']} micro-credits paid, "
            f"{told['pending_microcredits']} pending, signed with {by}"
        )
        return
    if device is None:
        raise InputError("ledger statement", "DEVICE", "the name of a device, or --verify", None)
    try:
        told = device_statement(url, device, key=key, now_s=time.time())
    except NotWhole as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    text = json.dumps(told, indent=1)
    if out is None:
        print(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(out, "--out", "a file to write to", f"{error.strerror}") from None
