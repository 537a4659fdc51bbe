"""How errors and broken promises are told: in one line on standard error."""

import errno
import sys
from pathlib import Path

from edgepact.errors import EdgepactError, InputError

NO_FILE = ("a TOML file", "none there")


def print_error(error: EdgepactError) -> None:
    """What a user can mend."""
    told = f"{error}"
    if isinstance(error, InputError) and (error.expected, error.found) == NO_FILE:
        told += "; `edgepact init` writes one to start from"
    _print(told)


def print_broken(file: Path, broken: tuple[str, ...]) -> None:
    """Promises of a mechanism that the answer to a file does not keep."""
    _print(f"{file}: the answer breaks what its mechanism promises: {', '.join(broken)}")


FULL = (errno.ENOSPC, errno.EDQUOT)

OF_PLACES = {
    errno.ENOSPC: "no space is left; free some, or write elsewhere",
    errno.EDQUOT: "the quota of the disk is used up; free some, or write elsewhere",
    errno.EROFS: "the disk can only be read; write elsewhere",
    errno.EACCES: "not allowed; ask for access, or use another place",
    errno.EPERM: "not allowed; ask for access, or use another place",
    errno.EISDIR: "expected a file, found a folder; move it away, or use another place",
    errno.ENOTDIR: "expected a folder, found a file; move it away, or use another place",
}
"""What the system says of a place on a disk, and what to do about it."""


def print_of_place(error: OSError) -> bool:
    """A place on a disk that refuses; False if it is anything else, which is a fault of ours."""
    told = OF_PLACES.get(error.errno or 0)
    # A write to a full disk names no file; what else names none is about no place.
    if told is None or (error.filename is None and error.errno not in FULL):
        return False
    _print(told if error.filename is None else f"{error.filename}: {told}")
    return True


def print_left_out(error: ImportError) -> bool:
    """What the install of a device leaves out (`packaging/device`); False if it is another module.

    There a command finds its own modules missing, or what they need.
    """
    from edgepact.listing import WHOLE, is_whole

    if is_whole():
        return False
    told = f"this command is not part of the install of a device ({error})"
    _print(f"{told}; {WHOLE}")
    return True


def _print(text: str) -> None:
    """Without the line breaks and control characters that input can carry into it."""
    line = "".join(char if char.isprintable() else " " for char in text)
    print(f"edgepact: {line}", file=sys.stderr)
