"""The install of a device: enough to earn with, and nothing heavy."""

import ast
import json
import os
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

import edgepact
from edgepact import registry
from edgepact.market.processes import LiveMarket
from edgepact.market.serve_config import ServeOptions
from edgepact.market.statement import read_statement

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging" / "device"
PROJECT = tomllib.loads((PACKAGING / "pyproject.toml").read_text(encoding="utf-8"))
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LEFT_OUT = (
    *("jax", "equinox", "optax", "scipy", "matplotlib", "pyarrow", "sqlalchemy", "onnx", "onnx_ir"),
    *("starlette", "uvicorn"),
)
JOBS = ["classification", "photo", "picture", "sentences", "speech", "staged", "text"]
BYTES_MAX = 300_000_000
"""The aim is 240 MB; the rest is for other processors and for libraries that grow."""


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
    assert all(file.is_file() for file in files)
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


def test_what_a_device_imports_later_is_carried_too() -> None:
    """Imports within functions, of all but the commands that say what to install."""
    # Of a job's server half alone; of `--chat`, which needs a web server, and says what to install.
    names = carried() | {"edgepact.inference.calibration", "edgepact.chat.endpoint"}
    commands = {each for each in names if each.startswith("edgepact.cli.")}
    commands -= {
        f"edgepact.cli.{each}"
        for each in ("complaints", "device", "doctor", "list", "options", "output")
    }
    commands.add("edgepact.live.run_config")  # of a command; its choices are the whole's solvers
    for name in carried() - commands - {"edgepact"}:
        place = ROOT / "src" / name.replace(".", "/")
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                wanted = {node.module or ""}
            elif isinstance(node, ast.Import):
                wanted = {alias.name for alias in node.names}
            else:
                continue
            assert {each for each in wanted if each.startswith("edgepact")} <= names, name


def test_it_is_of_the_same_version() -> None:
    path = PACKAGING / PROJECT["tool"]["hatch"]["version"]["path"]
    assert path.resolve() == Path(edgepact.__file__).resolve()
    assert WHOLE["project"]["version"] == edgepact.__version__


def test_both_in_one_environment_bring_a_part_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `pip install edgepact` on a device; another part of that name is told."""
    point = EntryPoint("int8", "edgepact.inference.codecs:INT8", "edgepact.codecs")
    other = EntryPoint("int8", "elsewhere:INT8", "edgepact.codecs")
    for points, told in (([point, point], 0), ([point, other], 1)):
        monkeypatch.setattr(registry, "entry_points", lambda group, found=points: found)
        registry._installed.cache_clear()
        assert list(registry.installed("codecs")) == ["int8"]
        assert capsys.readouterr().err.count("the first is used") == told
    registry._installed.cache_clear()


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
    script = "import sys, importlib.util as u; print(*filter(u.find_spec, sys.argv[1:]))"
    asked = [installed / "bin/python", "-I", "-c", script, *LEFT_OUT, "onnxruntime"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["onnxruntime"]


@pytest.mark.slow
def test_it_says_what_it_is_and_what_it_lacks(installed: Path) -> None:
    assert command(installed, "--version").returncode == 0
    assert "Take part in a live market" in command(installed, "device", "--help").stdout
    jobs = command(installed, "list", "jobs", "--json")
    assert [each["name"] for each in json.loads(jobs.stdout)] == JOBS
    assert command(installed, "--help").returncode == 0
    assert "pip install edgepact" in command(installed, "list", "pacts").stdout
    everything = command(installed, "list", "--json")
    assert (everything.returncode, everything.stderr) == (0, "")
    diagnosis = json.loads(command(installed, "doctor", "--json").stdout)
    assert (diagnosis["asked"], diagnosis["fit"]) == ("device", True)
    states = {each["name"]: each["state"] for each in diagnosis["purposes"]}
    assert (states["picture"], states["run"], states["text"]) == ("good", "MISSING", "MISSING")
    lacked = (["solve", "market.toml"], ["run"], ["serve", "--price", "1"], ["ledger"])
    for words in (*lacked, ["init", "market"]):
        lacking = command(installed, *words)
        assert (lacking.returncode, lacking.stdout) == (2, ""), words
        assert lacking.stderr.count("\n") == 1
        assert "pip install edgepact" in lacking.stderr


@pytest.mark.slow
def test_it_earns_in_a_market_of_the_whole_edgepact(installed: Path, tmp_path: Path) -> None:
    url, token = f"sqlite:///{tmp_path / 'ledger.db'}", "one-time-token-of-a-test"
    options = ServeOptions(
        price=0.5, ledger_url=url, port=0, rounds=1, units_per_round=3, enrol_tokens=(token,)
    )
    with LiveMarket(tmp_path) as live:
        live.start_server(options)
        costs = ["--alpha", "3", "--capacity", "4.2", "--A", "0.36", "--B", "0.12"]
        os.environ["EDGEPACT_ENROL_TOKEN"] = token
        try:
            results = ["--results", str(tmp_path / "results.jsonl")]
            ended = command(installed, "device", "--server", live.url, *costs, *results)
        finally:
            del os.environ["EDGEPACT_ENROL_TOKEN"]
    assert ended.returncode == 0, ended.stderr
    assert "3 units in 1 round," in ended.stdout
    statement = read_statement(url)
    assert statement.balanced
    assert len(statement.payments) == 3
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["paid_microcredits"] for line in lines) == sum(
        payment.microcredits for payment in statement.payments
    )


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_all_it_needs_has_wheels_for_64_bit_arm(
    installed: Path, tmp_path: Path, version: str
) -> None:
    (packages,) = installed.glob("lib/python*/site-packages")
    there = {each.metadata["Name"]: each.version for each in distributions(path=[str(packages)])}
    wanted = [
        f"{name}=={number}"
        for name, number in there.items()
        if name not in {"edgepact-device", "pip", "setuptools"}
    ]
    assert len(wanted) > len(PROJECT["project"]["dependencies"])
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--no-deps", "--python-version", version, "-d", str(tmp_path)),
            *(word for each in platforms for word in ("--platform", each)),
            *wanted,
        ],
        check=True,
    )
    wheels = [each.name for each in tmp_path.glob("*.whl")]
    assert len(wheels) == len(wanted)
    assert all(each.endswith(("_aarch64.whl", "-none-any.whl")) for each in wheels)
