"""Digests: other weights are told, whether they are damaged or another model's."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.inference.digests import FIELD, digest_of, state_weights, weights_digests
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import MODEL_JSON
from edgepact.jobs.classification import CLASSIFICATION


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(embedded(), folder)
    return folder


def stated(model: Path) -> Any:
    return json.loads((model / MODEL_JSON).read_text())


def state(model: Path, digests: Any) -> None:
    (model / MODEL_JSON).write_text(json.dumps(stated(model) | {FIELD: digests}))


def noisy(model: Path) -> None:
    """Weights of the same shapes that are others."""
    path = model / "weights.bin"
    weights = np.frombuffer(path.read_bytes(), np.float16).copy()
    weights += np.random.default_rng(0).normal(0, 0.01, weights.shape).astype(np.float16)
    path.write_bytes(weights.tobytes())


def test_embedded_model_states_its_weights() -> None:
    assert stated(embedded())[FIELD] == weights_digests(embedded())


def test_digest_tells_other_weights_and_not_other_papers(model: Path) -> None:
    same = digest_of(embedded())
    assert digest_of(model) == same
    for name in ("MODEL_CARD.md", "LICENSE", "Thumbs.db"):
        (model / name).write_text("another one")
    (model / "image.onnx").unlink()  # only its stages work
    assert digest_of(model) == same
    for name in ("stage_03.onnx", MODEL_JSON):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[:-1] + b"\x00")
        assert digest_of(model) != same
        (model / name).write_bytes(content)
    noisy(model)
    state_weights(model)
    assert digest_of(model) != same
    table = stated(model)
    del table[FIELD]
    (model / MODEL_JSON).write_text(json.dumps(table))
    assert digest_of(model) != same, "who states nothing is told by the offer's digest alone"


def test_damaged_weights_are_told_before_any_work(model: Path) -> None:
    """Case 34: noise in the weights, same name and shapes."""
    noisy(model)
    damaged = pytest.raises(InputError, match=r"model\.json: weights_sha256: .*damaged or another")
    with damaged:
        CLASSIFICATION.device_part(model, None, {})
    with damaged:
        CLASSIFICATION.server_part(model, {})


@pytest.mark.parametrize("digests", [[], "x", {"other.bin": "0" * 64}, {"weights.bin": None}])
def test_what_is_stated_has_to_be_there(model: Path, digests: Any) -> None:
    state(model, digests)
    with pytest.raises(InputError, match=FIELD):
        digest_of(model)
