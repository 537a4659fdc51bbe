"""How the program speaks to a terminal or pipe: set up once, before anything is printed."""

import io
import sys
import warnings
from typing import Any

from edgepact.errors import InputWarning


def set_up_streams() -> None:
    """Makes every text printable, and tells warnings about input in one line each.

    A name that the terminal's encoding does not have comes out as `?`; on standard error, where
    messages quote what they found, it is spelled by its number.
    """
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    warnings.simplefilter("always", InputWarning)
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, InputWarning):
            print(f"edgepact: {message}", file=sys.stderr)
        else:
            usual(message, category, *rest, **more)

    warnings.showwarning = show
