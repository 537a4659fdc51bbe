"""What the program prints reaches every terminal and pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MARKET = """mechanism = "stackelberg"
devices = "fleet.csv"
[server]
revenue = 100.0
beta = 1.0
layers_max = 12
price_min = 0.0
price_max = 5.0
"""
FLEET = "name,alpha,capacity,A,B,colour\nカメラ,3.0,9,1,0.5,red\ncam-2,4.5,11,1,0.5,blue\n"


def solve(folder: Path, encoding: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-m", "edgepact", "solve", str(folder / "market.toml"), *options],
        capture_output=True,
        env=environment,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "market.toml").write_text(MARKET)
    (tmp_path / "fleet.csv").write_text(FLEET, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("latin-1", "???"), ("ascii", "???"), ("cp437:strict", "???"), ("utf-8", "カメラ")],
)
def test_a_name_the_terminal_cannot_write_is_replaced(
    folder: Path, encoding: str, name: str
) -> None:
    done = solve(folder, encoding)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout.decode(encoding.split(":")[0])


def test_what_is_passed_over_is_one_line_on_standard_error_and_json_is_as_ever(
    folder: Path,
) -> None:
    done = solve(folder, "latin-1", "--json")
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.decode() == f'edgepact: {folder}/fleet.csv: passes over the column "colour"\n'
    )
    assert len(json.loads(done.stdout)["layers"]) == 2


def test_an_error_spells_what_the_terminal_cannot_write(folder: Path) -> None:
    (folder / "fleet.csv").write_text(FLEET.replace("cam-2", "カメラ"), encoding="utf-8")
    done = solve(folder, "ascii")
    assert done.returncode == 2
    assert b'device.name: expected names that differ, found "\\u30ab\\u30e1\\u30e9" more than' in (
        done.stderr
    )
