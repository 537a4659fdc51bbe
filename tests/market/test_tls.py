"""Certificates that are made on first use, and devices that trust them or do not."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from edgepact.errors import InputError, MarketError
from edgepact.market.link import Link, Traffic
from edgepact.market.tls import AUTHORITY, server_context
from edgepact.work import ServerAway
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
        careful = processes.device(server.url, 1)
        _, said = finish(careful)  # it does not wait for what time does not mend
        assert careful.returncode != 0
        assert "its certificate is not trusted" in said
        assert "--ca FILE" in said
        device = processes.device(server.url, 0, ca=str(tls / AUTHORITY))
        out, said = finish(device)
        assert device.returncode == 0, said
        assert [line["state"] for line in processes.pieces(0)].count("paid") == 2, out
    assert json.loads((tmp_path / "ready.json").read_text())["url"] == server.url


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Addresses of a server with TLS and of one without, and the certificate to trust."""
    secure, plain = tmp_path_factory.mktemp("secure"), tmp_path_factory.mktemp("plain")
    with served(secure, tls=secure / "tls") as one, served(plain) as other:
        yield one.url, other.url, secure / "tls" / AUTHORITY


MISFITS = {
    "plain to TLS": (
        "http://127.0.0.1:{secure}",
        False,
        "give the address with https://, and --ca",
    ),
    "TLS to plain": ("https://127.0.0.1:{plain}", True, "give the address with http://"),
    "untrusted": ("https://127.0.0.1:{secure}", False, "give --ca FILE"),
    "of another name": ("https://127.1:{secure}", True, "call it by a name in its certificate"),
}


def _misfit(both: tuple[str, str, Path], kind: str) -> tuple[str, Path | None, str]:
    secure, plain, authority = both
    url, trusting, says = MISFITS[kind]
    ports = {"secure": secure.rpartition(":")[2], "plain": plain.rpartition(":")[2]}
    return url.format(**ports), authority if trusting else None, says


@pytest.mark.parametrize("kind", MISFITS)
def test_what_time_does_not_mend_is_not_waited_for(
    both: tuple[str, str, Path], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    url, ca, says = _misfit(both, kind)
    traffic = Traffic()
    capfd.readouterr()  # what the servers have said, if they were started for this test
    with Link((url,), float("inf"), "cam", ca) as way, pytest.raises(MarketError) as told:
        way.send("GET", "/v2/health/live", b"", {}, traffic=traffic)
    assert url in str(told.value)
    assert says in str(told.value)
    assert traffic.attempts == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", MISFITS)
def test_of_several_addresses_one_that_does_not_fit_is_passed_over(
    both: tuple[str, str, Path], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secure, plain, _ = both
    url, ca, says = _misfit(both, kind)
    with Link((url, secure if ca else plain), float("inf"), "cam", ca) as way:
        for _ in range(2):
            way.send("GET", "/v2/health/live", b"", {})
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"cam: goes on without {url}: ")
    assert says in line


def test_where_one_address_may_still_come_up_it_is_waited_for(
    both: tuple[str, str, Path],
) -> None:
    url, ca, _ = _misfit(both, "untrusted")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        down = f"http://127.0.0.1:{listener.getsockname()[1]}"
    traffic = Traffic()
    with Link((url, down), 0.5, "cam", ca) as way, pytest.raises(ServerAway):
        way.send("GET", "/v2/health/live", b"", {}, traffic=traffic)
    assert traffic.attempts > 2


def test_a_server_that_has_answered_is_waited_for_whatever_stands_in_its_place(
    both: tuple[str, str, Path],
) -> None:
    secure, plain, _ = both
    with Link((plain,), 0.3, "cam") as way:
        way.send("GET", "/v2/health/live", b"", {})
        way._addresses = (secure,)  # such as the page of a hotel, to which all ways lead
        with pytest.raises(ServerAway, match="its certificate is not trusted"):
            way.send("GET", "/v2/health/live", b"", {})


def test_listening_beyond_loopback_without_tls_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path, host="0.0.0.0"):
        assert "--tls" in capsys.readouterr().err
    with served(tmp_path, host="127.0.0.1"):
        assert "--tls" not in capsys.readouterr().err
