"""`edgepact model cut`: a model made into stages."""

from pathlib import Path
from typing import Annotated

import typer

from edgepact.cli.model.options import Control, State, pairs
from edgepact.errors import InputError


def cut(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A folder with image.onnx, or any ONNX or GGUF file."),
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
        typer.Option(
            metavar="FOLDER",
            help="For the stages of a file [default: beside it]; of a GGUF file a new folder",
        ),
    ] = None,
    control: Control = None,
    state: State = None,
    products: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Of a GGUF file: fast, precise or exact products [default: fast]",
        ),
    ] = None,
) -> None:
    """Cut a model into stages: stage_00.onnx, stage_01.onnx, ... beside image.onnx.

    A model can be cut in two where a few tensors carry all that depends on its data. All
    stages read the weights of the whole model, which stay where they are. The stages are run
    and compared with the whole model before they get their names. Beside those of a file lies
    stages.json, with which jobs run them: edgepact run --model FOLDER.

    A GGUF file is cut everywhere: embed, each block, head, into a folder that the job text takes
    as its model.
    """
    if model.suffix.lower() == ".gguf":
        others = ("--at", at), ("--stages", stages), ("--control", control), ("--state", state)
        for name, asked in others:
            if asked:
                expected = "nothing: a GGUF file is cut at every block"
                raise InputError("model cut", name, expected, str(asked))
        if possible:
            raise InputError("model cut", "--list", "edgepact model inspect", "a GGUF file")
        _cut_gguf(model, out, products or "fast")
        return
    if products is not None:
        raise InputError("model cut", "--products", "a GGUF file", str(model))
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


def _cut_gguf(model: Path, out: Path | None, products: str) -> None:
    from edgepact.inference.gguf.file import read_gguf
    from edgepact.inference.gguf.folder import read_text_model, stage_path
    from edgepact.inference.gguf.stages import write_stages

    folder = model.with_suffix(".stages") if out is None else out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("model cut", "--out", "a folder that is new or empty", str(folder))
    write_stages(read_gguf(model), folder, products=products)
    for stage in range(read_text_model(folder).stages):
        print(stage_path(folder, stage))
