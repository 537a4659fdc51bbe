"""What is installed, told: the answer of `edgepact list`."""

import inspect
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from edgepact.framework import Json, Sheet
from edgepact.registry import KINDS, installed, package_of, parts
from edgepact.tables import Shown

PACT_FIELDS = ("name", "method", "mechanism", "job", "package")
"""What is told of a pact as JSON."""

PART_FIELDS = ("name", "package", "about")
"""What is told of any other part, and what tables show of every part."""

WHOLE = "the whole comes with: pip install edgepact"
"""What is told of what the install of a device (`packaging/device`) leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Shown):
    """Parts of one kind.

    Attributes:
        kind: one of `edgepact.registry.KINDS`.
        entries: for each part its fields in words.
    """

    kind: str
    entries: tuple[dict[str, str], ...]

    def to_list(self) -> list[dict[str, Json]]:
        """For `edgepact list KIND --json`."""
        return [dict(each) for each in self.entries]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each part; the name of a pact is long, so its fields share a column."""
        rows = tuple((each["name"], each["package"], _told(each)) for each in self.entries)
        nothing = "Nothing is installed" + ("." if is_whole() else f": {WHOLE}")
        notes = () if rows else (nothing,)
        return (Sheet(title=self.kind.capitalize(), head=PART_FIELDS, rows=rows, notes=notes),)


def listing(kind: str) -> Listing:
    """Installed parts of a kind; one that cannot be loaded costs a line on standard error."""
    points = installed(kind)
    return Listing(
        kind=kind,
        entries=tuple(
            _entry(kind, name, part, package_of(points[name])) for name, part in parts(kind).items()
        ),
    )


def listings() -> tuple[Listing, ...]:
    """Of all kinds."""
    return tuple(listing(kind) for kind in KINDS)


def is_whole() -> bool:
    """Whether all of edgepact is installed, and not only what a device needs."""
    return find_spec("edgepact.api") is not None


def _told(entry: dict[str, str]) -> str:
    if "about" in entry:
        return entry["about"]
    return f"{entry['method']} by {entry['mechanism']}, for {entry['job']}"


def _entry(kind: str, name: str, part: Any, package: str) -> dict[str, str]:
    if kind == "pacts":
        told = {field: f"{getattr(part, field)}" for field in PACT_FIELDS[1:-1]}
        return {"name": name, **told, "package": package}
    return {"name": name, "package": package, "about": _about(part)}


def _about(part: Any) -> str:
    """One sentence: the part's own, or the first of its class's docstring."""
    about = getattr(part, "about", None)
    if isinstance(about, str):
        return about
    text = " ".join((inspect.getdoc(type(part)) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "." if text else ""
