"""Starting files: one that is solved or run as it stands, with a comment on every field.

They lie beside this module as they are written, so that what is tested is what a user gets.
`scenario-JOB.toml` has the mechanism that is usual for the job, `scenario-JOB-MECHANISM.toml`
another one.
"""

import json
from pathlib import Path

from edgepact.errors import InputError, check_choice
from edgepact.files import mechanism_of
from edgepact.registry import JOBS_SPELT

KINDS = ("market", "contract", "auction", "scenario")
"""What a file may be about."""

_FOLDER = Path(__file__).parent
_SCENARIO = "scenario-"
_SCENARIOS = sorted(
    (each.stem.removeprefix(_SCENARIO), each) for each in _FOLDER.glob(f"{_SCENARIO}*.toml")
)

JOBS = tuple(name for name, _ in _SCENARIOS if "-" not in name)
"""Jobs for which there is a scenario to start from."""

JOB = "classification"
"""The job of a scenario if nothing is said."""

_MODEL = '"MODEL"'
"""Where a file names a model that comes with edgepact, which lies elsewhere on each machine."""


def mechanisms_for(job: str) -> dict[str, Path]:
    """Files of a job by their mechanism, the usual one first.

    Args:
        job: one of `JOBS`.
    """
    paths = [path for name, path in _SCENARIOS if name.partition("-")[0] == job]
    return {mechanism_of(path): path for path in paths}


def starting_file(
    kind: str,
    job: str | None = None,
    mechanism: str | None = None,
    *,
    model: Path | None = None,
) -> str:
    """A file to start from.

    Args:
        kind: one of `KINDS`.
        job: of a scenario, one of `JOBS` or an older name of it; None for `JOB`.
        mechanism: of a scenario, one of `mechanisms_for(job)`; None for the usual one.
        model: an ONNX file, for the job that has no model of its own to begin with; None leaves
            `MODEL` in its place.

    Returns:
        TOML with comments.

    Raises:
        InputError: there is no such file, or a job or a mechanism was said of what is no scenario.
    """
    check_choice("init", "KIND", kind, KINDS)
    if kind != "scenario":
        for option, said in (("--job", job), ("--mechanism", mechanism)):
            if said is not None:
                raise InputError("init", option, f"nothing with {kind}, which is no scenario", said)
        return (_FOLDER / f"{kind}.toml").read_text(encoding="utf-8")
    job = JOB if job is None else JOBS_SPELT.get(job, job)
    check_choice("init", "--job", job, JOBS)
    files = mechanisms_for(job)
    mechanism = next(iter(files)) if mechanism is None else mechanism
    check_choice(f"init scenario --job {job}", "--mechanism", mechanism, tuple(files))
    text = files[mechanism].read_text(encoding="utf-8")
    if model is None:
        return text
    return text.replace(_MODEL, json.dumps(model.as_posix(), ensure_ascii=False))


def write_new(path: Path, text: str) -> None:
    """Writes a file that is not there yet; never over another one.

    Raises:
        InputError: there is one, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise InputError("init", "PATH", "a file that is not there yet", f"{path}") from None
    except OSError as error:
        found = f"{path}: {error.strerror or error}"
        raise InputError("init", "PATH", "a file that can be written", found) from None
