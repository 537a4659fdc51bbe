"""The live page in the user's own browser, opened without showing its token to anybody else.

The address holds the operator's token, and what a program is started with is seen by everybody on
the machine. So the browser is given a file that only its owner can read, which leads on.
"""

import html
import os
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE = "live-page.html"

_PAGE = """<!doctype html><meta charset="utf-8"><title>edgepact</title>
<meta http-equiv="refresh" content="0; url={address}">
<a href="{address}">The market's live page</a>
"""


@contextmanager
def opened(folder: Path, *, asked: bool) -> Iterator[Callable[[Path, str], None]]:
    """What shows the live page of a run, whose file goes when the run has ended.

    Args:
        folder: of the run's results.
        asked: whether the page is to be opened.
    """
    if not asked:
        yield _no_page
        return
    try:
        yield _open_page
    finally:
        with suppress(NotADirectoryError):  # nothing was written where no folder could be made
            (folder / FILE).unlink(missing_ok=True)


def _open_page(folder: Path, address: str) -> None:
    """Opens the live page in a browser; where there is none, a line says where it is.

    Args:
        folder: of the run's results; the file that leads on stands there.
        address: of the page, with the operator's token.
    """
    file = folder / FILE
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as leading:
        leading.write(_PAGE.format(address=html.escape(address)))
    if not webbrowser.open(file.resolve().as_uri()):
        print(f"no browser could be opened; open {file} to see the market", flush=True)


def _no_page(folder: Path, address: str) -> None:
    """Opens nothing."""
