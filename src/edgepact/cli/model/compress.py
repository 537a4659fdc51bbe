"""`edgepact model compress`: a model made smaller, and measured."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.output import Json, show


def compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the smaller one.")],
    method: Annotated[
        str, typer.Option(help="int8, weights8, weights4, structured, heads or magnitude.")
    ],
    share: Annotated[
        float | None,
        typer.Option(help="Share to remove by structured, heads or magnitude, from 0 to below 1."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images-from", help="Images to judge by [default: the sample set]"),
    ] = None,
    fit_images: Annotated[
        Path | None,
        typer.Option(
            "--fit-from",
            help="Images that structured or heads chooses by, others than to judge by.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller, and measure what that gains and loses.

    int8: weights and products in whole numbers; fewer bytes, as many operations, each of them
    cheaper. weights8, weights4: weights alone in 8 or 4 bits; fewer bytes, and seconds as the
    runtime has them. heads: fewer attention heads and hidden units of the embedded model, taught
    for a minute what the original hands on. structured: fewer hidden units in every block; fewer
    bytes, operations and seconds. magnitude: the smallest weights of every matrix become 0; fewer
    bytes only where the model is sent or stored compressed, and no seconds.

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
