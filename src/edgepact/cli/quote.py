"""`edgepact quote`: prices posted to a fleet of which nothing is known."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def quote(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file with a market, in TOML.")],
    rounds: Annotated[int, typer.Option(min=1, max=200, help="Number of rounds to play.")] = 8,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**31 - 1, help="Seed of the noise that prices are drawn from."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Quote prices to a fleet as if nothing were known of it, round after round.

    The diffusion model posts a price, sees how many layers each device of FILE runs for it, and
    posts the next one. What it never sees, the devices' own alpha and capacity, gives the exact
    optimum that its quotes are held against.
    """
    from edgepact import api

    show(api.quote(file, rounds=rounds, seed=seed), as_json)
