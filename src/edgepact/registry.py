"""What is installed: mechanisms, solvers, jobs, codecs and pacts, found through entry points.

There is one way in for everybody: the built-in parts are entry points of edgepact itself. The
name of an entry point is the name of the part, so that a part can be listed, or looked up and
loaded, without loading any other: a device that does one job loads that job.

==========================  =================================================================
entry points                each is
==========================  =================================================================
`edgepact.mechanisms`       an `edgepact.framework.Mechanism`: reads terms from a file, solves them
`edgepact.solvers`          an `edgepact.framework.Solver`: finds a mechanism's decision
`edgepact.jobs`             an `edgepact.work.Job`
`edgepact.codecs`           an `edgepact.tensors.Codec`
`edgepact.pacts`            an `edgepact.framework.Pact`: a method, a mechanism and a job together
==========================  =================================================================
"""

import difflib
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgepact.errors import EdgepactError, InputError, check_choice, shown

KINDS = ("mechanisms", "solvers", "jobs", "codecs", "pacts")

JOBS_SPELT = {"inference": "classification"}
"""Other names that scenario files may give to jobs."""


def installed(kind: str) -> Mapping[str, EntryPoint]:
    """Entry points of a kind by name, in the order of the names; nothing is loaded.

    Of two parts of one name edgepact's own counts, else the package that comes first in the
    alphabet; a line on standard error names both.

    Args:
        kind: one of `KINDS`.

    Raises:
        InputError: it is none of them.
    """
    check_choice("edgepact", "kind", kind, KINDS)
    return _installed(kind)


@lru_cache(maxsize=len(KINDS))
def _installed(kind: str) -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    points = sorted(entry_points(group=f"edgepact.{kind}"), key=lambda each: _rank(each))
    for point in points:
        first = found.setdefault(point.name, point)
        if first.value != point.value:  # edgepact and edgepact-device bring the same object
            print(
                f"edgepact: {kind}: {point.name!r} is in {package_of(first)} and in "
                f"{package_of(point)}; the first is used",
                file=sys.stderr,
            )
    return dict(sorted(found.items()))


def package_of(point: EntryPoint) -> str:
    """Name of the distribution that brings a part."""
    return point.dist.name if point.dist is not None else "unknown"


def part(kind: str, name: str, *, source: object = "edgepact", field: str = "") -> Any:
    """One part, loaded.

    Args:
        kind: one of `KINDS`.
        name: of the part.
        source, field: where the name was read, for errors.

    Raises:
        InputError: there is no such kind, or no such part is installed.
        EdgepactError: the package that brings it cannot be loaded.
    """
    points = installed(kind)
    if not isinstance(name, str) or name not in points:
        near = difflib.get_close_matches(name, points, 1) if isinstance(name, str) else []
        hint = f" (did you mean {near[0]}?)" if near else ""
        expected = f"one of {', '.join(points) or 'none: nothing is installed'}"
        raise InputError(source, field or kind, expected, f"{shown(name)}{hint}")
    return _loaded(points[name], kind)


def parts(kind: str) -> dict[str, Any]:
    """All parts of a kind that can be loaded, by name.

    A package that cannot be loaded costs a line on standard error, and never the program.
    """
    loaded: dict[str, Any] = {}
    for name, point in installed(kind).items():
        try:
            loaded[name] = _loaded(point, kind)
        except EdgepactError as error:
            print(f"edgepact: {error}", file=sys.stderr)
    return loaded


def _loaded(point: EntryPoint, kind: str) -> Any:
    try:
        value = point.load()
    # What a stranger's module raises at import can be anything, also the end of the program.
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EdgepactError(
            f"{kind}: {point.name!r} of {package_of(point)} cannot be loaded ({reason})"
        ) from error
    if getattr(value, "name", None) != point.name:
        raise EdgepactError(
            f"{kind}: {point.name!r} of {package_of(point)} calls itself "
            f"{getattr(value, 'name', None)!r}; both names must be the same"
        )
    return value


def _rank(point: EntryPoint) -> tuple[bool, str, str]:
    package = package_of(point)
    return not package.startswith("edgepact"), package, point.value
