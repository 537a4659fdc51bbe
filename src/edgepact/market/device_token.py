"""The token by which a server knows a device, in a file that its owner alone can read.

Whoever shows a token is the device, so two processes with one token would be one device that takes
up its own pieces and its own time: the file is used by one process at a time.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepact.errors import InputError
from edgepact.market.protocol import messages

if sys.platform != "win32":
    import fcntl


@contextmanager
def held_alone(path: Path | None) -> Iterator[None]:
    """Keeps other processes of this machine from using a token file, until this one ends.

    The system frees it however the process ends. Locked is a file beside it, `NAME.lock`, since
    there may be no token yet; where nobody can write beside it, the token file itself. A file
    system that has no locks, and Windows, keep nobody out.

    Raises:
        InputError: another process uses it.
    """
    descriptor = None if path is None else _opened(path)
    try:
        if descriptor is not None:
            assert path is not None
            _lock(path, descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


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


# ---------------------------------------------------------------- private


def _opened(path: Path) -> int | None:
    """What is locked; None if there is nothing that could be."""
    for each, flags in (
        (path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT),
        (path, os.O_RDONLY),
    ):
        try:
            return os.open(each, flags, 0o600)
        except OSError:
            continue
    return None  # whoever stores the token there says why that does not go


def _lock(path: Path, descriptor: int) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        expected = "a token file that no other process uses: each device has a token of its own"
        raise InputError(path, "", expected, "one that a device is running with") from None
    except OSError:
        return  # there are no locks here
