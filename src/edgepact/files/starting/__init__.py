"""Starting files: one that is solved or run as it stands, with a comment on every field.

They lie beside this module. `scenario-JOB.toml` has the mechanism that is usual for the job,
`scenario-JOB-MECHANISM.toml` another one. Where a job has no file of its own for a mechanism, its
usual one is written with `mechanism-MECHANISM.toml` in place of what is about the other: terms,
solver, server and what devices may be.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from edgepact.errors import InputError, check_choice
from edgepact.files import MECHANISMS, mechanism_of
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


class Scale(NamedTuple):
    """What a job's own model costs, by which credits and GMAC of a file are set.

    Attributes:
        gmac: of one step.
        steps: of the model.
        step, unit: what these are called.
    """

    gmac: float
    steps: int
    step: str
    unit: str

    def numbers(self) -> dict[str, str]:
        """What stands in `mechanism-MECHANISM.toml`: a step costs the server a credit, and a
        device has computing for all steps and up to as much again."""
        return {
            "revenue": f"{5.0 * self.steps:.1f}",
            "beta": f"{float(f'{1.0 / self.gmac:.3g}'):g}",
            "block": f"{self.steps // 2}",
            "capacity_min": f"{1.1 * self.steps * self.gmac:.2g}",
            "capacity_max": f"{2.1 * self.steps * self.gmac:.2g}",
            "step": self.step,
            "unit": self.unit,
        }


SCALES = {
    "photo": Scale(0.0321, 12, "stage", "photograph"),
    "picture": Scale(0.0034, 8, "step", "picture"),
    "sentences": Scale(0.1195, 12, "stage", "sentence"),
    "speech": Scale(0.000478, 11, "stage", "frame of sound"),
    "staged": Scale(0.000824, 12, "stage", "piece"),
    "text": Scale(0.0038, 30, "block", "token"),
}
"""Of the jobs whose files for other mechanisms are put together. A test holds them against the
models."""

DEALS = {"contract": "offer", "auction": "ask"}
"""What a mechanism does where the usual one posts a price, in the line that says what is done."""


def mechanisms_for(job: str) -> tuple[str, ...]:
    """Mechanisms that there is a file for, the usual one first.

    Args:
        job: one of `JOBS`.
    """
    return tuple(dict.fromkeys((*_files_of(job), *MECHANISMS)))


def _files_of(job: str) -> dict[str, Path]:
    """The files that a job has of its own by their mechanism, the usual one first."""
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
    files = _files_of(job)
    mechanism = next(iter(files)) if mechanism is None else mechanism
    check_choice("init", "--mechanism", mechanism, mechanisms_for(job))
    if mechanism in files:
        text = files[mechanism].read_text(encoding="utf-8")
    else:
        usual = next(iter(files.values())).read_text(encoding="utf-8")
        text = _with_mechanism(usual, mechanism, SCALES[job])
    if model is None:
        return text
    return text.replace(_MODEL, json.dumps(model.as_posix(), ensure_ascii=False))


def _with_mechanism(usual: str, mechanism: str, scale: Scale) -> str:
    """A job's usual file with another mechanism: the paragraphs that are about it exchanged."""
    own = (_FOLDER / f"mechanism-{mechanism}.toml").read_text(encoding="utf-8")
    terms, solver, *rest = own.format(**scale.numbers()).rstrip().split("\n\n")
    head, _, after = usual.partition("\nmechanism = ")
    efficiency, job = re.findall(r"(?ms)^\[(?:efficiency|job)\]\n.*?(?=\n\n|\Z)", after)
    head = re.sub(r"(?m)^(#   edgepact run FILE  .*)\bprice,", rf"\1{DEALS[mechanism]},", head)
    if "GMAC" not in head:
        head += "\n# GMAC is 10^9 multiplications with an addition."
    if "devices = " not in job:
        drawn = "devices = 3                     # devices to draw, a process each\n"
        job = re.sub(r"(?m)^(name = .*\n)", rf"\1{drawn}", job)
    return "\n\n".join((f"{head}\n{terms}", efficiency, solver, job.rstrip(), *rest)) + "\n"


def write_new(path: Path, text: str) -> None:
    """Writes a file that is not there yet; never over another one.

    Raises:
        InputError: there is one, or it cannot be written.
    """
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise InputError("init", "PATH", "a file that is not there yet", f"{path}") from None
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        with file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)  # half a file would stand in the way of the next try
        raise _unwritten(path, error) from None


def _unwritten(path: Path, error: OSError) -> InputError:
    found = f"{path}: {error.strerror or error}"
    return InputError("init", "PATH", "a file that can be written", found)
