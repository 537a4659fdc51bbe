"""One file for the whole framework: method, mechanism, solver and job.

The terms of the mechanism stand at the top, as in the files that `edgepact solve` reads; the
tables `[efficiency]`, `[solver]` and `[job]` say what else is chosen. Which pact that is, is found
among the installed ones; its fields are read by the pact, and by nobody else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, shown
from edgepact.fields import FRAMEWORK, Table, check_table, load, nearest
from edgepact.framework import Document, Pact
from edgepact.registry import JOBS_SPELT, parts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenario:
    """A whole scenario.

    Attributes:
        source: the file.
        pact: method, mechanism and job.
        solver: name of the solver.
        terms: what the pact has read; its own business.
        smoke: whether it is played in small.
    """

    source: Path
    pact: Pact
    solver: str
    terms: Any
    smoke: bool = False


def read_scenario(path: Path, *, smoke: bool = False) -> Scenario:
    """Reads a scenario.

    Args:
        path: the file.
        smoke: in small: the same with little to do.

    Raises:
        InputError: the file is missing, not TOML, says something impossible, or names parts
            for which no pact is installed.
    """
    return scenario_of(path, load(path), smoke=smoke)


def is_scenario(document: Document) -> bool:
    """Whether a document means to be a whole scenario: one of its tables is there.

    A table that is missing, or misspelt, is then told by `scenario_of`.
    """
    return any(name in document for name in FRAMEWORK)


def scenario_of(path: Path, document: Document, *, smoke: bool = False) -> Scenario:
    """What a document states; as `read_scenario`."""
    _expect_tables(path, document)
    pact = _pact_of(path, document)
    solver = document["solver"].get("name", pact.solvers[0])
    if solver not in pact.solvers:
        near = nearest(solver, pact.solvers) if isinstance(solver, str) else None
        hint = f"; did you mean {near}?" if near else ""
        found = f"{solver}{hint}" if isinstance(solver, str) and solver else shown(solver)
        raise InputError(path, "solver.name", f"one of {', '.join(pact.solvers)}", found)
    terms = pact.read(path, document, smoke=smoke)
    return Scenario(source=path, pact=pact, solver=solver, terms=terms, smoke=smoke)


def _expect_tables(path: Path, document: Document) -> None:
    missing = [name for name in FRAMEWORK if name not in document]
    if len(missing) == len(FRAMEWORK):
        expected = "[efficiency], [solver] and [job]; a market alone is played with --fleet"
        raise InputError(path, "", expected, "none of them")
    for name in missing:
        slip = nearest(name, document)
        hint = f", but [{slip}]; did you mean [{name}]?" if slip else ""
        raise InputError(path, name, f"a table [{name}]", f"nothing{hint}")
    for name in FRAMEWORK:
        check_table(path, name, document[name])


def _pact_of(path: Path, document: Document) -> Pact:
    """The installed pact that a document names."""
    efficiency, job = document["efficiency"], document["job"]
    mechanism = Table(path, "", document).text("mechanism")
    method = Table(path, "efficiency", efficiency).text("method")
    stated = Table(path, "job", job).text("name")
    named = JOBS_SPELT.get(stated, stated)
    pacts: list[Pact] = list(parts("pacts").values())
    found = pacts
    for field, name, wanted in (
        ("efficiency.method", "method", method),
        ("mechanism", "mechanism", mechanism),
        ("job.name", "job", named),
    ):
        left = [pact for pact in found if getattr(pact, name) == wanted]
        if not left:
            options = sorted({str(getattr(pact, name)) for pact in found})
            raise _unknown(path, field, wanted, options, found)
        found = left
    if len(found) > 1 or "compress" in efficiency:
        what = sorted(pact.compress for pact in found if pact.compress is not None)
        if not what:
            raise InputError(path, "efficiency.compress", f"nothing with {method}", "this field")
        compress = efficiency.get("compress")
        found = [pact for pact in found if pact.compress == compress]
        if not found:
            expected = f"one of {', '.join(what)}"
            raise InputError(path, "efficiency.compress", expected, compress)
    return found[0]


def _unknown(
    path: Path, field: str, wanted: str, options: list[str], pacts: list[Pact]
) -> InputError:
    """No pact fits: what is installed for what was said before."""
    near = nearest(wanted, options)
    hint = f" (did you mean {near}?)" if near else ""
    installed = ", ".join(sorted(pact.name for pact in pacts)) or "none at all"
    expected = f"one of {', '.join(options) or 'none'}; installed pacts: {installed}"
    return InputError(path, field, expected, f"{wanted}{hint}")
