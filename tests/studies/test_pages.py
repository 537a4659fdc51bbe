"""Pages of studies in the documentation come from folders that the command wrote."""

import json
import runpy
from pathlib import Path

import pytest

from edgepact.errors import InputError

ROOT = Path(__file__).parents[2]
put = runpy.run_path(str(ROOT / "docs" / "write_study_pages.py"))["put"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a study left, in small."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "page.md").write_text("# A study\n\n![what it shows](quoting.png)\n")
    (folder / "quoting.png").write_bytes(b"a picture")
    write_facts(folder)
    (tmp_path / "pages").mkdir()
    return folder


def write_facts(folder: Path, **source: object) -> None:
    facts = {"provenance": {"study": "quoting", "config": {}, "smoke": False} | source}
    (folder / "metrics.json").write_text(json.dumps(facts))


def test_a_page_goes_with_its_pictures(folder: Path, tmp_path: Path) -> None:
    page = put(folder, tmp_path / "pages")
    assert page.name == "quoting.md"
    assert page.read_text() == (folder / "page.md").read_text()
    assert (page.parent / "quoting.png").read_bytes() == b"a picture"


@pytest.mark.parametrize(
    ("source", "said"), [({"smoke": True}, "smoke"), ({"style": "article"}, "style")]
)
def test_only_pages_for_a_screen_in_full_size_go(
    source: dict[str, object], said: str, folder: Path, tmp_path: Path
) -> None:
    write_facts(folder, **source)
    with pytest.raises(InputError, match=said):
        put(folder, tmp_path / "pages")
    assert not [*(tmp_path / "pages").iterdir()]


def test_pictures_in_another_format_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "page.md").write_text("# A study\n\n[what it shows](quoting.pdf)\n")
    with pytest.raises(InputError, match="PNG"):
        put(folder, tmp_path / "pages")


@pytest.mark.parametrize("lost", ["page.md", "quoting.png"])
def test_half_a_folder_is_refused_and_nothing_is_written(
    lost: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "page.md").write_text("![first](first.png)\n\n![second](quoting.png)\n")
    (folder / "first.png").write_bytes(b"a picture")
    (folder / lost).unlink()
    with pytest.raises(InputError, match=r"PNG|beside it"):
        put(folder, tmp_path / "pages")
    assert not [*(tmp_path / "pages").iterdir()]


def test_a_study_whose_name_is_a_path_is_refused(folder: Path, tmp_path: Path) -> None:
    write_facts(folder, study="../quoting")
    with pytest.raises(InputError, match="study"):
        put(folder, tmp_path / "pages")
    assert not (tmp_path / "quoting.md").exists()
