"""How errors of users are printed: in one line."""

import sys

from edgepact.errors import EdgepactError


def print_error(error: EdgepactError) -> None:
    """One line on standard error."""
    print(f"edgepact: {_one_line(error)}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    """A message without the line breaks and control characters that input can carry into it."""
    return "".join(char if char.isprintable() else " " for char in str(error))
