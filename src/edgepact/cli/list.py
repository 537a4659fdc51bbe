"""`edgepact list`: what is installed."""

from typing import Annotated

import typer

from edgepact.cli.output import Json, print_json, print_sheets
from edgepact.errors import InputError, shown
from edgepact.registry import KINDS


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)} [default: all of them]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what is installed: mechanisms, solvers, jobs, codecs and pacts.

    A pact is one choice of method, mechanism and job that go together. Parts of other packages
    are listed beside those that come with edgepact.
    """
    from edgepact.listing import listing, listings

    if kind is not None and kind not in KINDS:
        raise InputError("list", "KIND", f"one of {', '.join(KINDS)}", shown(kind))
    found = listings() if kind is None else (listing(kind),)
    if as_json:
        told = {each.kind: each.to_list() for each in found}
        print_json(told if kind is None else told[kind])
        return
    print_sheets(sheet for each in found for sheet in each.sheets)
