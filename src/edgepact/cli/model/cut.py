"""`edgepact model cut`: a model made into stages."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.model.options import Control, State, pairs
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
    stages: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=98,
            help="Of a file: so many stages of about equal computing, instead of --at",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For the stages of a file [default: beside it]"),
    ] = None,
    control: Control = None,
    state: State = None,
) -> None:
    """Cut a model into stages: stage_00.onnx, stage_01.onnx, ... beside image.onnx.

    A model can be cut in two where a few tensors carry all that depends on its data. All
    stages read the weights of the whole model, which stay where they are. The stages are run
    and compared with the whole model before they get their names. Beside those of a file lies
    stages.json, with which jobs run them: edgepact run --model FOLDER.
    """
    from edgepact.inference import graph
    from edgepact.inference.pipeline import IMAGE_GRAPH

    controls, states = control or None, dict(pairs("model cut", "--state", state)) or None
    if possible:
        if at:
            raise InputError("model cut", "--list", "either --list or --at", "both")
        if model.is_dir():
            names = graph.single_tensor_cuts(model / IMAGE_GRAPH)
        else:
            names = graph.cut_names(model, controls, states)
        for name in names:
            print(name)
        return
    if model.is_dir():
        for option, given in (
            *(("--out", out), ("--stages", stages)),
            *(("--control", control), ("--state", state)),
        ):
            if given:
                raise InputError("model cut", option, "a file to cut, not a folder", str(model))
        if at:
            graph.choose_boundaries(model, at)
        paths = graph.cut(model)
    else:
        if bool(at) == (stages is not None):
            expected = "the tensors to cut at; edgepact model inspect lists them; or --stages"
            raise InputError("model cut", "--at", expected, "both" if at else "neither")
        if stages is not None:
            from edgepact.inference.stage_writing import even_cuts

            at = [",".join(cut) for cut in even_cuts(model, stages, control=controls, state=states)]
        paths = graph.cut_file(
            model,
            [text.split(",") for text in at or ()],
            out or model.parent,
            control=controls,
            state=states,
        )
    for path in paths:
        print(path)
