"""`edgepact quote`: what to offer next to devices of which only answers are known."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def quote(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file with a market, a contract or an auction.")
    ],
    rounds: Annotated[
        int | None,
        typer.Option(min=1, max=200, help="Number of rounds to play with a market [default: 8]."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**31 - 1, help="Seed of what is drawn of the private side."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Decide what to offer to devices of which only their answers are known.

    With a market, prices are posted to its fleet, round after round: the diffusion model posts a
    price, sees how many layers each device of FILE runs for it, and posts the next one. What it
    never sees, the devices' own alpha and capacity, gives the exact optimum that its quotes are
    held against. With a contract, FILE tells past menus and how many devices took which item; the
    diffusion model generates who they may be, and the best menu for all of them is told, with the
    share of devices expected to take each item and the profit. With an auction, FILE tells past
    bids; the diffusion model generates distributions of values, and the reserves that follow are
    told, with the payments and the revenue to expect.
    """
    from edgepact import api

    show(api.quote(file, rounds=rounds, seed=seed), as_json)
