"""Container files and service units: linted, held to what they promise, their commands parsed.

No image is built here, for want of a registry; what can be known without one is.
"""

import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

import edgepact
from edgepact import cli

ROOT = Path(__file__).resolve().parent.parent
CONTAINERS = ROOT / "containers"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
DOCKERFILES = sorted(CONTAINERS.glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = YAML(typ="safe").load((CONTAINERS / "compose.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXPOSURE_MAX = 2.0
"""Of 10, as `systemd-analyze security` counts; what is not touched at all has 9.6."""


def named(path: Path) -> str:
    return path.name


def lines_of(dockerfile: Path) -> list[str]:
    """Instructions, each on one line."""
    text = re.sub(r"\\\n\s*", " ", dockerfile.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def parse(words: list[str]) -> None:
    """Has the command line read a command; unknown options and impossible values are errors."""
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=named)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint has no wheel for this machine")
    found = subprocess.run([hadolint, dockerfile], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_compose_file_follows_the_specification() -> None:
    asked = ["--builtin-schema", "vendor.compose-spec", str(CONTAINERS / "compose.yaml")]
    found = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *asked], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=named)
def test_an_image_has_pins_no_secret_and_no_root(dockerfile: Path) -> None:
    lines = lines_of(dockerfile)
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", bases[0])
    version = re.findall(r"\d+\.\d+", bases[0])[0]
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    installs = [line for line in lines if "pip install" in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)
    (user,) = (line.split()[1] for line in lines if line.startswith("USER "))
    assert user.split(":")[0].isdecimal()
    assert int(user.split(":")[0]) >= 10_000
    assert sum(line.startswith("HEALTHCHECK ") for line in lines) == 1
    for line in lines:
        assert not re.match(r"(ARG|ENV)\b.*(TOKEN|PASSWORD|SECRET)", line), line
    extras = re.findall(r"\[([\w,]+)\]'", " ".join(installs))
    assert set(",".join(extras).split(",")) - {""} <= set(PROJECT["optional-dependencies"])


def test_what_is_sent_to_the_builder_is_said_file_by_file() -> None:
    allowed = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert allowed[0] == "*"
    let_in = [line.removeprefix("!") for line in allowed if line.startswith("!")]
    assert all((ROOT / each).exists() for each in let_in)
    assert "secrets/" in (CONTAINERS / ".gitignore").read_text()
    for dockerfile in DOCKERFILES:
        for line in lines_of(dockerfile):
            if line.startswith("COPY ") and "--from" not in line and line != "COPY . .":
                sources = [each for each in line.split()[1:-1] if not each.startswith("--")]
                assert set(sources) <= set(let_in)


def test_services_are_hardened_and_watched() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert not service.get("privileged"), name
        if "build" in service:
            dockerfile = ROOT / service["build"]["dockerfile"]
            assert dockerfile in DOCKERFILES
            assert service["image"] == f"edgepact-{name}:{edgepact.__version__}"
        else:
            assert "healthcheck" in service, name
            assert int(service["user"].split(":")[0]) > 0, name
            assert re.search(r":\d", service["image"]), name
        for key, value in service.get("environment", {}).items():
            if re.search("TOKEN|PASSWORD", key):
                assert key.endswith("_FILE"), key
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert COMPOSE["networks"]["books"]["internal"] is True
    assert COMPOSE["services"]["db"]["networks"] == ["books"], "nobody else reaches the ledger"
    for each in COMPOSE["secrets"].values():
        assert each["file"].startswith("secrets/")
    server = COMPOSE["services"]["server"]
    assert server["ports"] == ["${EDGEPACT_ADDRESS:-127.0.0.1}:8080:8080"]


def test_their_commands_are_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("server", "device"):
        parse(COMPOSE["services"][name]["command"])
    for dockerfile in DOCKERFILES:
        (command,) = (line for line in lines_of(dockerfile) if line.startswith("CMD "))
        assert "serve" in command or "device" in command
    calls: list[Any] = []
    monkeypatch.setattr("edgepact.live.serving.serve_market", calls.append)
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    config = str(CONTAINERS / "serve.toml")
    commands["serve"].main(["--config", config], standalone_mode=False)
    (options,) = calls
    (mount,) = COMPOSE["services"]["server"]["volumes"]
    state = Path(mount.split(":")[1])
    assert options.tls.parent == options.key.parent == options.ready_file.parent == state
    assert options.host == "0.0.0.0"
    assert "server" in options.allow_hosts
    assert options.ledger_url.endswith("@db/edgepact"), "without a password"


def test_entry_reads_secrets_from_files_and_hands_all_on(tmp_path: Path) -> None:
    fake = tmp_path / "edgepact"
    fake.write_text('#!/bin/sh\necho "$PGPASSWORD|$EDGEPACT_ENROL_TOKEN|$#|$1|$2"\n')
    fake.chmod(0o755)
    (tmp_path / "password").write_text('it\'s $(a) `pass` "word"\n')
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PGPASSWORD_FILE": str(tmp_path / "password"),
        "EDGEPACT_ENROL_TOKEN": "by-itself",
    }
    entry = ["sh", str(CONTAINERS / "entry.sh")]
    ran = subprocess.run(
        [*entry, "serve", "two words"], env=environment, capture_output=True, text=True
    )
    assert ran.stdout == 'it\'s $(a) `pass` "word"|by-itself|2|serve|two words\n'
    assert ran.stderr == ""
    environment["PGPASSWORD_FILE"] = str(tmp_path / "nowhere")
    lost = subprocess.run([*entry, "serve"], env=environment, capture_output=True, text=True)
    assert lost.returncode != 0
    assert lost.stdout == ""


@pytest.fixture
def answering() -> Iterator[tuple[str, list[int]]]:
    """The address of a server, and the statuses with which it answers, first to last."""
    statuses: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/v2/health/ready"
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v2/health/ready", statuses
    server.shutdown()
    server.server_close()
    thread.join()


def test_health_is_what_the_server_says(answering: tuple[str, list[int]]) -> None:
    url, statuses = answering
    statuses += [200, 503]

    def asked(**variables: str) -> "subprocess.CompletedProcess[str]":
        script = [sys.executable, "-I", str(CONTAINERS / "healthy.py")]
        return subprocess.run(script, env=variables, capture_output=True, text=True)

    assert asked(EDGEPACT_HEALTH_URL=url).returncode == 0
    away = asked(EDGEPACT_HEALTH_URL=url)
    assert (away.returncode, away.stderr.count("\n")) == (1, 1)
    assert "503" in away.stderr
    nowhere = {"EDGEPACT_HEALTH_CA": "/no/such/authority.pem"}
    lost = asked(EDGEPACT_HEALTH_URL=url, **nowhere)
    assert (lost.returncode, lost.stderr.count("\n")) == (1, 1)


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units, with a program that is there: a template's as that of a device."""
    made = []
    for unit in UNITS:
        path = tmp_path / unit.name.replace("@.", "@cam-1.")
        path.write_text(
            unit.read_text().replace("/opt/edgepact/bin/edgepact", shutil.which("true") or "")
        )
        made.append(path)
    return made


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_units_and_exposes_little(installed: list[Path]) -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *installed], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    for unit in installed:
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
            capture_output=True,
            text=True,
        )
        (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout)
        assert float(level) <= EXPOSURE_MAX


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_units_are_hardened_and_start_a_command(unit: Path) -> None:
    text = unit.read_text()
    wanted = (
        "NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes DynamicUser=yes PrivateTmp=yes"
    )
    for line in wanted.split():
        assert f"\n{line}\n" in text
    (command,) = re.findall(r"^ExecStart=/opt/edgepact/bin/edgepact (.*)$", text, re.MULTILINE)
    said = dict(re.findall(r"^#   ([A-Z_]+)=(.*?)(?:  +\(.*)?$", text, re.MULTILINE))
    values = {name: value for name, value in said.items() if name != "OPTIONS"}
    command = command.replace("$OPTIONS", said.get("OPTIONS", "")).replace("%i", "cam-1")
    filled = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], command)
    assert "$" not in filled
    parse(shlex.split(filled))
