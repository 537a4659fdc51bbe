"""A folder of results belongs to one study: another one would leave a mixture of both."""

import json
import os
from pathlib import Path

from edgepact.errors import InputError

FACTS = "metrics.json"
"""The file that each study writes."""


def check_place(folder: Path, study: str, *, smoke: bool = False) -> None:
    """Refuses a folder that holds another study, or the full one where a smoke run is asked for.

    Raises:
        InputError: names the folder and what it holds.
    """
    held = held_in(folder)
    if held is not None and held != study:
        expected = f"a folder of its own for {study}"
        raise InputError("study", "--out", expected, f"{folder}, which holds {held}")
    if held is not None and smoke and not _is_smoke(folder):
        expected = "a folder of its own for a smoke run"
        raise InputError("study", "--out", expected, f"{folder}, which holds {held} in full size")


def make_place(folder: Path) -> None:
    """Makes a folder of results before hours of work end at a place that cannot be written to.

    Raises:
        InputError: it cannot be made, or not written to.
    """
    expected = "a folder that can be written to"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("study", "--out", expected, f"{folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("study", "--out", expected, f"{folder}: Permission denied")


def _is_smoke(folder: Path) -> bool:
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return bool(facts["provenance"].get("smoke", False))


def held_in(folder: Path) -> str | None:
    """The study whose results a folder holds; None if it holds none.

    Where it holds the results of something else, the command that wrote them is returned.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        source = facts["provenance"]
        command = str(source.get("command", ""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "metrics.json of something else"
    words = command.split()
    # Folders of earlier versions do not name their study but by the command.
    told = words[words.index("study") + 1 :][:1] if "study" in words else []
    return str(source.get("study") or (told[0] if told else command))
