"""What is looked at before the processes of a split market are started."""

import shutil
from pathlib import Path

import pytest

from edgepact.errors import InputError
from edgepact.inference.models import samples
from edgepact.pacts.partition_live import expect_ready
from edgepact.pacts.partition_terms import SplitTerms


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"BM" + b"\xff" * 60, b"\x89PNG\r\n\x1a\n"],
)
def test_a_broken_image_is_named_before_anything_starts(tmp_path: Path, content: bytes) -> None:
    images = tmp_path / "images"
    for folder in ("coat", ".ipynb_checkpoints", "__MACOSX"):
        (images / folder).mkdir(parents=True)
        shutil.copy(sorted((samples() / "coat").iterdir())[0], images / folder / "a.png")
        if folder != "coat":
            (images / folder / "b.png").write_bytes(content)  # hidden: nobody looks
    terms = SplitTerms(source=tmp_path / "own.toml", inputs_from=images, solver="optimum")
    expect_ready(terms, tmp_path / "out")
    (images / "coat" / "b.png").write_bytes(content)
    with pytest.raises(InputError, match=r"coat/b\.png: expected "):
        expect_ready(terms, tmp_path / "out")
