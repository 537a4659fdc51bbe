"""Descriptions in JSON that nest, or count, without end: one line that names the file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.inference.judge import Judge
from edgepact.inference.pipeline import MODEL_JSON, ModelInfo
from edgepact.inference.stage_folder import STAGES_JSON, read_stage_folder
from edgepact.jobs.picture.chain import GENERATOR_JSON, read_generator
from edgepact.market.ledger.signing import read_signed

ENDLESS = ("[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}")


@pytest.mark.parametrize("text", ENDLESS, ids=["lists", "objects", "digits"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        (MODEL_JSON, ModelInfo.read),
        (STAGES_JSON, read_stage_folder),
        (GENERATOR_JSON, lambda folder: read_generator(folder, {})),
        ("labels.json", Judge),
        ("signed.json", lambda folder: read_signed(folder / "signed.json")),
    ],
)
def test_what_has_no_end_is_an_input_error(
    tmp_path: Path, name: str, read: Callable[[Path], object], text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as refused:
        read(tmp_path)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
