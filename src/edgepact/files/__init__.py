"""Scenario files: TOML in, a checked mechanism out.

One module a mechanism; `edgepact.fields` reads the fields.
"""

from pathlib import Path

from edgepact.fields import Table, load

MECHANISMS = ("stackelberg", "contract", "auction")


def mechanism_of(path: Path) -> str:
    """Which mechanism a file states.

    Raises:
        InputError: the file is missing, not TOML, or names none of `MECHANISMS`.
    """
    return Table(path, "", load(path)).choice("mechanism", MECHANISMS)
