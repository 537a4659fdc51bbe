"""What is installed, told: the answer of `edgepact list`."""

import inspect
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from edgepact.framework import Json, Sheet
from edgepact.registry import JOBS_SPELT, KINDS, installed, package_of, parts
from edgepact.tables import Shown

PACT_FIELDS = ("name", "method", "mechanism", "job", "package")
"""What is told of a pact as JSON."""

PART_FIELDS = ("name", "package", "about")
"""What is told of any other part, and what tables show of every part."""

WHOLE = "the whole comes with: pip install edgepact"
"""What is told of what the install of a device (`packaging/device`) leaves out."""


ELSEWHERE = {
    "training": "Trains a model together with clients that keep their images, over Flower.",
    "": "Done by its pacts themselves, in no live market.",
}
"""What is told of jobs that are no parts of their own, since no live market does them."""


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
    found = [
        _entry(kind, name, part, package_of(points[name])) for name, part in parts(kind).items()
    ]
    if kind == "jobs":
        found = sorted([*map(_spelt, found), *_other_jobs()], key=lambda entry: entry["name"])
    return Listing(kind=kind, entries=tuple(found))


def listings() -> tuple[Listing, ...]:
    """Of all kinds."""
    return tuple(listing(kind) for kind in KINDS)


def is_whole() -> bool:
    """Whether all of edgepact is installed, and not only what a device needs."""
    return find_spec("edgepact.api") is not None


def _other_jobs() -> list[dict[str, str]]:
    """Jobs that pacts name and no live market does: what a scenario may say is in the list."""
    points, live = installed("pacts"), installed("jobs")
    packages: dict[str, str] = {}
    for name, pact in parts("pacts").items():
        if pact.job not in live:
            packages.setdefault(pact.job, package_of(points[name]))
    return [
        {"name": name, "package": package, "about": ELSEWHERE.get(name, ELSEWHERE[""])}
        for name, package in packages.items()
    ]


def _spelt(entry: dict[str, str]) -> dict[str, str]:
    """A job, with the other names that scenario files may give it."""
    also = [other for other, name in JOBS_SPELT.items() if name == entry["name"]]
    if not also:
        return entry
    told = f"{entry['about'].rstrip('.')} (scenarios may spell it {' or '.join(also)})."
    return entry | {"about": told}


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
