"""A real deployment on loopback: a SuperLink, two SuperNodes, TLS, the example's app folder."""

import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edgepact.market.statement import read_statement
from edgepact.training.federated import folder as files
from edgepact.training.federated.offline import ENVIRONMENT

pytest.importorskip("flwr", reason="needs the extra 'federated'")

ROOT = Path(__file__).resolve().parents[3]
APP = ROOT / "examples" / "federated_app"
SCRIPTS = Path(sys.executable).parent
TIMEOUT_S = 420


def certificate(folder: Path) -> dict[str, Path]:
    """A certificate for the loopback address, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    today = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = {"certificate": folder / "server.pem", "key": folder / "server.key"}
    paths["certificate"].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths["key"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running(*command: str, log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended, with what it has started, when the block is left."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(15)


@pytest.mark.slow
def test_superlink_and_supernodes_train_over_tls(tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    port = free_port()
    home, out, app = tmp_path / "home", tmp_path / "out", tmp_path / "app"
    home.mkdir()
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    (home / "config.toml").write_text(
        f"""[superlink]
default = "test"

[superlink.test]
address = "127.0.0.1:{port}"
root-certificates = "{tls["certificate"]}"
"""
    )
    env = {
        **os.environ,
        **ENVIRONMENT,
        "FLWR_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    }
    config = (
        f'out="{out}" data="samples" clients=2 rounds=1 rate=0.1 layers=1 public-images=40 '
        f"warm-up-steps=2 test-images=60 steps=2 batch=8 "
        # A price is posted to nodes whose names nobody knew when the app was written.
        f'mechanism="stackelberg" worth=2.0 solver="grid"'
    )
    link_options = (
        "--ssl-ca-certfile", str(tls["certificate"]),
        "--ssl-certfile", str(tls["certificate"]),
        "--ssl-keyfile", str(tls["key"]),
        "--port", str(port),
        "--disable-runtime-dependency-installation",
    )  # fmt: skip

    def node(number: int) -> list[str]:
        return [
            str(SCRIPTS / "flower-supernode"),
            "--superlink", f"127.0.0.1:{port}",
            "--root-certificates", str(tls["certificate"]),
            "--port", str(free_port()),
            "--node-config", f'partition-id={number} data="samples" psi=0.001',
        ]  # fmt: skip

    link = [str(SCRIPTS / "flower-superlink"), *link_options]
    with (
        running(*link, log=tmp_path / "link.log", env=env),
        running(*node(0), log=tmp_path / "node0.log", env=env),
        running(*node(1), log=tmp_path / "node1.log", env=env),
    ):
        deadline = time.monotonic() + TIMEOUT_S
        while True:  # the SuperLink takes some seconds before it answers
            started = subprocess.run(
                [str(SCRIPTS / "flwr"), "run", str(app), "test", "--run-config", config],
                env=env,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
            if started.returncode == 0 or time.monotonic() > deadline:
                break
            time.sleep(2)
        while not (out / files.METRICS).exists() and time.monotonic() < deadline:
            time.sleep(1)
    logs = "\n".join(
        f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}"
        for path in sorted(tmp_path.glob("*.log"))
    )
    assert (out / files.METRICS).exists(), f"{started.stdout}{started.stderr}\n{logs}"
    statement = read_statement(f"sqlite:///{out / files.LEDGER}")
    assert statement.balanced
    assert len(statement.payments) == 2
    assert all(payment.device.startswith("node-") for payment in statement.payments)
    settings = json.loads((out / files.CONFIG).read_text())
    assert (settings["mechanism"], settings["worth_credits"]) == ("stackelberg", 2.0)
    assert settings["solver"] == "grid"
    (price,) = {payment.microcredits for payment in statement.payments}
    assert 0 < price <= 2_000_000
