"""How errors and broken promises are told: in one line on standard error."""

import sys
from pathlib import Path

from edgepact.errors import EdgepactError


def print_error(error: EdgepactError) -> None:
    """What a user can mend."""
    _print(str(error))


def print_broken(file: Path, broken: tuple[str, ...]) -> None:
    """Promises of a mechanism that the answer to a file does not keep."""
    _print(f"{file}: the answer breaks what its mechanism promises: {', '.join(broken)}")


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
