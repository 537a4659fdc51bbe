"""`edgepact profile`: what a model's stages take on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def profile(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="A model directory, or stages of any model [default: the embedded CLIP]",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=3, max=10_000, help="Runs of each stage; the fastest counts.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Measure a model's stages on this machine: seconds, GMAC, and the fit A*L + B.

    L is the number of layers a device runs, A what one costs, B what comes before the first.
    """
    from edgepact.efficiency.profile import profile as measure
    from edgepact.inference.models import embedded
    from edgepact.jobs.staged import STAGED
    from edgepact.jobs.staged.place import is_staged, stages_of
    from edgepact.progress import progress_bar

    with progress_bar("profile", enabled=not as_json) as advance:
        if model is not None and is_staged(model):
            from edgepact.pacts.partition_staged import stages_profile

            measured = stages_profile(stages_of(STAGED, model), repeats, advance)
        else:
            measured = measure(model or embedded(), repeats=repeats, progress=advance)
    show(measured, as_json)
