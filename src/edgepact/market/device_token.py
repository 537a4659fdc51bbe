"""The token by which a server knows a device, in a file that its owner alone can read."""

import os
from pathlib import Path

from edgepact.errors import InputError
from edgepact.market.protocol import messages


def stored_token(path: Path | None) -> str | None:
    """The token of an earlier run; None if there is none.

    Raises:
        InputError: the file holds something else.
    """
    if path is None or not path.exists():
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    # It travels in a header, which has no place for line breaks and the like.
    fits = 1 <= len(token) <= messages.TOKEN_CHARS_MAX
    if not (fits and token.isprintable() and " " not in token):
        raise InputError(path, "", "a device token", "something else")
    return token


def store_token(path: Path | None, token: str) -> None:
    """Keeps a token.

    Raises:
        InputError: the file cannot be written.
    """
    if path is None:
        return
    try:
        part = path.with_name(path.name + ".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token + "\n")
        part.replace(path)
    except OSError as error:
        raise InputError(path, "", "a place to keep the token", str(error.strerror)) from None
