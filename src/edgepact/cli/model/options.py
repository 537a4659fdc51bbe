"""Options that commands on model files share: which inputs every stage gets, what a stage keeps."""

from typing import Annotated

import typer

from edgepact.errors import InputError

Control = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT", help="An input that every stage gets: once for each."),
]

State = Annotated[
    list[str] | None,
    typer.Option(metavar="PAST=PRESENT", help="A state that stays with its stage."),
]


def pairs(command: str, option: str, texts: list[str] | None) -> list[tuple[str, str]]:
    """Names and values of an option that is written NAME=VALUE.

    Args:
        command: that it was given to, for errors.
        option: its name.
        texts: as they were given, once for each.

    Raises:
        InputError: one has no name, no = or no value.

    Example:
        >>> pairs("model cut", "--state", ["past=present"])
        [('past', 'present')]
    """
    found = []
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise InputError(command, option, "a name, = and a value", text)
        found.append((name, value))
    return found
