"""`edgepact model inspect`: the stages of a model, counted."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A model directory [default: the embedded CLIP]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count a model's stages: parameters, bytes, operations, and where it is cut.

    A stage is what lies between two cuts: embed, the blocks, the head. A device that runs L
    layers needs the first L + 1 stages. Nothing is run; `edgepact profile` measures.
    """
    from edgepact.efficiency.footprint import footprint
    from edgepact.inference.models import embedded

    counted = footprint(model or embedded())
    show(counted, as_json)
