"""What the report of a job has of its own; all else is the same whatever the job."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTold:
    """A job's part of its report.

    Attributes:
        kind: what was done, for the name of the window.
        title: heading.
        intro: what was done, a sentence or two.
        file: name of the CSV of all pieces.
        columns: of it.
        rows: of it, each with its device.
        made: title, HTML and a note of what was made.
        timed: what times are of, in words: `a token`.
        head: of the table of devices.
        devices: its rows.
        charts: HTML of charts of the job's own, each with its title and what it means.
    """

    kind: str
    title: str
    intro: str
    file: str
    columns: Sequence[str]
    rows: Iterable[dict[str, Any]]
    made: tuple[str, str, str]
    timed: str
    head: Sequence[str]
    devices: Sequence[Sequence[str]]
    charts: Sequence[tuple[str, str, str]] = ()


def notes(lines: Iterable[str]) -> str:
    """What is told of a piece, as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
