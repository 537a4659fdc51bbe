"""What a release needs: one version everywhere, a citation, notes, a wheel with all licences."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import edgepact

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BYTES_MAX = 10_000_000


def test_the_citation_is_one_and_of_this_version() -> None:
    asked = ["--builtin-schema", "vendor.citation-file-format", str(ROOT / "CITATION.cff")]
    found = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *asked], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == edgepact.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["keywords"][0] in PROJECT["keywords"]


def test_release_notes_are_ahead_of_the_changelog_or_level() -> None:
    notes = (ROOT / "docs" / "release-notes.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    told = re.findall(r"^## (\d+\.\d+)( \(not released yet\))?$", notes, re.MULTILINE)
    assert told
    assert {version for version, pending in told if not pending} == set(released)
    for version, _ in told:
        assert (ROOT / "docs" / "how-to" / f"migrate-to-{version}.md").is_file()


def test_dockerfiles_are_of_this_version() -> None:
    for path in (ROOT / "containers").glob("*.Dockerfile"):
        assert f":{edgepact.__version__} ." in path.read_text(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    (found,) = folder.glob("edgepact-*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_is_small_and_carries_every_licence(wheel: Path) -> None:
    assert wheel.stat().st_size < BYTES_MAX
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        head = archive.read(metadata).decode()
    carried = {name.partition("/licenses/")[2] for name in names if "/licenses/" in name}
    licences = {
        str(path.relative_to(ROOT))
        for path in [ROOT / "LICENSE", *(ROOT / "src").rglob("LICENSE*")]
    }
    assert carried == licences
    assert set(re.findall(r"^License-File: (.+)$", head, re.MULTILINE)) == licences
    assert all(
        f"edgepact/{name.removeprefix('src/edgepact/')}" in names for name in licences - {"LICENSE"}
    )
    assert {name for name in names if name.endswith(".toml") and "/starting/" in name}


@pytest.mark.slow
def test_uvx_runs_the_wheel(wheel: Path, tmp_path: Path) -> None:
    uv = pytest.importorskip("uv", reason="needs uv")
    asked = ["tool", "run", "--isolated", "--from", str(wheel), "edgepact", "--help"]
    # Versions are the tested ones, as constraints.txt has them.
    ran = subprocess.run(
        [uv.find_uv_bin(), *asked[:2], "--constraints", str(ROOT / "constraints.txt"), *asked[2:]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Start with `edgepact run`" in " ".join(ran.stdout.split())
