"""Where the stages of a model are: a folder of them, or of an ONNX file, cut the first time."""

import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgepact.errors import InputError
from edgepact.inference.gguf.known import cache_folder
from edgepact.inference.stage_folder import (
    STAGES_JSON,
    StageFolder,
    is_stage_folder,
    read_stage_folder,
)
from edgepact.work import Json

if TYPE_CHECKING:
    from edgepact.jobs.staged import Staged

STAGES = 12
"""Stages that a file is cut into if nothing is said."""


def stages_of(job: "Staged", model: Path | None) -> StageFolder:
    """The stages of a model.

    Args:
        job: whose own model is meant if none is named.
        model: a folder of stages, or an ONNX file.

    Raises:
        InputError: there is no such model, or it cannot be cut.
        MissingExtraError: the job's own is not installed.
    """
    if model is None:
        if not job.own:
            expected = "a folder of stages, or an ONNX file: the job has no model of its own"
            raise InputError(f"job {job.name}", "model", expected, "none")
        module, _, name = job.own.partition(":")
        model = getattr(importlib.import_module(module), name)()
    assert model is not None
    if model.is_file() and model.suffix.lower() == ".onnx":
        model = kept_stages(model)
    if model.is_dir() and not (model / STAGES_JSON).is_file():
        expected = (
            "stages with stages.json: edgepact model cut writes them, of a model without state"
        )
        raise InputError(model, "", expected, "none")
    return read_stage_folder(model)


def is_staged(model: Path) -> bool:
    """Whether a path is that of stages of any model, or of an ONNX file to make them of."""
    return is_stage_folder(model) or (model.suffix.lower() == ".onnx" and model.is_file())


def kept_stages(file: Path, *, stages: int = STAGES) -> Path:
    """The folder of stages of an ONNX file, cut evenly and kept in the user's cache.

    Args:
        file: that is cut.
        stages: about as many as are made.

    Raises:
        InputError: it cannot be cut.
    """
    told = hashlib.sha256(f"{stages}".encode())
    try:
        with file.open("rb") as opened:
            told.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise InputError(file, "", "an ONNX file", error.strerror or "none") from None

    def make(folder: Path) -> None:
        from edgepact.inference.graph import cut_file
        from edgepact.inference.stage_writing import even_cuts

        cut_file(file, even_cuts(file, stages), folder)

    return kept_folder(f"{file.stem}-{told.hexdigest()[:16]}", make, file)


def kept_folder(name: str, make: Callable[[Path], None], source: object) -> Path:
    """A folder of stages in the user's cache, made the first time, whole or not at all.

    Args:
        name: of the folder: it says what is in it, since nothing is made anew.
        make: puts the stages into an empty folder; it may need the ONNX package.
        source: what errors name.

    Raises:
        InputError: it cannot be made.
    """
    home = cache_folder()
    folder = home / name
    if (folder / STAGES_JSON).is_file():
        return folder
    # The install of a device leaves out what cuts, and the ONNX package with it.
    if find_spec("onnx") is None or find_spec("edgepact.inference.stage_writing") is None:
        expected = "a folder of stages, or all of edgepact, which cuts models"
        raise InputError(source, "", expected, "neither")
    try:
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".", dir=home))
    except OSError as error:
        expected = "a folder that stages can be kept in"
        raise InputError(home, "", expected, error.strerror or "none") from None
    try:
        make(draft)
        draft.chmod(0o755)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / STAGES_JSON).is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def expect_no_settings(settings: Mapping[str, Json]) -> None:
    """Refuses settings, of which there are none.

    Raises:
        InputError: there is one.
    """
    for name in settings:
        raise InputError("job", name, "no settings: models in stages have none", "this field")
