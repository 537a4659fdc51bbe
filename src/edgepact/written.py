"""What a run or a study left in its folder: where the page is, and what it says."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepact.framework import Json, Sheet
from edgepact.tables import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Shown):
    """Results in a folder.

    Attributes:
        page: for people; the folder where nothing but pictures and tables are in it.
        facts: the same as JSON.
        broken: promises of a scenario's mechanism that its exact answer does not keep, in words.
    """

    page: Path
    facts: Path
    broken: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        """The folder."""
        return self.facts.parent

    def to_dict(self) -> dict[str, Json]:
        """What the file of facts says."""
        found: dict[str, Json] = json.loads(self.facts.read_text(encoding="utf-8"))
        return found

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """All single facts; what is a list stands in the files."""
        rows = tuple((name, f"{value}") for name, value in _single(self.to_dict()))
        note = f"In full: {self.page} and the files beside it."
        return (Sheet(title=f"{self.out}", head=("fact", "value"), rows=rows, notes=(note,)),)


def _single(facts: dict[str, Json], before: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _single(value, f"{before}{name}.")
        elif not isinstance(value, list):
            yield f"{before}{name}", value
