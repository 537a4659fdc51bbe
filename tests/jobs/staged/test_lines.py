"""Lines of print: what is read off the likeliest characters, and pictures of any width."""

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from edgepact.errors import InputError
from edgepact.inference.stage_folder import Handed, StageFolder, StageRunner, read_stage_folder
from edgepact.jobs.staged.lines import PACKAGE, WIDTH_MAX, Lines, ppocr_recogniser


def model(reading: dict[str, object], width: int | str = "width") -> StageFolder:
    return StageFolder(
        folder=Path("folder"),
        name="lines",
        inputs=(Handed(name="x", dtype="float32", shape=("batch", 3, 48, width)),),
        cuts=(),
        outputs=(
            Handed(name="best", dtype="int64", shape=("batch", "steps")),
            Handed(name="sure", dtype="float32", shape=("batch", "steps")),
        ),
        macs=(0,),
        reading={"name": "lines", **reading},
    )


READING = {"height": 48, "characters": ["", "a", "b", " "]}


def test_repeats_fall_together_and_none_parts_them() -> None:
    lines = Lines(model(READING))
    best = np.array([[0, 1, 1, 0, 1, 3, 2, 2, 0]])
    sure = np.array([[0.1, 0.9, 0.2, 0.1, 0.8, 0.7, 0.9, 0.1, 0.1]], np.float32)
    found = lines.answer({"best": best, "sure": sure})
    assert found.text == "aa b"
    assert found.facts["least"] == pytest.approx(0.7)
    assert lines.answer({"best": best * 0, "sure": sure}).text == ""
    for wrong in (best + 3, best - 1, best[:, :0]):
        with pytest.raises(InputError):
            lines.answer({"best": wrong, "sure": sure})


def test_a_line_keeps_its_shape_up_to_a_width() -> None:
    lines = Lines(model(READING))
    for size, width in (((240, 24), 480), ((4, 48), 16), ((60_000, 10), WIDTH_MAX)):
        file = io.BytesIO()
        Image.new("L", size, 255).save(file, "PNG")
        x = lines.tensors(file.getvalue())["x"]
        assert x.shape == (1, 3, 48, width)
        assert x.max() == 1.0


@pytest.mark.parametrize(
    "reading",
    [{**READING, "height": 32}, {**READING, "height": "a"}, {**READING, "characters": ["a"]}],
)
def test_settings_that_cannot_be_are_named(reading: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"stages\.json"):
        Lines(model(reading))


def test_a_model_of_one_width_is_none_of_these() -> None:
    with pytest.raises(InputError, match="any width"):
        Lines(model(READING, 320))


@pytest.mark.slow
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="rapidocr is not installed")
def test_print_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACT_STAGES", str(tmp_path))
    lines = Lines(read_stage_folder(ppocr_recogniser()))
    picture = Image.new("RGB", (620, 48), "white")
    font = ImageFont.load_default(size=30)
    ImageDraw.Draw(picture).text((10, 4), "Layers are paid for each line", "black", font)
    file = io.BytesIO()
    picture.save(file, "PNG")
    runner, stages = StageRunner(lines.model), lines.model.stages
    outputs = runner.run(lines.tensors(file.getvalue()), 0, stages)
    assert lines.answer(outputs).text == "Layers are paid for each line"
