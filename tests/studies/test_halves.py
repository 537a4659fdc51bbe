"""Forms of a model made and measured, as `edgepact model halves` does it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgepact.cli import app
from edgepact.errors import InputError
from edgepact.inference.models import embedded, samples
from edgepact.studies.halves import HalvesConfig, halves
from edgepact.training.forms import FormsConfig


def few_images(folder: Path) -> Path:
    """A picture of each class."""
    for label in samples().iterdir():
        (folder / label.name).mkdir(parents=True)
        first = min(label.glob("*.png"))
        (folder / label.name / first.name).write_bytes(first.read_bytes())
    return folder


def test_forms_are_made_and_measured(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    config = HalvesConfig(
        model=embedded(),
        out=tmp_path / "forms",
        forms=FormsConfig(forms=("weights4",)),
        images=few_images(tmp_path / "images"),
        repeats=1,
    )
    found = halves(config, lambda done, of: told.append((done, of)))
    assert found.names == ("original", "weights4")
    assert (found.images, found.layers_max) == (10, 12)
    assert told == [(1, 2), (2, 2)]
    assert (tmp_path / "forms" / "weights4" / "stage_13.onnx").is_file()
    with pytest.raises(InputError, match="a new or empty folder"):
        halves(config)


def test_what_cannot_be_judged_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    picture = min(samples().glob("*/*.png"))
    (tmp_path / "flat" / "a.png").write_bytes(picture.read_bytes())
    config = HalvesConfig(
        model=embedded(), out=tmp_path / "out", forms=FormsConfig(), images=tmp_path / "flat"
    )
    with pytest.raises(InputError, match="--images-from: expected a folder for each class"):
        halves(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--form", "int9"], "name: expected one of original, int8"),
        (["--form", "int8", "--form", "int8"], "each form once"),
        (["--share", "1.5"], "share: expected a number from 0 to below 1"),
        (["--steps", "-1"], "steps: expected a number from 0"),
        (["--picture", "a.gif"], "--picture: expected a file in .png"),
        (["--form", "int8", "--repeats", "0"], "--repeats: expected at least 1"),
    ],
)
def test_options_that_cannot_be(options: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["model", "halves", str(embedded()), str(tmp_path / "out"), *options]
    answer = CliRunner().invoke(app, arguments)
    assert isinstance(answer.exception, InputError)
    assert message in str(answer.exception)
    assert not (tmp_path / "out").exists()
