"""Starting files: one that is solved or run as it stands, with a comment on every field.

They lie beside this module as they are written, so that what is tested is what a user gets.
"""

from pathlib import Path

from edgepact.errors import InputError, check_choice

KINDS = ("market", "contract", "auction", "scenario")
"""What a file may be about."""

_FOLDER = Path(__file__).parent
_SCENARIO = "scenario-"

JOBS = tuple(
    sorted(each.stem.removeprefix(_SCENARIO) for each in _FOLDER.glob(f"{_SCENARIO}*.toml"))
)
"""Jobs for which there is a scenario to start from."""

JOB = "classification"
"""The job of a scenario if nothing is said."""


def starting_file(kind: str, job: str | None = None) -> str:
    """A file to start from.

    Args:
        kind: one of `KINDS`.
        job: of a scenario, one of `JOBS`; None for `JOB`.

    Returns:
        TOML with comments.

    Raises:
        InputError: there is no such file, or a job was said of what is no scenario.
    """
    check_choice("init", "KIND", kind, KINDS)
    if kind != "scenario":
        if job is not None:
            raise InputError("init", "--job", f"nothing with {kind}, which has no job", job)
        return (_FOLDER / f"{kind}.toml").read_text(encoding="utf-8")
    job = JOB if job is None else job
    check_choice("init", "--job", job, JOBS)
    return (_FOLDER / f"{_SCENARIO}{job}.toml").read_text(encoding="utf-8")


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
