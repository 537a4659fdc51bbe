"""Certificates that are made on first use, and devices that trust them or do not."""

import json
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from edgepact.errors import InputError
from edgepact.market.tls import AUTHORITY, server_context
from tests.market.harness import PATIENCE_S, Processes, finish, served


def _names(folder: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(each.value) for each in listed.value}


def test_certificates_are_made_once_and_keys_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    server_context(folder, ["Market.example", "10.0.0.7"])
    assert {"localhost", "127.0.0.1", "::1", "market.example", "10.0.0.7"} == _names(folder)
    assert all(each.stat().st_mode & 0o077 == 0 for each in folder.glob("*.key"))
    held = {each.name: each.read_bytes() for each in folder.iterdir()}
    server_context(folder, ["market.example"])
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == held
    server_context(folder, ["other.example"])  # which the certificate does not name
    assert "other.example" in _names(folder)
    assert (folder / AUTHORITY).read_bytes() == held[AUTHORITY]


@pytest.mark.parametrize("broken", ["authority.key", "authority.pem", "server.pem", "server.key"])
def test_folder_with_something_else_is_refused(tmp_path: Path, broken: str) -> None:
    server_context(tmp_path, [])
    (tmp_path / broken).write_text("no certificate")
    with pytest.raises(InputError, match="serve: tls: expected a folder"):
        server_context(tmp_path, [])
    assert (tmp_path / broken).read_text() == "no certificate", "nobody's file is overwritten"


def test_device_plays_over_tls_and_refuses_strangers(tmp_path: Path, processes: Processes) -> None:
    tls = tmp_path / "tls"
    with served(tmp_path, tls=tls, units_per_round=2, rounds=1) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_S)
        trusted = ssl.create_default_context(cafile=str(tls / AUTHORITY))
        answer = httpx.get(
            f"{server.url.replace('127.0.0.1', 'localhost')}/v2/health/live",
            verify=trusted,
            timeout=PATIENCE_S,
        )
        assert answer.status_code == 200
        careful = processes.device(server.url, 1, away_timeout_s=1.0)
        _, said = finish(careful)
        assert careful.returncode != 0
        assert "its certificate is not trusted" in said
        device = processes.device(server.url, 0, ca=str(tls / AUTHORITY))
        out, said = finish(device)
        assert device.returncode == 0, said
        assert [line["state"] for line in processes.pieces(0)].count("paid") == 2, out
    assert json.loads((tmp_path / "ready.json").read_text())["url"] == server.url


def test_listening_beyond_loopback_without_tls_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path, host="0.0.0.0"):
        assert "--tls" in capsys.readouterr().err
    with served(tmp_path, host="127.0.0.1"):
        assert "--tls" not in capsys.readouterr().err
