"""The install of a device: enough to earn with, and nothing heavy."""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from edgepact.market.processes import LiveMarket
from edgepact.market.serve_config import ServeConfig
from edgepact.market.statement import read_statement

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging" / "device"
PROJECT = tomllib.loads((PACKAGING / "pyproject.toml").read_text(encoding="utf-8"))
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LEFT_OUT = ("jax", "equinox", "scipy", "matplotlib", "pyarrow", "sqlalchemy", "onnx", "starlette")
BYTES_MAX = 300_000_000
"""240 MB is what it takes on x86-64; the rest is for libraries that grow."""


def carried() -> set[str]:
    """Modules of the package that the wheel carries."""
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    files = [
        file
        for source in included
        for path in [(PACKAGING / source).resolve()]
        for file in (path.rglob("*.py") if path.is_dir() else [path])
        if file.suffix == ".py"
    ]
    parts = [file.relative_to(ROOT / "src").with_suffix("").parts for file in files]
    return {".".join(each[:-1] if each[-1] == "__init__" else each) for each in parts}


def test_it_carries_all_that_a_device_loads() -> None:
    script = (
        "import sys, edgepact.cli, edgepact.market.device, edgepact.jobs.classification, "
        "edgepact.inference.codecs, edgepact.listing\n"
        "print(*(name for name in sys.modules if name.split('.')[0] == 'edgepact'))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) <= carried()


def test_it_asks_for_nothing_that_edgepact_does_not_and_finds_the_same_parts() -> None:
    assert set(PROJECT["project"]["dependencies"]) <= set(WHOLE["project"]["dependencies"])
    for kind in ("jobs", "codecs"):
        group = f"edgepact.{kind}"
        assert PROJECT["project"]["entry-points"][group] == WHOLE["project"]["entry-points"][group]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel and what it needs; its folder."""
    folder = tmp_path_factory.mktemp("device")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, PACKAGING], check=True)
    (wheel,) = folder.glob("edgepact_device-*.whl")
    assert wheel.stat().st_size < 10_000_000
    venv.create(folder / "venv", with_pip=True)
    own = [str(folder / "venv/bin/python"), *pip[1:]]
    pins = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([*own, "install", *pins, str(wheel)], check=True)
    return folder / "venv"


def command(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [installed / "bin/edgepact", *arguments],
        capture_output=True,
        text=True,
        env=variables,
        cwd=installed,
    )


@pytest.mark.slow
def test_it_is_light(installed: Path) -> None:
    (packages,) = installed.glob("lib/python*/site-packages")
    size = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file())
    print(f"{size / 1e6:.0f} MB with pip")
    assert size < BYTES_MAX
    assert not [name for name in LEFT_OUT if (packages / name).exists()]


@pytest.mark.slow
def test_it_says_what_it_is_and_what_it_lacks(installed: Path) -> None:
    assert command(installed, "--version").returncode == 0
    assert "Take part in a live market" in command(installed, "device", "--help").stdout
    jobs = command(installed, "list", "jobs", "--json")
    assert [each["name"] for each in json.loads(jobs.stdout)] == ["classification"]
    for words in (["solve", "market.toml"], ["run"], ["serve", "--price", "1"], ["ledger"]):
        lacking = command(installed, *words)
        assert (lacking.returncode, lacking.stdout) == (2, ""), words
        assert lacking.stderr.count("\n") == 1
        assert "pip install edgepact" in lacking.stderr


@pytest.mark.slow
def test_it_earns_in_a_market_of_the_whole_edgepact(installed: Path, tmp_path: Path) -> None:
    url, token = f"sqlite:///{tmp_path / 'ledger.db'}", "one-time-token-of-a-test"
    config = ServeConfig(ledger_url=url, port=0, rounds=1, units_per_round=3, enrol_tokens=(token,))
    with LiveMarket(tmp_path) as live:
        live.start_server(config, ["--price", "0.5"])
        costs = ["--alpha", "3", "--capacity", "4.2", "--A", "0.36", "--B", "0.12"]
        os.environ["EDGEPACT_ENROL_TOKEN"] = token
        try:
            results = ["--results", str(tmp_path / "results.jsonl")]
            ended = command(installed, "device", "--server", live.url, *costs, *results)
        finally:
            del os.environ["EDGEPACT_ENROL_TOKEN"]
    assert ended.returncode == 0, ended.stderr
    assert "3 units in 1 rounds" in ended.stdout or "3 images in 1 rounds" in ended.stdout
    statement = read_statement(url)
    assert statement.balanced
    assert len(statement.payments) == 3
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["paid_microcredits"] for line in lines) == sum(
        payment.microcredits for payment in statement.payments
    )


@pytest.mark.slow
def test_what_it_needs_has_wheels_for_64_bit_arm(tmp_path: Path) -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [each.partition(">")[0].lower() for each in PROJECT["project"]["dependencies"]]
    wanted = [pin for pin in pins if pin.partition("==")[0].lower() in names]
    assert len(wanted) == len(names)
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--no-deps", "--python-version", "3.11", "-d", str(tmp_path)),
            *(word for each in platforms for word in ("--platform", each)),
            *wanted,
        ],
        check=True,
    )
    assert len(list(tmp_path.glob("*.whl"))) == len(names)
