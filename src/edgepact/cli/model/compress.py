"""`edgepact model compress`: a model made smaller, and measured."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the smaller one.")],
    method: Annotated[
        str, typer.Option(help="How it is made smaller: int8, magnitude or structured.")
    ],
    share: Annotated[
        float | None,
        typer.Option(help="Share to remove by magnitude or structured, from 0 to below 1."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images-from", help="Images to judge by [default: the sample set]"),
    ] = None,
    fit_images: Annotated[
        Path | None,
        typer.Option(
            "--fit-from", help="Images that structured chooses by, others than to judge by."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller, and measure what that gains and loses.

    int8: weights and products in whole numbers; fewer bytes, as many operations, each of them
    cheaper. structured: fewer hidden units in every block; fewer bytes, operations and seconds.
    magnitude: the smallest weights of every matrix become 0; fewer bytes only where the model
    is sent or stored compressed, and no seconds.

    With --fit-from, structured removes the units that the others can best stand in for on those
    images, and lets them; without, those with the smallest weights. OUT is a model directory like
    any other, for `profile`, `run --model`, `serve` and `device`. Its text encoder is MODEL's.
    A folder of images has one folder for each class, if accuracy is to be measured; the files of
    Fashion-MNIST will do too, whose training half is for --fit-from.
    """
    from edgepact.studies.compress import CompressConfig, compress

    measured = compress(
        CompressConfig(
            model=model,
            out=out,
            method=method,
            share=share,
            images=images,
            fit_images=fit_images,
        )
    )
    show(measured, as_json)
