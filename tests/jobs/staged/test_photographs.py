"""EfficientNet-lite0 as a job: the numbers of PyTorch, real photographs, another network."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.codecs import INT8
from edgepact.inference.stage_folder import STAGES_JSON, StageRunner, read_stage_folder
from edgepact.jobs.staged import photographs
from edgepact.jobs.staged.halves import through
from edgepact.jobs.staged.photographs import (
    OWN_PHOTOGRAPHS,
    PHOTO,
    Photographs,
    efficientnet_lite0,
    labels_in,
    own_photographs,
    photographs_in,
)

GMAC = 0.385187552
"""Of one photograph: counted by hooks on the convolutions of the same network in PyTorch 2.13."""

BY_PYTORCH = Path(__file__).parents[2] / "inference" / "efficientnet_lite0_by_pytorch.npy"
"""Logits of `inputs()` by the same weights in PyTorch 2.13.0, written out with its functional API
and read with `weights_only=True`."""


def inputs() -> np.ndarray:
    x = np.random.RandomState(16).standard_normal((3, 3, 224, 224)).astype(np.float32)
    x[1] *= 0.3
    x[2] = np.linspace(-1, 1, 224, dtype=np.float32)[None, :, None]
    return x


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACT_STAGES", str(place))
        return efficientnet_lite0()


def test_logits_are_those_of_pytorch_at_every_cut(folder: Path) -> None:
    model = read_stage_folder(folder)
    runner, right = StageRunner(model), np.load(BY_PYTORCH)
    for pixels, logits in zip(inputs(), right, strict=True):
        values = {"pixels": pixels[None]}
        for stage in range(model.stages):
            values = runner.run(values, stage, stage + 1)
        np.testing.assert_allclose(values["logits"][0], logits, atol=1e-4, rtol=0)


def test_operations_are_those_that_pytorch_counts(folder: Path) -> None:
    macs = read_stage_folder(folder).macs
    assert macs is not None
    assert sum(macs) == round(GMAC * 1e9)
    page = Path(__file__).parents[3] / "docs" / "how-to" / "classify-photographs.md"
    assert f"{sum(macs):,}" in page.read_text(encoding="utf-8")
    # Stages are sold as if they were equal: the largest is less than three times the smallest.
    assert max(macs) < 3 * min(macs)


def test_photographs_are_named_the_same_split_or_not(folder: Path) -> None:
    reading = Photographs(read_stage_folder(folder))
    runner, stages = StageRunner(reading.model), reading.model.stages
    pieces = {piece.name: piece for piece in reading.own_pieces()}
    assert sorted(pieces) == sorted(OWN_PHOTOGRAPHS)
    expected = {"coffee.png": "espresso", "camera.png": "tripod", "motorcycle_left.png": "moped"}
    for name, label in expected.items():
        values = reading.tensors(reading.source(pieces[name]), name=name)
        whole = reading.answer(runner.run(values, 0, stages))
        assert whole.facts["label"] == label
        assert whole.facts["confidence"] > 0.5
        for amount in (1, 5, 11):
            sent = through(reading.model, INT8, amount, runner.run(values, 0, amount))
            split = reading.answer(runner.run(sent, amount, stages))
            assert reading.same({"facts": split.facts}, whole)


def test_a_second_look_makes_nothing_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACT_STAGES", str(folder.parent))
    stamp = (folder / STAGES_JSON).stat().st_mtime_ns
    device = PHOTO.device_part(None, None, {})
    assert (folder / STAGES_JSON).stat().st_mtime_ns == stamp
    assert device.model.name == "efficientnet-lite0"
    assert len(device.pieces()) == len(OWN_PHOTOGRAPHS)


def test_other_weights_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACT_STAGES", str(tmp_path / "kept"))
    other = tmp_path / "weights.pth"
    other.write_bytes(b"others")
    right = photographs.packaged

    def packaged(package: str, file: str) -> Path:
        return other if package == photographs.PACKAGE else right(package, file)

    monkeypatch.setattr(photographs, "packaged", packaged)
    with pytest.raises(InputError, match="SHA-256"):
        efficientnet_lite0()
    assert not list((tmp_path / "kept").iterdir())


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    for find in (efficientnet_lite0, own_photographs):
        with pytest.raises(MissingExtraError, match=r"pip install 'edgepact\[photo\]'"):
            find()


def test_names_of_classes_differ(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"0": "crane", "1": "crane, lifting", "2": "cat", "3": "crane"}))
    assert labels_in(path) == ["crane (0)", "lifting", "cat", "crane (3)"]
    for text in ("[", "{}[]", '{"1": "a"}'):
        path.write_text(text)
        with pytest.raises(InputError, match="names of classes by number"):
            labels_in(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 225),
        ("image_size", "big"),
        ("mean", [0.5, 0.5]),
        ("mean", None),
        ("std", [1.0, 0.0, 1.0]),
        ("labels", ["cat", "dog"]),
        ("labels", ["cat"] * 1000),
        ("labels", None),
        ("fit", "stretch"),
        ("resample", "sinc"),
        ("name", "smells"),
    ],
)
def test_settings_that_cannot_be_are_named(
    folder: Path, tmp_path: Path, field: str, value: object
) -> None:
    from edgepact.jobs.staged.reading import reading_of

    table = json.loads((folder / STAGES_JSON).read_text())
    table["reading"][field] = value
    for path in folder.glob("stage_*.onnx"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / STAGES_JSON).write_text(json.dumps(table))
    with pytest.raises(InputError, match=STAGES_JSON):
        reading_of(read_stage_folder(tmp_path))


def test_what_is_no_picture_is_an_error(folder: Path, tmp_path: Path) -> None:
    reading = Photographs(read_stage_folder(folder))
    for content in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a"):
        with pytest.raises(InputError):
            reading.tensors(content)
    file = io.BytesIO()
    Image.new("L", (1, 300), 200).save(file, "PNG")
    assert reading.tensors(file.getvalue())["pixels"].shape == (1, 3, 224, 224)


def test_pictures_of_a_folder_have_its_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    found = photographs_in(tmp_path)
    assert [(each.name, each.label) for each in found] == [
        ("cat/1.png", "cat"),
        ("dog/1.png", "dog"),
    ]
