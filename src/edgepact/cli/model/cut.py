"""`edgepact model cut`: a model made into stages."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.errors import InputError


def cut(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A folder with image.onnx, or any ONNX file."),
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TENSOR",
            help="Output of embed, then of each block: once for each [default: as image.onnx "
            "says]; of other files each cut, several tensors with commas between them",
        ),
    ] = None,
    possible: Annotated[
        bool, typer.Option("--list", help="Print the tensors it can be cut at, and cut nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For the stages of a file [default: beside it]"),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT", help="An input that every stage gets: once for each."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="PAST=PRESENT", help="A state that stays with its stage."),
    ] = None,
) -> None:
    """Cut a model into stages: stage_00.onnx, stage_01.onnx, ... beside image.onnx.

    A model can be cut in two where a few tensors carry all that depends on its data. All
    stages read the weights of the whole model, which stay where they are. The stages are run
    and compared with the whole model before they get their names.
    """
    from edgepact.cli.model.inspect import pairs
    from edgepact.inference import graph
    from edgepact.inference.pipeline import IMAGE_GRAPH

    if possible:
        if at:
            raise InputError("model cut", "--list", "either --list or --at", "both")
        if model.is_dir():
            names = graph.single_tensor_cuts(model / IMAGE_GRAPH)
        else:
            names = graph.cut_names(model, control or None, dict(pairs("--state", state)) or None)
        for name in names:
            print(name)
        return
    if model.is_dir():
        for option, given in (("--out", out), ("--control", control), ("--state", state)):
            if given:
                raise InputError("model cut", option, "a file to cut, not a folder", str(model))
        if at:
            graph.choose_boundaries(model, at)
        paths = graph.cut(model)
    else:
        if not at:
            expected = "the tensors to cut at; edgepact model inspect lists them"
            raise InputError("model cut", "--at", expected, "none")
        paths = graph.cut_file(
            model,
            [text.split(",") for text in at],
            out or model.parent,
            control=control or None,
            state=dict(pairs("--state", state)) or None,
        )
    for path in paths:
        print(path)
