"""`edgepact model inspect`: where a model can be cut, and what each cut costs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepact.cli.model.options import Control, State, pairs
from edgepact.cli.output import Json, print_json, print_sheets
from edgepact.errors import InputError
from edgepact.framework import Sheet


def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="An ONNX or GGUF file, or a folder with one [default: the embedded CLIP]",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="Count at this free size: once for each."),
    ] = None,
    control: Control = None,
    state: State = None,
    tensors: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Most tensors of a cut [default: 1, or 2 where needed]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Draw the cuts: a PNG, SVG or PDF file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List every cut of a model: device and server GMAC, bytes at each codec, state kept.

    Of a model folder with its stages, their parameters, bytes and operations stand above. Nothing
    is run; `edgepact profile` measures. What cannot be counted is named.
    """
    from edgepact.efficiency.footprint import footprint
    from edgepact.efficiency.inspection import inspection, model_file, picture
    from edgepact.inference.models import embedded
    from edgepact.inference.pipeline import MODEL_JSON, stage_path

    folder = model or embedded()
    path = model_file(folder)
    table: dict[str, Any] = {}
    sheets: list[Sheet] = []
    # The folder of a model of images; what `model cut` writes has no costs of its own.
    if stage_path(folder, 0).is_file() and (folder / MODEL_JSON).is_file():
        counted = footprint(folder)
        table |= counted.to_dict()
        sheets += counted.sheets
    found = inspection(
        path,
        sizes={name: _size(number) for name, number in pairs("model inspect", "--size", size)},
        control=control or None,
        state=dict(pairs("model inspect", "--state", state)) or None,
        tensors_max=tensors,
    )
    if out is not None:
        formats = (".png", ".svg", ".pdf")
        if out.suffix.lower() not in formats:
            raise InputError("model inspect", "--out", f"a file in {', '.join(formats)}", str(out))
        try:
            picture(found).savefig(out, dpi=150)
        except OSError as error:
            reason = error.strerror or "an error"
            raise InputError(out, "", "a file that can be written", reason) from error
    if as_json:
        print_json(found.to_dict() | table)
        return
    print_sheets([*sheets, *found.sheets])


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= len(text) <= 9 or int(text) < 1:
        raise InputError("model inspect", "--size", "a whole number of at least 1", text)
    return int(text)
