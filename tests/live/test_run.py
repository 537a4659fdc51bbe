"""`edgepact run` as a user runs it: one process that starts and stops all others."""

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgepact.market.statement import read_statement
from tests.test_cli import edgepact as command

TIMEOUT_S = 600.0
"""The end of all patience; nothing here is expected to take long."""


def start(*options: str, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "edgepact", "run", "--smoke", *options],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def refused(*options: object) -> str:
    """What the command says of what is wrong before it starts any process."""
    answer = command("run", "--smoke", *options)
    assert answer.status == 2
    assert answer.out == ""
    return answer.err


def wait_for_images(folder: Path, run: "subprocess.Popen[str]") -> None:
    """Until some device has delivered an image."""
    end_s = time.monotonic() + TIMEOUT_S
    while not any(path.stat().st_size for path in folder.glob("*.jsonl")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end_s, "no image was ever delivered"
        time.sleep(0.02)


def wait_for_library(name: str, run: "subprocess.Popen[str]") -> None:
    """Until a process has loaded a library: how far it has come, on a machine of any speed."""
    maps = Path(f"/proc/{run.pid}/maps")
    end_s = time.monotonic() + TIMEOUT_S
    while name not in maps.read_text():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end_s, f"{name} was never loaded"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("run")
    run = start("--out", "out", "--images", "6", "--devices", "3", cwd=cwd)
    out, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 0, err
    assert "out/report.html" in out
    return cwd / "out"


class TestAWholeRun:
    def test_every_figure_is_there(self, finished: Path) -> None:
        metrics = json.loads((finished / "metrics.json").read_text())
        assert metrics["images"] == 2 * 3 * 6
        assert metrics["accuracy"] > 0.7
        assert metrics["agreement_with_whole_model"] > 0.9
        assert [each["round"] for each in metrics["rounds"]] == [1, 2]
        assert metrics["audit"]["individually_rational"]
        assert metrics["provenance"]["config"]["seed"] == 0

    def test_the_ledger_paid_price_times_layers_for_each_image(self, finished: Path) -> None:
        metrics = json.loads((finished / "metrics.json").read_text())
        statement = read_statement(f"sqlite:///{finished / 'ledger.db'}")
        assert metrics["paid_as_earned"]
        assert statement.balanced
        prices = {each["round"]: each["price"] for each in metrics["rounds"]}
        for payment in statement.payments:
            owed = prices[payment.round] * payment.amount * payment.units
            assert payment.microcredits == pytest.approx(owed * 1e6, abs=0.5)
        paid = sum(payment.microcredits for payment in statement.payments)
        told = sum(device["paid_credits"] for device in metrics["devices"].values())
        assert told == pytest.approx(paid / 1e6)

    def test_devices_answered_with_best_responses(self, finished: Path) -> None:
        from edgepact.files.stackelberg import read_game
        from edgepact.mechanisms.stackelberg.responses import best_response

        market = read_game(finished / "market.toml")
        metrics = json.loads((finished / "metrics.json").read_text())
        for each in metrics["rounds"]:
            layers = best_response(market.game, each["price"])
            assert [each["layers"][name] for name in market.names] == layers.tolist()

    def test_the_report_is_one_file_that_asks_for_nothing(self, finished: Path) -> None:
        page = (finished / "report.html").read_text()
        assert "A smoke run: " in page
        assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
        for name in ("camera", "phone", "drone"):
            assert name in page
        assert "The server paid" in page
        assert "No device lost by taking part." in page
        assert "The ledger balances" in page

    def test_it_tells_why_cheating_loses_money(self, finished: Path) -> None:
        page = (finished / "report.html").read_text()
        section = page[page.index("Why cheating loses money") :].split("</section>")[0]
        assert "aria-label" in section
        rows = re.findall(r"<tr>(.*?)</tr>", section[section.rindex("<table>") :])
        layers = {
            each for round in self.rounds(finished) for each in round["layers"].values() if each
        }
        assert len(rows) == 1 + len(layers)
        for row in rows[1:]:
            assert float(re.findall(r"<td[^>]*>(.*?)</td>", row)[-1]) < 1

    @staticmethod
    def rounds(finished: Path) -> list[dict[str, Any]]:
        metrics = json.loads((finished / "metrics.json").read_text())
        return list(metrics["rounds"])

    def test_every_picture_says_what_it_shows(self, finished: Path) -> None:
        page = (finished / "report.html").read_text()
        for tag, said in (("img ", "alt"), ('div class="chart', "aria-label")):
            pictures = re.findall(rf"<{tag}[^>]*>", page)
            assert pictures, tag
            for each in pictures:
                assert re.search(rf'{said}="[^"]*\w+ \w+[^"]*"', each), each[:200]

    def test_tables_have_a_row_for_each_round_and_image(self, finished: Path) -> None:
        assert len((finished / "rounds.csv").read_text().splitlines()) == 1 + 2
        assert len((finished / "images.csv").read_text().splitlines()) == 1 + 2 * 3 * 6

    def test_secrets_are_kept_from_others(self, finished: Path) -> None:
        """Tokens go by environment: no file has them, and the ledger has hashes only."""
        database = sqlite3.connect(finished / "ledger.db")
        hashes = [row[0] for row in database.execute("select enrol_hash from devices")]
        database.close()
        words = {
            word
            for path in finished.iterdir()
            if path.suffix not in (".png", ".db")
            for word in re.findall(r"[0-9a-f]{40}", path.read_text(errors="replace"))
        }
        assert len(hashes) == 3
        assert not {hashlib.sha256(word.encode()).hexdigest() for word in words} & set(hashes)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_everybody(tmp_path: Path) -> None:
    run = start("--out", "out", "--images", "500", "--devices", "2", cwd=tmp_path)
    wait_for_images(tmp_path / "out", run)
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 3
    os.killpg(run.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 130
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=TIMEOUT_S)
    assert not alive
    for log in (tmp_path / "out").glob("*.log"):
        assert "Traceback" not in log.read_text()
    assert read_statement(f"sqlite:///{tmp_path / 'out' / 'ledger.db'}").balanced


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("library", ["_multiarray_umath", "onnxruntime_pybind"])
def test_ctrl_c_while_it_starts(tmp_path: Path, library: str) -> None:
    """Libraries are being imported, or the first layers measured."""
    run = start("--out", "out", "--images", "500", cwd=tmp_path)
    wait_for_library(library, run)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 130, err
    assert "Traceback" not in err


def test_sigterm_stops_everybody(tmp_path: Path) -> None:
    run = start("--out", "out", "--images", "500", "--devices", "1", cwd=tmp_path)
    wait_for_images(tmp_path / "out", run)
    children = psutil.Process(run.pid).children(recursive=True)
    run.terminate()
    run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(children, timeout=TIMEOUT_S)
    assert not alive


@pytest.mark.slow
def test_a_device_that_dies_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    run = start("--out", "out", "--images", "60", "--devices", "3", cwd=tmp_path)
    wait_for_images(tmp_path / "out", run)
    victim = next(
        child
        for child in psutil.Process(run.pid).children(recursive=True)
        if "phone" in child.cmdline()
    )
    victim.kill()
    out, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 0, err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["devices"]["phone"]["lost"] is not None
    assert "phone was lost" in out
    assert metrics["devices"]["camera"]["images"] == 120
    assert metrics["paid_as_earned"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            ["--images-from", "nowhere"],
            "run: --images-from: expected a folder of images, found nowhere",
        ),
        (
            ["--model", "nowhere"],
            "run: --model: expected a model directory, a folder of stages, or a model's file, "
            "found nowhere: there is no such file or folder",
        ),
        (["--fleet", "nowhere.toml"], "nowhere.toml: expected a TOML file"),
    ],
)
def test_missing_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refused("--out", "out", *options)


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    assert "a new or empty folder" in refused("--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


MARKET = """
mechanism = "stackelberg"
layers = {layers}
[server]
revenue = 60.0
beta = 3.0
layers_max = {layers_max}
price_min = 0.05
price_max = 3.0
[[device]]
name = "one"
alpha = 3.0
capacity = 10.0
A = 1.0
B = 0.5
[[device]]
name = "two"
alpha = 5.0
capacity = 13.0
A = 1.0
B = 0.5
"""


@pytest.mark.slow
def test_a_fleet_from_a_file_is_played(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(MARKET.format(layers='"integer"', layers_max=12))
    run = start("--out", "out", "--fleet", "fleet.toml", "--images", "2", cwd=tmp_path)
    _, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 0, err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics["devices"]) == {"one", "two"}


@pytest.mark.parametrize(
    ("layers", "layers_max", "named"),
    [
        ('"integer"', 11, "server.layers_max: expected 12, the layers of fashion-clip, found 11"),
        ('"continuous"', 12, "layers: expected 'integer'"),
    ],
)
def test_a_fleet_that_does_not_fit_the_model(
    tmp_path: Path, layers: str, layers_max: int, named: str
) -> None:
    (tmp_path / "fleet.toml").write_text(MARKET.format(layers=layers, layers_max=layers_max))
    assert named in refused("--out", tmp_path / "out", "--fleet", tmp_path / "fleet.toml")
