"""Which pact the file of a whole scenario chooses."""

from pathlib import Path

from edgepact.errors import InputError
from edgepact.fields import FRAMEWORK, check_table
from edgepact.pact import Document, Pact
from edgepact.registry import installed, part

SPELLINGS = {"inference": "classification"}
"""Other names of jobs that scenario files may use."""


def is_scenario(document: Document) -> bool:
    """Whether a document has all tables of a whole scenario."""
    return all(name in document for name in FRAMEWORK)


def pact_of(source: Path, document: Document) -> Pact:
    """The installed pact of a scenario's method, mechanism and job.

    Raises:
        InputError: there is none; the message names those there are.
    """
    efficiency = check_table(source, "efficiency", document.get("efficiency"))
    job = check_table(source, "job", document.get("job"))
    stated = (efficiency.get("method"), document.get("mechanism"), job.get("name"))
    method, mechanism, named = (f"{each}" for each in stated)
    wanted = f"{method}-{mechanism}-{SPELLINGS.get(named, named)}"
    compress = efficiency.get("compress")
    for name in installed("pacts"):
        if name.startswith(wanted):
            pact: Pact = part("pacts", name, source=source)
            if compress in (None, pact.compress):
                return pact
    there = ", ".join(installed("pacts")) or "none: nothing is installed"
    raise InputError(
        source, "efficiency.method, mechanism, job.name", f"a pact, one of {there}", wanted
    )
