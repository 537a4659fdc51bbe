"""`edgepact solve`: one market, contract or auction, exactly."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.complaints import print_broken
from edgepact.cli.output import Json, show


def solve(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A file with a market, contract, auction or scenario, in TOML."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Solve one market exactly: the best price, what everybody gets, and an audit.

    FILE names the mechanism (a Stackelberg game, a contract or an auction), the server's terms
    and the devices; examples/ holds some. The file of a whole scenario will do too. Exit status 1
    says that the answer lacks a property that its mechanism promises.
    """
    from edgepact import api

    solution = api.solve(file)
    show(solution, as_json)
    if solution.broken:
        print_broken(file, solution.broken)
        raise typer.Exit(1)
