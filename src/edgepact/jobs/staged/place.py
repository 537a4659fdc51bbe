"""Where the stages of a model are: a folder of them, or of an ONNX file, cut the first time."""

import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepact.errors import InputError
from edgepact.inference.gguf.known import cache_folder
from edgepact.inference.stage_folder import STAGES_JSON, StageFolder, read_stage_folder
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


def kept_stages(
    file: Path,
    *,
    stages: int = STAGES,
    name: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Path:
    """The folder of stages of an ONNX file, cut evenly and kept in the user's cache.

    Args:
        file: that is cut.
        stages: about as many as are made.
        name: of the model; by default the file's.
        reading: for `stages.json`.

    Raises:
        InputError: it cannot be cut.
    """
    if find_spec("onnx") is None:
        expected = "a folder of stages, or the package onnx, which cuts files"
        raise InputError(file, "", expected, "neither")
    from edgepact.inference.graph import cut_file
    from edgepact.inference.stage_writing import even_cuts

    told = hashlib.sha256(f"{stages} {name} {sorted((reading or {}).items())}".encode())
    try:
        with file.open("rb") as opened:
            told.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise InputError(file, "", "an ONNX file", error.strerror or "none") from None
    home = cache_folder()
    folder = home / f"{file.stem}-{told.hexdigest()[:16]}"
    if (folder / STAGES_JSON).is_file():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{file.stem}-", dir=home))
    try:
        cut_file(file, even_cuts(file, stages), draft, name=name, reading=reading)
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
