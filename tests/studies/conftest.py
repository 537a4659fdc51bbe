"""Smoke runs of studies, which take long and are looked at by several."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepact.studies import STUDIES
from edgepact.studies.asked import Asked
from edgepact.studies.place import held_in

VARIABLE = "EDGEPACT_SMOKE_RUNS"
"""Environment variable that names a folder in which `edgepact study NAME --smoke --out NAME` has
run: `.ci/run` has done so before it comes to the slow tests."""


@pytest.fixture
def smoke_run(tmp_path: Path) -> Callable[[str], Path]:
    """Gives the folder of a study's smoke run: one there already, or one made now."""

    def folder_of(name: str) -> Path:
        there = os.environ.get(VARIABLE)
        if there and held_in(Path(there) / name) == name:
            return Path(there) / name
        STUDIES[name](tmp_path / name, Asked(smoke=True))
        return tmp_path / name

    return folder_of
