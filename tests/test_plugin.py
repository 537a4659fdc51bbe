"""The example of a plugin: a package of its own, in an environment of its own, end to end."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "plugin"


def test_it_is_short() -> None:
    files = [path for path in PLUGIN.rglob("*") if path.suffix in {".py", ".toml"}]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) < 200


@pytest.fixture(scope="module")
def bin_of_plugged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands of an environment with the wheels of edgepact and of the plugin.

    What edgepact depends on is this environment's, so that a gigabyte need not be installed.
    """
    folder = tmp_path_factory.mktemp("plugged")
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    for project in (ROOT, PLUGIN):
        built = [sys.executable, *pip, "wheel", "--no-deps", "-w", folder, project]
        subprocess.run(built, check=True)
    wheels = sorted(folder.glob("*.whl"))
    assert len(wheels) == 2
    assert all(wheel.stat().st_size < 10_000_000 for wheel in wheels)
    venv.create(folder / "venv", with_pip=True)
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    others = str(Path(pytest.__file__).resolve().parents[1])
    (packages / "others.pth").write_text(others + "\n")
    own = folder / "venv" / "bin"
    subprocess.run([own / "python", *pip, "install", "--no-deps", *wheels], check=True)
    return own


def edgepact(bin_of_plugged: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [bin_of_plugged / "edgepact", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=variables, cwd=bin_of_plugged
    )


@pytest.mark.slow
def test_its_parts_are_listed_beside_those_of_edgepact(bin_of_plugged: Path) -> None:
    pacts = json.loads(edgepact(bin_of_plugged, "list", "pacts", "--json").stdout)
    assert {
        "name": "partition-flat-fee-primes",
        "method": "partition",
        "mechanism": "flat-fee",
        "job": "primes",
        "package": "edgepact-primes",
    } in pacts
    assert sum(pact["package"] == "edgepact" for pact in pacts) >= 9
    jobs = json.loads(edgepact(bin_of_plugged, "list", "jobs", "--json").stdout)
    assert {job["name"] for job in jobs} >= {"classification", "primes"}


@pytest.mark.slow
def test_its_mechanism_is_solved(bin_of_plugged: Path) -> None:
    solved = edgepact(bin_of_plugged, "solve", PLUGIN / "scenario.toml", "--json")
    assert solved.returncode == 0, solved.stderr
    best = json.loads(solved.stdout)
    # The cost of the first device: alpha (S(W - B) - S(W - 4 A - B)) with S = ln(1 + y).
    assert best["fee"] == pytest.approx(0.25453, abs=1e-5)
    assert best["server_utility"] == pytest.approx(4 * 0.5 - best["fee"])


def pieces(results: Path) -> list[dict[str, Any]]:
    """The last line of each piece: its pay is known when its round is settled."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return list({line["piece"]: line for line in lines}.values())


@pytest.mark.slow
def test_its_scenario_runs_from_end_to_end(bin_of_plugged: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = edgepact(bin_of_plugged, "run", PLUGIN / "scenario.toml", "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert "The books balance" in ran.stdout
    steps = json.loads((out / "steps.json").read_text())["steps"]
    assert [each["step"] for each in steps[:4]] == [1, 2, 3, 4]
    lines = {name: pieces(out / f"{name}.jsonl") for name in ("a", "b")}
    # The first device takes the fee and counts four blocks, an exchange each; the second does not.
    for name, amount, exchanges, paid in (("a", 4, 4, 10**6), ("b", 0, 1, 0)):
        assert len(lines[name]) == 6
        for line in lines[name]:
            assert (line["amount"], line["exchanges"]) == (amount, exchanges)
            assert (line["state"], line["paid_microcredits"]) == ("paid", paid)
            numbers = range(800 * line["interval"], 800 * (line["interval"] + 1))
            primes = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in numbers)
            assert line["primes"] == primes
    ledger = edgepact(bin_of_plugged, "ledger", f"sqlite:///{out / 'ledger.db'}", "--json")
    books = json.loads(ledger.stdout)
    assert books["balanced"]
    assert books["balances_microcredits"]["device:a"] == 6 * 10**6
