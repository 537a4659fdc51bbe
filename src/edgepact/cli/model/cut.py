"""`edgepact model cut`: a model made into stages."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.errors import InputError


def cut(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A folder with image.onnx and its weights.")
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TENSOR",
            help="Output of embed, then of each block: once for each [default: as image.onnx says]",
        ),
    ] = None,
    possible: Annotated[
        bool, typer.Option("--list", help="Print the tensors it can be cut at, and cut nothing.")
    ] = False,
) -> None:
    """Cut a model into stages: stage_00.onnx, stage_01.onnx, ... beside image.onnx.

    A model can be cut in two where a single tensor carries all that depends on the image. All
    stages read the weights of the whole model, which stay where they are. The stages are run
    and compared with the whole model before they get their names.
    """
    from edgepact.inference import graph
    from edgepact.inference.pipeline import IMAGE_GRAPH

    if possible:
        if at:
            raise InputError("model cut", "--list", "either --list or --at", "both")
        for name in graph.single_tensor_cuts(model / IMAGE_GRAPH):
            print(name)
        return
    if at:
        graph.choose_boundaries(model, at)
    for path in graph.cut(model):
        print(path)
