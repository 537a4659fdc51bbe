"""`edgepact model import`: a checkpoint of CLIP or SigLIP made into a model folder."""

from pathlib import Path
from typing import Annotated

import typer


def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder that transformers or open_clip saved, as safetensors."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new model folder.")],
    words: Annotated[
        Path,
        typer.Option(help="TOML file with the labels, and if need be templates with {} in them."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model in offers [default: the name of OUT]")
    ] = None,
) -> None:
    """Make a model folder of a checkpoint: stages, texts of the labels, preprocessing.

    CLIP and SigLIP are read, each with its own tokenizer and its own way to bring a picture to
    size. The new folder works with `profile`, `run --model`, `serve` and `device`. All of it is
    computed in single precision; weights are kept as they are stored. Nothing is fetched, and
    pickled checkpoints are refused, since unpickling runs their code.
    """
    from edgepact.inference.checkpoints.importing import import_checkpoint
    from edgepact.inference.checkpoints.words import read_words

    made = import_checkpoint(checkpoint, out, read_words(words), name=name or out.resolve().name)
    print(made)
