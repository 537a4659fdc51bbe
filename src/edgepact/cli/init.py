"""`edgepact init`: a commented file to start from."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

NEXT = {
    "scenario": "try it: edgepact run {path} --smoke",
    "": "solve it: edgepact solve {path}",
}
"""What to do with a file of a kind."""


def init(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="What it is about: market, contract, auction or scenario."
        ),
    ],
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="File to write, which must not be there yet [default: standard output]",
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            metavar="<str>",
            help="Job of a scenario: classification, photo, picture, sentences, speech, staged, "
            "text or training [default: classification]",
        ),
    ] = None,
    mechanism: Annotated[
        str | None,
        typer.Option(
            metavar="<str>",
            help="Mechanism of a scenario: stackelberg, contract or auction; each job has "
            "a file for each [default: the usual one of the job]",
        ),
    ] = None,
) -> None:
    """Write a file to start from: a market, contract, auction or scenario, with comments.

    It can be solved or run as it stands; a comment says of every field what it means and in which
    unit. Another file is never written over.
    """
    from edgepact.files.starting import starting_file, write_new
    from edgepact.inference.models import embedded

    text = starting_file(kind, job, mechanism, model=embedded() / "image.onnx")
    if path is None:
        print(text, end="")
        return
    write_new(path, text)
    print(f"Wrote {path}; {NEXT.get(kind, NEXT['']).format(path=quote(str(path)))}")
