"""Digests of a model's folder: whether two sides hold the same model, and whether it is whole.

`model.json` states the SHA-256 of each file of weights in `weights_sha256`, where whoever wrote the
model has put it there; files that are other ones, or damaged, are found before any work. The digest
in an offer is of everything that decides a model's answers.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.inference.pipeline import MODEL_JSON
from edgepact.inference.stage_folder import STAGES_JSON

FIELD = "weights_sha256"

GRAPH_SUFFIXES = frozenset({".onnx", ".json", ".md", ".txt", ".py"})
"""What a model's folder holds beside weights."""

NOT_OF_MODELS = frozenset(
    {"authors", "copying", "licence", "license", "notice", "readme", "desktop.ini", "thumbs.db"}
)
"""Names of files that people and their systems put into any folder, in small letters."""


def weights_digests(model: Path) -> dict[str, str]:
    """SHA-256 of each file of weights in a model's folder, hexadecimal, by name.

    Raises:
        InputError: a file cannot be read.
    """
    return {
        path.name: _digest(path)
        for path in sorted(model.iterdir())
        if path.is_file() and _is_of_weights(path)
    }


def _is_of_weights(path: Path) -> bool:
    name = path.name.lower()
    other = path.suffix in GRAPH_SUFFIXES or name.startswith(".") or name in NOT_OF_MODELS
    return not other


def state_weights(model: Path) -> None:
    """Writes into a folder's `model.json` which weights are meant: those that are there.

    Raises:
        InputError: a file cannot be read.
    """
    path = model / MODEL_JSON
    table = json.loads(path.read_text(encoding="utf-8"))
    table[FIELD] = weights_digests(model)
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def digest_of(model: Path) -> str:
    """SHA-256 of what decides a cut model's answers: `model.json`, stages and weights.

    Raises:
        InputError: a file cannot be read, or weights are not those that `model.json` states.
    """
    weights = weights_digests(model)
    _check(model / MODEL_JSON, weights)
    return _digest_of(model, MODEL_JSON, weights)


def digest_of_stages(model: Path) -> str:
    """The same of a folder of stages of any model, which `stages.json` describes.

    Raises:
        InputError: a file cannot be read.
    """
    return _digest_of(model, STAGES_JSON, weights_digests(model))


# ---------------------------------------------------------------- private


def _digest_of(model: Path, description: str, weights: dict[str, str]) -> str:
    graphs = [model / description, *sorted(model.glob("stage_*.onnx"))]
    told = hashlib.sha256()
    for name, digest in [*((path.name, _digest(path)) for path in graphs), *weights.items()]:
        told.update(f"{name} {digest}\n".encode())
    return told.hexdigest()


def _check(path: Path, found: dict[str, str]) -> None:
    """Holds files of weights against what `model.json` states of them."""
    try:
        stated: Any = json.loads(path.read_text(encoding="utf-8")).get(FIELD, {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # which whoever reads the model says better
    expected = f"SHA-256 of files of weights by name: {', '.join(found) or 'none'}"
    if not isinstance(stated, dict) or not set(stated) <= set(found):
        raise InputError(path, FIELD, expected, f"{stated}"[:200])
    for name, digest in stated.items():
        if digest != found[name]:
            expected = f"{digest} of {name}, which is damaged or another model's"
            raise InputError(path, FIELD, expected, found[name])


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(path, "", "a file of the model", error.strerror or "none") from None
