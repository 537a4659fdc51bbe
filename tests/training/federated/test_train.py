"""`edgepact train` as a user runs it: Flower's simulation on Ray, in processes of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepact.market.statement import read_statement
from edgepact.training.federated import folder as files

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 400
CONTRACT = ROOT / "examples" / "train-contract.toml"

needs_flower = pytest.mark.skipif(
    subprocess.run(
        [sys.executable, "-c", "import importlib.util as u; exit(not u.find_spec('flwr'))"]
    ).returncode
    != 0,
    reason="needs the extra 'federated'",
)


def edgepact(*options: str) -> list[str]:
    return [sys.executable, "-m", "edgepact", "train", "--smoke", *options]


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(edgepact(*options), capture_output=True, text=True, timeout=TIMEOUT_S)


def expect_books_as_rounds(folder: Path) -> None:
    statement = read_statement(f"sqlite:///{folder / files.LEDGER}")
    assert statement.balanced
    lines = (folder / files.ROUNDS).read_text().splitlines()[1:]
    paid = sum(int(line.split(",")[5]) for line in lines)
    assert statement.balances["server"] == -paid
    assert len(statement.payments) == len([line for line in lines if line.endswith(",")])


@needs_flower
@pytest.mark.slow
def test_a_contract_is_played_paid_resumed_and_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--mechanism", "contract", "--contract", str(CONTRACT), "--out", str(out))
    first = run(*options, "--rounds", "1", "--json")
    assert first.returncode == 0, first.stderr
    facts = json.loads(first.stdout)
    assert facts["rounds"] == 1
    assert facts["updates"] == 4
    assert facts["times_fewer_bytes"] > 10
    assert facts["paid_microcredits"] > 0
    assert sum(each["trained"] for each in facts["types"]) == 4
    second = run(*options, "--rounds", "2")
    assert second.returncode == 0, second.stderr
    assert re.search(r"\brounds\W+2\b", second.stdout), second.stdout
    assert "Traceback" not in second.stderr
    assert "WARNING" not in second.stderr.upper()
    expect_books_as_rounds(out)
    assert {each.name for each in out.iterdir()} >= {
        files.CONFIG, files.CHECKPOINT, files.LEDGER, files.METRICS, files.FIGURE, files.LOG
    }  # fmt: skip
    other = run(*options, "--seed", "7")
    assert other.returncode == 2
    assert "task.seed: expected 0 as before, found 7" in other.stderr


@needs_flower
@pytest.mark.slow
def test_killed_in_the_middle_it_resumes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--rate", "0.1", "--out", str(out))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            edgepact(*options), stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + TIMEOUT_S
        while _rounds_kept(out) < 1 and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        server.send_signal(signal.SIGKILL)
        server.wait(10)
    # Of what Ray has started nothing may hold on to the folder.
    resumed = run(*options, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["rounds"] == 2
    expect_books_as_rounds(out)


def _rounds_kept(folder: Path) -> int:
    if not (folder / files.CHECKPOINT).exists():
        return 0
    import numpy as np

    with np.load(folder / files.CHECKPOINT) as arrays:
        return len(json.loads(arrays["history"].tobytes())) - 1


def test_a_missing_folder_of_images_is_told_in_one_line(tmp_path: Path) -> None:
    env = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "edgepact", "train", "--data", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=tmp_path,
        env=env,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "apt-get install dataset-fashion-mnist" in done.stderr or "pip install" in done.stderr
